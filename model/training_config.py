"""Configuration of a training run: every field typed and described, unknown fields refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from timesenmap.model.config import EncoderConfig, Size, config_of_size
from timesenmap.model.errors import ModelError


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SplitConfig(_Model):
    """Which spatial cells train, choose and test."""

    cell: float = Field(default=0.1, description="size of a cell in degrees", gt=0)
    validation: float = Field(default=0.1, description="share of the cells for early stopping and temperature", ge=0)
    test: float = Field(default=0.2, description="share of the cells kept for the numbers of the model card", ge=0)
    seed: int = Field(default=0, description="of the hash that puts a cell on a side")
    leave_out: tuple[str, ...] = Field(
        default=(), description="datasets or regions that are test as a whole, as if they had never been seen"
    )
    exclude: tuple[tuple[float, float, float, float], ...] = Field(
        default=(), description="boxes west, south, east, north (degrees) whose rows are used for nothing"
    )


class HidingConfig(_Model):
    """What training hides from the encoder."""

    temporal: float = Field(default=0.5, description="share of batches under the paper's temporal masking", ge=0, le=1)
    spectral: float = Field(default=0.0, description="spectral dropout: chance of each band of a series", ge=0, lt=1)
    months: float = Field(default=0.0, description="share of series with a random subset of months", ge=0, le=1)
    bands: float = Field(default=0.0, description="share of series with a random subset of bands", ge=0, le=1)
    borrowed: float = Field(
        default=0.0, description="share of series with the missing months and bands of another series", ge=0, le=1
    )
    filled: float = Field(
        default=0.0,
        description="share of series whose missing months and bands are interpolated first, so that series of a "
        "sparse source are seen whole as well",
        ge=0,
        le=1,
    )


class NoiseConfig(_Model):
    """Random changes of the values of a series; standard deviations."""

    brightness: float = Field(default=0.08, description="one factor a series (logarithm): terrain, angle", ge=0)
    colour: float = Field(default=0.03, description="one factor a band of a series (logarithm): calibration", ge=0)
    month: float = Field(default=0.03, description="one factor a month of a series (logarithm): haze, angle", ge=0)
    value: float = Field(default=0.004, description="added to each value (reflectance): noise", ge=0)


class TeacherConfig(_Model):
    """Soft labels from forests of each source (``teachers``), learnt in further epochs after all others."""

    weight: float = Field(default=0.0, description="what they count beside the contrast; 0: none", ge=0)
    epochs: int = Field(default=10, description="further epochs, with a learning rate that rises and falls anew", gt=0)
    mix: float = Field(
        default=0.5,
        description="where the weights that are kept lie between those from before the lessons (0) and after them (1)",
        gt=0,
        le=1,
    )
    lessons: int = Field(default=60_000, description="mixtures of series, labelled once before the lessons", gt=0)
    batch: int = Field(default=256, description="lessons a step", gt=0)
    trees: int = Field(default=300, description="of each of a source's two forests", gt=0)


Pooling = Literal["mean", "random", "attention"]


class RunConfig(_Model):
    """What every training run of ``train-encoder`` has; defaults are the paper's where it says, else this project's."""

    targets: str = Field(description="what a series is pulled towards")
    out: Path = Field(description="the encoder to write (.safetensors)")
    run_folder: Path | None = Field(
        default=None, description="logs, checkpoints, resolved configuration; default: OUT without ending + .training"
    )
    size: Size = Field(default="small", description="size of the encoder")
    encoder: dict[str, Any] = Field(default={}, description="fields of EncoderConfig that differ from the size's")
    dropout: float = Field(default=0.1, description="in the encoder's layers", ge=0, lt=1)
    position_std: float = Field(
        default=0.5,
        description="standard deviation of the temporal positions at the start; much less and the order of the "
        "months is learnt late (measured: 0.02 takes four times the steps)",
        gt=0,
    )

    seed: int = Field(default=0, description="of weights, sampling, noise, hiding and dropout", ge=0)
    start: str | None = Field(
        default=None,
        description="encoder whose training goes on, instead of fresh weights: the name of a shipped one or a file "
        "(.safetensors); it must be of the size and fields of this run",
        min_length=1,
    )
    epochs: int = Field(default=200, description="passes over the data; 0: lessons alone, for a start", ge=0)
    warmup_epochs: float = Field(default=10, description="linear warm-up before the cosine", ge=0)
    samples: int | None = Field(default=None, description="series drawn an epoch; default: as many as train", gt=0)
    batch: int = Field(default=1024, gt=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-6, ge=0)
    clip_gradient: float | None = Field(default=None, description="largest norm of the gradient", gt=0)
    average: float | None = Field(
        default=None,
        description="decay of an exponential moving average of the weights, a step; validated and kept instead of the "
        "latest; default: none",
        gt=0,
        lt=1,
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(default="32-true", description="mixed precision")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto")
    devices: int = Field(
        default=1, description="GPUs to train on (or processes, on the CPU); each takes its part of every batch", ge=1
    )
    workers: int = Field(default=0, description="processes that prepare batches; 0: none beside the trainer", ge=0)
    threads: int | None = Field(default=None, description="of torch on the CPU; default: torch's own choice", gt=0)

    temperature: float = Field(default=0.07, description="of the loss", ge=0.01)
    learn_temperature: bool = Field(default=False, description="learn the loss's scale, kept at most 100")
    queue: int = Field(default=2048, description="earlier targets that serve as negatives", ge=0)
    hiding: HidingConfig = HidingConfig()
    noise: NoiseConfig = NoiseConfig()
    split: SplitConfig = SplitConfig()
    patience: int | None = Field(
        default=None, description="epochs without a better validation before stopping; default: run to the end", gt=0
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.out.suffix != ".safetensors":
            raise ValueError(f"out '{self.out}' must end in .safetensors")
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} leave nothing of {self.epochs} epochs")
        if not self.epochs and not (self.start and self.lessons_follow):
            raise ValueError("epochs 0 train nothing: they need a start, and a teacher with a weight")
        if self.batch < 2 * self.devices:
            raise ValueError(f"batch {self.batch} leaves less than two for each of {self.devices} devices")
        if self.split.test + self.split.validation >= 1:
            raise ValueError("split: validation and test leave no cell to train on")
        if (self.hiding.bands or self.hiding.borrowed) and not self.encoder_config.presence:
            raise ValueError(
                "hiding.bands and hiding.borrowed need an encoder that knows which bands are present: "
                "set encoder.presence to true, or both to 0"
            )
        return self

    @property
    def encoder_config(self) -> EncoderConfig:
        """The encoder to train."""
        return config_of_size(self.size, **{"name": self.out.stem, **self.encoder})

    @property
    def lessons_follow(self) -> bool:
        """Whether forests teach after the epochs."""
        return False

    @property
    def folder(self) -> Path:
        """Where the run keeps its logs and checkpoints."""
        return self.run_folder or self.out.with_suffix(".training")


class TrainingConfig(RunConfig):
    """A run on labelled series, each pulled towards its label as a sentence."""

    targets: Literal["captions"] = Field(
        default="captions", description="what a series is pulled towards: its label as a sentence"
    )
    series: tuple[Path, ...] = Field(description="parquet files of labelled series", min_length=1)
    balance: float = Field(
        default=0.5,
        description="0: series are drawn as they come; 1: every caption of every source equally often",
        ge=0,
        le=1,
    )
    simulated_share: float = Field(
        default=0.3,
        description="share of draws from simulated series (simulate-series), where there are any",
        ge=0,
        lt=1,
    )
    landcover_share: float = Field(
        default=0.3, description="share of draws whose sentence names the land cover, not the crop", ge=0, le=1
    )
    teacher: TeacherConfig = TeacherConfig()

    @property
    def lessons_follow(self) -> bool:
        """Whether forests teach after the epochs."""
        return self.teacher.weight > 0

    @property
    def taught(self) -> Self:
        """The epochs with lessons, as a run of their own in a folder within this one's."""
        epochs = self.teacher.epochs
        folder = self.folder / "taught"
        warmup = min(self.warmup_epochs, epochs / 5)
        return self.model_copy(update={"epochs": epochs, "warmup_epochs": warmup, "run_folder": folder})


class PhotoTrainingConfig(RunConfig):
    """A run of the paper: each place's year pulled towards the frozen embeddings of its ground photos."""

    targets: Literal["photos"] = Field(description="what a series is pulled towards: photos of the place")
    crops: tuple[Path, ...] = Field(description="folders of prepare-training crops", min_length=1)
    photos: tuple[Path, ...] = Field(description="folders of prepare-training photos", min_length=1)
    pooling: Pooling = Field(
        default="mean",
        description="target of a place: mean of its photos (paper), one drawn at random each time, or a mean with "
        "weights that are learnt",
    )
    validation: tuple[Path, ...] = Field(
        default=(), description="folders of crops for early stopping and temperature; default: cells of the crops"
    )
    validation_prompts: str | None = Field(
        default="land-cover",
        description="prompt set whose classes are told in validation; null: none, the last epoch's weights stay",
    )
    validation_labels: str = Field(
        default="landcover",
        description="what of a place names its class: landcover, landuse, crop, habitat, country or bioregion",
    )
    validation_rows: int = Field(default=5000, description="places validated on at most, drawn once", gt=0)
    size: Size = Field(default="paper", description="size of the encoder")
    noise: NoiseConfig = Field(
        default=NoiseConfig(brightness=0, colour=0, month=0, value=0), description="none in the paper"
    )

    @model_validator(mode="after")
    def _fits_photos(self) -> Self:
        hiding = self.hiding
        if hiding.months or hiding.bands or hiding.borrowed or hiding.filled:
            raise ValueError(
                "hiding.months, bands, borrowed and filled are for captions; photos have temporal and spectral"
            )
        return self


CONFIGS: Final[dict[str, type[RunConfig]]] = {"captions": TrainingConfig, "photos": PhotoTrainingConfig}
"""Configuration of each kind of target."""

MAY_DIFFER: Final = frozenset(
    {"out", "run_folder", "start", "workers", "threads", "device", "series", "crops", "photos", "validation"}
)
"""Fields a resumed run may change: where things lie and how fast it goes (the content of the data is compared)."""


def resolve_config(file: Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """Configuration from a YAML file and flags; flags win, absent (None) flags say nothing.

    ``targets`` (default captions) decides which fields there are.

    Relative paths in the file are relative to the working directory, as flags are.

    Raises
    ------
    ModelError
        Unreadable file, unknown field, value out of range: one line that names the field.
    """
    values: dict[str, Any] = {}
    source = "flags"
    if file is not None:
        source = f"configuration '{file}'"
        try:
            loaded = yaml.safe_load(file.read_text("utf-8"))
        except OSError as error:
            raise ModelError(f"{source} cannot be read: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise ModelError(f"{source} is no YAML: {str(error).splitlines()[0]}") from None
        if not isinstance(loaded, dict):
            raise ModelError(f"{source} holds no fields: write 'field: value' lines")
        values.update(loaded)
    values.update({name: value for name, value in flags.items() if value is not None})
    targets = str(values.get("targets", "captions"))
    if targets not in CONFIGS:
        raise ModelError(f"{source}: targets '{targets}' are unknown: choose one of {', '.join(CONFIGS)}")
    try:
        return CONFIGS[targets].model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'configuration'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise ModelError(f"{source}: {faults}") from None


def dump_config(config: RunConfig) -> str:
    """YAML that :func:`resolve_config` reads back to the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
