"""The evaluate-encoder commands behind a model card: held-out, left-out and parcels."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation_pages import require_matplotlib
from timesenmap.model.sheets import Sheet
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.evaluate_places import CONTEXT, PATH
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.tables import show

if TYPE_CHECKING:
    from pydantic import BaseModel

    from timesenmap.model.training_config import TrainingConfig

log = logging.getLogger("timesenmap.evaluate_encoder")

_config = click.option("--config", "file", required=True, type=PATH, help="YAML of the run of train-encoder")
_series = click.option("--series", multiple=True, type=PATH, help="parquet of labelled series (repeatable)")
_encoder = click.option(
    "--encoder", "encoder_name", default="starter", show_default=True, help="shipped name or .safetensors"
)
_threads = click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="for forest and torch")
_out = click.option("--out", required=True, type=PATH, help="folder for JSON, tables.md, pictures and index.html")
_json = click.option("--json", "as_json", is_flag=True, help="print JSON, and nothing else, on standard output")


@click.command("held-out", context_settings=CONTEXT)
@_config
@_series
@_encoder
@_threads
@_out
@_json
@with_exit_codes
def held_out(
    *, file: Path, series: tuple[Path, ...], encoder_name: str, threads: int, out: Path, as_json: bool
) -> None:
    """Test an encoder on the cells its run held out, beside a supervised forest on the same series.

    Land cover, crops and all captions; per class and source; calibration; words that no training saw; one month,
    six bands, one band less; nonsense. Simulated series never count.

    \b
    evaluate-encoder held-out --config model/weights/starter.yaml --series series/train.parquet --out evaluation/

    Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    _ready(out)
    from timesenmap.model.encoder import load_encoder  # noqa: PLC0415 - torch takes seconds, --help needs none
    from timesenmap.model.held_out import PARTS, held_out_report  # noqa: PLC0415
    from timesenmap.workflows.evaluation_sheets import held_out_notes, held_out_sheets  # noqa: PLC0415

    config = _resolved(file, series, threads)
    encoder = load_encoder(encoder_name, device="cpu")
    with Stages().stage("evaluate", PARTS, "parts") as advance:
        report = held_out_report(encoder, config, threads=threads, advance=lambda _: advance(1))
    _deliver(report, "held-out", held_out_sheets(report), held_out_notes(report), out=out, as_json=as_json)


@click.command("left-out", context_settings=CONTEXT)
@_config
@_series
@click.option("--groups", type=PATH, help="YAML with groups: lists of datasets [default: those of the starter]")
@click.option("--leave-out", "named", multiple=True, help="dataset or region to leave out alone (repeatable)")
@click.option("--epochs", type=click.IntRange(min=1), help="passes over the data [default: the configuration's]")
@_threads
@_out
@_json
@with_exit_codes
def left_out(
    *,
    file: Path,
    series: tuple[Path, ...],
    groups: Path | None,
    named: tuple[str, ...],
    epochs: int | None,
    threads: int,
    out: Path,
    as_json: bool,
) -> None:
    """Train without some sources, and test on the whole of them: what to expect in a country never seen.

    \b
    evaluate-encoder left-out --config starter.yaml --series series/train.parquet --leave-out worldcrops_kenya --out e/

    Sources of one group are left out together, which is the stricter test. A group that was trained before, with the
    same configuration, series and captions, is not trained again. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    _ready(out)
    if groups is not None and named:
        raise ModelError("--groups and --leave-out both say what to leave out: give one of them")
    from timesenmap.model.left_out import left_out_report, read_groups, starter_groups  # noqa: PLC0415 - torch
    from timesenmap.model.training import import_fit  # noqa: PLC0415
    from timesenmap.workflows.evaluation_sheets import left_out_notes, left_out_sheets  # noqa: PLC0415

    asked = tuple((name,) for name in named) or (read_groups(groups) if groups else starter_groups())
    config = _resolved(file, series, threads)
    if epochs is not None:
        config = config.model_copy(update={"epochs": epochs, "warmup_epochs": min(config.warmup_epochs, epochs / 2)})
    import_fit()  # Lightning sets its level when it is imported
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # advice and advertisements
    with Stages().stage("train and test", len(asked), "groups") as advance:
        report = left_out_report(config, asked, out / "encoders", threads=threads, advance=lambda _: advance(1))
    _deliver(report, "left-out", left_out_sheets(report)[:1], left_out_notes(report), out=out, as_json=as_json)


@click.command("parcels", context_settings=CONTEXT)
@click.option("--labels", required=True, type=PATH, help="raster of declared class codes; its extent is mapped")
@click.option("--prompts", multiple=True, required=True, help="prompt set whose classes name codes as reference")
@click.option("--catalog", required=True, help="where scenes come from, as in make-map")
@click.option("--year", type=int, help="calendar year to map")
@click.option("--start", help="first of the twelve months, YYYY-MM (instead of --year)")
@_encoder
@_out
@_json
@with_exit_codes
def parcels(
    *,
    labels: Path,
    prompts: tuple[str, ...],
    catalog: str,
    year: int | None,
    start: str | None,
    encoder_name: str,
    out: Path,
    as_json: bool,
) -> None:
    """Map a place in somebody's own words with make-map, and compare with the parcels declared there.

    \b
    evaluate-encoder parcels --labels labels_CT.tif --catalog catalog.json --start 2017-12 \\
        --prompts model/weights/parcels-words.yaml --out evaluation/

    The maps are kept in OUT/parcels. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    _ready(out)
    from timesenmap.workflows.evaluation_sheets import parcels_notes, parcels_sheets  # noqa: PLC0415 - torch
    from timesenmap.workflows.parcels import parcels_report  # noqa: PLC0415

    report = parcels_report(
        labels,
        prompts,
        out / "parcels",
        catalog=catalog,
        encoder=encoder_name,
        year=year,
        start=start,
        stages=Stages(),
    )
    _deliver(report, "parcels", parcels_sheets(report), parcels_notes(report), out=out, as_json=as_json)


def _ready(out: Path) -> None:
    set_up_logging()
    require_matplotlib()
    if out.exists() and not out.is_dir():
        raise ModelError(f"--out {out} is a file; name a folder")


def _resolved(file: Path, series: tuple[Path, ...], threads: int) -> "TrainingConfig":
    """Configuration of a run on captions; also sets torch's threads."""
    import torch  # noqa: PLC0415 - takes seconds, --help needs none

    from timesenmap.model.training_config import TrainingConfig, resolve_config  # noqa: PLC0415

    torch.set_num_threads(threads)
    config = resolve_config(file, {"series": series or None, "threads": threads})
    if not isinstance(config, TrainingConfig):
        raise ModelError(f"configuration '{file}' trains on {config.targets}: this test needs targets: captions")
    return config


def _deliver(
    report: "BaseModel", stem: str, sheets: list[Sheet], notes: list[str], *, out: Path, as_json: bool
) -> None:
    from timesenmap.workflows.evaluation_page import write_report  # noqa: PLC0415 - torch takes seconds

    for path in write_report(report, stem, out):
        log.info("wrote %s", path)
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        show(sheets, notes)
