"""``train-encoder``: train an encoder from labelled series, with a configuration file, flags or both."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from timesenmap.model.errors import ModelError

if TYPE_CHECKING:
    from timesenmap.model.training import TrainingResult
    from timesenmap.model.training_config import RunConfig

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--config", "file", type=PATH, help="YAML of the fields of the run; flags win.")
@click.option("--targets", type=click.Choice(["captions", "photos"]), help="What a series is pulled towards.")
@click.option("--series", type=PATH, multiple=True, help="Parquet of labelled series (repeatable).")
@click.option("--crops", type=PATH, multiple=True, help="Folder of prepare-training crops, for photos (repeatable).")
@click.option("--photos", type=PATH, multiple=True, help="Folder of prepare-training photos (repeatable).")
@click.option("--out", type=PATH, help="Encoder to write (.safetensors).")
@click.option("--run-folder", type=PATH, help="Logs and checkpoints [default: beside OUT].")
@click.option("--size", type=click.Choice(["small", "medium", "paper"]), help="Size of the encoder.")
@click.option("--start", help="Encoder whose training goes on: a shipped one's name or a file.")
@click.option("--epochs", type=click.IntRange(min=0), help="Passes over the data; 0: a start's lessons alone.")
@click.option("--batch", type=click.IntRange(min=2), help="Series a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Peak learning rate of AdamW.")
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Where to train.")
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed", "16-mixed"]), help="Number format.")
@click.option("--resume", is_flag=True, help="Go on from the run folder's last checkpoint.")
@click.option("--show-config", is_flag=True, help="Print the resolved configuration and stop.")
def main(file: Path | None, resume: bool, show_config: bool, **flags: Any) -> None:
    """Train an encoder and write it as .safetensors, with a report on held-out places.

    Exit codes: 0 done, 2 bad input, 1 failed.
    """
    from timesenmap.model.training_config import dump_config, resolve_config  # noqa: PLC0415 - torch is slow to load

    terminal = sys.stderr.isatty()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    flags |= {name: flags[name] or None for name in ("series", "crops", "photos")}
    try:
        config = resolve_config(file, flags)
        if show_config:
            click.echo(dump_config(config), nl=False)
            return
        result = _train(config, resume=resume, progress=terminal)
    except ModelError as error:
        click.echo(f"train-encoder: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(summary(result.report))
    click.echo(f"wrote {result.out} (epoch {result.epochs[1]} of {result.epochs[0]}, sha256 {result.sha256[:12]})")


def _train(config: "RunConfig", *, resume: bool, progress: bool) -> "TrainingResult":
    from timesenmap.model.training import import_fit, train  # noqa: PLC0415 - torch is slow to load
    from timesenmap.model.training_config import PhotoTrainingConfig, TrainingConfig  # noqa: PLC0415
    from timesenmap.model.training_photos import train_photos  # noqa: PLC0415

    import_fit()  # first: importing Lightning sets the level of its log, and what it says is advice and advertisements
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if isinstance(config, PhotoTrainingConfig):
        return train_photos(config, resume=resume, progress=progress)
    assert isinstance(config, TrainingConfig)
    return train(config, resume=resume, progress=progress)


def summary(report: dict[str, Any]) -> str:
    """Lines on the held-out cells from a training report."""
    lines = []
    for name, title in (("captions", "finest captions"), ("landcover", "land cover")):
        scores = report.get(name)
        if scores:
            lines.append(
                f"held-out cells, {title}: accuracy {scores['accuracy']:.3f}, macro F1 {scores['macro_f1']:.3f} "
                f"({scores['rows']} series, {scores['options']} options)"
            )
    scores = report.get("validation")
    if scores:
        lines.append(
            f"held-out places: accuracy {scores['accuracy']:.3f}, mean class accuracy "
            f"{scores['mean_class_accuracy']:.3f} ({scores['rows']} places, {scores['options']} classes)"
        )
    lines.append(f"temperature {report['temperature']:.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
