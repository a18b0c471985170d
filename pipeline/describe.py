"""What stands beside the maps: everything that helps to open, read and trust them."""

from pathlib import Path

from timesenmap.pipeline.preview import write_preview
from timesenmap.pipeline.qgis import write_project
from timesenmap.pipeline.record import RunRecord
from timesenmap.pipeline.report import write_report
from timesenmap.pipeline.stac import write_catalogue


def describe_run(out: Path, record: RunRecord) -> None:
    """Write picture, report, QGIS project and catalogue of a run beside its maps; each file whole or not at all.

    The catalogue comes last, because it has the checksums of the others.
    """
    write_preview(out, record)
    write_report(out, record)
    write_project(out, record)
    write_catalogue(out, record)
