"""``sample-map``: a stratified random sample of a class map, for photo-interpretation."""

import logging
from pathlib import Path

import click

from timesenmap.model.sheets import Sheet
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.projection import grid_crs
from timesenmap.pipeline.reference import as_text, read_yaml
from timesenmap.pipeline.sample_files import SampleDesign, write_sample
from timesenmap.pipeline.sampling import ALLOCATIONS, stratified_sample
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.tables import show

log = logging.getLogger("timesenmap.sample_map")

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="sample-map")
@click.argument("class_map", metavar="MAP", type=PATH)
@click.option("--out", type=PATH, required=True, help="GeoPackage to write; how it was drawn goes beside it.")
@click.option("--count", type=click.IntRange(1), help="Pixels to sample.")
@click.option("--target-se", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Instead: as many as this standard error of the overall accuracy needs, e.g. 0.01.")  # fmt: skip
@click.option("--allocation", type=click.Choice(ALLOCATIONS), default="proportional", show_default=True,
              help="To classes: equal, by area, or by area and expected errors (Neyman).")  # fmt: skip
@click.option("--least", type=click.IntRange(2), default=10, show_default=True,
              help="Of each class, or all its pixels; 50 or more for rare classes that matter.")  # fmt: skip
@click.option("--expected-accuracy", metavar="SHARE|FILE",
              help="User's accuracy expected: a number, or a YAML of class: number.")  # fmt: skip
@click.option("--unknown", type=click.Choice(["class", "left-out"]), default="class", show_default=True,
              help="Pixels that the map leaves unknown: sampled as a class, or not.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
@with_exit_codes
def main(
    class_map: Path,
    *,
    out: Path,
    count: int | None,
    target_se: float | None,
    allocation: str,
    least: int,
    expected_accuracy: str | None,
    unknown: str,
    seed: int,
) -> None:
    """Draw pixels of a class map at random within its classes, for somebody to say what is there.

    \b
    sample-map out/land-cover.tif --out points.gpkg --count 500

    Open the GeoPackage in QGIS and choose a class as reference of each point; the map's own class is not in it. Then
    `assess-map out/land-cover.tif --reference points.gpkg`. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    opened = read_class_map(class_map)
    centres, design = stratified_sample(
        opened,
        count=count,
        target_error=target_se,
        allocation=allocation,
        least=least,
        accuracies=None if expected_accuracy is None else _accuracies(expected_accuracy),
        seed=seed,
        without_unknown=unknown == "left-out",
    )
    choices = [entry.name for entry in opened.known]
    written = write_sample(out, centres, grid_crs(opened.grid), design, choices)
    show([_sheet(design)])
    log.info("wrote %d points to %s, and how they were drawn to %s", len(centres), *written)


def _accuracies(text: str) -> float | dict[str, float]:
    try:
        return float(text)
    except ValueError:
        content = read_yaml(Path(text), "--expected-accuracy")
    found = {}
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MapError(f"--expected-accuracy {text}: '{name}' has {value!r}; give a number between 0 and 1")
        found[as_text(name)] = float(value)
    return found


def _sheet(design: SampleDesign) -> Sheet:
    total = sum(stratum.pixels for stratum in design.strata)
    rows = [[s.name, f"{s.pixels:,}", f"{100 * s.pixels / total:.2f}", f"{s.points:,}"] for s in design.strata]
    return Sheet(f"Sample of {design.map}", ["class", "pixels", "% of the map", "points"], rows)


if __name__ == "__main__":
    main()
