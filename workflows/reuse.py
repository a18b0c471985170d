"""Which cubes of earlier runs months may be taken from, and what came of it."""

from collections.abc import Sequence
from pathlib import Path

from timesenmap.pipeline.donors import Donor, donor_of
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.record import MonthsRecord, TakenRecord
from timesenmap.pipeline.workspace import cube_of, require_cube
from timesenmap.workflows.runs import Runs


def find_donors(period: Period, runs: Runs, out: Path, *, named: Sequence[Path]) -> list[Donor]:
    """Cubes with months of a period: of the job's runs of other periods, newest first, then of runs that are named.

    Raises
    ------
    MapError
        A named folder that holds no cube.
    """
    beside = [folder for _, folder in runs.standing() if folder != out]
    cubes = [(folder, cube_of(folder)) for folder in beside]
    cubes += [(folder, require_cube(folder, f"--reuse {folder}")) for folder in named]
    donors = (donor_of(cube, str(folder), period) for folder, cube in cubes)
    return [donor for donor in donors if donor is not None]


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
