"""How well a map made in somebody's own words agrees with the parcels that were declared there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from pydantic import BaseModel, ConfigDict, Field
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.vrt import WarpedVRT

from timesenmap.model import metrics
from timesenmap.model.caption_scores import ClassScores, class_scores, present_f1
from timesenmap.model.prompts import PromptSet, load_prompt_set
from timesenmap.pipeline.errors import MapError
from timesenmap.workflows.account import Account
from timesenmap.workflows.job import resolve_job
from timesenmap.workflows.make_map import make_map
from timesenmap.workflows.progress import Stages

Bytes = npt.NDArray[np.uint8]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SetAgreement(_Report):
    """One prompt set's map on the pixels whose declared class it has."""

    prompts: str
    title: str
    words: dict[str, tuple[str, ...]] = Field(description="class -> its prompts")
    pixels: int
    without_class: int = Field(description="of these, not classified: counted as wrong")
    accuracy: float
    macro_f1: float = Field(description="mean F1 over the classes present")
    confidence: float | None = Field(description="mean confidence of the classified ones, 0-1")
    error: float | None = Field(description="expected calibration error, 15 bins")
    classes: tuple[ClassScores, ...]


class ParcelsReport(_Report):
    """Agreement of maps with declared parcels."""

    encoder: str
    encoder_sha256: str
    labels: str
    scenes: int
    first_month: str
    last_month: str
    sets: tuple[SetAgreement, ...]


def parcels_report(
    labels: Path,
    prompts: Sequence[str],
    out: Path,
    *,
    catalog: str,
    encoder: str = "starter",
    year: int | None = None,
    start: str | None = None,
    stages: Stages | None = None,
) -> ParcelsReport:
    """Map the place of a raster of declared classes, and compare.

    Parameters
    ----------
    labels
        Raster of class codes in a projected CRS; its extent is mapped.
    prompts
        Prompt sets; ``reference`` of a class holds the codes of the raster that it stands for, with commas between
        them. Classes without one may win, wrongly.
    out
        Output folder of the maps, as make-map writes them.
    catalog, encoder, year, start
        As in make-map.
    stages
        Shows progress; log lines by default.

    Raises
    ------
    MapError
        A raster that cannot be read or has no CRS, or a prompt set none of whose codes it holds.
    """
    sets = [load_prompt_set(name) for name in prompts]
    extent, crs, present = _extent(labels)
    for prompt_set in sets:
        if not present & set(codes_of(prompt_set)):
            raise MapError(
                f"prompt set '{prompt_set.name}': none of its references is a code of '{labels}', which holds "
                f"{', '.join(map(str, sorted(present)))}; write the codes as reference of its classes"
            )
    flags = {
        "aoi": extent,
        "aoi_crs": crs,
        "prompts": tuple(prompts),
        "catalog": catalog,
        "out": out,
        "encoder": encoder,
    }
    period = {name: value for name, value in (("year", year), ("start", start)) if value is not None}
    record = make_map(resolve_job({**flags, **period}, None), account=None if stages is None else Account(stages))
    found = []
    for prompt_set in sets:
        with rasterio.open(out / f"{prompt_set.name}.tif") as mapped, rasterio.open(labels) as declared:
            grid = {"crs": mapped.crs, "transform": mapped.transform, "width": mapped.width, "height": mapped.height}
            with WarpedVRT(declared, resampling=Resampling.nearest, **grid) as there:
                truth = there.read(1)
            classes = mapped.read(1)
        with rasterio.open(out / f"{prompt_set.name}.confidence.tif") as confident:
            confidence = confident.read(1)
        found.append(agreement(prompt_set, truth, classes, confidence))
    return ParcelsReport(
        encoder=record.encoder.name,
        encoder_sha256=record.encoder.sha256,
        labels=labels.name,
        scenes=len(record.scenes),
        first_month=record.observations.months[0],
        last_month=record.observations.months[-1],
        sets=tuple(found),
    )


def codes_of(prompt_set: PromptSet) -> dict[int, int]:
    """Code of the declarations -> position of the class that stands for it.

    Raises
    ------
    MapError
        A reference that is no list of numbers, or one code for two classes.
    """
    found: dict[int, int] = {}
    for position, cls in enumerate(prompt_set.classes):
        for part in (cls.reference or "").replace(",", " ").split():
            if not part.isdigit():
                raise MapError(
                    f"prompt set '{prompt_set.name}', class '{cls.name}': reference '{cls.reference}' is no list of "
                    "codes; write numbers with commas between them"
                )
            if found.setdefault(int(part), position) != position:
                raise MapError(f"prompt set '{prompt_set.name}': code {part} is the reference of two classes")
    return found


def agreement(prompt_set: PromptSet, truth: npt.NDArray[np.integer], mapped: Bytes, confidence: Bytes) -> SetAgreement:
    """Compare a map with declarations on the pixels whose code the set has.

    Parameters
    ----------
    prompt_set
        Of the map, with references.
    truth
        (y, x) declared codes.
    mapped, confidence
        uint8 (y, x): class code of each pixel, and percent, 255 = no data.
    """
    codes = codes_of(prompt_set)
    compared = np.isin(truth, list(codes))
    lookup = dict(codes)
    own = np.array([lookup[int(code)] for code in truth[compared]], np.int64)
    nothing = len(prompt_set.classes)  # a class of its own for what was not classified
    position = np.full(256, nothing, np.int64)
    position[[cls.code for cls in prompt_set.classes]] = np.arange(nothing)
    given = position[mapped[compared]]
    classified = given < nothing
    sure = confidence[compared][classified] / 100.0
    confusion = metrics.confusion_matrix(own, given, nothing + 1)
    names = [*(cls.name for cls in prompt_set.classes), "not classified"]
    right = (own == given)[classified]
    return SetAgreement(
        prompts=prompt_set.name,
        title=prompt_set.title,
        words={cls.name: cls.prompts for cls in prompt_set.classes},
        pixels=len(own),
        without_class=int((~classified).sum()),
        accuracy=metrics.overall_accuracy(confusion),
        macro_f1=present_f1(confusion),
        confidence=float(sure.mean()) if sure.size else None,
        error=metrics.calibration(sure, right).error if sure.size else None,
        classes=class_scores(names, own, given),
    )


def _extent(labels: Path) -> tuple[str, str, set[int]]:
    """Bounds and CRS of the declarations as make-map takes them, and the codes they hold."""
    try:
        with rasterio.open(labels) as raster:
            if raster.crs is None:
                raise MapError(f"declared parcels '{labels}' have no CRS: give a georeferenced raster")
            values = raster.read(1)
            return (
                ",".join(f"{edge:.12g}" for edge in raster.bounds),
                raster.crs.to_string(),
                set(np.unique(values).tolist()),
            )
    except RasterioIOError as error:
        raise MapError(f"declared parcels '{labels}' cannot be read: {error}") from None
