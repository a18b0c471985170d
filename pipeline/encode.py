"""The encoder over every pixel, through Dask ``map_blocks``, with the model loaded once a process.

Only a small :class:`EncoderRef` travels in the graph; each worker process loads and keeps the model itself
(a model closed over by a task is pickled into every task).
"""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timesenmap.catalogs.bands import BANDS
from timesenmap.model import Encoder, load_encoder
from timesenmap.pipeline.errors import MapError

_loading = threading.Lock()


@dataclass(frozen=True)
class EncoderRef:
    """What a task needs to find its encoder: small, picklable, and checked by hash where it is loaded."""

    name_or_path: str
    sha256: str
    device: str
    precision: str

    @classmethod
    def of(cls, name_or_path: str, encoder: Encoder) -> "EncoderRef":
        """Reference to an encoder that was just loaded."""
        return cls(name_or_path, encoder.sha256, encoder.device, encoder.precision)


@lru_cache(maxsize=2)
def _load(ref: EncoderRef) -> Encoder:
    encoder = load_encoder(ref.name_or_path, device=ref.device, precision=ref.precision)
    if encoder.sha256 != ref.sha256:
        msg = (
            f"encoder {ref.name_or_path}: this worker loaded {encoder.sha256[:12]}, the run asked for "
            f"{ref.sha256[:12]}; give every worker the same file"
        )
        raise MapError(msg)
    return encoder


def encoder_of(ref: EncoderRef) -> Encoder:
    """Encoder of a reference, loaded on the first call in this process and kept."""
    with _loading:  # two threads of one worker must not both load it
        return _load(ref)


def check_encoder(encoder: Encoder) -> None:
    """Refuse an encoder that does not fit the cube: twelve months of the ten bands, in the cube's order."""
    config = encoder.config
    if tuple(config.bands) != BANDS:
        msg = (
            f"encoder {encoder.name}: its bands are {' '.join(config.bands)}, the cube's are {' '.join(BANDS)}; "
            "choose an encoder trained on the cube's bands in that order"
        )
        raise MapError(msg)
    if config.months != 12:
        msg = f"encoder {encoder.name}: takes {config.months} months, the cube has 12; choose a 12-month encoder"
        raise MapError(msg)


class Embedded(NamedTuple):
    """Embeddings of a block, those of equal series once: pixel (y, x) has ``vectors[kinds[y, x]]``."""

    vectors: NDArray[np.float32]  # (kinds, d), unit length; zeros where nothing was observed
    kinds: NDArray[np.intp]  # (y, x)


def embed_block(reflectance: NDArray[np.uint16], encoder: Encoder, *, first_month: int, halo: int = 0) -> Embedded:
    """Embed every series of a block of the cube that differs from the others.

    Parameters
    ----------
    reflectance : (12, 10, y + 2 halo, x + 2 halo) uint16, reflectance * 10000, 0 = missing
    encoder : the encoder; its patch size must be 2 * halo + 1
    first_month : calendar month (1-12) of the cube's first month
    halo : neighbours on each side that the patch needs
    """
    calendar = np.roll(reflectance, first_month - 1, axis=0)  # the encoder's positions are January to December
    series = np.ascontiguousarray(calendar.transpose(2, 3, 0, 1))  # (y, x, month, band)
    first, kinds = distinct(series.reshape(-1, calendar.shape[0] * calendar.shape[1]))
    kinds = kinds.reshape(series.shape[:2])
    if halo:
        around = _windows(kinds, halo)  # (y, x, h, w)
        first, kinds = distinct(around.reshape(-1, (2 * halo + 1) ** 2))
        kinds = kinds.reshape(around.shape[:2])
    patches = _windows(series, halo)  # (y, x, month, band, h, w), a view
    y, x = np.unravel_index(first, kinds.shape)
    seen = (calendar != 0).transpose(2, 3, 0, 1)
    present = encoder.present(_windows(seen, halo))[y, x]

    def take(rows: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.float32]:
        values = patches[y[rows, None], x[rows, None], places].astype(np.float32)
        values[values == 0] = np.nan
        return values / np.float32(10_000)

    return Embedded(encoder.embed_observed(take, present), kinds)


def _windows(values: NDArray[Any], halo: int) -> NDArray[Any]:
    """Surroundings of the pixels of (y, x, ...): (y - 2 halo, x - 2 halo, ..., 2 halo + 1, 2 halo + 1), a view."""
    side = 2 * halo + 1
    return np.lib.stride_tricks.sliding_window_view(values, (side, side), axis=(0, 1), writeable=True)


def distinct(rows: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Tell which rows are equal.

    Parameters
    ----------
    rows : (n, length), contiguous; a row's bytes must be a multiple of eight

    Returns
    -------
    (kinds,) index of a row of each kind, and (n,) the kind of each row: ``rows[first][kinds]`` are the rows.
    """
    words = rows.view(np.uint64)
    _, first, kinds = np.unique(words @ _factors(words.shape[1]), return_index=True, return_inverse=True)
    if len(first) < len(rows):  # rows of the same sum are nearly always equal, but must be
        apart = (words != words[first][kinds]).any(axis=1)
        if apart.any():
            kinds[apart] = len(first) + np.arange(apart.sum())
            first = np.concatenate([first, np.flatnonzero(apart)])
    return first, kinds


def _factors(length: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 2**63, length, np.uint64) * np.uint64(2) + np.uint64(1)


def quantise(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Embeddings as int8 with one scale a pixel (cosine error under 0.005).

    Parameters
    ----------
    embeddings : (..., d) float32

    Returns
    -------
    (..., d) int8 and (...) float32 scale, so that ``int8 * scale`` gives the embedding back; all zero stays zero.
    """
    scale = (np.abs(embeddings).max(axis=-1) / np.float32(127)).astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1))
    return np.rint(embeddings / safe[..., None]).astype(np.int8), scale


def dequantise(stored: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit embeddings from their stored form, (..., d) float32; all zero stays zero."""
    embeddings = stored.astype(np.float32) * scale[..., None]
    norm = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(embeddings, norm, out=np.zeros_like(embeddings), where=norm > 0)
    return unit
