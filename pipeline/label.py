"""Labels: every pixel of a tile embedded and compared with every prompt set, through Dask ``map_blocks``.

A block reads its own window (with the halo a patch needs) from the cube's store, so that nothing but small
descriptions travels in the graph, and a block's pixels do not depend on how the area was cut.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray

from timesenmap.model import EncoderConfig
from timesenmap.pipeline import profile
from timesenmap.pipeline.encode import Embedded, EncoderRef, dequantise, embed_block, encoder_of, quantise
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import TileResult
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.question import Question, answers
from timesenmap.pipeline.stores import Store, StoreLike, stored_bytes
from timesenmap.pipeline.threads import threads_of_a_tile

# Side of a block in pixels: 65,536 pixels are work for seconds, and their embeddings 100 MB.
_BLOCK = 256


@dataclass(frozen=True)
class CubeWindow:
    """Where a block finds its pixels: the cube's store, the calendar month (1-12) it begins with, the halo."""

    store: Store
    first_month: int
    halo: int

    @classmethod
    def of(cls, store: StoreLike, period: Period, encoder: EncoderConfig) -> "CubeWindow":
        """Windows of a cube of `period`, as wide as an encoder's patch needs them."""
        return cls(Store.at(store), period.start.month, encoder.patch // 2)

    @property
    def tiles_around(self) -> int:
        """How many tiles around it a tile needs; a halo is narrower than the smallest tile."""
        return 1 if self.halo else 0

    def open(self) -> "OpenCube":
        """Open the cube, once for all windows of a tile."""
        return OpenCube(self.store.array("reflectance"), self.first_month, self.halo)


@dataclass(frozen=True)
class OpenCube:
    """A cube that is being read: its reflectance, and the rest as of `CubeWindow`."""

    reflectance: zarr.Array[Any]
    first_month: int
    halo: int

    @profile.timed("reading")
    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.uint16]:
        """Reflectance (12, 10, y + 2 halo, x + 2 halo) uint16 of a window; zero (missing) beyond the grid."""
        height, width = self.reflectance.shape[2:]
        halo = self.halo
        top, bottom = max(y0 - halo, 0), min(y1 + halo, height)
        left, right = max(x0 - halo, 0), min(x1 + halo, width)
        window = np.asarray(self.reflectance[:, :, top:bottom, left:right])
        beyond = ((top - y0 + halo, y1 + halo - bottom), (left - x0 + halo, x1 + halo - right))
        return np.pad(window, ((0, 0), (0, 0), *beyond))


def create_embedding_store(store: StoreLike, shape: tuple[int, int], *, dim: int, tile_size: int) -> None:
    """Make the empty store of embeddings: ``embedding`` (y, x, d) int8 and ``scale`` (y, x) float32."""
    group = Store.at(store).group("w-")
    chunks = (min(tile_size, shape[0]), min(tile_size, shape[1]))
    group.create_array(
        "embedding",
        shape=(*shape, dim),
        chunks=(*chunks, dim),
        dtype="int8",
        fill_value=0,
        dimension_names=("y", "x", "d"),
    )
    group.create_array("scale", shape=shape, chunks=chunks, dtype="float32", fill_value=0, dimension_names=("y", "x"))


def label_tile(
    tile: Tile,
    cube: CubeWindow,
    encoder: EncoderRef,
    questions: Sequence[Question],
    *,
    embeddings: StoreLike | None = None,
) -> list[NDArray[np.uint8]]:
    """Label the pixels of a tile.

    Parameters
    ----------
    tile : the tile, in pixels of the grid
    cube : where the reflectance is read
    encoder : the encoder every worker loads once
    questions : the prompt sets
    embeddings : store of embeddings to read instead of encoding, where they were kept

    Returns
    -------
    For each question (layers, y, x) uint8, as of its kind (`timesenmap.pipeline.answer_kinds`).
    """
    layers = _over_blocks(
        _label_block,
        tile,
        extra=(sum(question.layers for question in questions),),
        cube=cube.open(),
        encoder=encoder,
        questions=tuple(questions),
        embeddings=None if embeddings is None else tuple(map(Store.at(embeddings).array, ("embedding", "scale"))),
    )
    return np.split(layers, np.cumsum([question.layers for question in questions])[:-1])


def embed_tile(
    tile: Tile, cube: CubeWindow, encoder: EncoderRef, *, dim: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Embed the pixels of a tile: (y, x, d) int8 and (y, x) float32 scale."""
    packed = _over_blocks(_embed_packed, tile, extra=(dim + 4,), cube=cube.open(), encoder=encoder)
    embedding = np.ascontiguousarray(packed[:dim].transpose(1, 2, 0)).view(np.int8)
    scale = np.ascontiguousarray(packed[dim:].transpose(1, 2, 0)).view(np.float32)[..., 0]
    return embedding, scale


def _over_blocks(function: Any, tile: Tile, *, extra: tuple[int, ...], **options: Any) -> NDArray[np.uint8]:
    """Compute uint8 (*extra, y, x) of a tile by a function of its blocks, which read what they need themselves."""
    blocks = da.core.normalize_chunks((_BLOCK, _BLOCK), tile.shape)  # type: ignore[no-untyped-call]
    mapped: Any = da.map_blocks(  # type: ignore[no-untyped-call]
        function,
        chunks=(*((n,) for n in extra), *blocks),
        dtype=np.uint8,
        meta=np.empty((0,) * (len(extra) + 2), np.uint8),
        name=f"{function.__name__.strip('_')}-{tile.key}",
        tile=tile,
        **options,
    )
    with profile.divided():
        return np.asarray(mapped.compute(scheduler="threads", num_workers=threads_of_a_tile()))


def _window(block_info: dict[Any, Any], tile: Tile) -> tuple[int, int, int, int]:
    (y0, y1), (x0, x1) = block_info[None]["array-location"][-2:]
    return tile.y0 + y0, tile.y0 + y1, tile.x0 + x0, tile.x0 + x1


def _label_block(
    *,
    tile: Tile,
    cube: OpenCube,
    encoder: EncoderRef,
    questions: tuple[Question, ...],
    embeddings: tuple[zarr.Array[Any], zarr.Array[Any]] | None,
    block_info: dict[Any, Any],
) -> NDArray[np.uint8]:
    y0, y1, x0, x1 = _window(block_info, tile)
    if embeddings is None:
        vectors, kinds = _embedded(cube, encoder, (y0, y1, x0, x1))
    else:
        with profile.timed("reading"):
            embedding, scale = (np.asarray(array[y0:y1, x0:x1]) for array in embeddings)
            stored = dequantise(embedding, scale)
            vectors = stored.reshape(-1, stored.shape[-1])
            kinds = np.arange(len(vectors)).reshape(y1 - y0, x1 - x0)
    with profile.timed("classifying"):
        return answers(vectors, questions)[:, kinds]


def _embed_packed(*, tile: Tile, cube: OpenCube, encoder: EncoderRef, block_info: dict[Any, Any]) -> NDArray[np.uint8]:
    vectors, kinds = _embedded(cube, encoder, _window(block_info, tile))
    stored, scale = quantise(vectors)
    packed = np.concatenate([stored.view(np.uint8), np.ascontiguousarray(scale[:, None]).view(np.uint8)], axis=1)
    return packed[kinds].transpose(2, 0, 1)


def _embedded(cube: OpenCube, encoder: EncoderRef, window: tuple[int, int, int, int]) -> Embedded:
    reflectance = cube.read(*window)
    with profile.timed("encoding"):
        return embed_block(reflectance, encoder_of(encoder), first_month=cube.first_month, halo=cube.halo)


@profile.timed("writing")
def write_embeddings(
    store: StoreLike, tile: Tile, embedding: NDArray[np.int8], scale: NDArray[np.float32]
) -> TileResult:
    """Write a tile's embeddings whole into their region of the store."""
    window = (slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
    for name, block in (("embedding", embedding), ("scale", scale)):
        Store.at(store).array(name, "r+")[window] = block
    checksum = hashlib.sha256(embedding.tobytes() + scale.tobytes()).hexdigest()
    return TileResult(checksum, {}, stored_bytes(store, tile, "embedding", "scale"))
