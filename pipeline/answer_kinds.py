"""What a prompt set can be answered with: its labels, the probability of every class, the margin of the best.

Each kind has a stage and a store of its own, so that asking for one more redoes nothing of the others. Whatever plans,
computes, stores or writes answers goes by this table.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timesenmap.pipeline import profile
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import TileResult
from timesenmap.pipeline.stores import Store, StoreLike, stored_bytes

NO_CLASS = 0
NO_PERCENT = 255
CLASS = "class"
"""Array of the class codes; its map has the name of the prompt set alone."""

_Counts = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class AnswerKind:
    """One kind of answer.

    Attributes
    ----------
    name : of its stages and of the folder of its stores, one for each prompt set
    arrays : of a store, uint8, each of which becomes a map; with the value that is no data
    count : counts for the ledger, from the arrays of a tile and the pixels (y, x) inside the AOI
    per_class : the one array is (class, y, x), not (y, x)
    with_threshold : it depends on the probability below which pixels are unknown
    """

    name: str
    arrays: tuple[tuple[str, int], ...]
    count: Callable[[Sequence[NDArray[np.uint8]], NDArray[np.bool_]], _Counts]
    per_class: bool = False
    with_threshold: bool = False

    def layers(self, classes: int) -> int:
        """Layers of an answer about so many classes."""
        return classes if self.per_class else len(self.arrays)

    def stage(self, prompt_set: str) -> str:
        """Stage that gives it for one prompt set, as the ledger names it."""
        return f"{self.name}:{prompt_set}"

    def map_names(self, prompt_set: str) -> dict[str, str]:
        """Name of the map, without suffix, that each array becomes."""
        return {name: prompt_set if name == CLASS else f"{prompt_set}.{name}" for name, _ in self.arrays}


def _label_counts(arrays: Sequence[NDArray[np.uint8]], inside: NDArray[np.bool_]) -> _Counts:
    classes, confidence = arrays
    sure = confidence != NO_PERCENT
    return {
        "pixels": np.bincount(classes[inside], minlength=256),
        "confidence_sum": np.bincount(classes[sure], weights=confidence[sure], minlength=256).astype(np.int64),
        "confidence": np.bincount(confidence[sure], minlength=101),
    }


def _no_counts(_: Sequence[NDArray[np.uint8]], __: NDArray[np.bool_]) -> _Counts:
    return {}


def _margin_counts(arrays: Sequence[NDArray[np.uint8]], _: NDArray[np.bool_]) -> _Counts:
    (margin,) = arrays
    return {"margin": np.bincount(margin[margin != NO_PERCENT], minlength=101)}


LABELS = AnswerKind("labels", ((CLASS, NO_CLASS), ("confidence", NO_PERCENT)), count=_label_counts, with_threshold=True)
"""Class code (0 no data, 255 unknown) and confidence in percent. Counts: ``pixels`` and ``confidence_sum`` (256: by
class code), ``confidence`` (101: pixels by percent)."""

PROBABILITIES = AnswerKind("probabilities", (("probability", NO_PERCENT),), count=_no_counts, per_class=True)
"""Probability of every class in percent."""

MARGINS = AnswerKind("margins", (("margin", NO_PERCENT),), count=_margin_counts)
"""Probability of the best class minus that of the second best, in percent. Counts: ``margin`` (101: pixels by
percent)."""

KINDS = (LABELS, PROBABILITIES, MARGINS)


def create_answer_store(
    kind: AnswerKind, store: StoreLike, shape: tuple[int, int], *, classes: int, tile_size: int
) -> None:
    """Make the empty store of one prompt set's answers: one chunk a tile, or of every class one, and one shard."""
    group = Store.at(store).group("w-")
    side = (min(tile_size, shape[0]), min(tile_size, shape[1]))
    for name, fill in kind.arrays:
        group.create_array(
            name,
            shape=(classes, *shape) if kind.per_class else shape,
            chunks=(1, *side) if kind.per_class else side,
            shards=(classes, *side) if kind.per_class else None,
            dtype="uint8",
            fill_value=fill,
            dimension_names=("class", "y", "x") if kind.per_class else ("y", "x"),
        )


@profile.timed("writing")
def write_answer(
    kind: AnswerKind, store: StoreLike, tile: Tile, layers: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> TileResult:
    """Write a tile's answer (layers, y, x) whole into its store; pixels outside the AOI become no data.

    The counts of the result are those of the kind, inside the AOI.
    """
    blocks = [layers] if kind.per_class else list(layers)
    written, checksum = [], hashlib.sha256()
    for (name, fill), block in zip(kind.arrays, blocks, strict=True):
        values = np.where(inside, block, fill).astype(np.uint8)
        Store.at(store).array(name, "r+")[..., tile.y0 : tile.y1, tile.x0 : tile.x1] = values
        checksum.update(values.tobytes())
        written.append(values)
    sums = {name: [int(n) for n in counted] for name, counted in kind.count(written, inside).items()}
    size = stored_bytes(store, tile, *(name for name, _ in kind.arrays))
    return TileResult(checksum.hexdigest(), sums, size)
