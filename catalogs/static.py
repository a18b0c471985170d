"""Walking the links of a static catalogue, item by item, without building it in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pystac.utils import is_absolute_href, make_absolute_href

from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.transport import PatientIO, read_json


@dataclass(frozen=True)
class RawItem:
    """An item as its file or service gives it.

    Attributes
    ----------
    href
        Where it was read: relative asset addresses start from there.
    fields
        Its JSON object; empty where it could not be read.
    problem
        Why it could not be read, else empty.
    """

    href: str
    fields: dict[str, Any]
    problem: str = ""

    @property
    def id(self) -> str:
        """The item's id, or the name of its file."""
        return str(self.fields.get("id") or PurePosixPath(self.href).stem)


def walk_catalog(href: str, stac_io: PatientIO) -> Iterator[RawItem]:
    """Yield the items of a static catalogue, collection, item collection or single item, each file once.

    Links of the relations "item" and "child" are followed, in their order. The plain JSON is given out, so that a
    caller can sort out thousands of items by time and place before it makes pystac objects of the few it needs.

    Parameters
    ----------
    href
        Path or http(s) address of the file.
    stac_io
        Reader for http(s) addresses.

    Raises
    ------
    CatalogError
        The first file, or that of a child, is missing or no STAC. An item that cannot be read is yielded with its
        problem instead.
    """
    pending = [(href, False)]
    seen: set[str] = set()
    while pending:
        address, is_item = pending.pop()
        if address in seen:
            continue
        seen.add(address)
        try:
            fields = read_json(address, stac_io)
        except CatalogError as error:
            if not is_item:
                raise
            yield RawItem(address, {}, str(error))
            continue
        kind = fields.get("type")
        if kind == "Feature":
            yield RawItem(address, fields)
        elif kind == "FeatureCollection":
            yield from _members(fields, address)
        elif kind in ("Catalog", "Collection") or (kind is None and "stac_version" in fields):
            pending += reversed(_links(fields, address))
        else:
            raise CatalogError(
                f"{address} is no STAC: its type is {kind!r}; give a Catalog, Collection, item collection or item"
            )


def _links(fields: dict[str, Any], address: str) -> list[tuple[str, bool]]:
    links = [link for link in fields.get("links") or [] if link.get("rel") in ("item", "child") and link.get("href")]
    return [(make_absolute_href(link["href"], address, start_is_dir=False), link["rel"] == "item") for link in links]


def _members(collection: dict[str, Any], address: str) -> Iterator[RawItem]:
    for feature in collection.get("features") or []:
        yield RawItem(self_href(feature) or address, feature)


def self_href(item: dict[str, Any]) -> str | None:
    """Absolute address an item gives for itself, or None."""
    hrefs = [str(link.get("href") or "") for link in item.get("links") or [] if link.get("rel") == "self"]
    return next((href for href in hrefs if is_absolute_href(href)), None)
