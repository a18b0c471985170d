"""Train without some sources, test on the whole of them: what to expect in a country that was never seen."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from timesenmap.model.caption_evaluation import (
    CaptionSamples,
    EncodedSamples,
    caption_vectors,
    crop_sources,
    land_covers,
    question_report,
    real_samples,
)
from timesenmap.model.caption_scores import FREQUENT, QuestionReport, Scores, compare
from timesenmap.model.captions import CaptionTable, load_captions
from timesenmap.model.encoder import load_encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import Interval, resampling_groups
from timesenmap.model.forest import FOLDS, TREES, forest_predictions, require_scikit_learn
from timesenmap.model.place_evaluation import embed_places
from timesenmap.model.shown import high_summer_only
from timesenmap.model.training import train
from timesenmap.model.training_config import MAY_DIFFER, TrainingConfig
from timesenmap.model.training_scores import Question, finest_present, question
from timesenmap.model.training_series import load_training_data

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

Ints = npt.NDArray[np.int64]

LAND: Final = "land cover"
FINEST: Final = "finest captions"
WHOLE_YEAR: Final = "all months"
ONE_MONTH: Final = "one month"


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeftOutQuestion(_Report):
    """One question about the whole of one source; a forest cross-validated on the same samples beside it."""

    shown: str = Field(description=f"{WHOLE_YEAR}, or {ONE_MONTH}: the one nearest to high summer")
    among_present: QuestionReport = Field(description="asked among the classes the source has")
    among_all: Scores = Field(description="asked among all land covers, or all finest captions, of measured series")
    options: int = Field(description="number of all these")
    ratio: float | None = Field(description="macro F1 among the classes present, over the forest's")
    ratio_frequent: float | None = Field(description=f"the same over the classes with at least {FREQUENT} samples")


class LeftOutSource(_Report):
    """The whole of a source that was left out."""

    name: str
    rows: int
    questions: tuple[LeftOutQuestion, ...]
    not_asked: dict[str, str] = Field(description="questions that cannot be asked of it, and why")


class LeftOutGroup(_Report):
    """One training run without some sources."""

    left_out: tuple[str, ...]
    encoder_sha256: str
    temperature: float
    training_rows: int
    sources: tuple[LeftOutSource, ...]


class LeftOutReport(_Report):
    """All groups."""

    seed: int
    epochs: int
    data: dict[str, str] = Field(description="SHA-256 of each series file")
    trees: int = Field(description="of the forest beside")
    groups: tuple[LeftOutGroup, ...]


class _Groups(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[tuple[str, ...], ...] = Field(min_length=1)


def read_groups(file: Path) -> tuple[tuple[str, ...], ...]:
    """Groups of sources from a YAML file with the one field ``groups``, a list of lists.

    Raises
    ------
    ModelError
        Unreadable file, or other content.
    """
    try:
        return _Groups.model_validate(yaml.safe_load(file.read_text("utf-8"))).groups
    except OSError as error:
        raise ModelError(f"groups '{file}' cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise ModelError(
            f"groups '{file}': {str(error).splitlines()[0]}; write groups: and a list of lists of datasets"
        ) from None


def starter_groups() -> tuple[tuple[str, ...], ...]:
    """Groups that the starter is tested with, ``weights/left-out.yaml``."""
    with resources.as_file(resources.files("timesenmap.model.weights").joinpath("left-out.yaml")) as file:
        return read_groups(file)


def left_out_report(
    config: TrainingConfig,
    groups: Sequence[Sequence[str]],
    folder: Path,
    *,
    captions: CaptionTable | None = None,
    trees: int = TREES,
    threads: int = 1,
    progress: bool = False,
    advance: Callable[[str], None] = lambda _: None,
) -> LeftOutReport:
    """Train an encoder without each group, and test it on the sources of the group.

    Parameters
    ----------
    config
        The run; its ``split.leave_out`` is each group's, its ``out`` lies in ``folder``.
    groups
        Datasets or regions that are left out together.
    folder
        Where the encoders are written. A group whose encoder lies there, trained with the same configuration,
        series and captions, is not trained again; one that was stopped goes on.
    captions
        Caption table; default: the project's.
    trees, threads
        Of the forest beside.
    progress, advance
        Show bars of the training; called with the sources after each group.

    Raises
    ------
    ModelError
        Bad data or configuration; a group that names no measured source.
    """
    require_scikit_learn()
    if config.start is not None:
        raise ModelError(f"start '{config.start}' may have seen what is left out: take start out of the configuration")
    table = load_captions() if captions is None else captions
    data = load_training_data(config.series, config.split, table)
    everything = real_samples(data)
    rows = {name: source_rows(everything, name) for group in groups for name in group}
    vectors = caption_vectors(table, config.encoder_config.text_tower)
    reports = []
    for group in groups:
        encoder, training_rows = trained_without(
            config, group, folder, captions=table, hashes=data.hashes, progress=progress
        )
        sources = tuple(
            source_report(
                name,
                EncodedSamples.of(encoder, table, everything.take(rows[name]), vectors),
                everything,
                trees=trees,
                threads=threads,
            )
            for name in group
        )
        reports.append(
            LeftOutGroup(
                left_out=tuple(group),
                encoder_sha256=encoder.sha256,
                temperature=encoder.config.temperature,
                training_rows=training_rows,
                sources=sources,
            )
        )
        advance(", ".join(group))
    return LeftOutReport(seed=config.seed, epochs=config.epochs, data=data.hashes, trees=trees, groups=tuple(reports))


def source_rows(samples: CaptionSamples, name: str) -> Ints:
    """Rows of a dataset or region.

    Raises
    ------
    ModelError
        There are none.
    """
    rows = samples.sources == name
    if "region" in samples.frame:
        rows |= (samples.frame["region"] == name).to_numpy()
    if not rows.any():
        known = ", ".join(sorted(set(samples.sources)))
        raise ModelError(f"left-out source '{name}' is no dataset or region of the series: datasets are {known}")
    return np.flatnonzero(rows)


def trained_without(
    config: TrainingConfig,
    group: Sequence[str],
    folder: Path,
    *,
    captions: CaptionTable,
    hashes: dict[str, str],
    progress: bool = False,
) -> "tuple[Encoder, int]":
    """Train an encoder without a group, or find the one trained before; also the number of series it learnt from.

    The files are named by a hash of configuration, series and captions: a change of any of them trains anew.
    """
    split = config.split.model_copy(update={"leave_out": tuple(group)})
    values = config.model_dump(mode="json", exclude=set(MAY_DIFFER)) | {"split": split.model_dump(mode="json")}
    identity = json.dumps([values, hashes, captions.model_dump(mode="json")], sort_keys=True)
    stem = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(group))[:60] + "-" + hashlib.sha256(identity.encode()).hexdigest()[:8]
    out = folder / f"{stem}.safetensors"
    done = folder / f"{stem}.json"
    if done.exists():
        recorded = json.loads(done.read_text("utf-8"))
        encoder = load_encoder(out, device=config.device)
        if encoder.sha256 == recorded["sha256"]:
            return encoder, int(recorded["training_rows"])
    folder.mkdir(parents=True, exist_ok=True)
    run = config.model_copy(update={"split": split, "out": out, "run_folder": None})
    result = train(run, resume=True, progress=progress, captions=captions)
    training_rows = int(result.report["counts"]["train"])
    done.write_text(json.dumps({"sha256": result.sha256, "training_rows": training_rows}) + "\n", "utf-8")
    return load_encoder(out, device=config.device), training_rows


def source_report(
    name: str, tested: EncodedSamples, everything: CaptionSamples, *, trees: int = TREES, threads: int = 1
) -> LeftOutSource:
    """Test an encoder on the whole of a source: land cover, and crops where the source tells them apart.

    Parameters
    ----------
    name
        Of the source.
    tested
        Its rows and the encoder that never saw them.
    everything
        All measured series: what they are called are the options of the wider question.
    trees, threads
        Of the forest beside.
    """
    samples, table = tested.samples, tested.table
    kinds: dict[str, tuple[Ints, Ints]] = {LAND: (samples.landcover, land_covers(everything))}
    if set(samples.sources) <= set(crop_sources(table)):
        kinds[FINEST] = (samples.caption, finest_present(table, everything.caption))
    questions: list[LeftOutQuestion] = []
    not_asked: dict[str, str] = {}
    for kind, (truth, options) in kinds.items():
        among_all = question(truth, options)
        among_present = question(truth, np.unique(options[among_all.answer]))
        if len(among_present.options) < 2:
            not_asked[kind] = f"{len(among_present.options)} class"
        elif np.bincount(among_present.answer).max() < FOLDS:
            not_asked[kind] = f"no class of {FOLDS} series"
        else:
            questions += _asked(kind, tested, among_present, among_all, trees=trees, threads=threads)
    return LeftOutSource(name=name, rows=len(samples), questions=tuple(questions), not_asked=not_asked)


def _asked(
    kind: str, tested: EncodedSamples, among_present: Question, among_all: Question, *, trees: int, threads: int
) -> list[LeftOutQuestion]:
    """One question with all months and with one, each beside a forest that saw the same."""
    samples = tested.samples
    groups, _ = resampling_groups(samples.frame.iloc[among_all.rows])
    one_month = high_summer_only(samples.reflectance, samples.lat).reflectance
    found = []
    for shown, reflectance in ((WHOLE_YEAR, samples.reflectance), (ONE_MONTH, one_month)):
        embeddings = embed_places(tested.encoder, reflectance)
        told = tested.answer(among_present, embeddings=embeddings)
        forest = forest_predictions(reflectance[told.question.rows], told.question.answer, trees=trees, threads=threads)
        report = question_report(kind, told, samples, tested.table, forest=forest, by_source=False)
        assert report.forest is not None
        wide = tested.answer(among_all, embeddings=embeddings)
        scores, _, _ = compare(among_all.answer, wide.predicted, None, len(among_all.options), groups)
        found.append(
            LeftOutQuestion(
                shown=shown,
                among_present=report,
                among_all=scores,
                options=len(among_all.options),
                ratio=_ratio(report.scores.macro_f1, report.forest.macro_f1),
                ratio_frequent=_ratio(report.scores.macro_f1_frequent, report.forest.macro_f1_frequent),
            )
        )
    return found


def _ratio(own: Interval, reference: Interval) -> float | None:
    return own.value / reference.value if own.value is not None and reference.value else None
