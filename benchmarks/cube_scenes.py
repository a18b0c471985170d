"""A year of scenes as Earth Search serves them: COGs of one place, so large that a map tile crosses their blocks."""

import datetime as dt
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pystac
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile
from rasterio.shutil import copy

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.catalogs.scenes import Scene

CRS = "EPSG:32631"
LEFT, TOP = 600000.0, 5600040.0
TEN_METRES = ("B02", "B03", "B04", "B08")

# Reflectance differs between these; the rest of a year are hard links to them, with clouds of their own: to decode and
# to sort they cost the same, and writing compressed files is what takes longest here.
_DISTINCT = 6


@dataclass(frozen=True)
class Year:
    """Size of the work.

    Attributes
    ----------
    scenes : how many, evenly over the year
    tile : pixels on a side of the map tile that is made
    side : pixels of 10 m on a side of the rasters
    corner : row and column of the tile's corner in them
    """

    scenes: int
    tile: int
    side: int
    corner: tuple[int, int]

    @property
    def grid(self) -> GeoBox:
        """Grid of the map tile: 10 m, pixel on pixel with the bands of 10 m, as in the scenes' own zone."""
        row, col = self.corner
        return GeoBox((self.tile, self.tile), Affine(10, 0, LEFT + 10 * col, 0, -10, TOP - 10 * row), CRS)


# Of blocks of 1024 pixels the full tile meets four of each 10 m band, and two of each 20 m band: what a tile of 1024
# meets on average. The small one meets two of either.
FULL = Year(scenes=70, tile=1024, side=3072, corner=(512, 1536))
SMALL = Year(scenes=35, tile=512, side=2560, corner=(256, 1792))


def make_year(folder: Path, year: Year, *, clouds: bool) -> list[Scene]:
    """Write the scenes, or only their masks anew where they are there; the same bytes each time.

    With clouds, the share of each scene that they cover is drawn from a distribution that favours all and nothing
    (beta with 0.4 and 0.5); they are some kilometres large.
    """
    sources = [number for number in range(min(_DISTINCT, year.scenes)) if not (folder / f"{number:03d}").exists()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda number: _write_bands(folder / f"{number:03d}", year.side, number), sources))
        numbers = range(year.scenes)
        return list(pool.map(lambda number: _scene(folder / f"{number:03d}", year, number, clouds=clouds), numbers))


def _scene(folder: Path, year: Year, number: int, *, clouds: bool) -> Scene:
    if not folder.exists():
        folder.mkdir()
        for band in BANDS:
            (folder / f"{band}.tif").hardlink_to(folder.parent / f"{number % _DISTINCT:03d}" / f"{band}.tif")
    rng = np.random.default_rng([7, number])
    half = year.side // 2
    cloudiness = _smooth(rng, half, 24)
    share = rng.beta(0.4, 0.5) if clouds else 0.0
    scl = np.where(cloudiness < np.quantile(cloudiness, share), 9, rng.choice([4, 5, 6], (half, half))).astype(np.uint8)
    _write(folder / f"{SCL}.tif", scl, 20)
    edge = 10.0 * year.side
    bounds = rasterio.warp.transform_bounds(CRS, "EPSG:4326", LEFT, TOP - edge, LEFT + edge, TOP)
    when = dt.datetime(2020, 1, 1, 10, tzinfo=dt.UTC) + dt.timedelta(days=366 * number / year.scenes)
    outline = shapely.geometry.mapping(shapely.box(*bounds))
    item = pystac.Item(f"S2_{number:03d}", outline, list(bounds), when, {"proj:code": CRS})
    for band in (*BANDS, SCL):
        size = 10 if band in TEN_METRES else 20
        asset = pystac.Asset(str(folder / f"{band}.tif"), media_type=pystac.MediaType.COG, roles=["data"])
        side = 10 * year.side // size
        asset.extra_fields = {"proj:shape": [side, side], "proj:transform": [size, 0, LEFT, 0, -size, TOP]}
        item.add_asset(band, asset)
    return Scene(item, {band: band for band in (*BANDS, SCL)}, dict.fromkeys(BANDS, Scaling(0.0001, -0.1)))


def _write_bands(folder: Path, side: int, number: int) -> None:
    """Fields with an edge every few hundred metres, and noise: deflate halves it, as it does real scenes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([5, number])
    for band in BANDS:
        size = 10 if band in TEN_METRES else 20
        pixels = side * 10 // size
        ground = 1000 + 400 * rng.random() + 1800 * _smooth(rng, pixels, side // 40)
        _write(folder / f"{band}.tif", (ground + rng.normal(0, 40, ground.shape)).astype(np.uint16), size)


def _write(path: Path, pixels: NDArray[np.generic], size: int) -> None:
    """A COG with blocks of 1024 pixels and overviews."""
    side = pixels.shape[0]
    options = {"width": side, "height": side, "count": 1, "dtype": pixels.dtype, "crs": CRS, "nodata": 0}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", transform=Affine(size, 0, LEFT, 0, -size, TOP), **options) as raster:
            raster.write(pixels, 1)
        with memory.open() as raster:
            copy(raster, path, driver="COG", compress="DEFLATE", predictor="YES", blocksize=1024, level=6)


def _smooth(rng: np.random.Generator, side: int, knots: int) -> NDArray[np.float64]:
    """Random numbers of 0 to 1 at `knots` x `knots` places, interpolated to side x side."""
    at = np.linspace(0, knots - 1, side)
    low = np.minimum(at.astype(int), knots - 2)
    weight = at - low
    rows = rng.random((knots, knots))
    rows = rows[low] * (1 - weight)[:, None] + rows[low + 1] * weight[:, None]
    cols: NDArray[np.float64] = rows[:, low] * (1 - weight) + rows[:, low + 1] * weight
    return cols
