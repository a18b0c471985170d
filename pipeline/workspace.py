"""The output folder of a run: whose it is, who may write in it, and what in it is still valid."""

import hashlib
import json
import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from timesenmap.pipeline import locks
from timesenmap.pipeline.answer_kinds import KINDS, AnswerKind
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.stores import Store, check_store
from timesenmap.pipeline.whole import write_whole

log = logging.getLogger(__name__)

OWNER = "owner.json"
"""Mark beside the stores: whose they are."""

_CUBE = "cube.zarr"
_STORES = (_CUBE, "embeddings.zarr", *(kind.name for kind in KINDS))


def signature(**parts: object) -> str:
    """Hash of everything a result depends on (JSON values); equal parts give equal signatures on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Workspace:
    """An output folder that this process holds alone, and the place of the stores that make a second run cheap."""

    out: Path
    ledger: Ledger
    stores: Store

    @property
    def work(self) -> Path:
        """Folder of the ledger and of what else this process alone reads and writes."""
        return self.out / "work"

    @property
    def cube(self) -> Store:
        """Store of the cube."""
        return self.stores / _CUBE

    @property
    def items(self) -> Path:
        """The scenes that were searched, to run again on exactly the same."""
        return self.work / "items.parquet"

    @property
    def embeddings(self) -> Store:
        """Store of the embeddings, present with ``--keep-embeddings``."""
        return self.stores / "embeddings.zarr"

    def answers(self, kind: AnswerKind, prompt_set: str) -> Store:
        """Store of one kind of answer to one prompt set, before it becomes COGs."""
        return self.stores / kind.name / f"{prompt_set}.zarr"

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file, whole or not at all."""
        write_whole(self.out / name, text)

    def write_file(self, name: str, valid: str, write: Callable[[Path], None]) -> str:
        """Write an output file unless it stands already with the same signature; returns its sha256.

        `write` must write whole or not at all. A file that was deleted or altered since is written again.
        """
        path = self.out / name
        known = self.ledger.file_signature(name)
        if known is not None and known[0] == valid and path.is_file() and sha256_of(path) == known[1]:
            return known[1]
        started = time.monotonic()
        write(path)
        checksum = sha256_of(path)
        seconds, size = time.monotonic() - started, path.stat().st_size
        self.ledger.keep_file(name, valid, checksum, seconds=seconds, size=size)
        return checksum


def stores_at(out: Path, work: object = None) -> Store:
    """Where the stores of a run lie: where its job says (`work`), or in ``work/`` of its output folder."""
    return Store.at(str(work) if work else out / "work")


def stores_of(out: Path) -> Store:
    """Where the stores of an output folder lie, as the job beside the maps says."""
    try:
        job = yaml.safe_load((out / "job.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        job = None
    return stores_at(out, job.get("work") if isinstance(job, dict) else None)


def cube_of(out: Path) -> Store:
    """Where a run keeps its cube, if it kept it."""
    return stores_of(out) / _CUBE


def require_cube(out: Path, what: str) -> Store:
    """Cube that a run kept; MapError, whose message begins with `what`, where it kept none."""
    cube = cube_of(out)
    if not cube.exists():
        raise MapError(f"{what}: holds no cube ({cube}); name the --out of a run that kept its cube")
    return cube


def remove_stores(out: Path) -> bool:
    """Remove the stores of an output folder, wherever they lie, the cube first; whether there were any.

    The caller holds the folder. What others have put in the same place since is left.
    """
    stores = stores_of(out)
    if _owner(stores).get("run") not in (None, _run_of(out)):
        return False
    there = [store for store in (stores / name for name in _STORES) if store.holds_anything()]
    for store in there:
        store.remove()
    stores.delete(OWNER)
    return bool(there)


def check_folder(out: Path, place: Mapping[str, object], stores: Store | None = None) -> None:
    """Refuse an output folder, or a place for its stores, that is not ours to write in; nothing is created.

    `place` says what the maps of the folder are maps of (AOI, grid, period): another prompt set, encoder or
    catalogue may come to the same folder, another place or year may not. `stores` are in the folder's ``work/`` by
    default.
    """
    _check_out(out, place)
    _check_owner(stores or stores_at(out), _run_of(out))


def _check_owner(stores: Store, run: str | None) -> bool:
    """Whether the stores are marked as this run's; MapError where they are another's."""
    owner = _owner(stores)
    if owner and owner.get("run") != run:
        raise MapError(
            f"--work {stores}: holds the stores of {owner.get('out')}; name another place, or remove what lies there"
        )
    return bool(owner)


def mark_of(stores: Store) -> bytes | None:
    """What the mark of the stores says as seen from here; MapError where they cannot be written from here."""
    check_store(stores)
    return stores.read(OWNER)


def _owner(stores: Store) -> dict[str, Any]:
    """Whose stores lie there, as the mark in them says; empty where nobody's do."""
    mark = stores.read(OWNER)
    try:
        owner = json.loads(mark) if mark else {}
    except ValueError:
        owner = {"out": "something else"}
    return owner if isinstance(owner, dict) else {"out": "something else"}


def _run_of(out: Path) -> str | None:
    """Name of an output folder that stays when it is moved; None where it has none yet."""
    ledger_path = out / "work" / "ledger.sqlite"
    return Ledger(ledger_path).note("run") if ledger_path.is_file() else None


def _check_out(out: Path, place: Mapping[str, object]) -> None:
    if out.exists() and not out.is_dir():
        msg = f"--out {out}: is a file; name a folder"
        raise MapError(msg)
    if not out.is_dir() or not _names_in(out):
        return
    ledger_path = out / "work" / "ledger.sqlite"
    if not ledger_path.is_file():
        if _names_in(out) == {"work"} and _names_in(out / "work") <= {"lock"}:
            return  # of a run that was killed before it had a ledger
        msg = f"--out {out}: holds files that make-map did not write; name a new or empty folder"
        raise MapError(msg)
    written = Ledger(ledger_path).note("place")
    if written is None:
        return
    before = json.loads(written)
    now = json.loads(json.dumps(place, default=str))
    changed = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
    if changed:
        was = "; ".join(f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in changed)
        msg = f"--out {out}: holds the maps of another job ({was}); name another folder"
        raise MapError(msg)


def require_failed(out: Path) -> None:
    """Refuse to retry in a folder where no tile failed; nothing is created."""
    ledger_path = out / "work" / "ledger.sqlite"
    if not ledger_path.is_file() or not Ledger(ledger_path).any_failed():
        raise MapError(f"--retry-failed: no tile failed in --out {out}; run the command without it")


def _names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def open_workspace(out: Path, place: Mapping[str, object], stores: Store | None = None) -> Iterator[Workspace]:
    """Hold the output folder for one run: checked, locked, with its ledger; its stores marked as its own.

    Raises MapError where the folder or the place of its stores is another job's, LockedError where another run is at
    work in it.
    """
    stores = stores or stores_at(out)
    check_folder(out, place, stores)
    (out / "work").mkdir(parents=True, exist_ok=True)
    with locks.held(out / "work" / "lock", f"--out {out}"):
        ledger = Ledger(out / "work" / "ledger.sqlite")
        ledger.keep_note("place", json.dumps(place, default=str))
        _claim(stores, out, ledger)
        yield Workspace(out, ledger, stores)


def _claim(stores: Store, out: Path, ledger: Ledger) -> None:
    """Mark the place of the stores as this folder's; what was recorded of stores elsewhere no longer holds."""
    run = ledger.note("run") or uuid.uuid4().hex
    ledger.keep_note("run", run)
    where = "" if stores == stores_at(out) else str(stores)
    before = ledger.note("stores") or ""
    if where != before:
        if ledger.forget_all():
            log.warning(
                "stores are made anew in %s; those of earlier runs are left in %s", stores, before or out / "work"
            )
        ledger.keep_note("stores", where)
    if not _check_owner(stores, run):
        mark = {"run": run, "out": f"{out.absolute()} on {socket.gethostname()}"}
        stores.write_new(OWNER, json.dumps(mark).encode())
        _check_owner(stores, run)  # another may have been faster
