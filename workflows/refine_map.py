"""``refine-map``: majority filter and minimum mapping unit, into a map of its own."""

from pathlib import Path

import click

from timesenmap.model.sheets import Sheet
from timesenmap.pipeline.figures import percent
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.refine import RefinementRecord, refine_map
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.tables import show

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="refine-map")
@click.argument("class_map", metavar="MAP", type=PATH)
@click.option("--out", type=PATH, required=True, help="GeoTIFF to write; its JSON, names and style lie beside it.")
@click.option("--majority", type=int, metavar="WINDOW",
              help="Majority filter of WINDOW x WINDOW pixels, odd; in a tie a pixel keeps its class.")  # fmt: skip
@click.option("--minimum-mapping-unit", type=float, metavar="HECTARES",
              help="Give patches smaller than this to their largest neighbour.")  # fmt: skip
@click.option("--connectivity", type=click.Choice(["4", "8"]), default="4", show_default=True,
              help="Whether pixels that touch at an edge (4), or also at a corner (8), are one patch.")  # fmt: skip
@with_exit_codes
def main(
    class_map: Path,
    *,
    out: Path,
    majority: int | None,
    minimum_mapping_unit: float | None,
    connectivity: str,
) -> None:
    """Make a calmer copy of a class map; the map itself stays as it is.

    \b
    refine-map out/land-cover.tif --majority 3 --minimum-mapping-unit 0.5 --out out/land-cover.refined.tif

    The majority filter is done first, then the minimum mapping unit. No data and unknown (255) stay, and nothing grows
    over them. The steps are recorded in the metadata of the copy; the JSON beside it has the areas before and after.
    Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    record = refine_map(
        read_class_map(class_map),
        out,
        majority=majority,
        minimum_mapping_unit=minimum_mapping_unit,
        connectivity=int(connectivity),
    )
    show([_sheet(record)], [*record.steps, f"wrote {out} and {out.with_suffix('.json').name}"])


def _sheet(record: RefinementRecord) -> Sheet:
    seen = sum(change.pixels_before for change in record.classes)
    rows = [
        [change.name, f"{change.hectares_before:,.2f}", f"{change.hectares_after:,.2f}"]
        for change in record.classes
        if change.pixels_before or change.pixels_after
    ]
    share = percent(record.changed_pixels / max(1, seen))
    return Sheet(f"{share} of the pixels changed", ["class", "before (ha)", "after (ha)"], rows)


if __name__ == "__main__":
    main()
