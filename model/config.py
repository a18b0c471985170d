"""What an encoder is, as data: every field travels in the checkpoint's metadata.

Source of the sizes and of the scaling: Jain et al. 2026, ISPRS J. 236:99-119, and the constants of its public
code (which calls ``low`` and ``span`` mean and std, and whose command line swaps B02 and B04: hence ``bands``).
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from timesenmap.model.errors import ModelError

DEFAULT_BANDS: Final = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Sentinel-2 L2A bands in the order of the paper and of the cube."""

PAPER_LOW: Final = (67.0, 122.0, 93.27, 158.5, 160.77, 174.27, 162.27, 149.0, 84.5, 66.27)
"""Per band of DEFAULT_BANDS: reflectance * 10000 that becomes 0."""

PAPER_SPAN: Final = (2089.0, 2598.45, 3214.5, 3620.45, 4033.61, 4613.0, 4825.45, 4945.72, 5140.84, 4414.45)
"""Per band of DEFAULT_BANDS: reflectance * 10000 above PAPER_LOW that becomes 1."""

PAPER_TOWER: Final = "open_clip:ViT-B-32-quickgelu/openai"
MINILM_TOWER: Final = "sentence-transformers:all-MiniLM-L6-v2"

Size = Literal["paper", "medium", "small"]

SAID_OF_AN_ENCODER: Final = frozenset({"name", "temperature", "training_data", "licence", "created_by"})
"""Fields of EncoderConfig that say something of an encoder, and nothing of what it computes."""


class EncoderConfig(BaseModel):
    """Shape, scaling, text space and provenance of an encoder.

    The input of a month is ``(reflectance * 10000 - low) / span`` a band, kept within 0..1 where ``clamp``;
    with ``presence`` each band's share of observed pixels in the patch follows the values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = Field(default=1, description="version of this description")
    name: str = Field(description="what maps and reports call this encoder", min_length=1)
    bands: tuple[str, ...] = Field(default=DEFAULT_BANDS, description="bands, in input order", min_length=1)
    low: tuple[float, ...] = Field(default=PAPER_LOW, description="reflectance*10000 that becomes 0, a band")
    span: tuple[float, ...] = Field(default=PAPER_SPAN, description="reflectance*10000 from 0 to 1, a band")
    clamp: bool = Field(default=True, description="keep scaled values within 0..1")
    presence: bool = Field(description="append a presence flag a band to the values")
    months: Literal[1, 4, 12] = Field(default=12, description="learned temporal positions")
    annual_position: Literal["mean", "first"] = Field(
        default="mean",
        description="position of a single annual frame: mean of all (paper) or the first (the authors' inference)",
    )
    patch: Literal[1, 5, 9] = Field(default=1, description="height and width of the input patch in pixels")
    width: int = Field(description="width of the transformer", gt=0)
    depth: int = Field(description="transformer layers", gt=0)
    heads: int = Field(description="attention heads", gt=0)
    feedforward: int = Field(description="width inside the feed-forward blocks", gt=0)
    activation: Literal["gelu", "relu"] = Field(default="gelu", description="of the feed-forward blocks")
    head: Literal["mlp", "linear"] = Field(default="mlp", description="norm+linear+GELU+linear, or norm+linear")
    embedding: int = Field(description="length of the embedding: that of the text tower", gt=0)
    text_tower: str = Field(description="tower whose space the embeddings live in", min_length=1)
    temperature: float = Field(default=0.07, description="calibrated: p = softmax(cosine / temperature)", gt=0)
    training_data: str = Field(default="none: fresh weights", description="what it was trained on")
    licence: str = Field(default="Apache-2.0", description="licence of the weights")
    created_by: str = Field(default="timesenmap", description="program and command that made it")

    @field_validator("text_tower")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if not value.startswith(("open_clip:", "sentence-transformers:")):
            raise ValueError(
                f"'{value}' is no text tower: write open_clip:MODEL/PRETRAINED, open_clip:local-dir:PATH "
                "or sentence-transformers:NAME"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands {', '.join(self.bands)} repeat")
        for field in ("low", "span"):
            given = len(getattr(self, field))
            if given != len(self.bands):
                raise ValueError(f"{field} has {given} values for {len(self.bands)} bands: give one a band")
        if min(self.span) <= 0:
            raise ValueError(f"span {min(self.span)} is not positive")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    @property
    def features(self) -> int:
        """Length of one month's input: bands * patch * patch values, then the presence flags."""
        return len(self.bands) * (self.patch**2 + int(self.presence))

    @property
    def frame_counts(self) -> tuple[int, ...]:
        """Numbers of frames a year may come in: all months, four seasons, one annual composite."""
        return tuple(count for count in (12, 4, 1) if count <= self.months)


SIZES: Final[Mapping[Size, Mapping[str, Any]]] = {
    "paper": {
        "width": 512,
        "depth": 6,
        "heads": 8,
        "feedforward": 256,
        "presence": False,
        "embedding": 512,
        "text_tower": PAPER_TOWER,
    },
    "medium": {
        "width": 192,
        "depth": 4,
        "heads": 6,
        "feedforward": 384,
        "presence": True,
        "embedding": 384,
        "text_tower": MINILM_TOWER,
    },
    "small": {
        "width": 128,
        "depth": 3,
        "heads": 4,
        "feedforward": 256,
        "presence": True,
        "embedding": 384,
        "text_tower": MINILM_TOWER,
    },
}
"""Fields of EncoderConfig that make a size; all have the two-layer head and GELU of the paper."""


def parse_config(values: Mapping[str, Any], *, source: str) -> EncoderConfig:
    """Validate ``values``; ModelError in one line, naming ``source`` and every field that does not fit."""
    try:
        return EncoderConfig.model_validate(dict(values))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'configuration'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise ModelError(f"{source}: {faults}") from None


def config_of_size(size: str, **overrides: Any) -> EncoderConfig:
    """Configuration of a named size; ``overrides`` are fields of EncoderConfig.

    ``low`` and ``span`` follow ``bands`` where only ``bands`` is overridden with a subset or another order
    of the default ones.
    """
    if size not in SIZES:
        raise ModelError(f"'{size}' is no encoder size: choose one of {', '.join(SIZES)}")
    values = {"name": f"fresh-{size}", **SIZES[size], **overrides}  # type: ignore[index]
    bands = tuple(values.get("bands", DEFAULT_BANDS))
    if set(bands) <= set(DEFAULT_BANDS):
        order = [DEFAULT_BANDS.index(band) for band in bands]
        values.setdefault("low", tuple(PAPER_LOW[i] for i in order))
        values.setdefault("span", tuple(PAPER_SPAN[i] for i in order))
    return parse_config(values, source=f"encoder of size {size}")


def flops_per_pixel(config: EncoderConfig) -> int:
    """Floating-point operations (2 a multiply-add) of the matrix products of one pixel-year.

    Counts what :class:`~timesenmap.model.architecture.TimeSenCLIP` computes: in the last layer only the
    class token asks, so only it goes through that layer's query, output and feed-forward products.
    """
    tokens, width = config.months + 1, config.width
    block = 2 * width * config.feedforward
    full = tokens * (4 * width**2 + block) + 2 * tokens**2 * width
    last = 2 * tokens * width**2 + 2 * width**2 + block + 2 * tokens * width
    head = width * config.embedding + (width**2 if config.head == "mlp" else 0)
    return 2 * (config.months * config.features * width + (config.depth - 1) * full + last + head)
