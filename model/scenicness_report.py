"""Scenicness of places with one encoder, as a report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import Interval
from timesenmap.model.place_evaluation import embed_places, read_places
from timesenmap.model.scenicness import (
    WITHIN,
    Ensembling,
    Ratings,
    ScenicPrompts,
    pearson,
    rate_points,
    scenic_scores,
)
from timesenmap.model.zero_shot import Composites, composited

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder


class ScenicnessRow(BaseModel):
    """One way of ensembling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ensembling: Ensembling
    r: Interval = Field(description="Pearson's r of scores and ratings")


class ScenicnessReport(BaseModel):
    """How well scores of places follow people's ratings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    encoder: str
    encoder_sha256: str
    temperature: float
    rated_places: int
    left_out: dict[str, int]
    within: float = Field(description="metres between a place and a rating")
    places: int = Field(description="places with a rating and an observation")
    places_without_rating: int
    rows: tuple[ScenicnessRow, ...]


def scenicness_report(
    data: str | Path,
    encoder: "Encoder",
    *,
    ratings: Ratings,
    sentences: ScenicPrompts,
    ensembling: Sequence[Ensembling] = ("late",),
    within: float = WITHIN,
    composites: Composites = "monthly",
) -> ScenicnessReport:
    """Score the places near a rating and correlate.

    Parameters
    ----------
    data
        Prepared crops or a parquet of series.
    encoder
        Whose text tower reads the sentences, and whose calibrated temperature the softmax has.
    ratings, sentences
        What people said, and what is asked.
    ensembling, within, composites
        The variants; metres between a place and a rating; 12, 4 or 1 a year.

    Raises
    ------
    ModelError
        No place near a rating, or too few to correlate.
    """
    from timesenmap.model.towers import embed_texts  # noqa: PLC0415 - torch takes seconds

    places = read_places(data, encoder)
    lon, lat = (places.frame[name].to_numpy(np.float64) for name in ("lon", "lat"))
    rating = rate_points(lon, lat, ratings, metres=within)
    near = np.flatnonzero(np.isfinite(rating))
    if not len(near):
        raise ModelError(f"no place of '{data}' lies within {within:g} m of a rated one: do they cover the same land?")
    kept = near[places.take(near).observed()]
    embeddings = embed_places(encoder, composited(places.take(kept).years, composites))
    scenic, plain = (embed_texts(list(words), encoder) for words in (sentences.scenic, sentences.plain))
    temperature = encoder.config.temperature
    rows = []
    for kind in ensembling:
        scores = scenic_scores(embeddings, scenic, plain, temperature=temperature, ensembling=kind)
        found = pearson(scores, rating[kept])
        rows.append(ScenicnessRow(ensembling=kind, r=Interval(value=found.r, low=found.low, high=found.high)))
    return ScenicnessReport(
        data=str(data),
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        temperature=temperature,
        rated_places=len(ratings.rating),
        left_out=ratings.left_out,
        within=within,
        places=len(kept),
        places_without_rating=len(places) - len(near),
        rows=tuple(rows),
    )
