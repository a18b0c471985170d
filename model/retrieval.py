"""Retrieval: a place by its photos, photos by their place, places by the name of their country or region.

Source: Jain et al. 2026, ISPRS J. 236:99-119. NumPy only, in blocks, because fifty thousand places with four photos
each make a matrix of ten thousand million cosines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.errors import ModelError
from timesenmap.model.metrics import bootstrap_intervals

Floats = NDArray[np.float32]
Groups = NDArray[np.int64]

UNGROUPED: Final = -1
_CELLS: Final = 1 << 25  # cosines held at a time: 128 MB


@dataclass(frozen=True)
class Recall:
    """How often something right is among the first k.

    Attributes
    ----------
    queries, gallery
        Queries that have an answer in the gallery, and items in it.
    unanswerable
        Queries left out because the gallery holds nothing right for them, or they belong to no group.
    ks
        (m,) how many answers are looked at.
    recall
        (m,) share of the queries with at least one right answer among them.
    intervals
        (m, 2) 95 % bootstrap intervals, drawing whole groups of the bootstrap.
    chance
        (m,) what a random order of the gallery would give.
    median_rank
        Of the first right answer, 1 = best.
    """

    queries: int
    gallery: int
    unanswerable: int
    ks: tuple[int, ...]
    recall: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    chance: tuple[float, ...]
    median_rank: float


def best_ranks(
    queries: Floats, gallery: Floats, query_groups: Groups, gallery_groups: Groups, *, cells: int = _CELLS
) -> Groups:
    """Rank of the first right answer to each query: 0 = best, the size of the gallery where there is none.

    An answer is right if it is of the query's group. Wrong answers with the very same cosine come first: an
    encoder that says the same of everything finds nothing.

    Parameters
    ----------
    queries, gallery
        (n, d) and (m, d) unit vectors.
    query_groups, gallery_groups
        int (n,) and (m,): the place, or the class, of each; UNGROUPED is right for nothing.
    cells
        Cosines held in memory at a time.

    Returns
    -------
    array
        int64 (n,).
    """
    _check(queries, query_groups, "queries")
    _check(gallery, gallery_groups, "gallery")
    ranks = np.full(len(queries), len(gallery), np.int64)
    block = max(1, cells // max(1, len(gallery)))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        cosine = queries[rows] @ gallery.T  # (block, m)
        own = query_groups[rows, None]
        right = (own == gallery_groups[None]) & (own != UNGROUPED)
        best = np.where(right, cosine, -np.inf).max(1, keepdims=True)
        ahead = (~right & (cosine >= best)).sum(1)
        ranks[rows] = np.where(right.any(1), ahead, len(gallery))
    return ranks


def recall_at(
    queries: Floats,
    gallery: Floats,
    query_groups: Groups,
    gallery_groups: Groups,
    *,
    ks: Sequence[int] = (1, 5, 10),
    places: Groups | None = None,
    draws: int = 1000,
    cells: int = _CELLS,
) -> Recall:
    """Recall@k with its interval and what chance would give; parameters as :func:`best_ranks`.

    Parameters
    ----------
    queries, gallery, query_groups, gallery_groups, cells
        As :func:`best_ranks`.
    ks
        Numbers of answers looked at.
    places
        int (n,): what the bootstrap draws whole; the queries' groups by default. Photos of one place resemble
        each other.
    draws
        Of the bootstrap.

    Raises
    ------
    ModelError
        No query has an answer in the gallery.
    """
    ranks = best_ranks(queries, gallery, query_groups, gallery_groups, cells=cells)
    answerable = ranks < len(gallery)
    if not answerable.any():
        raise ModelError("retrieval: not one query has an answer in the gallery; do photos and places belong together?")
    ranks = ranks[answerable]
    drawn = (query_groups if places is None else places)[answerable]
    hits = ranks[:, None] < np.array(ks)  # (n, m)
    ends = bootstrap_intervals(lambda weights: list((weights @ hits) / max(weights.sum(), 1)), drawn, draws=draws)
    names, sizes = np.unique(gallery_groups, return_counts=True)
    relevant = sizes[np.searchsorted(names, query_groups[answerable])]
    return Recall(
        queries=len(ranks),
        gallery=len(gallery),
        unanswerable=int((~answerable).sum()),
        ks=tuple(ks),
        recall=tuple(float(share) for share in hits.mean(0)),
        intervals=tuple((float(low), float(high)) for low, high in ends),
        chance=tuple(float(chance_of(relevant, len(gallery), k).mean()) for k in ks),
        median_rank=float(np.median(ranks)) + 1,
    )


def chance_of(relevant: NDArray[np.integer], gallery: int, k: int) -> NDArray[np.float64]:
    """Chance that a random order has one of ``relevant`` (n,) right answers among the first k of ``gallery``."""
    drawn = np.arange(min(k, gallery))
    missed = np.clip((gallery - relevant[:, None] - drawn) / (gallery - drawn), 0.0, 1.0)
    return cast("NDArray[np.float64]", 1.0 - missed.prod(1))


@dataclass(frozen=True)
class TextRetrieval:
    """Places retrieved by the name of a class: country, bioregion or any other.

    Attributes
    ----------
    classes
        Names of the classes that have places.
    rows
        (c,) places of each.
    ks, precision
        (m,) and (c, m): share of the k places nearest to the class's text that are of it.
    average_precision
        (c,) area under precision and recall of the whole order.
    top1, top5
        Share of the places whose own class's text is the nearest, or among the five nearest, of all classes.
    """

    classes: tuple[str, ...]
    rows: tuple[int, ...]
    ks: tuple[int, ...]
    precision: tuple[tuple[float, ...], ...]
    average_precision: tuple[float, ...]
    top1: float
    top5: float

    @property
    def mean_precision(self) -> tuple[float, ...]:
        """(m,) mean of the precision over the classes."""
        return tuple(float(mean) for mean in np.mean(self.precision, axis=0))

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precision over the classes."""
        return float(np.mean(self.average_precision))

    @property
    def chance(self) -> float:
        """Mean share of a class: the precision of a random order."""
        return float(np.mean(np.array(self.rows) / sum(self.rows)))


def retrieve_by_text(
    embeddings: Floats, vectors: Floats, truth: Groups, names: Sequence[str], *, ks: Sequence[int] = (1, 10, 100)
) -> TextRetrieval:
    """Order all places by their cosine with each class's text.

    Equal cosines keep the order of the places.

    Parameters
    ----------
    embeddings
        (n, d) of the places.
    vectors
        (c, d) of the classes' texts.
    truth
        int (n,): class of each place; UNGROUPED places are left out.
    names
        Of the classes; one without places is left out of the precision, but remains a wrong answer.
    ks
        Where precision is taken; a k above the number of places is taken there.
    """
    known = truth != UNGROUPED
    if not known.any():
        raise ModelError(f"retrieval by text: no place is one of {', '.join(names[:5])}, ...")
    own, places = truth[known], embeddings[known]
    cosine = places @ vectors.T  # (n, c)
    present = np.unique(own)
    precision, averages = [], []
    for label in present:
        right = own[np.argsort(-cosine[:, label], kind="stable")] == label
        found = right.cumsum()
        depth = np.arange(1, len(right) + 1)
        precision.append(tuple(float(found[min(k, len(right)) - 1] / min(k, len(right))) for k in ks))
        averages.append(float((found / depth)[right].mean()))
    mine = np.take_along_axis(cosine, own[:, None], 1)
    ahead = (cosine > mine).sum(1)
    return TextRetrieval(
        classes=tuple(names[label] for label in present),
        rows=tuple(int((own == label).sum()) for label in present),
        ks=tuple(ks),
        precision=tuple(precision),
        average_precision=tuple(averages),
        top1=float((ahead < 1).mean()),
        top5=float((ahead < 5).mean()),
    )


def groups_of(values: Sequence[str]) -> Groups:
    """Number equal texts alike: int64 (n,), UNGROUPED for ""."""
    texts = np.array(values, dtype=np.str_)
    _, numbers = np.unique(texts, return_inverse=True)
    return np.where(texts == "", UNGROUPED, numbers).astype(np.int64)


def _check(vectors: Floats, groups: Groups, what: str) -> None:
    if vectors.ndim != 2 or len(vectors) != len(groups):
        raise ModelError(f"retrieval: {what} of shape {vectors.shape} with {len(groups)} groups")
    if not len(vectors):
        raise ModelError(f"retrieval: no {what}")
