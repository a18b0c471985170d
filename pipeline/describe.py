"""What stands beside the maps: everything that helps to open, read and trust them."""

from pathlib import Path

from timesenmap.pipeline.preview import write_preview
from timesenmap.pipeline.qgis import write_project
from timesenmap.pipeline.record import RunRecord


def describe_run(out: Path, record: RunRecord) -> None:
    """Write picture and QGIS project of a run beside its maps, which lie in ``out``; each file whole or not at all."""
    write_preview(out, record)
    write_project(out, record)
