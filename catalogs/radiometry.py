"""Digital numbers to reflectance, decided item by item from what the item says.

Since processing baseline 04.00 ESA adds 1000 to every digital number of Level-2A (BOA_ADD_OFFSET = -1000,
QUANTIFICATION_VALUE = 10000: Sentinel-2 Products Specification Document, section "Level-2A product"), so that
reflectance = (DN - 1000) / 10000. Services pass this on in different ways, some subtract it themselves, and
Collection 1 reprocessed old scenes with new baselines, so that neither the date nor a single field decides.
Three things an item may say are weighed here:

flag
    `earthsearch:boa_offset_applied` (Earth Search v1) or `sentinel:boa_offset_applied` (v0): true means that the
    service has subtracted the 1000, although its `raster:bands` may still declare the offset.
declaration
    scale and offset of the band's asset: `raster:bands` (STAC 1.0), `raster:scale` / `raster:offset` on the asset or
    on its only entry of `bands` (STAC 1.1).
baseline
    `s2:processing_baseline`, `sentinel:processing_baseline`, `processing:version` (CDSE), or `_N0511_` in the name
    of the product.

An item whose statements contradict each other, or that states what Level-2A cannot be, is refused: applying the
offset twice, or never, shifts every reflectance by 0.1 and no one sees it in the map.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pystac

from timesenmap.catalogs.bands import BANDS, find_asset
from timesenmap.catalogs.errors import CatalogError

SCALE = 1e-4
OFFSET = -0.1
FIRST_BASELINE_WITH_OFFSET = 4.0
_TOOLBOX_BASELINE = 90.0  # 99.99 marks products of the Sen2Cor toolbox: it says nothing about the offset

_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_PRODUCT_NAMES = ("s2:product_uri", "sentinel:product_id")
_LEVELS = ("s2:product_type", "product:type", "processing:level", *_PRODUCT_NAMES)
_NAMED_BASELINE = re.compile(r"_N(\d\d)(\d\d)_")
_REMEDY = "leave the item out (--skip-bad-items counts those left out) or take another catalogue"


@dataclass(frozen=True)
class Scaling:
    """How a band's digital numbers become reflectance: reflectance = DN * scale + offset.

    DN 0 is no data whatever the file's tag says, and stays no data: it is masked before the offset is added.

    Attributes
    ----------
    scale, offset
        1e-4 and 0 or -0.1 for Sentinel-2 Level-2A.
    rule
        Which statements of the item decided, in words, for the record of a run. Not compared.
    """

    scale: float
    offset: float
    rule: str = field(default="", compare=False)


def reflectance_scaling(item: pystac.Item, band: str) -> Scaling:
    """Decide how the digital numbers of a band become surface reflectance.

    Parameters
    ----------
    item
        A Sentinel-2 Level-2A item of any service.
    band
        One of `timesenmap.catalogs.BANDS`.

    Raises
    ------
    CatalogError
        Unknown band, no asset for it, Level-1C, or statements that contradict each other or are impossible; the
        message names item and values.
    """
    if band not in BANDS:
        raise CatalogError(f"band {band!r} is none of the cube's bands; take one of {', '.join(BANDS)}")
    refuse_level_1c(item)
    key = find_asset(item, band)
    if key is None:
        raise CatalogError(f"item {item.id} has no asset for band {band} (it has {', '.join(item.assets)}); {_REMEDY}")
    return asset_scaling(item, key)


def refuse_level_1c(item: pystac.Item) -> None:
    """Raise CatalogError for an item of Level-1C, whose numbers are reflectance at the top of the atmosphere."""
    said = {name: str(item.properties.get(name) or "") for name in _LEVELS}
    said |= {"id": item.id, "collection": item.collection_id or ""}
    for name, text in said.items():
        if re.search(r"L1C|MSI1C", text, re.IGNORECASE) or (name == "processing:level" and text.upper() == "L1"):
            raise CatalogError(
                f"item {item.id} is Level-1C ({name} {text}): top-of-atmosphere reflectance without SCL, with an "
                f"offset of its own (RADIO_ADD_OFFSET); search a Level-2A collection such as sentinel-2-l2a"
            )


@dataclass(frozen=True)
class _Statements:
    """What an item and one of its assets say about radiometry; None where they say nothing."""

    item: pystac.Item
    key: str
    flag: tuple[str, bool] | None
    scale: float | None
    offset: float | None
    baseline: float | None

    @property
    def carries_offset(self) -> bool | None:
        """Whether ESA's numbers of this baseline carry the 1000."""
        return None if self.baseline is None else self.baseline >= FIRST_BASELINE_WITH_OFFSET

    @property
    def baseline_text(self) -> str:
        return "no processing baseline" if self.baseline is None else f"processing baseline {self.baseline:05.2f}"

    @property
    def contradictory(self) -> bool:
        """Whether the declared offset and the baseline exclude each other."""
        known = self.offset is not None and self.carries_offset is not None
        return known and self.carries_offset != (self.offset != 0.0)

    def refusal(self, what: str) -> CatalogError:
        return CatalogError(f"item {self.item.id}, asset {self.key}: {what}; {_REMEDY}")


def asset_scaling(item: pystac.Item, key: str) -> Scaling:
    """Decide how the digital numbers of one asset become reflectance; see `reflectance_scaling`."""
    scale, offset = _declaration(item, key)
    said = _Statements(item, key, _flag(item), scale, offset, item_baseline(item))
    if scale is not None and not math.isclose(scale, SCALE, rel_tol=1e-6):
        raise said.refusal(f"declares scale {scale:g}, which Level-2A never had (1/10000 is its scale)")
    if offset is not None and not _any_close(offset, 0.0, OFFSET):
        raise said.refusal(f"declares offset {offset:g}, which Level-2A never had (0 or -0.1 are its offsets)")
    return _without_flag(said) if said.flag is None else _with_flag(said, *said.flag)


def _without_flag(said: _Statements) -> Scaling:
    carries, offset = said.carries_offset, said.offset
    if (carries or (carries is None and offset)) and _subtracting_service(said.item):
        raise said.refusal(
            f"has {said.baseline_text} and lies in an archive where most files have the offset subtracted, but the "
            f"item does not say whether this one has ({_FLAGS[0]} is missing)"
        )
    if said.contradictory:
        raise said.refusal(f"declares offset {offset:g} but has {said.baseline_text}: one of them is wrong")
    if offset is not None:
        return Scaling(SCALE, offset, f"offset {offset:g} declared by asset {said.key}, {said.baseline_text}")
    if carries is None:
        raise said.refusal("states neither offset nor processing baseline: its numbers cannot be interpreted")
    return Scaling(SCALE, OFFSET if carries else 0.0, f"{said.baseline_text}, no offset declared")


def _with_flag(said: _Statements, name: str, applied: bool) -> Scaling:
    carries, offset = said.carries_offset, said.offset
    states = f"{name} {str(applied).lower()}"
    if applied:
        if carries is False:
            raise said.refusal(f"says {states} but has {said.baseline_text}, which never carried an offset")
        return Scaling(SCALE, 0.0, f"{states}: already subtracted, {said.baseline_text}")
    if said.contradictory:
        raise said.refusal(
            f"says {states} and declares offset {offset:g} but has {said.baseline_text}: they contradict"
        )
    if offset is not None:
        return Scaling(SCALE, offset, f"{states}, offset {offset:g} declared by asset {said.key}, {said.baseline_text}")
    if carries is None:
        raise said.refusal(f"says {states} but states neither offset nor processing baseline")
    return Scaling(SCALE, OFFSET if carries else 0.0, f"{states}, {said.baseline_text}, no offset declared")


def _flag(item: pystac.Item) -> tuple[str, bool] | None:
    found = {name: item.properties[name] for name in _FLAGS if item.properties.get(name) is not None}
    if any(not isinstance(value, bool) for value in found.values()) or len(set(found.values())) > 1:
        said = ", ".join(f"{name} {value!r}" for name, value in found.items())
        raise CatalogError(f"item {item.id} says {said}: not one answer of true or false; {_REMEDY}")
    return next(iter(found.items()), None)


def _declaration(item: pystac.Item, key: str) -> tuple[float | None, float | None]:
    """Scale and offset an asset declares, each None where it does not; refuses an asset that declares two."""
    fields = item.assets[key].extra_fields
    entries: list[tuple[Any, Any]] = [(fields.get("raster:scale"), fields.get("raster:offset"))]
    for name in ("raster:bands", "bands"):
        entries += [_entry(entry) for entry in fields.get(name) or []]
    stated: list[float | None] = []
    for name, values in (("scale", [scale for scale, _ in entries]), ("offset", [offset for _, offset in entries])):
        numbers = [_number(item, key, name, value) for value in values if value is not None]
        if numbers and not _any_close(min(numbers), max(numbers)):
            both = " and ".join(f"{number:g}" for number in dict.fromkeys(numbers))
            raise _refusal(item, key, f"declares the {name}s {both} for one band")
        stated.append(numbers[0] if numbers else None)
    return stated[0], stated[1]


def _entry(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("scale", entry.get("raster:scale")), entry.get("offset", entry.get("raster:offset"))


def _number(item: pystac.Item, key: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refusal(item, key, f"declares {name} {value!r}, which is no number")
    return float(value)


def item_baseline(item: pystac.Item) -> float | None:
    """Processing baseline of an item as a number (5.11 for 05.11), or None where it states none of ESA's.

    Raises
    ------
    CatalogError
        No number, or two that lie on different sides of 04.00.
    """
    stated = dict(_stated_baselines(item))
    sides = {value >= FIRST_BASELINE_WITH_OFFSET for value in stated.values()}
    if len(sides) > 1:
        said = ", ".join(f"{name} {value:05.2f}" for name, value in stated.items())
        raise CatalogError(f"item {item.id} states processing baselines on both sides of 04.00: {said}; {_REMEDY}")
    return next(iter(stated.values()), None)


def _stated_baselines(item: pystac.Item) -> Iterator[tuple[str, float]]:
    for name in _BASELINES:
        value = item.properties.get(name)
        # processing:version is the version of any software elsewhere: only ESA's pattern counts.
        if value is None or (name == "processing:version" and not re.fullmatch(r"\d\d\.\d\d", str(value))):
            continue
        try:
            baseline = float(value)
        except (TypeError, ValueError):
            raise CatalogError(f"item {item.id}: {name} {value!r} is no processing baseline; {_REMEDY}") from None
        if 0 < baseline < _TOOLBOX_BASELINE:
            yield name, baseline
    for name, text in [("id", item.id), *((name, item.properties.get(name)) for name in _PRODUCT_NAMES)]:
        match = _NAMED_BASELINE.search(str(text or ""))
        if match and 0 < (baseline := float(f"{match[1]}.{match[2]}")) < _TOOLBOX_BASELINE:
            yield name, baseline


def _subtracting_service(item: pystac.Item) -> bool:
    # Earth Search rewrites ESA's files into this bucket, most of them, but not all, with 1000 subtracted
    # (github.com/cirrus-geo/cirrus-earth-search issues 21 and 26; github.com/Element84/earth-search issue 9).
    return any("//sentinel-cogs" in asset.href for asset in item.assets.values())


def _any_close(value: float, *targets: float) -> bool:
    return any(math.isclose(value, target, abs_tol=1e-9) for target in targets)


def _refusal(item: pystac.Item, key: str, what: str) -> CatalogError:
    return CatalogError(f"item {item.id}, asset {key}: {what}; {_REMEDY}")
