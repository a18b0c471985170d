"""prepare-training: Sen4Map and LUCAS photos into what train-encoder and evaluate-encoder read."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

import click

from timesenmap.model.errors import ModelError
from timesenmap.model.photos import find_photos
from timesenmap.model.prepare import Advance, default_workers, prepare_crops, series_of
from timesenmap.model.prepare_photos import prepare_photos, wanted_keys
from timesenmap.model.sen4map import PATCHES, YEAR, Gaps
from timesenmap.model.shards import Counts, PreparedRows
from timesenmap.model.sheets import Sheet
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.tables import show

log = logging.getLogger("timesenmap.prepare_training")

_strict = click.option("--strict", is_flag=True, help="stop at the first sample that cannot be used")
_json = click.option("--json", "as_json", is_flag=True, help="print the counts as JSON, and nothing else, on stdout")
_out = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="folder to write; run again to resume"
)


@contextmanager
def _progress(name: str, unit: str) -> Iterator[Callable[[int], Advance]]:
    """What a preparation calls with its total; the bar ends with the block."""
    with ExitStack() as stack:

        def started(total: int) -> Advance:
            return stack.enter_context(Stages().stage(name, total, unit))

        yield started


def _show(counts: Counts, what: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(counts), indent=2, ensure_ascii=False))
        return
    title = f"{counts.rows} {what} in {counts.shards} shards"
    rows = [
        [reason, str(number), (counts.examples.get(reason) or ("",))[0]]
        for reason, number in {**counts.skipped, **counts.remarks}.items()
    ]
    if rows:
        show([Sheet(title, ["skipped or remarked", "count", "for example"], rows)])
    else:
        click.echo(f"{title}; nothing skipped")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="timesenmap", prog_name="prepare-training")
def main() -> None:
    """Prepare training data: monthly crops, embedded photos, tables of series."""


@main.command("crops")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@_out
@click.option("--patch", type=click.Choice([str(patch) for patch in PATCHES]), default="1", show_default=True)
@click.option(
    "--gaps",
    type=click.Choice(get_args(Gaps)),
    default="keep",
    show_default=True,
    help="a month without clear observation stays missing, or (the paper) takes the median of the year",
)
@click.option("--year", type=int, default=YEAR, show_default=True, help="whose acquisitions count")
@click.option("--workers", type=click.IntRange(1), default=None, help="processes; default: one a core")
@_strict
@_json
@with_exit_codes
def crops(
    sources: tuple[Path, ...],
    *,
    out: Path,
    patch: str,
    gaps: Gaps,
    year: int,
    workers: int | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Turn Sen4Map files (raw 64 x 64, or the authors' 1x1 / 5x5 / 9x9 crops) into monthly crops.

    \b
    prepare-training crops train.h5 --patch 1 --out crops/train

    Interrupted, it goes on where it was. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    with _progress("crops", "points") as started:
        counts = prepare_crops(
            sources,
            out,
            patch=int(patch),
            gaps=gaps,
            year=year,
            workers=workers or default_workers(),
            strict=strict,
            started=started,
        )
    _show(counts, "points", as_json=as_json)


@main.command("photos")
@click.argument("folder", type=click.Path(path_type=Path))
@_out
@click.option("--tower", default=None, help="open_clip: specification; default: the paper's")
@click.option("--points", multiple=True, type=click.Path(path_type=Path), help="prepared crops whose photos are wanted")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps")
@click.option("--threads", type=click.IntRange(1), default=None, help="that decode photos; default: one a core")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="photos a batch of the tower")
@_strict
@_json
@with_exit_codes
def photos(
    folder: Path,
    *,
    out: Path,
    tower: str | None,
    points: tuple[Path, ...],
    device: str,
    threads: int | None,
    batch: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Embed LUCAS photos, named like NL_40683280W.jpg, with a frozen CLIP image tower.

    \b
    prepare-training photos lucas/2018 --points crops/train --out photos/train

    Interrupted, it goes on where it was. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    from timesenmap.model.config import PAPER_TOWER  # noqa: PLC0415 - torch takes seconds, --help needs none
    from timesenmap.model.encoder import choose_device  # noqa: PLC0415
    from timesenmap.model.towers import image_tower  # noqa: PLC0415

    found = find_photos(folder)
    keys = wanted_keys(PreparedRows(points, kind="crops")) if points else None
    loaded = image_tower(tower or PAPER_TOWER, device=choose_device(device))
    with _progress("photos", "photos") as started:
        counts = prepare_photos(
            found,
            out,
            loaded,
            keys=keys,
            threads=threads or default_workers(),
            batch=batch,
            strict=strict,
            started=started,
        )
    _show(counts, "photos", as_json=as_json)


@main.command("table")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="parquet to write")
@with_exit_codes
def table(folders: tuple[Path, ...], *, out: Path) -> None:
    """Write the points of prepared crops as a parquet of series with their labels, for evaluate-encoder.

    \b
    prepare-training table crops/test --out test.parquet
    evaluate-encoder zero-shot --data test.parquet --prompts crops --labels crop
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    if out.suffix != ".parquet":
        raise ModelError(f"--out '{out}' must end in .parquet")
    series = series_of(PreparedRows(folders, kind="crops"))
    part = out.with_name(f"{out.name}.part")
    cast("Any", series).to_parquet(part, index=False)
    part.replace(out)
    log.info("wrote %d series to %s", len(series), out)


if __name__ == "__main__":
    main()
