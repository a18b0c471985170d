"""Scenes as lazy arrays on the grid, through stackstac or odc-stac.

Both libraries only lay out the Dask graph; every pixel of either comes from `read_layer`, so that they cannot
differ in what they take for no data, in how they resample, or in what they do when a file cannot be read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
from rasterio.windows import Window

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.clouds import NEAR_CLOUD, Widening
from timesenmap.pipeline.layers import Layer, read_layer
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION, Masker
from timesenmap.pipeline.projection import grid_crs, outline, to_lon_lat
from timesenmap.pipeline.read import asset_source

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
    bands = [{band: Layer(asset_source(scene, band).address, "bilinear") for band in BANDS} for scene in scenes]
    masks = [{SCL: Layer(asset_source(scene, SCL).address, "nearest")} for scene in scenes]
    chunks = -1, chunk
    dn = _stack(scenes, bands, geobox, chunks=chunks, dtype="uint16", reader=reader, gdal=gdal)
    scl = _stack(scenes, masks, geobox, chunks=chunks, dtype="uint8", reader=reader, gdal=gdal)
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


def lazy_observations(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    *,
    chunk: int,
    set_aside: Collection[int],
    masker: Masker = SCENE_CLASSIFICATION,
    widening: Widening | None = None,
    reader: Library = "stackstac",
    gdal: Mapping[str, str] | None = None,
) -> da.Array:
    """What there is to see of scenes, lazily: uint16 (time, 11, y, x), the classes that a masker tells, then ten bands.

    A chunk is one scene on `chunk` x `chunk` pixels. The bands are digital numbers as `load_scenes` gives them, and 0
    outside the smallest window of the chunk around all pixels whose class is not set aside; with a `widening` the
    clouds among the classes are widened, and what that adds is `NEAR_CLOUD`. Errors as `load_scenes` has them.
    """
    aside = tuple(sorted({*set_aside, NEAR_CLOUD}))
    layers = []
    for scene in scenes:
        mask = masker(scene).address
        bands = {band: Layer(asset_source(scene, band).address, "bilinear", mask, aside) for band in BANDS}
        layers.append({SCL: Layer(mask, "nearest", mask), **bands})  # the mask first: the bands need it
    chunks = 1, chunk
    return _stack(scenes, layers, geobox, chunks=chunks, dtype="uint16", reader=reader, gdal=gdal, widening=widening)


def _stack(
    scenes: Sequence[Scene],
    layers: Sequence[Mapping[str, Layer]],
    grid: GeoBox,
    *,
    chunks: tuple[int, int],
    dtype: str,
    reader: Library,
    gdal: Mapping[str, str] | None,
    widening: Widening | None = None,
) -> da.Array:
    """Lay out (time, layer, y, x) in chunks of so many scenes (-1 is all) with all their layers, and pixels a side."""
    if not scenes:
        raise ValueError("no scenes to load")
    stack = {"stackstac": _through_stackstac, "odc": _through_odc}.get(reader)
    if stack is None:
        raise ValueError(f"reader {reader!r}: unknown; choose 'stackstac' or 'odc'")
    addresses = [{name: layer.to_address() for name, layer in named.items()} for named in layers]
    return stack(scenes, addresses, grid, chunks=chunks, dtype=dtype, gdal=dict(gdal or {}), widening=widening)


def _through_stackstac(
    scenes: Sequence[Scene],
    addresses: Sequence[Mapping[str, str]],
    grid: GeoBox,
    *,
    chunks: tuple[int, int],
    dtype: str,
    gdal: dict[str, str],
    widening: Widening | None,
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
            "assets": {name: {"href": address} for name, address in named.items()},
        }
        for scene, named in zip(scenes, addresses, strict=True)
    ]
    times, side = chunks
    stacked = stackstac.stack(
        items,
        assets=list(addresses[0]),
        epsg=epsg,
        bounds=tuple(bounds),
        resolution=(grid.affine.a, -grid.affine.e),
        snap_bounds=False,
        chunksize=(times, -1, side, side),
        dtype=np.dtype(dtype),
        fill_value=np.dtype(dtype).type(0),
        rescale=False,
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
        dtype: np.dtype[Any],
        grid: GeoBox,
        gdal: dict[str, str],
        widening: Widening | None,
        **_: Any,
    ) -> None:
        self._layer = Layer.from_address(url)
        self._dtype, self._grid, self._gdal, self._widening = dtype, grid, gdal, widening

    def read(self, window: Window) -> NDArray[np.generic]:
        pixels = read_layer(self._layer, self._grid[window.toslices()], gdal=self._gdal, widening=self._widening)
        return pixels.astype(self._dtype, copy=False)

    def close(self) -> None:
        pass


def _through_odc(
    scenes: Sequence[Scene],
    addresses: Sequence[Mapping[str, str]],
    grid: GeoBox,
    *,
    chunks: tuple[int, int],
    dtype: str,
    gdal: dict[str, str],
    widening: Widening | None,
) -> da.Array:
    cover = to_lon_lat(outline(grid), grid_crs(grid)) or shapely.box(-180, -90, 180, 90)
    items = []
    for number, (scene, named) in enumerate(zip(scenes, addresses, strict=True)):
        # The position stands for the id: two items may share one, and odc-stac groups by it.
        item = pystac.Item(f"{number:06d}", shapely.geometry.mapping(cover), list(cover.bounds), scene.datetime, {})
        for band, address in named.items():
            item.add_asset(band, pystac.Asset(address, media_type="image/tiff", roles=["data"]))
        items.append(item)
    names, (times, side) = list(addresses[0]), chunks
    loaded = odc.stac.load(
        items,
        bands=names,
        geobox=grid,
        groupby="id",
        preserve_original_order=True,
        chunks={"x": side, "y": side},
        dtype=dtype,
        nodata=0,
        fail_on_error=True,
        driver=_OdcDriver(gdal, widening),
    )
    apart = [loaded[name].data for name in names]  # (time, y, x) each
    together: da.Array = da.stack(apart, axis=1).rechunk({0: times, 1: -1})  # type: ignore[no-untyped-call]
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
        self._layer, self._gdal, self._widening = Layer.from_address(address), gdal, widening

    def read(
        self, cfg: Any, dst_geobox: GeoBox, *, dst: NDArray[Any] | None = None, **_: Any
    ) -> tuple[tuple[slice, slice], NDArray[Any]]:
        pixels = read_layer(self._layer, dst_geobox, gdal=self._gdal, widening=self._widening)
        whole = (slice(None), slice(None))
        if dst is None:
            return whole, pixels.astype(cfg.dtype, copy=False)
        dst[...] = pixels
        return whole, dst
