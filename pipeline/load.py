"""Scenes as lazy arrays on the grid, through stackstac or odc-stac.

Both libraries only lay out the Dask graph; every pixel of either comes from `read_asset`, so that they cannot
differ in what they take for no data, in how they resample, or in what they do when a file cannot be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import dask.array as da
import numpy as np
import odc.stac
import pystac
import shapely
import stackstac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.windows import Window

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.clouds import Widening
from timesenmap.pipeline.mask_blocks import BlockMask
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION, Masker, load_block_masker
from timesenmap.pipeline.projection import grid_crs, outline, to_lon_lat
from timesenmap.pipeline.read import AssetSource, asset_source, read_asset
from timesenmap.pipeline.resample import Method

Library = Literal["stackstac", "odc"]

# stackstac wants a number for its CRS where the grid has none; it only labels a coordinate that is dropped here.
_NO_CODE = 0


def load_scenes(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    *,
    chunk: int = 1024,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Load scenes onto a grid, lazily.

    Parameters
    ----------
    scenes
        At least one; their order is kept.
    geobox
        The grid, or a window of it: a window's pixels equal those of the whole.
    chunk
        Pixels on a side of a Dask chunk; a chunk holds all scenes and bands. A file's block is decoded again for
        each chunk it reaches into.
    reader
        The library that lays out the graph.
    gdal
        GDAL configuration while reading (a catalogue profile's).

    Returns
    -------
    dn : DataArray
        Digital numbers, uint16 (time, band, y, x): 20 m bands bilinear, 0 = no data whatever the tag says.
    scl : DataArray
        Scene classification, uint8 (time, y, x), nearest; 0 outside the scene.
        Both with coordinates time (sensing time, UTC), id, y, x (pixel centres), and band.

    Raises
    ------
    ValueError
        No scene, or an unknown reader.
    SceneReadError
        While computing: an asset cannot be read. Never taken for no data.
    """
    dn, scl = lazy_stacks(scenes, geobox, chunk=chunk, reader=reader, gdal=gdal)
    coords = {
        "time": np.array([scene.datetime.replace(tzinfo=None) for scene in scenes], dtype="datetime64[ns]"),
        "id": ("time", np.array([scene.id for scene in scenes])),
        "y": geobox.coordinates["y"].values,
        "x": geobox.coordinates["x"].values,
    }
    return (
        xr.DataArray(dn, dims=("time", "band", "y", "x"), coords={**coords, "band": list(BANDS)}, name="dn"),
        xr.DataArray(scl[:, 0], dims=("time", "y", "x"), coords=coords, name="scl"),
    )


def lazy_stacks(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    *,
    chunk: int,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
    masker: Masker = SCENE_CLASSIFICATION,
    widening: Widening | None = None,
) -> tuple[da.Array, da.Array]:
    """Digital numbers and scene classes as `load_scenes` gives them, both (time, band, y, x), without coordinates.

    The classes are those that `masker` tells; with a `widening` they have its clouds widened.
    """
    if not scenes:
        raise ValueError("no scenes to load")
    stack = {"stackstac": _through_stackstac, "odc": _through_odc}.get(reader)
    if stack is None:
        raise ValueError(f"reader {reader!r}: unknown; choose 'stackstac' or 'odc'")
    settings = dict(gdal or {})
    bands = [{band: asset_source(scene, band).address for band in BANDS} for scene in scenes]
    masks = [{SCL: masker(scene).address} for scene in scenes]
    dn = stack(scenes, bands, geobox, chunk=chunk, dtype="uint16", method="bilinear", gdal=settings)
    scl = stack(scenes, masks, geobox, chunk=chunk, dtype="uint8", method="nearest", gdal=settings, widening=widening)
    return dn, scl


def _pixels(
    address: str, grid: GeoBox, *, method: Method, gdal: Mapping[str, str], widening: Widening | None
) -> NDArray[np.uint16]:
    """Pixels on a window of the grid of what an address names: an asset, or a mask computed from several."""
    mask = BlockMask.from_address(address)
    if mask is not None:
        return load_block_masker(mask.masker).read(mask, grid, gdal=gdal, widening=widening)
    return read_asset(AssetSource.from_address(address), grid, method=method, gdal=gdal, widening=widening)


def _through_stackstac(
    scenes: Sequence[Scene],
    addresses: Sequence[Mapping[str, str]],
    grid: GeoBox,
    *,
    chunk: int,
    dtype: str,
    method: Method,
    gdal: dict[str, str],
    widening: Widening | None = None,
) -> da.Array:
    bounds = grid.boundingbox
    epsg = grid_crs(grid).to_epsg() or _NO_CODE
    # The items stackstac gets say nothing but what it needs. They claim to cover the grid, because what it makes
    # of real ones (it reprojects four corners, and cannot read the proj:code that pystac writes) can be too
    # small and cut pixels off; whether a scene covers a window is found out by whoever opens the file.
    items = [
        {
            "id": scene.id,
            "properties": {"datetime": None, "proj:epsg": epsg, "proj:bbox": tuple(bounds)},
            "assets": {band: {"href": address} for band, address in named.items()},
        }
        for scene, named in zip(scenes, addresses, strict=True)
    ]
    stacked = stackstac.stack(
        items,
        assets=list(addresses[0]),
        epsg=epsg,
        bounds=tuple(bounds),
        resolution=(grid.affine.a, -grid.affine.e),
        snap_bounds=False,
        chunksize=(-1, -1, chunk, chunk),
        dtype=np.dtype(dtype),
        fill_value=np.dtype(dtype).type(0),
        rescale=False,
        resampling=Resampling[method],
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        errors_as_nodata=(),
        reader=partial(_StackstacReader, grid=grid, gdal=gdal, widening=widening),
    )
    laid_out: da.Array = stacked.data
    return laid_out


class _StackstacReader:
    """What stackstac asks to read windows: holds no open file, so it may be shared and pickled."""

    def __init__(
        self,
        *,
        url: str,
        resampling: Resampling,
        dtype: np.dtype[Any],
        grid: GeoBox,
        gdal: dict[str, str],
        widening: Widening | None,
        **_: Any,
    ) -> None:
        self._address = url
        self._method: Method = "nearest" if resampling is Resampling.nearest else "bilinear"
        self._dtype, self._grid, self._gdal, self._widening = dtype, grid, gdal, widening

    def read(self, window: Window) -> NDArray[np.generic]:
        part = self._grid[window.toslices()]
        pixels = _pixels(self._address, part, method=self._method, gdal=self._gdal, widening=self._widening)
        return pixels.astype(self._dtype, copy=False)

    def close(self) -> None:
        pass


def _through_odc(
    scenes: Sequence[Scene],
    addresses: Sequence[Mapping[str, str]],
    grid: GeoBox,
    *,
    chunk: int,
    dtype: str,
    method: Method,
    gdal: dict[str, str],
    widening: Widening | None = None,
) -> da.Array:
    cover = to_lon_lat(outline(grid), grid_crs(grid)) or shapely.box(-180, -90, 180, 90)
    items = []
    for number, (scene, named) in enumerate(zip(scenes, addresses, strict=True)):
        # The position stands for the id: two items may share one, and odc-stac groups by it.
        item = pystac.Item(f"{number:06d}", shapely.geometry.mapping(cover), list(cover.bounds), scene.datetime, {})
        for band, address in named.items():
            item.add_asset(band, pystac.Asset(address, media_type="image/tiff", roles=["data"]))
        items.append(item)
    bands = list(addresses[0])
    loaded = odc.stac.load(
        items,
        bands=bands,
        geobox=grid,
        groupby="id",
        preserve_original_order=True,
        chunks={"x": chunk, "y": chunk},
        dtype=dtype,
        nodata=0,
        resampling=method,
        fail_on_error=True,
        driver=_OdcDriver(gdal, widening),
    )
    bands_apart = [loaded[band].data for band in bands]  # (time, y, x) each
    together: da.Array = da.stack(bands_apart, axis=1).rechunk({0: -1, 1: -1})  # type: ignore[no-untyped-call]
    return together


class _OdcDriver:
    """What odc-stac asks to open assets."""

    md_parser = aux_reader = dask_reader = None

    def __init__(self, gdal: dict[str, str], widening: Widening | None) -> None:
        self._gdal, self._widening = gdal, widening

    def new_load(self, *_: Any, **_options: Any) -> None:
        return None

    def finalise_load(self, load_state: Any) -> Any:
        return load_state

    def capture_env(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def restore_env(self, *_: Any) -> Iterator[None]:
        yield None

    def open(self, src: Any, *_: Any) -> "_OdcReader":
        return _OdcReader(src.uri, self._gdal, self._widening)


class _OdcReader:
    def __init__(self, address: str, gdal: dict[str, str], widening: Widening | None) -> None:
        self._address, self._gdal, self._widening = address, gdal, widening

    def read(
        self, cfg: Any, dst_geobox: GeoBox, *, dst: NDArray[Any] | None = None, **_: Any
    ) -> tuple[tuple[slice, slice], NDArray[Any]]:
        method: Method = "nearest" if cfg.nearest else "bilinear"
        pixels = _pixels(self._address, dst_geobox, method=method, gdal=self._gdal, widening=self._widening)
        whole = (slice(None), slice(None))
        if dst is None:
            return whole, pixels.astype(cfg.dtype, copy=False)
        dst[...] = pixels
        return whole, dst
