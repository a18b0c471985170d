"""Retrieval between places, their photos and the names of countries and regions, as a report.

Source: Jain et al. 2026, ISPRS J. 236:99-119: ground to satellite, satellite to ground, country and bioregion.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import Interval
from timesenmap.model.lucas import BIOREGIONS, COUNTRIES, DROPPED_BIOREGIONS
from timesenmap.model.photos import PhotoEmbeddings, pooled
from timesenmap.model.place_evaluation import Places
from timesenmap.model.retrieval import UNGROUPED, Groups, Recall, groups_of, recall_at, retrieve_by_text

if TYPE_CHECKING:
    from timesenmap.model.encoder import Encoder

Floats = NDArray[np.float32]

TEXTS: Final = {
    "country": ("a photo taken in {}.", tuple(COUNTRIES.values())),
    "bioregion": (
        "a photo taken in the {} biogeographical region of Europe.",
        tuple(name for name in BIOREGIONS if name not in DROPPED_BIOREGIONS),
    ),
}
"""What is retrieved by its name -> sentence, and the names."""


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetrievalRow(_Report):
    """One direction, and what counts as found."""

    question: str
    right: str = Field(description="the same place, or a place that is labelled alike")
    queries: int
    unanswerable: int = Field(description="queries whose place or label the gallery does not hold")
    gallery: int
    ks: tuple[int, ...]
    recall: tuple[Interval, ...]
    chance: tuple[float, ...] = Field(description="of a random order of the gallery")
    median_rank: float


class TextClass(_Report):
    """One country or region asked by name."""

    name: str
    rows: int
    precision: tuple[float, ...]
    average_precision: float


class TextRow(_Report):
    """Places retrieved by the name of their country or region."""

    what: str
    sentence: str
    ks: tuple[int, ...]
    precision: tuple[float, ...] = Field(
        description="share of the k nearest places that are there; mean over the names"
    )
    mean_average_precision: float
    chance: float = Field(description="precision of a random order")
    top1: float = Field(description="share of the places nearest to their own name")
    top5: float
    names: int = Field(description="names asked")
    places: int
    left_out: int = Field(description="places elsewhere or unknown")
    classes: tuple[TextClass, ...]


class RetrievalReport(_Report):
    """Everything retrieved with one encoder."""

    data: str
    photos: str | None
    encoder: str
    encoder_sha256: str
    places: int
    without_photos: int = Field(description="places left out of the directions with photos")
    rows: tuple[RetrievalRow, ...]
    texts: tuple[TextRow, ...]


def retrieval_report(
    places: Places,
    series: Floats,
    encoder: "Encoder",
    *,
    data: str,
    photos: PhotoEmbeddings | None,
) -> RetrievalReport:
    """Retrieve in every direction the data allow.

    Parameters
    ----------
    places, series
        Prepared crops and their embeddings (n, d).
    encoder
        That made them; its text tower reads the names.
    data
        For the record.
    photos
        Embeddings of photos, of the same tower; None: no direction with photos.
    """
    from timesenmap.model.towers import embed_texts  # noqa: PLC0415 - torch takes seconds

    rows: tuple[RetrievalRow, ...] = ()
    without = 0
    if photos is not None:
        if photos.tower != encoder.config.text_tower:
            raise ModelError(
                f"photos were embedded by '{photos.tower}', encoder '{encoder.name}' was trained for "
                f"'{encoder.config.text_tower}': prepare them with that tower"
            )
        found = photos.find(places.frame["nuts0"].tolist(), places.frame["number"].tolist())
        pictured = (found >= 0).any(1)
        if not pictured.any():
            raise ModelError("no place has a photo: were the photos prepared for these crops?")
        without = int((~pictured).sum())
        cover, use = (groups_of(places.frame[name].tolist())[pictured] for name in ("landcover", "landuse"))
        known = (cover != UNGROUPED) & (use != UNGROUPED)
        both = np.where(known, cover * (use.max(initial=0) + 1) + use, UNGROUPED)
        named = {"same land cover": cover, "same land use": use, "same land cover and use": both}
        alike = {name: groups for name, groups in named.items() if (groups != UNGROUPED).any()}
        rows = retrieval_rows(series[pictured], photos.read(found[pictured]), found[pictured] >= 0, alike)
    texts = []
    for what, (sentence, names) in TEXTS.items():
        values = places.frame[what].tolist()
        if set(values) & set(names):
            vectors = embed_texts([sentence.replace("{}", name) for name in names], encoder)
            texts.append(text_row(series, vectors, values=values, names=names, what=what, sentence=sentence))
    if not rows and not texts:
        raise ModelError(f"nothing to retrieve: '{data}' names no country and no region, and --photos are not given")
    return RetrievalReport(
        data=data,
        photos=photos.tower if photos else None,
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        places=len(places),
        without_photos=without,
        rows=rows,
        texts=tuple(texts),
    )


def retrieval_rows(
    series: Floats,
    photos: Floats,
    present: NDArray[np.bool_],
    alike: Mapping[str, Groups],
    *,
    ks: Sequence[int] = (1, 5, 10),
    draws: int = 1000,
) -> tuple[RetrievalRow, ...]:
    """Recall in every direction.

    Parameters
    ----------
    series
        (n, d) embeddings of the places' years.
    photos, present
        (n, p, d) embeddings of their photos, and which of them there are (n, p); at least one a place.
    alike
        What else counts as found -> int (n,) group of each place, UNGROUPED = unknown.
    ks, draws
        As :func:`~timesenmap.model.retrieval.recall_at`.
    """
    own = np.arange(len(series))
    owner, _ = np.nonzero(present)
    each, mean = photos[present], pooled(photos, present)
    asked = {
        "one photo -> series": (each, series, owner, own),
        "mean of the photos -> series": (mean, series, own, own),
        "series -> photos": (series, each, own, owner),
        "series -> mean of the photos": (series, mean, own, own),
    }
    rows = []
    for question, (queries, gallery, query_places, gallery_places) in asked.items():
        for right, groups in {"same place": own, **alike}.items():
            found = recall_at(
                queries, gallery, groups[query_places], groups[gallery_places], ks=ks, places=query_places, draws=draws
            )
            rows.append(_row(question, right, found))
    return tuple(rows)


def text_row(
    embeddings: Floats, vectors: Floats, *, values: Sequence[str], names: Sequence[str], what: str, sentence: str
) -> TextRow:
    """Places retrieved by name.

    Parameters
    ----------
    embeddings
        (n, d) of the places.
    vectors
        (c, d) of the sentences about the names.
    values, names
        Name of each place (n), and the names asked (c).
    what, sentence
        For the record.
    """
    numbers = {name: number for number, name in enumerate(names)}
    truth = np.array([numbers.get(value, UNGROUPED) for value in values], np.int64)
    found = retrieve_by_text(embeddings, vectors, truth, names)
    return TextRow(
        what=what,
        sentence=sentence,
        ks=found.ks,
        precision=found.mean_precision,
        mean_average_precision=found.mean_average_precision,
        chance=found.chance,
        top1=found.top1,
        top5=found.top5,
        names=len(names),
        places=sum(found.rows),
        left_out=int((truth == UNGROUPED).sum()),
        classes=tuple(
            TextClass(name=name, rows=rows, precision=precision, average_precision=average)
            for name, rows, precision, average in zip(
                found.classes, found.rows, found.precision, found.average_precision, strict=True
            )
        ),
    )


def _row(question: str, right: str, found: Recall) -> RetrievalRow:
    return RetrievalRow(
        question=question,
        right=right,
        queries=found.queries,
        unanswerable=found.unanswerable,
        gallery=found.gallery,
        ks=found.ks,
        recall=tuple(
            Interval(value=value, low=low, high=high)
            for value, (low, high) in zip(found.recall, found.intervals, strict=True)
        ),
        chance=found.chance,
        median_rank=found.median_rank,
    )
