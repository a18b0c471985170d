"""A scene: one STAC item whose assets, footprint and radiometry have been checked."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pystac
from pystac.utils import is_absolute_href
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.bands import BANDS, SCL, find_asset
from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.footprints import footprint
from timesenmap.catalogs.profiles import Profile
from timesenmap.catalogs.radiometry import Scaling, asset_scaling, refuse_level_1c
from timesenmap.catalogs.signing import Signing, unsigned
from timesenmap.catalogs.sizes import check_sizes, stated_shape, stated_transform


@dataclass(frozen=True)
class Scene:
    """One Sentinel-2 Level-2A item that can be read and whose numbers can be interpreted.

    Frozen because it travels into every task of a run; picklable, because the item knows neither the catalogue nor
    the connection it came from.

    Attributes
    ----------
    item
        Copy of the item with absolute asset addresses and no link but "self", so that writing it out as a
        dictionary never opens a file or a connection.
    assets
        Our band name, or "SCL" -> key of the item's asset.
    scaling
        Our band name -> how its digital numbers become reflectance.
    signing
        Who signs the addresses when they are read (`Profile.signing`); those kept here are not signed.
    """

    item: pystac.Item
    assets: Mapping[str, str]
    scaling: Mapping[str, Scaling]
    signing: Signing = "none"

    @property
    def id(self) -> str:
        """The item's id."""
        return self.item.id

    @property
    def datetime(self) -> dt.datetime:
        """Sensing time, aware, UTC."""
        return _item_time(self.item)

    @property
    def footprint(self) -> BaseGeometry:
        """Area with data, longitude and latitude, split at the antimeridian."""
        return footprint(self.item.geometry)

    @property
    def crs(self) -> str:
        """CRS of the assets: "EPSG:32631", or WKT where the item gives no code."""
        return item_crs(self.item, self.assets["B04"])

    def href(self, band: str) -> str:
        """Absolute address of the asset of a band (one of `BANDS`) or of "SCL"."""
        return self.item.assets[self.assets[band]].href

    def shape(self, band: str) -> tuple[int, int] | None:
        """Pixels (y, x) that the item states for the asset of a band or of "SCL" (`proj:shape`), or None."""
        return stated_shape(self.item, self.assets[band])

    def transform(self, band: str) -> tuple[float, ...] | None:
        """Six affine coefficients that the item states for that asset (`proj:transform`), or None."""
        return stated_transform(self.item, self.assets[band])


def scene_from_item(item: pystac.Item, profile: Profile) -> Scene:
    """Check an item and make a scene of it.

    Parameters
    ----------
    item
        A Sentinel-2 Level-2A item; it is left as it is.
    profile
        Where the item comes from: names the asset of every band.

    Raises
    ------
    CatalogError
        Level-1C; no geometry, sensing time or projection; a band or SCL without asset, or of another size than the
        others; an asset address that is
        relative while the item's own address is unknown; radiometry that cannot be believed. The message names item
        and asset.
    """
    refuse_level_1c(item)
    _item_time(item)
    if not item.geometry:
        raise CatalogError(f"item {item.id} has no geometry: where it lies is unknown; leave it out (--skip-bad-items)")
    footprint(item.geometry)
    assets = {band: _asset(item, band, profile) for band in (*BANDS, SCL)}
    for key in assets.values():
        item_crs(item, key)
    check_sizes(item, assets.values())
    scaling = {band: asset_scaling(item, assets[band]) for band in BANDS}
    if len(set(scaling.values())) > 1:
        said = ", ".join(f"{band} {one.scale:g}/{one.offset:g}" for band, one in scaling.items())
        raise CatalogError(
            f"item {item.id} declares different scale/offset for its bands ({said}): ESA's are the same for all; "
            "leave the item out (--skip-bad-items)"
        )
    scene = Scene(_detached(item, assets.values()), assets, scaling, profile.signing)
    if scene.signing != "none":
        for asset in scene.item.assets.values():
            asset.href = unsigned(asset.href)  # a token from an earlier day would only be in the way
    return scene


def sensing_time(item_id: str, properties: Mapping[str, Any]) -> dt.datetime:
    """Sensing time (aware, UTC) stated by an item's properties; CatalogError where there is none."""
    value = properties.get("datetime") or properties.get("start_datetime")
    try:
        when = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise CatalogError(
            f"item {item_id} has datetime {value!r}, which is no time; leave it out (--skip-bad-items)"
        ) from None
    return when.replace(tzinfo=when.tzinfo or dt.UTC).astimezone(dt.UTC)


def _item_time(item: pystac.Item) -> dt.datetime:
    # pystac writes the properties' datetime only as it writes the item: one made in Python has none there.
    stated = {"datetime": item.datetime} if item.datetime else item.properties
    return sensing_time(item.id, stated)


def item_crs(item: pystac.Item, key: str) -> str:
    """CRS an asset or its item states, by either version of the projection extension.

    pystac 1.15 rewrites `proj:epsg` to `proj:code` as it reads an item; older versions, and items made by hand, keep
    it. CDSE states it on the asset.

    Raises
    ------
    CatalogError
        None stated.
    """
    for fields in (item.assets[key].extra_fields, item.properties):
        if code := fields.get("proj:code"):
            return str(code)
        if epsg := fields.get("proj:epsg"):
            return f"EPSG:{int(epsg)}"
        if wkt := fields.get("proj:wkt2"):
            return str(wkt)
    raise CatalogError(
        f"item {item.id}, asset {key}: no projection stated (proj:code, proj:epsg or proj:wkt2); leave the item out "
        "(--skip-bad-items)"
    )


def _asset(item: pystac.Item, band: str, profile: Profile) -> str:
    keys = profile.assets[band]
    key = find_asset(item, band, keys=keys) or (find_asset(item, band) if profile.guess_assets else None)
    if key is None:
        has = ", ".join(item.assets) or "none"
        raise CatalogError(
            f"item {item.id} has no asset for {band} (tried {', '.join(keys)}; it has {has}); "
            "leave the item out (--skip-bad-items) or name the asset in a profile"
        )
    return key


def _detached(item: pystac.Item, needed: Any) -> pystac.Item:
    href = item.get_self_href()
    assets: dict[str, pystac.Asset] = {}
    for key, asset in item.assets.items():
        copy = asset.clone()
        absolute = asset.get_absolute_href()
        if absolute is None or not is_absolute_href(absolute):
            if key in needed:
                raise CatalogError(
                    f"item {item.id}, asset {key}: address {asset.href!r} is relative and the item does not say "
                    "to what (no self link); read it from its catalogue or make the address absolute"
                )
            continue
        copy.href = absolute
        assets[key] = copy
    return pystac.Item(
        id=item.id,
        geometry=item.geometry,
        bbox=item.bbox,
        datetime=item.datetime,
        properties=dict(item.properties),
        stac_extensions=list(item.stac_extensions),
        href=href,
        collection=item.collection_id,
        extra_fields=dict(item.extra_fields),
        assets=assets,
    )
