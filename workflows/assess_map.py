"""``assess-map``: how good a class map is, compared with reference points or a reference raster."""

import logging
from pathlib import Path
from typing import Literal

import click

from timesenmap.pipeline.accuracy_page import render_page
from timesenmap.pipeline.assess_points import assess_points
from timesenmap.pipeline.assess_raster import assess_raster
from timesenmap.pipeline.assessment import Assessment
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.reference import is_vector, read_mapping
from timesenmap.pipeline.sample_files import REFERENCE_FIELD
from timesenmap.pipeline.whole import write_whole
from timesenmap.workflows.accuracy_sheets import sheets
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.tables import show

log = logging.getLogger("timesenmap.assess_map")

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="assess-map")
@click.argument("class_map", metavar="MAP", type=PATH)
@click.option("--reference", type=PATH, required=True, help="Points (GeoPackage, GeoJSON, Shapefile, CSV) or a raster.")
@click.option("--field", default=REFERENCE_FIELD, show_default=True, help="Field of the points with their class.")
@click.option("--classes", type=PATH, help="YAML of reference label: class of the map, or null to leave it out.")
@click.option("--design", type=click.Choice(["stratified", "simple", "none"]),
              help="How the points were drawn; known for those of sample-map. none: not at random.")  # fmt: skip
@click.option("--strata", metavar="FIELD|RASTER", help="Strata of the points [default: the classes of the map].")
@click.option("--strata-sizes", type=PATH, help="YAML of stratum: hectares, where the strata are a field.")
@click.option("--unknown", type=click.Choice(["class", "left-out"]), default="class", show_default=True,
              help="Pixels that the map leaves unknown: a class never right, or no part of the map.")  # fmt: skip
@click.option("--confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95,
              show_default=True, help="Of the intervals.")  # fmt: skip
@click.option("--out", type=PATH, help="Folder for accuracy.html and accuracy.json.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@with_exit_codes
def main(
    class_map: Path,
    *,
    reference: Path,
    field: str,
    classes: Path | None,
    design: Literal["stratified", "simple", "none"] | None,
    strata: str | None,
    strata_sizes: Path | None,
    unknown: Literal["class", "left-out"],
    confidence: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare a class map with reference data: accuracies, areas corrected for errors, and how sure they are.

    \b
    assess-map out/land-cover.tif --reference points.gpkg --out accuracy/
    assess-map out/crops.tif --reference parcels.tif --classes crops.yaml

    Rows of matrices are the map, columns the reference. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    opened = read_class_map(class_map)
    mapping = None if classes is None else read_mapping(classes)
    if not reference.exists():
        raise MapError(f"reference {reference}: no such file; check the path")
    if is_vector(reference):
        assessment = assess_points(
            opened,
            reference,
            field=field,
            mapping=mapping,
            design=design,
            strata=strata,
            strata_sizes=strata_sizes,
            confidence=confidence,
            unknown=unknown,
        )
    else:
        if design in ("stratified", "simple") or strata is not None or strata_sizes is not None:
            raise MapError(
                f"reference {reference}: is a raster and compared pixel by pixel; --design and --strata go with points"
            )
        assessment = assess_raster(opened, reference, mapping=mapping, areas=design != "none", unknown=unknown)
    content = assessment.model_dump_json(indent=1) + "\n"
    if out is not None:
        _write(out, assessment, content)
    if as_json:
        click.echo(content, nl=False)
    else:
        show(sheets(assessment), [assessment.method, *assessment.notes])


def _write(out: Path, assessment: Assessment, content: str) -> None:
    write_whole(out / "accuracy.json", content)
    write_whole(out / "accuracy.html", render_page(assessment))
    log.info("wrote %s and accuracy.json", out / "accuracy.html")


if __name__ == "__main__":
    main()
