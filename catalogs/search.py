"""From a catalogue, an area and a period to the scenes of a run."""

import datetime as dt
import logging
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pystac
import shapely
import shapely.geometry
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from shapely.geometry.base import BaseGeometry

from timesenmap.catalogs.duplicates import reduce_duplicates
from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.footprints import footprint, wrap
from timesenmap.catalogs.profiles import Profile, load_profile, profile_names
from timesenmap.catalogs.saved import read_items, scenes_of_maps, write_items
from timesenmap.catalogs.scenes import Scene, scene_from_item, sensing_time
from timesenmap.catalogs.static import RawItem, self_href, walk_catalog
from timesenmap.catalogs.transport import BackOff, PatientIO, error_of, one_line

log = logging.getLogger(__name__)

_MOST_VERTICES = 500  # services limit the size of a query; larger areas are searched by the boxes of their parts
_CLOUD_COVER = "eo:cloud_cover"


@dataclass(frozen=True)
class Refused:
    """An item that is not used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class SceneSearch:
    """What a search found.

    Attributes
    ----------
    profile
        The catalogue that was asked.
    scenes
        Scenes to use, in order of sensing time and id.
    refused
        Items within area and period that are not used: older versions of an acquisition, and, where they were asked
        to be left out, items that cannot be used.
    """

    profile: Profile
    scenes: tuple[Scene, ...]
    refused: tuple[Refused, ...]

    def save(self, path: Path) -> Path:
        """Save scenes, catalogue and refusals, for `find_scenes` to find the same again (`items`)."""
        refused = [(one.id, one.reason) for one in self.refused]
        return write_items(path, self.scenes, profile=self.profile, refused=refused)


def find_scenes(
    catalog: str | None,
    *,
    area: BaseGeometry,
    start: dt.date,
    end: dt.date,
    collection: str | None = None,
    max_cloud_cover: float | None = None,
    skip_bad_items: bool = False,
    items: Path | None = None,
    back_off: BackOff | None = None,
) -> SceneSearch:
    """Find the scenes of an area and a period: one paged search of an API, or one walk of a static catalogue.

    With `items`, the items of an earlier search are taken from that file, and no service is asked.

    Whatever the catalogue answers is checked here again: sensing time in start <= t < end (UTC), footprint that
    really meets the area, cloud cover.

    Parameters
    ----------
    catalog
        Name of a profile, path of a static catalogue or of its folder, or URL of a STAC API. None with `items`: the
        catalogue that the file records, or that its items' own addresses tell. The catalogue of an earlier run stands
        for the scenes which that run used.
    area
        Polygon or multipolygon, longitude and latitude (EPSG:4326); split at the antimeridian, or past 180.
    start, end
        First day, and the day after the last.
    collection
        Search this collection instead of the profile's.
    max_cloud_cover
        Percent of a scene, at most; None: all scenes.
    skip_bad_items
        Leave out items that cannot be used, and say so in `SceneSearch.refused`, instead of stopping.
    items
        File saved by `SceneSearch.save`, or any stac-geoparquet file or item collection.
    back_off
        How patiently a service is asked again.

    Returns
    -------
    SceneSearch
        Possibly without any scene: whether that is an error is for the caller to say.

    Raises
    ------
    CatalogError
        Unknown profile, missing or foreign file, unknown collection, or an item that cannot be used (wrong
        radiometry, missing asset, no geometry, no projection).
    ServiceError
        The service does not answer, or says that it cannot now.
    """
    _check(area, start, end, max_cloud_cover)
    place = wrap(area)
    shapely.prepare(place)
    period = _day(start), _day(end)
    refused: list[Refused] = []
    raw: Iterable[RawItem]
    if items is None and (made_of := scenes_of_maps(catalog or "")):
        catalog, items = None, made_of
    if items is not None:
        saved = read_items(items, profile=None if catalog is None else load_profile(catalog))
        profile = saved.profile
        collections = frozenset({collection} if collection else ())  # else: whatever the file holds
        refused += [Refused(id_, reason) for id_, reason in saved.refused]
        raw = saved.items
    else:
        profile = load_profile(catalog or "", collection=collection)
        collections = frozenset(profile.collections)
        raw = _ask(profile, PatientIO(back_off or BackOff()), place, period, max_cloud_cover)
    scenes: list[Scene] = []
    for item in raw:
        try:
            if _wanted(item, collections, place, period, max_cloud_cover):
                scenes.append(scene_from_item(_item(item), profile))
        except CatalogError as error:
            if not skip_bad_items:
                raise
            refused.append(Refused(item.id, str(error)))
    kept, reduced = reduce_duplicates(scenes)
    refused += [Refused(scene.id, reason) for scene, reason in reduced]
    log.info("%s: %d scenes from %s to %s, %d items not used", profile.name, len(kept), start, end, len(refused))
    return SceneSearch(profile, tuple(kept), tuple(refused))


def _check(area: BaseGeometry, start: dt.date, end: dt.date, max_cloud_cover: float | None) -> None:
    if area.is_empty or not area.area:
        raise CatalogError("the area to search is empty; give a polygon")
    if start >= end:
        raise CatalogError(f"the period from {start} to {end} is empty; give an end after the start")
    if max_cloud_cover is not None and not 0 <= max_cloud_cover <= 100:
        raise CatalogError(f"cloud cover {max_cloud_cover:g} is no percentage; give 0 to 100")


def _ask(
    profile: Profile,
    stac_io: PatientIO,
    place: BaseGeometry,
    period: tuple[dt.datetime, dt.datetime],
    max_cloud_cover: float | None,
) -> Iterator[RawItem]:
    if profile.kind == "api":
        return _search_api(profile, stac_io, place, period, max_cloud_cover)
    return walk_catalog(str(profile.url), stac_io)


def _wanted(
    item: RawItem,
    collections: frozenset[str],
    place: BaseGeometry,
    period: tuple[dt.datetime, dt.datetime],
    max_cloud_cover: float | None,
) -> bool:
    """Whether an item lies in period, area and collection and is clear enough; CatalogError if it cannot be told."""
    if item.problem:
        raise CatalogError(f"item {item.id} cannot be read: {item.problem}")
    fields = item.fields
    properties = fields.get("properties")
    if fields.get("type") != "Feature" or not isinstance(properties, dict):
        raise CatalogError(f"item {item.id} of {item.href} is no STAC item; leave it out (--skip-bad-items)")
    if collections and fields.get("collection") not in collections:
        return False
    if not period[0] <= sensing_time(item.id, properties) < period[1]:
        return False
    try:
        ground = footprint(fields.get("geometry"))
    except CatalogError as error:
        raise CatalogError(f"item {item.id}: {error}") from error
    if not place.intersects(ground):
        return False
    if max_cloud_cover is None:
        return True
    cover = properties.get(_CLOUD_COVER)
    if cover is None:
        raise CatalogError(f"item {item.id} states no {_CLOUD_COVER}; search without a limit of cloud cover")
    return float(cover) <= max_cloud_cover


def _item(raw: RawItem) -> pystac.Item:
    try:
        with warnings.catch_warnings():
            # pystac warns of extensions it cannot migrate (storage, of thumbnails): nothing here reads those.
            warnings.simplefilter("ignore")
            return pystac.Item.from_dict(raw.fields, href=raw.href, preserve_dict=False)
    except (AttributeError, KeyError, TypeError, ValueError, pystac.STACError) as error:
        raise CatalogError(f"item {raw.id} of {raw.href} is no STAC item ({one_line(error)})") from error


def _search_api(
    profile: Profile,
    stac_io: PatientIO,
    place: BaseGeometry,
    period: tuple[dt.datetime, dt.datetime],
    max_cloud_cover: float | None,
) -> Iterator[RawItem]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a server without conformance classes is refused below
            client = Client.open(str(profile.url), stac_io=stac_io)
        if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
            raise CatalogError(
                f"{profile.url} is no STAC API with item search; give the address of its catalog.json if it is static"
            )
        if not profile.collections:
            raise CatalogError(
                f"STAC API {profile.url} has several collections ({_collections(client)}); name one with --collection"
            )
        search = client.search(
            collections=list(profile.collections),
            intersects=shapely.geometry.mapping(_query_area(place)),
            datetime=[period[0], period[1]],
            limit=profile.page_size,
            **_cloud_filter(profile, client, max_cloud_cover),
        )
        found = 0
        for fields in search.items_as_dicts():
            found += 1
            yield RawItem(self_href(fields) or str(profile.url), fields)
        if not found:
            _require_collections(client, profile)
    except (APIError, pystac.STACError, ValueError) as error:
        if isinstance(error, CatalogError):
            raise
        raise error_of(error)(
            f"STAC API {profile.url} cannot be searched ({one_line(error)}); check the address, try again later, or "
            f"take another catalogue ({', '.join(profile_names())})"
        ) from error


def _cloud_filter(profile: Profile, client: Client, max_cloud_cover: float | None) -> dict[str, Any]:
    if max_cloud_cover is None:
        return {}
    if profile.cloud_filter == "query":
        return {"query": {_CLOUD_COVER: {"lte": max_cloud_cover}}}
    if profile.cloud_filter == "cql2-json" and client.conforms_to(ConformanceClasses.FILTER):
        # As a dictionary: the text form compares the numbers as text on pgstac.
        condition = {"op": "<=", "args": [{"property": _CLOUD_COVER}, max_cloud_cover]}
        return {"filter": condition, "filter_lang": "cql2-json"}
    return {}


def _query_area(place: BaseGeometry) -> BaseGeometry:
    if shapely.get_num_coordinates(place) <= _MOST_VERTICES:
        return place
    boxes = shapely.union_all([shapely.box(*part.bounds) for part in shapely.get_parts(place)])
    return boxes if shapely.get_num_coordinates(boxes) <= _MOST_VERTICES else shapely.box(*place.bounds)


def _collections(client: Client) -> str:
    names = sorted(collection.id for collection in client.get_collections())
    named = [name for name in names if "sentinel-2" in name.lower()] or names
    return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")


def _require_collections(client: Client, profile: Profile) -> None:
    """Tell a search without result from a collection that does not exist: APIs answer both with an empty page."""
    known = {collection.id for collection in client.get_collections()}
    unknown = [name for name in profile.collections if known and name not in known]
    if unknown:
        raise CatalogError(
            f"STAC API {profile.url} has no collection {', '.join(unknown)} (it has {_collections(client)}); name one "
            "of these with --collection"
        )


def _day(date: dt.date) -> dt.datetime:
    return dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC)
