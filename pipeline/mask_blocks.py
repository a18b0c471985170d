"""Masks computed from a scene's reflectance, by functions that look at a pixel's surroundings.

What such a function says of a pixel depends on the block it is given. So the blocks are those of a fixed lattice on the
scene's own ground: every window of a mask is cut from the same blocks, whatever the tiles of a run.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from functools import lru_cache, partial

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline import profile
from timesenmap.pipeline.clouds import Widening
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.harmonisation import harmonised
from timesenmap.pipeline.projection import grid_crs
from timesenmap.pipeline.read import (
    AssetSource,
    as_address,
    asset_source,
    from_address,
    onto_grid,
    read_asset,
    read_place,
)

CLEAR = 7
"""Scene class of what a function does not set apart: "unclassified" in ESA's terms."""

Settings = tuple[tuple[str, str], ...]
"""GDAL configuration as something that can be a key."""

_SCHEME = "mask"

# Blocks kept in memory, 36 kB each with the default sizes: a year of scenes for the neighbouring tile.
_KEPT = 2048

# One thread computes a block, others that want it wait; two blocks seldom share a lock.
_LOCKS = tuple(threading.Lock() for _ in range(256))


@dataclass(frozen=True)
class BlockMask:
    """The mask of one scene, by the name of who computes it and what it is computed from.

    Attributes
    ----------
    masker
        Name of the `BlockMasker`.
    sources
        Its bands' assets, in its order.
    harmonised
        For each of them (multiply, add), with reflectance * 10000 = DN * multiply + add.
    """

    masker: str
    sources: tuple[AssetSource, ...]
    harmonised: tuple[tuple[float, float], ...]

    @property
    def address(self) -> str:
        """All as one string with a URL scheme, for libraries that carry nothing but an address."""
        return as_address(_SCHEME, astuple(self))

    @classmethod
    def from_address(cls, address: str) -> "BlockMask | None":
        """Read back what `address` gave; None for the address of something else."""
        if not address.startswith(f"{_SCHEME}:"):
            return None
        masker, sources, numbers = from_address(address)
        return cls(masker, tuple(map(AssetSource.of, sources)), tuple((multiply, add) for multiply, add in numbers))


@dataclass(frozen=True, eq=False)
class BlockMasker:
    """A masker made of a function that sees one block of a scene at a time.

    The blocks of a scene are `block` pixels on a side, on a grid of `metres` that begins in the corner of its raster.
    Of each the middle is kept, without `margin` pixels on every side, and the middles cover the scene without overlap.
    Where a block would reach over the scene's edge it is moved inside; a scene smaller than a block is continued as
    in a mirror.

    Attributes
    ----------
    name
        As given to `--masker`.
    bands
        Names of the bands the function takes (of `timesenmap.catalogs.bands.BANDS`), in its order.
    classify
        Function from reflectance, float32 (band, block, block), NaN = no data, to scene classes, uint8
        (block, block), in the codes of SCL: those in `tells`, and `CLEAR`. The same block must give the same classes,
        and threads call it at the same time.
    tells
        Scene classes it tells from the rest. 0 (no data) is always among them: it is put where some band has none.
    about
        What else decides on the masks, in words: versions, the hash of weights. Part of the cube's signature and of
        the run's record.
    metres, block, margin
        Size of the lattice's pixels in metres; pixels on a side of a block; pixels of it that are context only.
    """

    name: str
    bands: tuple[str, ...]
    classify: Callable[[NDArray[np.float32]], NDArray[np.uint8]]
    tells: frozenset[int]
    about: Mapping[str, str] = field(default_factory=dict)
    metres: float = 30.0
    block: int = 256
    margin: int = 32

    @property
    def inner(self) -> int:
        """Pixels on a side of a block's middle."""
        return self.block - 2 * self.margin

    @property
    def set_aside(self) -> frozenset[int]:
        """Scene classes that are not clear unless a job says otherwise: all it tells."""
        return self.tells | {0}

    @property
    def identity(self) -> dict[str, str]:
        """All that decides on the masks, in words."""
        return {
            "name": self.name,
            **self.about,
            "bands": " ".join(self.bands),
            "blocks": f"{self.block} x {self.block} pixels of {self.metres:g} m, of which {self.margin} on each side "
            "are context",
        }

    def __call__(self, scene: Scene) -> BlockMask:
        """Say what the mask of a scene is made from; nothing is read yet."""
        return BlockMask(
            self.name,
            tuple(asset_source(scene, band) for band in self.bands),
            tuple(harmonised(scene.scaling[band]) for band in self.bands),
        )

    def read(
        self,
        mask: BlockMask,
        grid: GeoBox,
        *,
        gdal: Mapping[str, str] | None = None,
        widening: Widening | None = None,
    ) -> NDArray[np.uint16]:
        """Compute the mask of a scene on a window of the map grid, as `read_asset` reads a scene classification.

        Returns
        -------
        ndarray
            uint16 (y, x), scene classes of the lattice's pixels under the grid's pixel centres; 0 = no data or outside.

        Raises
        ------
        SceneReadError
            A band cannot be read.
        MapError
            The function gave something else than the classes it should.
        """
        settings = tuple(sorted((gdal or {}).items()))
        ground = _ground(mask.sources[0], self.metres, settings)
        return onto_grid(
            grid,
            ground,
            partial(self._cut, mask, ground, settings),
            method="nearest",
            widening=widening,
        )

    def _cut(
        self, mask: BlockMask, ground: GeoBox, settings: Settings, window: tuple[slice, slice]
    ) -> NDArray[np.uint16]:
        """Scene classes on a window of the scene's own grid, put together from blocks."""
        rows, cols = window
        found = np.empty((rows.stop - rows.start, cols.stop - cols.start), np.uint16)
        for row in range(rows.start // self.inner, -(-rows.stop // self.inner)):
            for col in range(cols.start // self.inner, -(-cols.stop // self.inner)):
                key = (self, mask, ground, (row, col), settings)
                with _LOCKS[hash(key) % len(_LOCKS)]:
                    middle = _middle(*key)
                top, left = row * self.inner, col * self.inner
                ys = slice(max(rows.start, top), min(rows.stop, top + self.inner))
                xs = slice(max(cols.start, left), min(cols.stop, left + self.inner))
                found[ys.start - rows.start : ys.stop - rows.start, xs.start - cols.start : xs.stop - cols.start] = (
                    middle[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left]
                )
        return found

    def span(self, number: int, length: int) -> tuple[slice, slice]:
        """Rows (or columns) that block `number` of a scene of this length sees, and those of them that are kept."""
        first = number * self.inner
        start = min(max(first - self.margin, 0), max(length - self.block, 0))
        stop = min(start + self.block, length)
        return slice(start, stop), slice(first - start, min(first + self.inner, length) - start)


@lru_cache(maxsize=1024)
def _ground(source: AssetSource, metres: float, settings: Settings) -> GeoBox:
    """Grid of `metres` over the raster of an asset, from its upper left corner."""
    place = read_place(source, gdal=dict(settings))
    crs = grid_crs(place)
    if crs.is_geographic:
        raise source.failed(f"its CRS {crs.name} is in degrees; masks are computed on a grid in metres (--masker scl)")
    height, width = (math.ceil(side * place.affine.a / metres) for side in place.shape.yx)
    return GeoBox((height, width), Affine(metres, 0, place.affine.c, 0, -metres, place.affine.f), place.crs)


@lru_cache(maxsize=_KEPT)
def _middle(
    masker: BlockMasker, mask: BlockMask, ground: GeoBox, number: tuple[int, int], settings: Settings
) -> NDArray[np.uint8]:
    """Scene classes, uint8 (y, x), of the middle of one block (row, column) of the lattice."""
    (rows, kept_rows), (cols, kept_cols) = map(masker.span, number, ground.shape.yx)
    window = ground[rows, cols]
    reflectance = np.empty((len(mask.sources), *window.shape), np.float32)
    for band, (source, (multiply, add)) in enumerate(zip(mask.sources, mask.harmonised, strict=True)):
        # Bilinear onto pixels of the same ground: finer ones are averaged, gaps left out.
        dn = read_asset(source, window, method="bilinear", gdal=dict(settings))
        # As reflectance * 10000 first, where the offset is a whole number: the same to the last bit with and without.
        reflectance[band] = np.where(dn > 0, (dn * multiply + add) / 10000, np.nan)
    missing = np.isnan(reflectance[:, kept_rows, kept_cols]).max(axis=0)
    if missing.all():
        return np.zeros(missing.shape, np.uint8)
    classes = _classified(masker, reflectance)[kept_rows, kept_cols]
    middle = np.where(missing, np.uint8(0), classes)
    middle.setflags(write=False)
    return middle


def _classified(masker: BlockMasker, reflectance: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Let the function look at a block, continued as in a mirror to its full size, and check what it says."""
    shape = reflectance.shape[1:]
    beyond = [(0, masker.block - side) for side in shape]
    with profile.timed("masking"):
        classes = masker.classify(np.pad(reflectance, [(0, 0), *beyond], mode="symmetric"))
    expected = (masker.block, masker.block)
    if classes.shape != expected or classes.dtype != np.uint8:
        raise MapError(
            f"masker {masker.name}: its function gave {classes.dtype} {classes.shape}, not uint8 {expected}; correct it"
        )
    strange = set(np.unique(classes).tolist()) - masker.tells - {0, CLEAR}
    if strange:
        raise MapError(
            f"masker {masker.name}: its function gave scene class {min(strange)}, which is not among those it tells; "
            "correct it"
        )
    return classes[: shape[0], : shape[1]]
