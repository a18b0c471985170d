"""Which runs of a job stay: the newest, whole or their maps alone; the rest is removed after a run that succeeded."""

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from timesenmap.pipeline import locks
from timesenmap.pipeline.errors import LockedError, MapError
from timesenmap.pipeline.workspace import remove_stores, stores_at, stores_of
from timesenmap.workflows.runs import Runs

log = logging.getLogger(__name__)


def tidy(runs: Runs, this: Path, *, keep_runs: int | None, keep_work: int | None) -> list[str]:
    """Remove folders, or their stores, of older periods than the newest so many.

    Only finished runs count and are removed: folders that have a ledger and a record. That of this run stays, and so do
    those of newer periods, and those where another run is at work.

    Parameters
    ----------
    runs, this
        The job's runs, held by the caller, and the folder of this one.
    keep_runs, keep_work
        How many periods keep their folder, and how many of them their stores; None is all.

    Returns
    -------
    list of str
        What could not be removed, and why. Nothing of it is an error: the maps of this run are made.
    """
    if keep_runs is None and keep_work is None:
        return []
    warnings = [_attempt(folder, partial(_remove_tree, root=runs.root)) for folder in runs.removed()]
    older = False
    for number, (_, folder) in enumerate([run for run in runs.standing() if _is_finished(run[1])]):
        if older and keep_runs is not None and number >= keep_runs:
            warnings.append(_attempt(folder, partial(_remove, root=runs.root)))
        elif older and keep_work is not None and number >= keep_work:
            warnings.append(_attempt(folder, _remove_stores))
        older = older or folder == this
    return [warning for warning in warnings if warning]


def _is_finished(folder: Path) -> bool:
    ours = (folder / "run.json", folder / "work" / "ledger.sqlite")
    return not folder.is_symlink() and all(path.is_file() for path in ours)


def _attempt(folder: Path, remove: Callable[[Path], None]) -> str:
    try:
        remove(folder)
    except (OSError, LockedError, MapError) as error:
        warning = f"{folder} was to be tidied up and is left as it is ({error})"
        log.warning(warning)
        return warning
    return ""


def _remove(folder: Path, *, root: Path) -> None:
    """Remove a run; cut short, what is left has a name that no run has, and goes the next time."""
    with locks.held(folder / "work" / "lock", str(folder)):
        if stores_of(folder) != stores_at(folder):
            remove_stores(folder)
        going = folder.with_name(Runs.removed_name(folder.name))
        folder.rename(going)
        _remove_tree(going, root=root)
    log.info("removed %s: an older run than are to be kept", folder)


def _remove_tree(folder: Path, *, root: Path) -> None:
    """Remove a folder, and those above it, within `root`, that are empty then."""
    shutil.rmtree(folder)
    for parent in folder.parents[: len(folder.parts) - len(root.parts) - 1]:
        if not any(parent.iterdir()):
            parent.rmdir()


def _remove_stores(folder: Path) -> None:
    """Remove what makes a second run cheap; maps, ledger and the list of scenes stay."""
    with locks.held(folder / "work" / "lock", str(folder)):
        if remove_stores(folder):
            log.info("removed the stores of %s: of an older run than are to keep them", folder)
