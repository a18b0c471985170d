"""The cube: twelve monthly composites of an area in one Zarr store, made once and filled tile by tile."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from timesenmap.catalogs.bands import BANDS
from timesenmap.pipeline import profile
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.stores import Store, StoreLike

__all__ = ["composite_tile", "create_cube", "fits_cube", "open_cube", "tile_checksum", "write_tile"]

MADE_OF = "made_of"
"""Array of a cube that says of each tile what each month was made of: uint64 (month, row, column of the tile), the
first 64 bits of the month's signature; 0 = not made, or not whole."""

# Side of a Zarr chunk inside a shard, at most: what a viewer that looks at one place has to decode.
_CHUNK = 256


def create_cube(
    store: StoreLike, grid: GeoBox, period: Period, *, tile_size: int, attrs: Mapping[str, Any] | None = None
) -> None:
    """Make the cube's store from a template: all metadata and coordinates, no pixels.

    Zarr v3, CF conventions. A shard of `reflectance` and a chunk of `clear` are one tile with all its months, so that
    a tile is written whole and shares no file with another; the chunks inside a shard are one month of all bands
    on at most 256 x 256 pixels. xarray opens it as it is (rioxarray finds CRS and transform), GDAL
    from 3.13 on, the first to read the shards of Zarr v3 (measured: 3.10 knows none of the final format's codecs).
    `made_of` has a chunk for each tile, too.

    Parameters
    ----------
    store
        Where it is to lie; must not exist.
    grid, period
        The map grid and the twelve months.
    tile_size
        Pixels on a side of a tile, as for `tiles`.
    attrs
        More attributes for the store.

    Raises
    ------
    MapError
        A tile size above 256 that is no multiple of 16: it cannot be cut into chunks.
    FileExistsError
        There is something at `store`.
    """
    if tile_size < 1 or (tile_size > _CHUNK and tile_size % 16):
        raise MapError(
            f"tile size {tile_size}: cannot be cut into chunks; give --tile-size 1024, or another multiple of 16"
        )
    store = Store.at(store)
    if store.exists():
        raise FileExistsError(f"{store} exists; remove it to make the cube anew")
    height, width = grid.shape
    shard = _shard(tile_size, height), _shard(tile_size, width)
    chunk = _chunk(shard[0]), _chunk(shard[1])
    bands = len(BANDS)
    template = xr.Dataset(
        {
            "reflectance": (
                ("month", "band", "y", "x"),
                da.zeros((12, bands, height, width), dtype=np.uint16, chunks=(12, bands, *shard)),
                {
                    "long_name": "surface reflectance, monthly median of the clear observations",
                    "units": "1",
                    "scale_factor": 0.0001,
                    "add_offset": 0.0,
                    "grid_mapping": "spatial_ref",
                },
            ),
            "clear": (
                ("month", "y", "x"),
                da.zeros((12, height, width), dtype=np.uint8, chunks=(12, *shard)),
                {"long_name": "number of clear observations", "units": "1", "grid_mapping": "spatial_ref"},
            ),
            MADE_OF: (
                ("month", "tile_y", "tile_x"),
                da.zeros((12, -(-height // tile_size), -(-width // tile_size)), dtype=np.uint64, chunks=-1),
                {"long_name": "first 64 bits of the signature of what a month of a tile was made of, 0 = not made"},
            ),
        },
        coords={
            "month": ("month", period.month_starts, {"long_name": "first day of the month", "standard_name": "time"}),
            # Variable-length strings are in the Zarr v3 registry; NumPy's fixed-length ones are not.
            "band": ("band", np.array(BANDS, dtype=np.dtypes.StringDType()), {"long_name": "Sentinel-2 band"}),
            **_spatial_coords(grid),
        },
        attrs={"Conventions": "CF-1.11", **(attrs or {})},
    )
    template.to_zarr(
        store.to_zarr(),
        mode="w-",
        compute=False,
        consolidated=False,
        zarr_format=3,
        encoding={
            "reflectance": {"chunks": (1, bands, *chunk), "shards": (12, bands, *shard), "_FillValue": np.uint16(0)},
            "clear": {"chunks": (12, *shard)},
            MADE_OF: {"chunks": (12, 1, 1), "_FillValue": np.uint64(0)},
            "month": {"units": "days since 1970-01-01", "dtype": "int32"},
        },
    )


def fits_cube(store: StoreLike, grid: GeoBox, *, tile_size: int) -> bool:
    """Whether a store is a cube of this size, cut like this: its tiles can be written over one by one."""
    height, width = grid.shape
    shard = _shard(tile_size, height), _shard(tile_size, width)
    try:
        store = Store.at(store)
        store.require()
        arrays = {name: store.array(name) for name in ("reflectance", "clear", MADE_OF)}
    except (FileNotFoundError, KeyError, ValueError):
        return False
    shapes = {name: array.shape for name, array in arrays.items()}
    cut = arrays["reflectance"].shards, arrays["clear"].chunks
    expected = {
        "reflectance": (12, len(BANDS), height, width),
        "clear": (12, height, width),
        MADE_OF: (12, -(-height // tile_size), -(-width // tile_size)),
    }
    return shapes == expected and cut == ((12, len(BANDS), *shard), (12, *shard))


def month_marks(signatures: Sequence[str]) -> NDArray[np.uint64]:
    """First 64 bits of hexadecimal signatures: what `made_of` holds."""
    return np.array([int(one[:16], 16) for one in signatures], np.uint64)


@profile.timed("writing")
def write_tile(
    store: StoreLike,
    tile: Tile,
    reflectance: NDArray[np.uint16],
    clear: NDArray[np.uint8],
    *,
    signatures: Sequence[str] | None = None,
) -> str:
    """Write a tile whole into its place in the cube; again is no harm.

    NumPy blocks of whole shards only: where two tasks write parts of one shard, each rewrites what the other wrote
    (zarr-python issue 3682).

    Parameters
    ----------
    store, tile
        The store made by `create_cube`, and a tile of the same size.
    reflectance, clear
        (12, 10, y, x) uint16 and (12, y, x) uint8 of the tile.
    signatures
        Of what its twelve months were made of (`month_signatures`), for others to take them over.

    Returns
    -------
    str
        Checksum of the tile's pixels, as `tile_checksum` reads it back.

    Raises
    ------
    ValueError
        Types, shapes or edges that do not fit the store.
    """
    store = Store.at(store)
    blocks = [(store.array(name, "r+"), block) for name, block in (("reflectance", reflectance), ("clear", clear))]
    made_of = store.array(MADE_OF, "r+")
    for array, block in blocks:
        edges = array.shards or array.chunks
        expected = (*array.shape[:-2], *tile.shape)
        if block.shape != expected or block.dtype != array.dtype:
            raise ValueError(
                f"tile {tile.key}: {array.basename} is {block.dtype} {block.shape}, the store {store.name} takes "
                f"{array.dtype} {expected}"
            )
        for first, last, edge, length in (
            (tile.y0, tile.y1, edges[-2], array.shape[-2]),
            (tile.x0, tile.x1, edges[-1], array.shape[-1]),
        ):
            if first % edge or last > length or (last != length and last - first != edge):
                raise ValueError(
                    f"tile {tile.key}: pixels {first}-{last} are not a whole shard of {edge} in {store.name}"
                )
    made_of[:, tile.row, tile.col] = np.uint64(0)  # wiped first and written last: never said of half a tile
    for array, block in blocks:
        array[..., tile.y0 : tile.y1, tile.x0 : tile.x1] = block
    if signatures is not None:
        made_of[:, tile.row, tile.col] = month_marks(signatures)
    return _checksum(reflectance, clear)


def tile_checksum(store: StoreLike, tile: Tile) -> str:
    """Read a tile back and give its checksum."""
    store = Store.at(store)
    window = (..., slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
    return _checksum(*(np.asarray(store.array(name)[window]) for name in ("reflectance", "clear")))


def open_cube(store: StoreLike) -> xr.Dataset:
    """Open a cube lazily, as the integers that are stored.

    Returns
    -------
    Dataset
        `reflectance` uint16 (month, band, y, x), reflectance * 10000, 0 = no clear observation; `clear` uint8
        (month, y, x), number of clear observations; one Dask chunk a tile.

    Raises
    ------
    MapError
        No cube at `store`.
    """
    try:
        cube: xr.Dataset = xr.open_zarr(
            Store.at(store).to_zarr(),
            consolidated=False,
            chunks=None,
            mask_and_scale=False,
            decode_coords="all",
            drop_variables=[MADE_OF],
        )
        shard = cube["reflectance"].encoding["shards"]
        return cube.chunk({"month": -1, "band": -1, "y": shard[-2], "x": shard[-1]})
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise MapError(f"cube {store}: cannot be opened ({error}); make it again") from error


def _checksum(*blocks: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _shard(tile_size: int, length: int) -> int:
    """Side of a shard: the tile's, or less where the whole grid is smaller, still divisible into chunks."""
    return min(tile_size, math.ceil(length / 16) * 16)


def _chunk(shard: int) -> int:
    """Side of a chunk: the largest divisor of the shard's side that is not above the limit."""
    return next(side for side in range(min(shard, _CHUNK), 0, -1) if shard % side == 0)


def _spatial_coords(grid: GeoBox) -> dict[str, xr.DataArray]:
    """CF coordinates y, x (pixel centres) and spatial_ref, with the attributes GDAL and rioxarray look for."""
    coords = {str(name): coord for name, coord in xr_coords(grid).items()}
    for name in ("x", "y"):
        coords[name].attrs = {
            "long_name": f"{name} coordinate of projection",
            "standard_name": f"projection_{name}_coordinate",
            "units": "metre",
        }
    return coords
