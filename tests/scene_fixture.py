"""Scenes made for a test: one GeoTIFF a band, written with rasterio, and the Scene over them."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pystac
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from numpy.typing import NDArray

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.catalogs.scenes import Scene

TEN_METRES = ("B02", "B03", "B04", "B08")


def pixel_size(band: str) -> int:
    return 10 if band in TEN_METRES else 20


def write_band(
    path: Path, pixels: NDArray[np.generic], transform: Affine, crs: str, *, nodata: float | None = 0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=pixels.shape[1],
        height=pixels.shape[0],
        count=1,
        dtype=pixels.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        tiled=True,
        blockxsize=64,
        blockysize=64,
        compress="deflate",
    ) as raster:
        raster.write(pixels, 1)


def make_scene(
    folder: Path,
    *,
    name: str = "scene",
    when: str = "2020-06-15T10:00:00Z",
    crs: str = "EPSG:32631",
    left: float = 600000.0,
    top: float = 5600040.0,
    size: int = 64,
    bands: Mapping[str, NDArray[np.generic]] | None = None,
    scl: NDArray[np.uint8] | None = None,
    scaling: Scaling | None = None,
    nodata: float | None = 0,
    seed: int = 0,
) -> Scene:
    """Make a scene of size x size pixels of 10 m; bands not given are random digital numbers above zero."""
    random = np.random.default_rng(seed)
    moment = dt.datetime.fromisoformat(when)
    edges = left, top - size * 10.0, left + size * 10.0, top
    west, south, east, north = rasterio.warp.transform_bounds(crs, "EPSG:4326", *edges)
    # Over the antimeridian rasterio gives east below west, and services a ring that spans the Earth.
    footprint = shapely.box(min(west, east), south, max(west, east), north)
    item = pystac.Item(name, shapely.geometry.mapping(footprint), list(footprint.bounds), moment, {"proj:code": crs})
    for band in (*BANDS, SCL):
        step = pixel_size(band)
        side = size * 10 // step
        if band == SCL:
            pixels = np.full((side, side), 4, np.uint8) if scl is None else scl
        elif bands and band in bands:
            pixels = bands[band]
        else:
            pixels = random.integers(1, 10000, (side, side)).astype(np.uint16)
        path = folder / name / f"{band}.tif"
        write_band(path, pixels, Affine(step, 0, left, 0, -step, top), crs, nodata=0 if band == SCL else nodata)
        item.add_asset(band, pystac.Asset(str(path)))
    used = scaling or Scaling(0.0001, 0.0)
    return Scene(item, {band: band for band in (*BANDS, SCL)}, dict.fromkeys(BANDS, used))
