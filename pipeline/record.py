"""The record of a run, written as ``run.json``: what was asked, what was used, what came out."""

import datetime as dt
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from timesenmap.pipeline.whole import write_whole


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneRecord(_Record):
    """One scene as it was used."""

    id: str
    datetime: dt.datetime
    baseline: str | None = Field(description="processing baseline the item states, e.g. '05.09'")
    radiometry: dict[str, str] = Field(description="band -> 'scale 0.0001 offset -0.1: <rule>'")


class RefusedRecord(_Record):
    """One scene that was found but not used, and why."""

    id: str
    reason: str


class GridRecord(_Record):
    """The map grid: ``shape`` is (y, x); ``transform`` the six affine coefficients a b c d e f; north-up."""

    crs: str
    shape: tuple[int, int]
    transform: tuple[float, float, float, float, float, float]
    resolution: float


class EncoderRecord(_Record):
    """The encoder that was used and how it ran."""

    name: str
    sha256: str
    text_tower: str
    temperature: float
    device: str
    precision: str
    training_data: str
    licence: str


class ClassRecord(_Record):
    """One class of a map: ``pixels`` counts map pixels inside the AOI; ``mean_confidence`` is 0-100."""

    code: int
    name: str
    colour: str
    pixels: int
    mean_confidence: float | None


class MapRecord(_Record):
    """One map: the answer to one prompt set. File names are relative to the output folder."""

    prompt_set: str
    title: str
    prompts_sha256: str
    class_map: str
    confidence_map: str
    probability_map: str | None = Field(None, description="probability of every class, a band each, where asked for")
    margin_map: str | None = Field(
        None, description="probability of the best class minus that of the second best, where asked for"
    )
    classes: tuple[ClassRecord, ...]
    unknown: ClassRecord | None = Field(
        None, description="pixels left unknown (255), with their mean confidence; null where none was to be"
    )
    unknown_below: float = Field(0.0, description="probability (0-1) below which a pixel is unknown; 0 = never")
    no_data_pixels: int = Field(description="pixels inside the AOI without any clear observation")
    confidence_histogram: tuple[int, ...] = Field(description="101 counts: pixels with confidence 0, 1, ..., 100")
    margin_histogram: tuple[int, ...] | None = Field(
        None, description="101 counts: pixels with a margin of 0, 1, ..., 100; where there is a map of it"
    )
    checksum: str = Field(description="sha256 of the class map file")

    @property
    def legend(self) -> tuple[ClassRecord, ...]:
        """What the map's pixels can be: its classes, and unknown where that was asked for."""
        return self.classes if self.unknown is None else (*self.classes, self.unknown)


class SheetRecord(_Record):
    """One sheet of a map that is a VRT: ``key`` is its row and column, the rest as of maps and grid."""

    key: str
    file: str
    sha256: str
    shape: tuple[int, int]
    transform: tuple[float, float, float, float, float, float]


class ObservationRecord(_Record):
    """How much of the year was seen, inside the AOI."""

    months: tuple[str, ...] = Field(description="the twelve months, 'YYYY-MM'")
    scenes_by_month: tuple[int, ...]
    clear_share_by_month: tuple[float, ...] = Field(description="share of AOI pixels with a clear observation")
    clear_months_histogram: tuple[int, ...] = Field(description="13 counts: pixels with 0, 1, ..., 12 clear months")


class TakenRecord(_Record):
    """Months of the cube that were not made in a run but taken over, as they would have come out the same."""

    month: str = Field(description="'YYYY-MM'")
    source: str = Field(description="folder of the run they were taken from; empty: this one's, as they stood there")
    tiles: int = Field(description="how many tiles")


class MonthsRecord(_Record):
    """Which months of the cube were made and which taken over, by the run that made its tiles."""

    made: tuple[str, ...] = Field(description="months, 'YYYY-MM', that were made in some tile")
    taken: tuple[TakenRecord, ...]


class ProfileRecord(_Record):
    """Where the time of the maps went, tile by tile and file by file, in whichever run each was made."""

    seconds: dict[str, float] = Field(
        description="wall seconds by phase, largest first: reading (waiting for bytes), decoding, resampling, masking, "
        "compositing, encoding, classifying, writing, rest; what threads did at once is divided among its phases"
    )
    pixels: int = Field(description="pixels of all tiles")
    pixels_per_second: float
    bytes_read: int = Field(description="blocks of scenes' files that were read, as compressed, each time they were")
    bytes_written: int = Field(description="stores and maps, as they lie on disk")
    bound: str = Field(description="what took most of the time, in words")


class RunRecord(_Record):
    """Everything a reader needs to trust, repeat or refuse the maps of a run."""

    title: str
    created: dt.datetime
    job: dict[str, object] = Field(description="the resolved job, as in job.yaml")
    versions: dict[str, str]
    catalogue: str
    attribution: str
    aoi: dict[str, object] = Field(description="GeoJSON geometry, lon/lat")
    aoi_notes: tuple[str, ...]
    grid: GridRecord
    scenes: tuple[SceneRecord, ...]
    refused: tuple[RefusedRecord, ...]
    masker: dict[str, str] = Field(
        {"name": "scl"}, description="who told clouds: name, and where it computes masks its versions and settings"
    )
    set_aside: tuple[int, ...] = Field(description="classes set aside as not clear, in the codes of SCL")
    cloud_dilation: float = Field(0.0, description="metres by which clouds and shadows were widened")
    encoder: EncoderRecord
    observations: ObservationRecord
    maps: tuple[MapRecord, ...]
    observation_map: str = Field("observations.tif", description="file of the months with a clear observation")
    sheets: dict[str, tuple[SheetRecord, ...]] = Field(
        default_factory=dict, description="of maps that are VRTs (large areas), by file: the GeoTIFFs they are made of"
    )
    months: MonthsRecord | None = Field(None, description="which months of the cube were made and which taken over")
    timings: dict[str, float] = Field(description="seconds by stage, of the run that finished the maps")
    profile: ProfileRecord | None = Field(None, description="where the time went, over all runs that made the maps")
    warnings: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_whole(path, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read a record; raises pydantic.ValidationError where fields are missing or unknown."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
