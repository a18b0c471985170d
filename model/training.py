"""Training an encoder: from series files to a ``.safetensors`` with calibrated temperature and a report.

Source of the method: Jain et al. 2026, ISPRS J. 236:99-119; the captions target (labels as sentences) is this
project's.
"""

import json
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.captions import UNLABELLED, CaptionTable, Labelled, load_captions
from timesenmap.model.checkpoint import read_module, save_encoder
from timesenmap.model.config import SAID_OF_AN_ENCODER
from timesenmap.model.encoder import Encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.teaching import teach
from timesenmap.model.torchvision_cpu import ensure_torchvision
from timesenmap.model.towers import embed_texts
from timesenmap.model.training_config import (
    MAY_DIFFER,
    RunConfig,
    TrainingConfig,
    dump_config,
    resolve_config,
)
from timesenmap.model.training_data import CaptionPairs, Floats
from timesenmap.model.training_scores import (
    accuracy,
    calibrated_temperature,
    calibration_error,
    class_f1,
    cosines,
    mean_vectors,
    question,
    typical_questions,
)
from timesenmap.model.training_series import TrainingData, load_training_data

if TYPE_CHECKING:
    from timesenmap.model.training_module import TrainingModule

log = logging.getLogger(__name__)

REPORTED_VERSIONS: Final = (
    "timesenmap", "torch", "lightning", "scikit-learn", "numpy", "pandas", "sentence-transformers"
)  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """What a run made.

    Attributes
    ----------
    out, sha256
        The encoder written.
    epochs
        Epochs trained, and the one whose weights were kept.
    report
        Numbers on held-out cells, data and versions; also in ``report.json`` of the run folder.
    """

    out: Path
    sha256: str
    epochs: tuple[int, int]
    report: dict[str, Any]


def train(
    config: TrainingConfig, *, resume: bool = False, progress: bool = False, captions: CaptionTable | None = None
) -> TrainingResult:
    """Train, calibrate, write the encoder and report on held-out cells.

    Parameters
    ----------
    config
        The run.
    resume
        Go on from the run folder's last checkpoint; without one, start.
    progress
        Show a progress bar.
    captions
        Caption table; default: the project's.

    Raises
    ------
    ModelError
        Bad data or configuration, a run folder already in use, the extra ``train`` not installed.
    """
    fit = import_fit()
    if config.threads:
        torch.set_num_threads(config.threads)
    captions = load_captions() if captions is None else captions
    data = load_training_data(config.series, config.split, captions)
    network, begun = first_network(config)
    prepare_folder(config, data.hashes | begun, resume=resume)

    spec = config.encoder_config.text_tower
    reflectance, labelled = data.side(data.split.train)
    sources = data.table.frame["dataset"].to_numpy(str)[data.split.train]
    pairs = CaptionPairs(
        reflectance, labelled, sources, captions, lambda texts: embed_texts(texts, spec).astype(np.float32), config
    )
    vectors = mean_vectors(pairs.sentences)
    held_out, held_out_labels = data.side(data.split.validation)
    module = training_module(
        config,
        network,
        pairs,
        held_out=held_out,
        labelled=held_out_labels,
        vectors=vectors,
        finest=data.finest(captions),
    )
    log.info("training on %d series, validating on %d", len(reflectance), len(held_out))
    epochs = fit(module, config, resume=resume, progress=progress) if config.epochs else (0, 0)
    taught = None
    if config.lessons_follow:
        taught = teach(module, pairs, config, fit, resume=resume, progress=progress)

    temperature = _calibrate(network, held_out, held_out_labels, captions=captions, vectors=vectors, config=config)
    report = evaluate(network, data, captions, vectors, temperature=temperature)
    if taught:
        report |= {"taught_epochs": taught[0], "best_taught_epoch": taught[1]}
    return deliver(network, config, report, training_data=_trained_on(data), begun=begun, epochs=epochs)


def first_network(config: RunConfig) -> tuple[TimeSenCLIP, dict[str, str]]:
    """Network that a run begins with, and the SHA-256 of the encoder it is from: ``{"start": ...}``, or nothing.

    Fresh weights are drawn from the run's seed; the global random state is left as it was.

    Raises
    ------
    ModelError
        No encoder there, or one that is not of the run's size and fields.
    """
    described = config.encoder_config
    if config.start is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = TimeSenCLIP(described, dropout=config.dropout)
            torch.nn.init.normal_(network.positions, std=config.position_std)
        return network, {}
    started, sha256 = read_module(config.start)
    asked, given = (one.model_dump(exclude=set(SAID_OF_AN_ENCODER)) for one in (described, started.config))
    differing = sorted(name for name in asked if asked[name] != given[name])
    if differing:
        values = ", ".join(f"{name} is {given[name]}, not {asked[name]}" for name in differing)
        raise ModelError(
            f"start '{config.start}' is another kind of encoder than the run's: its {values}; set them alike"
        )
    described = described.model_copy(update={"temperature": started.config.temperature})
    with torch.random.fork_rng(devices=[]):
        network = TimeSenCLIP(described, dropout=config.dropout)
    network.load_state_dict(started.state_dict())
    return network, {"start": sha256}


def deliver(
    network: TimeSenCLIP,
    config: RunConfig,
    report: dict[str, Any],
    *,
    training_data: str,
    begun: Mapping[str, str],
    epochs: tuple[int, int],
) -> TrainingResult:
    """Write the encoder, described by the run, and the run's report, which has its temperature.

    What the run began with, seed, epochs and versions are added to the report.
    """
    known = versions()
    start = f", begun with {begun['start'][:12]}" if begun else ""
    described = config.encoder_config.model_copy(
        update={
            "temperature": report["temperature"],
            "training_data": training_data,
            "created_by": f"timesenmap {known.get('timesenmap', '')} train-encoder, seed {config.seed}{start}",
        }
    )
    report |= {**begun, "seed": config.seed, "epochs": epochs[0], "best_epoch": epochs[1], "versions": known}
    trained = TimeSenCLIP(described)
    trained.load_state_dict(network.state_dict())
    sha256 = save_encoder(trained, config.out)
    report["encoder"] = {"file": config.out.name, "sha256": sha256}
    (config.folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return TrainingResult(out=config.out, sha256=sha256, epochs=epochs, report=report)


def import_fit() -> Callable[..., tuple[int, int]]:
    """Lightning's part, or ModelError where the extra is not installed."""
    ensure_torchvision()  # torchmetrics, which Lightning imports, imports torchvision
    try:
        from timesenmap.model.training_fit import fit  # noqa: PLC0415 - Lightning is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "lightning":
            raise
        raise ModelError("training needs Lightning: pip install 'timesenmap[train]'") from None
    return fit


def training_module(*args: Any, **options: Any) -> "TrainingModule":
    """Make a training module; its import, too, waits for Lightning."""
    from timesenmap.model.training_module import TrainingModule  # noqa: PLC0415 - Lightning is an extra

    return TrainingModule(*args, **options)


def prepare_folder(config: RunConfig, hashes: Mapping[str, str], *, resume: bool) -> None:
    """Make the run folder, or check that it is this run's; ``hashes`` are of its data."""
    folder = config.folder
    described = folder / "config.yaml"
    recorded = folder / "data.json"
    if described.exists():
        if not resume:
            raise ModelError(
                f"run folder '{folder}' holds another run: resume it (--resume), remove it or name another"
            )
        earlier = resolve_config(described, {}).model_dump(exclude=set(MAY_DIFFER))
        now = config.model_dump(exclude=set(MAY_DIFFER))
        differing = sorted(name for name in now if now[name] != earlier.get(name))
        if differing:
            raise ModelError(
                f"run folder '{folder}' was started with other values of {', '.join(differing)}: "
                "resume with its config.yaml, or name another --run-folder"
            )
        if json.loads(recorded.read_text("utf-8")) != dict(hashes):
            raise ModelError(f"run folder '{folder}' was started with other data: restore them, or start anew")
        return
    folder.mkdir(parents=True, exist_ok=True)
    described.write_text(dump_config(config), "utf-8")
    recorded.write_text(json.dumps(dict(hashes), indent=2) + "\n", "utf-8")


def _calibrate(
    network: TimeSenCLIP,
    held_out: Floats,
    labelled: Labelled,
    *,
    captions: CaptionTable,
    vectors: Floats,
    config: TrainingConfig,
) -> float:
    """Temperature from the validation cells; the loss's own where there are none."""
    if not len(held_out):
        return config.temperature
    questions = typical_questions(
        captions, labelled.caption, labelled.landcover, rng=np.random.default_rng([config.seed, 2])
    )
    # Every series counts alike. With rare captions weighted up, confidence was too low (measured on validation cells).
    return calibrated_temperature(embed(network, held_out), vectors, questions, weights=np.ones(len(held_out)))


def embed(network: TimeSenCLIP, reflectance: Floats) -> Floats:
    """Embed series with a network in training or not, on the CPU in float32."""
    return Encoder(network, device="cpu", precision="float32").embed(reflectance)


def evaluate(
    network: TimeSenCLIP, data: TrainingData, captions: CaptionTable, vectors: Floats, *, temperature: float
) -> dict[str, Any]:
    """Numbers on the test cells, as plain values for JSON."""
    reflectance, labelled = data.side(data.split.test)
    report: dict[str, Any] = {"counts": data.counts, "data": data.hashes, "temperature": temperature}
    if not len(reflectance):
        return report
    embedded = embed(network, reflectance)
    sources = data.table.frame["dataset"].to_numpy(str)[data.split.test]
    known = data.labelled.landcover[data.measured]
    land = np.unique(known[known != UNLABELLED])
    finest = data.finest(captions)
    asked = {"captions": question(labelled.caption, finest), "landcover": question(labelled.landcover, land)}
    for name, q in asked.items():
        scores = class_f1(embedded, vectors, q)
        report[name] = {
            "options": len(q.options),
            "rows": len(q.rows),
            "accuracy": accuracy(embedded, vectors, q),
            "macro_f1": float(np.mean([f1 for f1, _ in scores.values()])) if scores else None,
            "calibration_error": calibration_error(cosines(embedded, vectors, q), q.answer, temperature),
            "f1": {captions.names[number]: {"f1": f1, "rows": rows} for number, (f1, rows) in scores.items()},
        }
    report["sources"] = {
        str(source): _source_scores(embedded, vectors, labelled, asked, np.flatnonzero(sources == source))
        for source in np.unique(sources)
    }
    return report


def _source_scores(
    embedded: Floats,
    vectors: Floats,
    labelled: Labelled,
    asked: Mapping[str, Any],
    rows: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """Accuracies of one source's test rows, asked with all the options of the whole test."""
    truths = {"captions": labelled.caption, "landcover": labelled.landcover}
    scores: dict[str, Any] = {"rows": len(rows)}
    for name, truth in truths.items():
        q = question(truth, asked[name].options, rows=rows)
        scores[name] = accuracy(embedded, vectors, q) if len(q.rows) else None
    return scores


def versions() -> dict[str, str]:
    """Versions of what a run depends on."""
    found = {"python": platform.python_version()}
    for name in REPORTED_VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _trained_on(data: TrainingData) -> str:
    """What an encoder's metadata say of its data."""
    made = data.counts["simulated, all in train"]
    files = ", ".join(f"{name} ({digest[:12]})" for name, digest in data.hashes.items())
    return f"captions of {data.counts['train']} series ({made} simulated): {files}"
