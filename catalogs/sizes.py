"""Sizes that an item states for its assets, by the projection extension."""

from collections.abc import Iterable
from typing import Any

import pystac

from timesenmap.catalogs.errors import CatalogError

# All bands of a Sentinel-2 tile end at the same edges. Cut-outs by some services end with the last whole pixel of each
# band, so that the edges may differ by less than two pixels of the coarser one.
_SLACK_PIXELS = 2.0


def stated_shape(item: pystac.Item, key: str) -> tuple[int, int] | None:
    """Pixels (y, x) of an asset where the item states them for it (`proj:shape`).

    What the item's properties say holds for all its assets, and cannot be true of bands of 10 and of 20 m: it is
    not looked at.

    Raises
    ------
    CatalogError
        Something else than two whole numbers above zero is stated.
    """
    stated = _numbers(item, key, "proj:shape", (2,))
    if stated is None:
        return None
    if not all(side > 0 and side == int(side) for side in stated):
        raise _malformed(item, key, "proj:shape", stated)
    return int(stated[0]), int(stated[1])


def stated_transform(item: pystac.Item, key: str) -> tuple[float, ...] | None:
    """Six coefficients a b c d e f of an asset's affine transform where the item states them (`proj:transform`).

    Raises
    ------
    CatalogError
        Something else than six numbers, or nine as the extension allows, is stated, or pixels without a size.
    """
    stated = _numbers(item, key, "proj:transform", (6, 9))
    if stated is not None and 0 in (stated[0], stated[4]):
        raise _malformed(item, key, "proj:transform", stated)
    return None if stated is None else stated[:6]


def check_sizes(item: pystac.Item, keys: Iterable[str]) -> None:
    """Refuse an item whose assets, by their stated shapes and transforms, do not cover the same ground.

    Raises
    ------
    CatalogError
        An asset covers other ground than the first one, or states no size that can be; the message names both.
    """
    first: tuple[str, tuple[float, float, float, float]] | None = None
    for key in keys:
        shape, transform = stated_shape(item, key), stated_transform(item, key)
        if shape is None or transform is None:
            continue
        edges = _edges(shape, transform)
        if first is None:
            first, coarsest = (key, edges), abs(transform[0])
        coarsest = max(coarsest, abs(transform[0]))
        if any(abs(one - other) >= _SLACK_PIXELS * coarsest for one, other in zip(edges, first[1], strict=True)):
            here, there = (", ".join(f"{edge:.12g}" for edge in pair) for pair in (edges, first[1]))
            raise CatalogError(
                f"item {item.id}, asset {key}: a band of another size: by proj:shape and proj:transform it covers "
                f"{here}, asset {first[0]} covers {there}; leave the item out (--skip-bad-items)"
            )


def _edges(shape: tuple[int, int], transform: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Left, bottom, right and top edge of a north-up raster."""
    a, _, c, _, e, f = transform
    return c, f + shape[0] * e, c + shape[1] * a, f


def _numbers(item: pystac.Item, key: str, name: str, lengths: tuple[int, ...]) -> tuple[float, ...] | None:
    stated = item.assets[key].extra_fields.get(name)
    if stated is None:
        return None
    if not isinstance(stated, list | tuple) or len(stated) not in lengths:
        raise _malformed(item, key, name, stated)
    try:
        return tuple(float(number) for number in stated)
    except (TypeError, ValueError):
        raise _malformed(item, key, name, stated) from None


def _malformed(item: pystac.Item, key: str, name: str, stated: Any) -> CatalogError:
    return CatalogError(
        f"item {item.id}, asset {key}: {name} {stated!r} is no size of a band; leave the item out (--skip-bad-items)"
    )
