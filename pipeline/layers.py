"""Layers of a scene: its mask and its bands, each on a window of the grid, the bands where the mask leaves something.

A band is read where some pixel is clear, and no further: on a cloudy day nothing of ten bands is read.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from timesenmap.pipeline import profile
from timesenmap.pipeline.clouds import Widening
from timesenmap.pipeline.composite import clear_classes
from timesenmap.pipeline.mask_blocks import BlockMask, Settings
from timesenmap.pipeline.maskers import load_block_masker
from timesenmap.pipeline.read import AssetSource, as_address, from_address, read_asset
from timesenmap.pipeline.resample import Method

# Masks kept until the bands of their scenes are read, a byte a pixel: more than there are threads.
_KEPT = 32


@dataclass(frozen=True)
class Layer:
    """What is to be read, by where it is to be had.

    Attributes
    ----------
    address
        Of an asset (`AssetSource.address`), or of a mask computed from several (`BlockMask.address`).
    method
        See `read_asset`.
    mask
        Address of the scene's mask where only what that leaves is wanted, else ""; of the mask itself where it is to be
        kept for the bands that follow.
    set_aside
        Classes of that mask that are not clear.
    """

    address: str
    method: Method
    mask: str = ""
    set_aside: tuple[int, ...] = ()

    def to_address(self) -> str:
        """All as one string with a URL scheme, for libraries that carry nothing but an address."""
        return as_address("layer", astuple(self))

    @classmethod
    def from_address(cls, address: str) -> "Layer":
        """Read back what `to_address` gave."""
        where, method, mask, set_aside = from_address(address)
        return cls(where, method, mask, tuple(set_aside))


def read_layer(
    layer: Layer, grid: GeoBox, *, gdal: Mapping[str, str], widening: Widening | None = None
) -> NDArray[np.uint16]:
    """Read a layer onto a window of the grid.

    Parameters
    ----------
    layer
        What to read. Of one with a mask, pixels outside the smallest window around all clear ones are 0.
    grid, gdal
        See `read_asset`.
    widening
        How far clouds of masks are widened.

    Returns
    -------
    ndarray
        uint16 (y, x), 0 = no data or outside.

    Raises
    ------
    SceneReadError
        An asset that is needed cannot be read.
    """
    settings = tuple(sorted(gdal.items()))
    if not layer.mask:
        return read_asset(AssetSource.from_address(layer.address), grid, method=layer.method, gdal=gdal)
    if layer.mask == layer.address:
        return _mask(layer.address, grid, settings, widening).astype(np.uint16)
    part = _clear_part(layer.mask, grid, settings, widening, layer.set_aside)
    result = np.zeros(grid.shape, np.uint16)
    if part is not None:
        result[part] = read_asset(AssetSource.from_address(layer.address), grid[part], method=layer.method, gdal=gdal)
    return result


def forget_masks() -> None:
    """Drop what is kept of masks: what is read later may have changed."""
    _mask.cache_clear()
    _clear_part.cache_clear()


@lru_cache(maxsize=_KEPT)
def _clear_part(
    address: str, grid: GeoBox, settings: Settings, widening: Widening | None, set_aside: tuple[int, ...]
) -> tuple[slice, slice] | None:
    """Find the smallest window (rows, columns) around all pixels of a mask that are not set aside; None without any."""
    mask = _mask(address, grid, settings, widening)
    with profile.timed("masking"):
        clear = clear_classes(set_aside)[mask]
        rows, cols = np.nonzero(clear.any(axis=1))[0], np.nonzero(clear.any(axis=0))[0]
        return (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)) if rows.size else None


@lru_cache(maxsize=_KEPT)
def _mask(address: str, grid: GeoBox, settings: Settings, widening: Widening | None) -> NDArray[np.uint8]:
    """Scene classes, uint8 (y, x): kept, because ten bands ask for them after they were read."""
    mask = BlockMask.from_address(address)
    gdal = dict(settings)
    if mask is not None:
        classes = load_block_masker(mask.masker).read(mask, grid, gdal=gdal, widening=widening)
    else:
        classes = read_asset(AssetSource.from_address(address), grid, method="nearest", gdal=gdal, widening=widening)
    kept: NDArray[np.uint8] = classes.astype(np.uint8)
    kept.setflags(write=False)
    return kept
