"""The demonstration's scenes on disk: a COG per band, STAC items and their static catalogue."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from affine import Affine
from pyproj import Transformer

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.demonstration_canvas import Mask
from timesenmap.catalogs.demonstration_scenes import FINE, SCL_NODATA, SceneArrays
from timesenmap.catalogs.demonstration_weather import Acquisition

EPSG = 32632
TILE = "32UPU"
LEFT, TOP = 632000.0, 5329600.0  # upper left corner, metres; whole multiples of 20 m
COLLECTION = "sentinel-2-l2a-demonstration"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"

_WAVELENGTH = {  # common name, centre and full width at half maximum in micrometres, as services state them
    "B02": ("blue", 0.49, 0.098),
    "B03": ("green", 0.56, 0.045),
    "B04": ("red", 0.665, 0.038),
    "B05": ("rededge", 0.704, 0.019),
    "B06": ("rededge", 0.74, 0.018),
    "B07": ("rededge", 0.783, 0.028),
    "B08": ("nir", 0.842, 0.145),
    "B8A": ("nir08", 0.865, 0.033),
    "B11": ("swir16", 1.61, 0.143),
    "B12": ("swir22", 2.19, 0.242),
}
_EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/sat/v1.0.0/schema.json",
    "https://stac-extensions.github.io/view/v1.0.0/schema.json",
]
_TO_LONLAT = Transformer.from_crs(EPSG, 4326, always_xy=True)


def lonlat(x: npt.ArrayLike, y: npt.ArrayLike) -> list[list[float]]:
    """Pairs of longitude and latitude, to about a centimetre, of points in metres from the upper left corner."""
    lon, lat = _TO_LONLAT.transform(LEFT + np.asarray(x, float), TOP - np.asarray(y, float))
    return [
        [round(float(a), 7), round(float(b), 7)] for a, b in zip(np.atleast_1d(lon), np.atleast_1d(lat), strict=True)
    ]


def swath_edge(acquisition: Acquisition, size: int) -> tuple[float, float]:
    """Where the swath's western edge cuts the place's top and bottom, metres from the left; 0, 0 where it does not.

    The satellite comes down from north-north-east, so the edge leans to the west as it goes south; it wanders
    by some tens of metres from pass to pass.
    """
    if not acquisition.orbit.partial:
        return 0.0, 0.0
    metres = size * 10.0
    wander = 0.01 * metres * np.sin(2.4 * acquisition.index)
    lean = 0.5 * metres * np.tan(np.deg2rad(13.5))
    return float(0.36 * metres + lean + wander), float(0.36 * metres - lean + wander)


def swath(acquisition: Acquisition, size: int) -> Mask:
    """20 m pixels (y, x) whose centre the satellite sees."""
    top, bottom = swath_edge(acquisition, size)
    centre = (np.arange(size // 2) + 0.5) * 20
    edge = top + (bottom - top) * centre / (size * 10.0)
    return np.asarray(centre[None, :] >= edge[:, None])


def write_raster(path: Path, values: npt.NDArray[Any], *, resolution: float, nodata: int = 0) -> None:
    """Write one band (y, x) as a COG whose upper left corner is the place's."""
    with rasterio.open(
        path,
        "w",
        driver="COG",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype.name,
        crs=f"EPSG:{EPSG}",
        transform=Affine(resolution, 0, LEFT, 0, -resolution, TOP),
        nodata=nodata,
        compress="DEFLATE",
        predictor="YES" if values.dtype.itemsize > 1 else "NO",
        level=4,  # noise hardly compresses: higher levels cost time and save one part in a hundred
        blocksize=256,
        overviews="NONE",
    ) as target:
        target.write(values, 1)


def scene_id(acquisition: Acquisition) -> str:
    """Name of a scene in the manner of Sentinel-2 products, marked as a demonstration."""
    when = acquisition.when.strftime("%Y%m%dT%H%M%S")
    return f"S{acquisition.orbit.satellite}_MSIL2A_{when}_R{acquisition.orbit.number:03d}_T{TILE}_DEMO"


def write_scene(folder: Path, acquisition: Acquisition, arrays: SceneArrays, size: int) -> pystac.Item:
    """Write a scene's rasters into `folder`/<id> and make its item (not yet written)."""
    name = scene_id(acquisition)
    place = folder / name
    place.mkdir(parents=True)
    for band in BANDS:
        write_raster(place / f"{band}.tif", arrays.dn[band], resolution=10 if band in FINE else 20)
    write_raster(place / f"{SCL}.tif", arrays.scl, resolution=20)
    item = make_item(acquisition, size, cloud_cover=arrays.cloud_cover, unseen=arrays.scl == SCL_NODATA)
    item.set_self_href(str(place / f"{name}.json"))
    return item


def make_item(acquisition: Acquisition, size: int, *, cloud_cover: float, unseen: Mask) -> pystac.Item:
    """STAC item of a scene, its assets beside it; how DN become reflectance is said as Planetary Computer does.

    That is: no scale or offset anywhere, and `s2:processing_baseline` from 04.00 on means that DN carry +1000.
    """
    metres = size * 10.0
    top, bottom = swath_edge(acquisition, size)
    ring = lonlat([bottom, metres, metres, top, bottom], [metres, metres, 0, 0, metres])
    elevation, azimuth = acquisition.sun
    item = pystac.Item(
        id=scene_id(acquisition),
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[min(p[0] for p in ring), min(p[1] for p in ring), max(p[0] for p in ring), max(p[1] for p in ring)],
        datetime=acquisition.when,
        properties={
            "platform": f"sentinel-{acquisition.orbit.satellite.lower()}",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "description": "Generated, not measured: a scene of the built-in demonstration.",
            "eo:cloud_cover": round(cloud_cover, 2),
            "proj:code": f"EPSG:{EPSG}",
            "sat:orbit_state": "descending",
            "sat:relative_orbit": acquisition.orbit.number,
            "view:sun_azimuth": round(azimuth, 2),
            "view:sun_elevation": round(elevation, 2),
            "s2:mgrs_tile": TILE,
            "s2:processing_baseline": acquisition.baseline,
            "s2:product_type": "S2MSI2A",
            "s2:nodata_pixel_percentage": round(float(100 * unseen.mean()), 2),
        },
        stac_extensions=list(_EXTENSIONS),
    )
    for band in (*BANDS, SCL):
        resolution = 10 if band in FINE else 20
        pixels = size * 10 // resolution
        fields: dict[str, Any] = {
            "gsd": resolution,
            "proj:shape": [pixels, pixels],
            "proj:transform": [float(resolution), 0.0, LEFT, 0.0, -float(resolution), TOP],
        }
        if band != SCL:
            common, centre, width = _WAVELENGTH[band]
            wave = {"name": band, "common_name": common, "center_wavelength": centre, "full_width_half_max": width}
            fields["eo:bands"] = [wave]
        title = "Scene classification (SCL)" if band == SCL else f"{band}, {resolution} m"
        item.add_asset(
            band,
            pystac.Asset(href=f"./{band}.tif", title=title, media_type=COG_TYPE, roles=["data"], extra_fields=fields),
        )
    return item


def write_catalog(folder: Path, items: list[pystac.Item]) -> Path:
    """Write the static catalogue over the scenes' items, all links relative; the path of catalog.json."""
    boxes = np.array([item.bbox for item in items], float)
    box = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    times: list[dt.datetime | None] = sorted(item.datetime for item in items if item.datetime)  # type: ignore[assignment]
    collection = pystac.Collection(
        id=COLLECTION,
        title="Demonstration scenes in the form of Sentinel-2 Level-2A",
        description="A year of generated scenes of a generated place. Their spectra are drawn from monthly "
        "statistics of real series, so the land behaves like land; no satellite ever saw this place.",
        license="Apache-2.0",
        extent=pystac.Extent(pystac.SpatialExtent([box]), pystac.TemporalExtent([[times[0], times[-1]]])),
        keywords=["demonstration", "generated", "Sentinel-2"],
    )
    catalog = pystac.Catalog(
        id="timesenmap-demonstration",
        title="Built-in demonstration",
        description="Static catalogue of the built-in demonstration: generated, not measured.",
        extra_fields={"attribution": f"Scenes generated for demonstration ({times[0]:%Y}), no satellite data"},
    )
    catalog.set_self_href(str(folder / "catalog.json"))
    catalog.add_child(collection)
    collection.set_self_href(str(folder / "scenes" / "collection.json"))
    for item in items:
        href = item.get_self_href()
        collection.add_item(item)
        item.set_self_href(href)
    catalog.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"
