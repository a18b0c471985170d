"""The ten Sentinel-2 bands of the cube, the scene classification, and the asset keys they hide behind."""

from collections.abc import Iterable
from typing import Any

import pystac

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Band order of every cube, encoder input and table of this project."""

SCL = "SCL"
"""Name of the scene classification layer of Level-2A."""

ASSET_KEYS: dict[str, tuple[str, ...]] = {
    # Order matters where an item offers a band twice: the native resolution comes first (CDSE has B04_10m,
    # B04_20m and B04_60m). "nir08" is B8A (865 nm), "nir" is B08: Earth Search and stactools name them so.
    "B02": ("B02", "B02_10m", "blue"),
    "B03": ("B03", "B03_10m", "green"),
    "B04": ("B04", "B04_10m", "red"),
    "B05": ("B05", "B05_20m", "rededge1"),
    "B06": ("B06", "B06_20m", "rededge2"),
    "B07": ("B07", "B07_20m", "rededge3"),
    "B08": ("B08", "B08_10m", "nir"),
    "B8A": ("B8A", "B8A_20m", "nir08"),
    "B11": ("B11", "B11_20m", "swir16"),
    "B12": ("B12", "B12_20m", "swir22"),
    "SCL": ("SCL", "SCL_20m", "scl"),
}
"""Asset keys of the known services, for catalogues without a profile of their own."""


def find_asset(item: pystac.Item, band: str, *, keys: Iterable[str] | None = None) -> str | None:
    """Find the asset of an item that holds a band.

    Parameters
    ----------
    item
        Any Sentinel-2 item.
    band
        Our name: one of `BANDS`, or "SCL".
    keys
        Asset keys to try, in this order, and no others. Without it the keys of every known service are
        tried, then the band names that single-band assets declare (`eo:bands`, or `bands` of STAC 1.1).

    Returns
    -------
    str or None
        The asset's key, or None where the item has no such asset.
    """
    if keys is not None:
        return next((key for key in keys if key in item.assets), None)
    known = next((key for key in ASSET_KEYS[band] if key in item.assets), None)
    if known is not None:
        return known
    named = [key for key, asset in item.assets.items() if _is_band(key, asset, band)]
    return min(named, key=lambda key: _ground_resolution(item.assets[key])) if named else None


def _is_band(key: str, asset: pystac.Asset, band: str) -> bool:
    # Earth Search repeats every band as an untouched JPEG 2000 ("red-jp2"), for which the item's flag
    # `earthsearch:boa_offset_applied` does not hold: those never stand in for the band.
    if key.endswith("jp2") or not {"data", "reflectance"} & set(asset.roles or ()):
        return False
    bands = asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or []
    return len(bands) == 1 and str(bands[0].get("name", "")).upper() == band


def _ground_resolution(asset: pystac.Asset) -> float:
    fields: dict[str, Any] = asset.extra_fields
    raster: list[dict[str, Any]] = fields.get("raster:bands") or [{}]
    value = fields.get("gsd") or fields.get("raster:spatial_resolution") or raster[0].get("spatial_resolution")
    return float(value) if value else float("inf")
