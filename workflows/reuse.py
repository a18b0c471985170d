"""Which cubes of earlier runs months may be taken from, and what came of it."""

from collections.abc import Sequence
from pathlib import Path

from timesenmap.pipeline.donors import Donor, donor_of
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.record import MonthsRecord, TakenRecord
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.workspace import stores_of
from timesenmap.workflows.runs import Runs


def find_donors(period: Period, runs: Runs, out: Path, *, named: Sequence[Path]) -> list[Donor]:
    """Cubes with months of a period: of the job's runs of other periods, newest first, then of runs that are named.

    Raises
    ------
    MapError
        A named folder that holds no cube.
    """
    beside = [folder for _, folder in runs.standing() if folder != out]
    donors = [donor_of(cube_of(folder), str(folder), period) for folder in beside]
    for folder in named:
        cube = cube_of(folder)
        if not cube.exists():
            raise MapError(f"--reuse {folder}: holds no cube ({cube}); name the --out of a run that kept its cube")
        donors.append(donor_of(cube, str(folder), period))
    return [donor for donor in donors if donor is not None]


def cube_of(out: Path) -> Store:
    """Where a run keeps its cube."""
    return stores_of(out) / "cube.zarr"


def months_of(ledger: Ledger, period: Period) -> MonthsRecord:
    """Tell from its ledger which months of a cube were made and which taken over."""
    tiles = len(ledger.done("cube"))
    taken = ledger.taken("cube")
    everywhere = [sum(found.get(month, 0) for found in taken.values()) == tiles for month in range(12)]
    return MonthsRecord(
        made=tuple(label for label, whole in zip(period.labels, everywhere, strict=True) if not whole or not tiles),
        taken=tuple(
            TakenRecord(month=period.labels[month], source=source, tiles=count)
            for source, found in taken.items()
            for month, count in sorted(found.items())
        ),
    )
