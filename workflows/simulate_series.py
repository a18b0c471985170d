"""``simulate-series``: monthly Sentinel-2 series of land that labelled data lack, from physical models."""

import json
import logging
from pathlib import Path

import click

from timesenmap.model.errors import ModelError
from timesenmap.model.simulation import load_settings, read_inputs, simulate_series
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.progress import Stages

log = logging.getLogger("timesenmap.simulate_series")

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="simulate-series")
@click.option("--out", type=PATH, required=True, help="Parquet to write.")
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="Series to make.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything random.")
@click.option("--classes", default="", metavar="NAMES", help="Only these, comma-separated; --list prints all.")
@click.option("--spectra", type=PATH, help="Parquet of surface spectra in Sentinel-2's bands.")
@click.option("--srf", "response", type=PATH, help="CSV of Sentinel-2's spectral response (ESA).")
@click.option("--calendar", type=PATH, help="Parquet of a crop calendar (WorldCereal); optional.")
@click.option("--patterns", type=PATH, multiple=True, help="Series whose gaps are borrowed (repeatable).")
@click.option("--settings", type=PATH, help="YAML of classes [default: the project's classes.yaml].")
@click.option("--list", "listing", is_flag=True, is_eager=True, help="Print the classes with their captions and stop.",
              expose_value=False, callback=lambda context, _, value: _list(context, asked=value))  # fmt: skip
@with_exit_codes
def main(
    out: Path,
    *,
    count: int,
    seed: int,
    classes: str,
    spectra: Path | None,
    response: Path | None,
    calendar: Path | None,
    patterns: tuple[Path, ...],
    settings: Path | None,
) -> None:
    """Simulate monthly series and write them with the columns of a series file.

    \b
    simulate-series --out simulated.parquet --count 20000 --seed 1 \\
        --spectra spectra/s2_spectra.parquet --srf spectra/s2_srf.csv

    Needs the extra "simulate" (PROSAIL). The same options and versions give the same bytes; a longer table begins with
    the shorter one. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    if out.suffix != ".parquet":
        raise ModelError(f"--out '{out}' must end in .parquet")
    for name, path in (("--spectra", spectra), ("--srf", response)):
        if path is None:
            raise ModelError(f"{name} is missing: README.md, 'Simulated series', says what it holds and who has it")
    assert spectra is not None
    assert response is not None
    chosen = load_settings(settings)
    inputs = read_inputs(chosen, spectra=spectra, response=response, calendar=calendar, patterns=patterns)
    names = [name.strip() for name in classes.split(",") if name.strip()]
    with Stages().stage("simulate", count, "series") as advance:
        table = simulate_series(chosen, inputs, count=count, seed=seed, classes=names, advance=advance)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    table.to_parquet(part, index=False)
    part.replace(out)
    log.info("wrote %d series of %d captions to %s", len(table), table["label"].nunique(), out)


def _list(context: click.Context, *, asked: bool) -> None:
    if asked:
        recipes = load_settings().classes
        click.echo(json.dumps({name: recipe.caption or name for name, recipe in recipes.items()}, indent=2))
        context.exit()


if __name__ == "__main__":
    main()
