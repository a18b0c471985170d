"""The evaluate-encoder commands beyond zero-shot: retrieval, scenicness and ablations."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import numpy as np

from timesenmap.model.errors import ModelError
from timesenmap.model.photos import PhotoEmbeddings
from timesenmap.model.place_evaluation import embed_places, read_places
from timesenmap.model.retrieval_report import TextRow, retrieval_report
from timesenmap.model.scenicness import WITHIN, Ensembling, load_scenic_prompts, read_ratings
from timesenmap.model.scenicness_report import scenicness_report
from timesenmap.model.sheets import Sheet, percent
from timesenmap.model.zero_shot import FRAMES, Composites, composited
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.tables import deliver, recall_sheet

if TYPE_CHECKING:
    from timesenmap.model.ablation import AblationReport, Vary

log = logging.getLogger("timesenmap.evaluate_encoder")

PATH = click.Path(path_type=Path)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_encoder = click.option(
    "--encoder", "encoder_name", default="starter", show_default=True, help="shipped name or .safetensors"
)
_composites = click.option(
    "--composites", type=click.Choice(tuple(FRAMES)), default="monthly", show_default=True, help="12, 4 or 1 a year"
)
_json = click.option("--json", "as_json", is_flag=True, help="print JSON, and nothing else, on standard output")
_out = click.option("--out", type=PATH, help="folder for JSON and Markdown")
_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps")


@click.command("retrieval", context_settings=CONTEXT)
@click.option("--data", required=True, type=PATH, help="folder of prepare-training crops")
@click.option("--photos", "photo_folders", multiple=True, type=PATH, help="folders of prepare-training photos")
@click.option("--places", "limit", type=click.IntRange(2), help="at most so many places, drawn at random")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="of that draw")
@_encoder
@_composites
@_json
@_out
@_device
@with_exit_codes
def retrieval(
    *,
    data: Path,
    photo_folders: tuple[Path, ...],
    limit: int | None,
    seed: int,
    encoder_name: str,
    composites: Composites,
    as_json: bool,
    out: Path | None,
    device: str,
) -> None:
    """Find places by their photos, photos by their place, and places by the name of their country or region.

    \b
    evaluate-encoder retrieval --data crops/test --photos photos/test --encoder encoder.safetensors --out eval/

    Without --photos only country and region are asked. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    from timesenmap.model.encoder import load_encoder  # noqa: PLC0415 - torch takes seconds, --help needs none

    encoder = load_encoder(encoder_name, device=device)
    if not data.is_dir():
        raise ModelError(f"--data '{data}' is no folder of prepared crops: see prepare-training crops")
    places = read_places(data, encoder)
    seen = places.observed()
    if not seen.all():
        log.info("%d places without any observation are left out", int((~seen).sum()))
        places = places.take(seen)
    if limit is not None and limit < len(places):
        places = places.take(np.sort(np.random.default_rng(seed).choice(len(places), limit, replace=False)))
    series = embed_places(encoder, composited(places.years, composites))
    photos = PhotoEmbeddings(photo_folders) if photo_folders else None
    report = retrieval_report(places, series, encoder, data=str(data), photos=photos)
    sheets = [recall_sheet(report.rows)] if report.rows else []
    notes = [f"{report.places} places of {data}; encoder {report.encoder} ({report.encoder_sha256[:12]})."]
    if report.without_photos:
        notes.append(f"Without a photo, left out of the directions with photos: {report.without_photos} places.")
    for row in report.texts:
        sheets.append(_text_sheet(row))
        notes.append(
            f"{row.what}: {row.places} places, {row.left_out} left out (elsewhere or unknown); nearest to their own of "
            f"{row.names} names {percent(row.top1)} %, among the nearest five {percent(row.top5)} %."
        )
    deliver(report, sheets, title="Retrieval", stem="retrieval", out=out, as_json=as_json, notes=notes)


@click.command("scenicness", context_settings=CONTEXT)
@click.option("--data", required=True, type=PATH, help="folder of prepared crops, or a parquet of series")
@click.option("--votes", required=True, type=PATH, help="ScenicOrNot votes: CSV with place and rating")
@click.option("--places", "rated", required=True, type=PATH, help="ScenicOrNot places: CSV with id, lat and lon")
@click.option("--prompts", type=PATH, help="YAML with two lists of sentences, scenic and plain; default: shipped ones")
@click.option(
    "--ensembling", multiple=True, type=click.Choice(get_args(Ensembling)), default=("late",), show_default=True
)
@click.option("--within", type=click.FloatRange(0, min_open=True), default=WITHIN, show_default=True, help="metres")
@click.option("--min-votes", type=click.IntRange(1), default=3, show_default=True, help="votes a rated place needs")
@_encoder
@_composites
@_json
@_out
@_device
@with_exit_codes
def scenicness(
    *,
    data: Path,
    votes: Path,
    rated: Path,
    prompts: Path | None,
    ensembling: tuple[Ensembling, ...],
    within: float,
    min_votes: int,
    encoder_name: str,
    composites: Composites,
    as_json: bool,
    out: Path | None,
    device: str,
) -> None:
    """Correlate how scenic a place's year reads with how scenic people found photos nearby.

    \b
    evaluate-encoder scenicness --data crops/test --votes votes.csv --places places.csv --ensembling late

    Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    sentences = load_scenic_prompts(prompts)
    ratings = read_ratings(votes, rated, least=min_votes)
    from timesenmap.model.encoder import load_encoder  # noqa: PLC0415 - torch takes seconds, --help needs none

    report = scenicness_report(
        data,
        load_encoder(encoder_name, device=device),
        ratings=ratings,
        sentences=sentences,
        ensembling=tuple(dict.fromkeys(ensembling)),
        within=within,
        composites=composites,
    )
    sheet = Sheet(
        "Scenicness: Pearson's r of scores and ratings (95 % interval)",
        ["ensembling", "r"],
        [[row.ensembling, f"{row.r.value:.3f} ({row.r.low:.3f} to {row.r.high:.3f})"] for row in report.rows],
    )
    left_out = ", ".join(f"{count} {what}" for what, count in report.left_out.items())
    notes = [
        f"{report.places} places within {within:g} m of one of {report.rated_places} rated ones.",
        f"Without a rating: {report.places_without_rating} places. Left out of the ratings: {left_out}.",
        f"Encoder {report.encoder} ({report.encoder_sha256[:12]}), temperature {report.temperature:.4f}.",
    ]
    deliver(report, [sheet], title="Scenicness", stem="scenicness", out=out, as_json=as_json, notes=notes)


@click.command("ablation", context_settings=CONTEXT)
@click.option("--config", "file", required=True, type=PATH, help="YAML of a run of train-encoder with targets: photos")
@click.option(
    "--vary",
    multiple=True,
    type=click.Choice(["masking", "pooling", "spectral"]),
    default=("masking", "pooling"),
    show_default=True,
    help="what to vary; may repeat",
)
@click.option("--data", required=True, type=PATH, help="folder of prepared crops to test on")
@click.option("--prompts", default="land-cover", show_default=True, help="shipped prompt set or YAML path")
@click.option("--labels", default="landcover", show_default=True, help="what of a place names its class")
@_json
@_out
@with_exit_codes
def ablation(
    *, file: Path, vary: "tuple[Vary, ...]", data: Path, prompts: str, labels: str, as_json: bool, out: Path | None
) -> None:
    """Train variants of a run that differ in one thing, and test all with 12 months, 4 seasons, 1 year and 1 month.

    \b
    evaluate-encoder ablation --config photos.yaml --data crops/test --vary masking --vary pooling --out eval/

    Encoders are written beside the run's; interrupted, it goes on where it was. Exit codes: 0 done, 2 bad input,
    1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    from timesenmap.model.ablation import ablate, variants  # noqa: PLC0415 - torch takes seconds, --help needs none
    from timesenmap.model.training import import_fit  # noqa: PLC0415
    from timesenmap.model.training_config import PhotoTrainingConfig, resolve_config  # noqa: PLC0415

    config = resolve_config(file, {})
    if not isinstance(config, PhotoTrainingConfig):
        raise ModelError(f"configuration '{file}' trains on {config.targets}: ablations need targets: photos")
    import_fit()  # Lightning sets its level when it is imported
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # advice and advertisements
    planned = variants(config, vary)
    with Stages().stage("train encoders", len(planned), "encoders") as advance:
        report = ablate(config, vary, data=data, prompts=prompts, labels=labels, advance=advance)
    notes = [f"{report.places} places of {data}, {report.classes} classes of {report.prompts} by their {labels}."]
    deliver(report, [ablation_sheet(report)], title="Ablation", stem="ablation", out=out, as_json=as_json, notes=notes)


def ablation_sheet(report: "AblationReport", *, configured: str = "as configured") -> Sheet:
    """A row a variant, a column for each thing the encoder was shown, in percent."""
    frames = list(dict.fromkeys(row.frames for row in report.rows))
    rows = [
        [configured if name == "as configured" else name, *(percent(report.top1(name, shown)) for shown in frames)]
        for name in report.encoders
    ]
    rows.append(["chance", *[percent(report.chance)] * len(frames)])
    title = f"Zero-shot accuracy on {report.places} held-out places, {report.classes} classes, % (95 % interval)"
    return Sheet(title, ["encoder trained with", *frames], rows)


def _text_sheet(row: TextRow) -> Sheet:
    rows: Sequence[list[str]] = [
        [entry.name, str(entry.rows), *(percent(share) for share in entry.precision), percent(entry.average_precision)]
        for entry in row.classes
    ]
    mean = ["mean", str(row.places), *(percent(share) for share in row.precision), percent(row.mean_average_precision)]
    chance = ["chance", "", *[percent(row.chance)] * (len(row.ks) + 1)]
    header = [row.what, "places", *(f"precision@{k}" for k in row.ks), "average precision"]
    return Sheet(f'Places by "{row.sentence}", %', header, [*rows, mean, chance])
