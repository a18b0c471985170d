"""evaluate-encoder: how well an encoder tells classes it was only told about in words."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import click
import numpy as np
from numpy.typing import NDArray

from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import LabelledSeries, ZeroShotReport, zero_shot_report
from timesenmap.model.evaluation_pages import (
    class_sheet,
    markdown,
    notes,
    require_matplotlib,
    save_confusion_picture,
    summary_sheet,
)
from timesenmap.model.place_evaluation import labelled_places
from timesenmap.model.prompt_files import write_prompt_file
from timesenmap.model.prompts import Family, PromptSet, ambiguous_classes, class_embeddings, load_prompt_set
from timesenmap.model.zero_shot import FRAMES, Composites, composited, cosines, fit_hub_means, hub_means_of
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.evaluate_captions import held_out, left_out, parcels
from timesenmap.workflows.evaluate_places import CONTEXT, ablation, retrieval, scenicness
from timesenmap.workflows.logs import set_up_logging
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.tables import show

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

log = logging.getLogger("timesenmap.evaluate_encoder")

_CHUNK = 4096  # series embedded between two steps of the progress bar


def evaluate_zero_shot(
    data: str,
    prompt_set: PromptSet,
    encoder: "Encoder",
    *,
    labels: str,
    families: Sequence[Family] = ("descriptive",),
    composites: Sequence[Composites] = ("monthly",),
    hub_fit: Path | None = None,
    hub_means: bool = True,
    stages: Stages | None = None,
) -> list[ZeroShotReport]:
    """Evaluate every combination of prompt families and composites on one file of labelled series.

    Parameters
    ----------
    data : parquet of series, or folder of prepared crops (for encoders of patches, too)
    prompt_set, encoder : what to evaluate
    labels : column of class names
    families, composites : the variants
    hub_fit : where to write the prompt set with hub means fitted on these series; they are applied, too
    hub_means : apply the hub means the prompt set holds (to descriptive prompts and twelve months, as fitted)
    stages : shows progress; log lines by default

    Raises
    ------
    ModelError
        Anything wrong with the file, the column, the prompt set's hub means or the variants asked for.
    """
    means = hub_means_of(prompt_set, encoder) if hub_means and hub_fit is None else None
    if hub_fit is not None and ("descriptive" not in families or "monthly" not in composites):
        raise ModelError("hub means are fitted on descriptive prompts and monthly composites; ask for both")
    series = labelled_places(data, prompt_set, encoder, labels=labels)
    vectors = {family: class_embeddings(prompt_set, encoder, family=family) for family in families}
    for pair in ambiguous_classes(prompt_set, vectors[families[0]]):
        log.warning("prompt set '%s': %s", prompt_set.name, pair)
    reports = []
    for kind in composites:
        embeddings = _embed(series, encoder, kind, stages or Stages())
        for family in families:
            cosine = cosines(embeddings, vectors[family])
            fitted = family == "descriptive" and kind == "monthly"
            if fitted and hub_fit is not None:
                hub = fit_hub_means(cosine, prompt_set, encoder)
                prompt_set = prompt_set.model_copy(update={"hub_means": hub})
                write_prompt_file(prompt_set, hub_fit)
                means = np.array(hub.means)
            elif means is not None and not fitted:
                log.info("hub means are not applied to %s prompts with %s composites: not fitted there", family, kind)
            reports.append(
                zero_shot_report(
                    series,
                    cosine,
                    prompt_set,
                    encoder,
                    data=data,
                    labels=labels,
                    family=family,
                    composites=kind,
                    hub_means=means if fitted else None,
                )
            )
    return reports


def _embed(series: LabelledSeries, encoder: "Encoder", kind: Composites, stages: Stages) -> NDArray[np.float32]:
    frames = composited(series.reflectance, kind)
    parts = []
    with stages.stage(f"embed {kind}", len(frames), "series") as advance:
        for start in range(0, len(frames), _CHUNK):
            parts.append(encoder.embed(frames[start : start + _CHUNK]))
            advance(len(parts[-1]))
    return np.concatenate(parts)


def report_json(reports: Sequence[ZeroShotReport]) -> str:
    """JSON of a run: the first variant's report; with more than one variant, all of them under "variants"."""
    content = reports[0].model_dump(mode="json")
    if len(reports) > 1:
        content["variants"] = [report.model_dump(mode="json") for report in reports]
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def write_reports(reports: Sequence[ZeroShotReport], out: Path) -> list[Path]:
    """Write JSON, Markdown and a picture of every confusion matrix; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    stem = f"zero-shot-{reports[0].prompts}"
    written = [out / f"{stem}.json", out / f"{stem}.md"]
    written[0].write_text(report_json(reports) + "\n", encoding="utf-8")
    written[1].write_text(markdown(reports), encoding="utf-8")
    for report in reports:
        written.append(out / f"{stem}-{report.family}-{report.composites}.png")
        save_confusion_picture(report, written[-1])
    return written


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="timesenmap", prog_name="evaluate-encoder")
def main() -> None:
    """Evaluate an encoder."""


@main.command("zero-shot", context_settings=CONTEXT)
@click.option(
    "--data", required=True, help="parquet of series (B02_m01 .. and a column of class names) or prepared crops"
)
@click.option("--prompts", required=True, help="shipped prompt set or YAML path")
@click.option("--labels", required=True, help="column whose values are class names of the prompt set")
@click.option("--encoder", "encoder_name", default="starter", show_default=True, help="shipped name or .safetensors")
@click.option(
    "--family",
    "families",
    multiple=True,
    type=click.Choice(get_args(Family)),
    default=("descriptive",),
    show_default=True,
    help="prompt family; may repeat",
)
@click.option(
    "--composites",
    multiple=True,
    type=click.Choice(tuple(FRAMES)),
    default=("monthly",),
    show_default=True,
    help="12 months, 4 seasons or 1 year; may repeat",
)
@click.option(
    "--fit-hub-means", "hub_fit", type=click.Path(path_type=Path), help="fit the hub correction; YAML to write"
)
@click.option("--no-hub-means", is_flag=True, help="do not apply the hub means the prompt set holds")
@click.option("--json", "as_json", is_flag=True, help="print JSON, and nothing else, on standard output")
@click.option("--out", type=click.Path(path_type=Path), help="folder for JSON, Markdown and confusion matrices (PNG)")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps")
@with_exit_codes
def zero_shot(
    *,
    data: str,
    prompts: str,
    labels: str,
    encoder_name: str,
    families: tuple[str, ...],
    composites: tuple[str, ...],
    hub_fit: Path | None,
    no_hub_means: bool,
    as_json: bool,
    out: Path | None,
    device: str,
) -> None:
    """Tell the classes of labelled series by their prompts alone, and say how often that is right.

    \b
    evaluate-encoder zero-shot --data series.parquet --prompts crops --labels crop
    evaluate-encoder zero-shot --data series.parquet --prompts crops --labels crop --out eval/ \\
        --family class-name --family generic --family descriptive --composites monthly --composites annual

    Rows whose value is no class of the set are counted and left out. Exit codes: 0 done, 2 bad input, 1 failed.
    """  # noqa: D301 - click wants the control character \b, not the two characters
    set_up_logging()
    if out is not None:
        require_matplotlib()
        if out.exists() and not out.is_dir():
            raise ModelError(f"--out {out} is a file; name a folder")
    if hub_fit is not None and hub_fit.suffix.lower() not in {".yaml", ".yml"}:
        raise ModelError(f"--fit-hub-means {hub_fit} is no YAML file name; end it in .yaml")
    from timesenmap.model.encoder import load_encoder  # noqa: PLC0415 - torch takes seconds, --help needs none

    prompt_set = load_prompt_set(prompts)
    reports = evaluate_zero_shot(
        data,
        prompt_set,
        load_encoder(encoder_name, device=device),
        labels=labels,
        families=cast("tuple[Family, ...]", tuple(dict.fromkeys(families))),
        composites=cast("tuple[Composites, ...]", tuple(dict.fromkeys(composites))),
        hub_fit=hub_fit,
        hub_means=not no_hub_means,
    )
    if out is not None:
        for path in write_reports(reports, out):
            log.info("wrote %s", path)
    if as_json:
        click.echo(report_json(reports))
    else:
        show([summary_sheet(reports), class_sheet(reports[0])], notes(reports[0]))


for _command in (held_out, left_out, parcels, retrieval, scenicness, ablation):
    main.add_command(_command)
