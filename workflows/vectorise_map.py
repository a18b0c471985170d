"""``vectorise-map``: the patches of a class map as polygons."""

from pathlib import Path

import click

from timesenmap.model.sheets import Sheet
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.polygons import write_polygons
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.tables import show

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="vectorise-map")
@click.argument("class_map", metavar="MAP", type=PATH)
@click.option("--out", type=PATH, required=True, help="GeoPackage to write (.gpkg).")
@click.option("--simplify", type=float, metavar="METRES",
              help="Take the steps of the pixels out of the edges; neighbours keep sharing theirs.")  # fmt: skip
@with_exit_codes
def main(class_map: Path, *, out: Path, simplify: float | None) -> None:
    """Draw the patches of a class map as polygons with class, name and area.

    \b
    vectorise-map out/land-cover.refined.tif --out out/land-cover.gpkg

    Edges follow the pixels, or are simplified together: neighbours meet without gap or overlap. Areas are those of the
    pixels on the ground, computed in an equal-area CRS. A raw map has many patches of a pixel or two: refine-map first
    makes fewer and larger polygons.
    Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    sums = write_polygons(read_class_map(class_map), out, simplify=simplify)
    rows = [[entry.name, f"{polygons:,}", f"{hectares:,.2f}"] for entry, polygons, hectares in sums]
    show([Sheet(f"Polygons in {out}", ["class", "polygons", "area (ha)"], rows)])


if __name__ == "__main__":
    main()
