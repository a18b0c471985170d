"""``compare-maps``: what changed from one class map to another of the same ground."""

from pathlib import Path

import click

from timesenmap.model.sheets import Sheet
from timesenmap.pipeline.comparison import compare
from timesenmap.pipeline.comparison_page import write_comparison_page
from timesenmap.pipeline.comparison_record import ComparisonRecord, write_comparison
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.figures import percent
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.whole import write_whole
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.tables import show

PATH = click.Path(path_type=Path)
RECORD = "comparison.json"
_SHOWN = 12


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="compare-maps")
@click.argument("earlier", type=PATH)
@click.argument("later", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the change map, the page and the numbers.")
@click.option("--uncertain-below", type=float, metavar="PROBABILITY",
              help="Changes where the confidence of either map is below this (0-1) are uncertain.")  # fmt: skip
@with_exit_codes
def main(earlier: Path, later: Path, *, out: Path, uncertain_below: float | None) -> None:
    """Compare two class maps of the same grid and the same classes.

    \b
    compare-maps 2017/land-cover.tif 2018/land-cover.tif --uncertain-below 0.6 --out change/

    Writes change.tif (1 no change, 2 uncertain, 3 other change, from 4 on the largest kinds of change, 255 unknown),
    index.html and comparison.json with the from-to matrix. Differences of two maps are no estimate of the area that
    changed: for that, take a reference sample (assess-map). Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    _check_folder(out)
    comparison = compare(read_class_map(earlier), read_class_map(later), uncertain_below=uncertain_below)
    out.mkdir(parents=True, exist_ok=True)
    record = write_comparison(comparison, out)
    write_whole(out / RECORD, record.model_dump_json(indent=2) + "\n")
    write_comparison_page(out, record)
    show([_sheet(record)], [*record.notes, f"wrote {out / record.change_map}, index.html and {RECORD}"])


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise MapError(f"--out {out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise MapError(f"--out {out}: holds files that compare-maps did not write; name a new or empty folder")


def _sheet(record: ComparisonRecord) -> Sheet:
    sums = [("no change", record.unchanged), ("uncertain change", record.uncertain), ("unknown", record.unknown)]
    areas = [(change.name, change.certain) for change in record.changes[:_SHOWN]]
    if len(record.changes) > _SHOWN:
        rest = sum(change.certain.pixels for change in record.changes[_SHOWN:])
        areas.append((f"{len(record.changes) - _SHOWN} more", record.share_of(rest)))
    areas += [(name, area) for name, area in sums if area.pixels]
    rows = [[name, f"{area.hectares:,.2f}", percent(area.share)] for name, area in areas]
    return Sheet(record.title, ["change", "area (ha)", "share"], rows)


if __name__ == "__main__":
    main()
