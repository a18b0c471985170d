"""The encoder over every pixel, through Dask ``map_blocks``, with the model loaded once a process.

Only a small :class:`EncoderRef` travels in the graph; each worker process loads and keeps the model itself
(a model closed over by a task is pickled into every task).
"""

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from timesenmap.catalogs.bands import BANDS
from timesenmap.model import Encoder, load_encoder
from timesenmap.pipeline.errors import MapError

# Pixels turned to float32 at a time: 12 x 10 values x 4 bytes x 16,384 = 8 MB at patch 1.
_PIXELS = 16_384
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


def embed_block(
    reflectance: NDArray[np.uint16], encoder: Encoder, *, first_month: int, halo: int = 0
) -> NDArray[np.float32]:
    """Embed every pixel of a block of the cube.

    Parameters
    ----------
    reflectance : (12, 10, y + 2 halo, x + 2 halo) uint16, reflectance * 10000, 0 = missing
    encoder : the encoder; its patch size must be 2 * halo + 1
    first_month : calendar month (1-12) of the cube's first month
    halo : neighbours on each side that the patch needs

    Returns
    -------
    (y, x, d) float32, unit vectors; zeros where nothing was observed in the patch's own pixel.
    """
    months, bands, rows, cols = reflectance.shape
    height, width = rows - 2 * halo, cols - 2 * halo
    calendar = np.roll(reflectance, first_month - 1, axis=0)  # the encoder's positions are January to December
    if halo:
        side = 2 * halo + 1
        windows = np.lib.stride_tricks.sliding_window_view(calendar, (side, side), axis=(2, 3))
        flat = windows.transpose(2, 3, 0, 1, 4, 5)  # (y, x, month, band, h, w), a view
    else:
        flat = calendar.transpose(2, 3, 0, 1)  # (y, x, month, band), a view
    out = np.empty((height, width, encoder.dim), np.float32)
    rows_at_once = max(1, _PIXELS // (width * (2 * halo + 1) ** 2))
    for y in range(0, height, rows_at_once):
        strip = flat[y : y + rows_at_once]
        series = strip.reshape(-1, *strip.shape[2:]).astype(np.float32)
        series[series == 0] = np.nan
        series /= np.float32(10_000)
        out[y : y + rows_at_once] = encoder.embed(series).reshape(-1, width, encoder.dim)
    unseen = ~calendar[:, :, halo : halo + height, halo : halo + width].any(axis=(0, 1))
    out[unseen] = 0
    return out


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
