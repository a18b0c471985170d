"""A year of scenes over a square of any size: what a map of any part of it is made of."""

import datetime as dt
from pathlib import Path

import numpy as np
import pystac
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.demonstration_items import COG_TYPE, write_catalog

CRS = "EPSG:32632"
LEFT, TOP = 600000.0, 5300000.0
YEAR = 2021
TEN_METRES = ("B02", "B03", "B04", "B08")

# Files that differ; the items of a year share them, because reading costs the same and writing takes long.
_DISTINCT, _SCENES_A_MONTH = 3, 2
_PATTERN = 1024  # pixels after which a file repeats itself; twice that for the bands of 20 m


def make_scenes(folder: Path, side: int) -> Path:
    """Write scenes over `side` x `side` pixels of 10 m, 24 in a year; returns the path of their static catalogue."""
    for number in range(_DISTINCT):
        rng = np.random.default_rng(number)
        for band in (*BANDS, SCL):
            metres = 10 if band in TEN_METRES else 20
            pixels = side * 10 // metres
            if band == SCL:
                pattern = (
                    rng.choice(np.array([4, 5, 6, 8, 9], np.uint8), (_PATTERN // 32, _PATTERN // 32))
                    .repeat(32, 0)
                    .repeat(32, 1)
                )
            else:
                pattern = (1500 + 600 * rng.standard_normal((_PATTERN, _PATTERN))).clip(1001, 9000).astype(np.uint16)
            times = -(-pixels // _PATTERN)
            _write(folder / f"set-{number}" / f"{band}.tif", np.tile(pattern, (times, times))[:pixels, :pixels], metres)
    items = [_item(folder, month, n, side) for month in range(1, 13) for n in range(_SCENES_A_MONTH)]
    return write_catalog(folder, items)


def _write(path: Path, values: NDArray[np.generic], metres: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype.name, "nodata": 0}
    place = {"crs": CRS, "transform": Affine(metres, 0, LEFT, 0, -metres, TOP)}
    packing = {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "DEFLATE",
        "zlevel": 1,
    }
    with rasterio.open(path, "w", **profile, **place, **packing) as target:
        target.write(values, 1)


def _item(folder: Path, month: int, number: int, side: int) -> pystac.Item:
    when = dt.datetime(YEAR, month, 4 + 12 * number, 10, 30, tzinfo=dt.UTC)
    metres = side * 10.0
    outline = shapely.box(LEFT, TOP - metres, LEFT + metres, TOP)
    to_lonlat = Transformer.from_crs(CRS, 4326, always_xy=True)
    lonlat = shapely.transform(outline, lambda xy: np.column_stack(to_lonlat.transform(xy[:, 0], xy[:, 1])))
    name = f"S2A_MSIL2A_{when:%Y%m%dT%H%M%S}_GENERATED"
    item = pystac.Item(
        id=name,
        geometry=shapely.geometry.mapping(lonlat),
        bbox=list(lonlat.bounds),
        datetime=when,
        properties={
            "platform": "sentinel-2a",
            "proj:code": CRS,
            "s2:processing_baseline": "05.00",
            "s2:mgrs_tile": "32TPT",
            "eo:cloud_cover": 20.0,
        },
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    for band in (*BANDS, SCL):
        resolution = 10 if band in TEN_METRES else 20
        href = f"../../set-{(month + number) % _DISTINCT}/{band}.tif"
        fields = {
            "gsd": resolution,
            "proj:shape": [side * 10 // resolution] * 2,
            "proj:transform": [float(resolution), 0.0, LEFT, 0.0, -float(resolution), TOP],
        }
        item.add_asset(band, pystac.Asset(href=href, media_type=COG_TYPE, roles=["data"], extra_fields=fields))
    item.set_self_href(str(folder / "scenes" / name / f"{name}.json"))
    return item
