"""Maskers: who says what each pixel of a scene shows, chosen by name.

A masker is a function from a scene to its mask: a raster of scene classes in the codes of Level-2A's scene
classification (SCL). So one setting names the classes that are not clear, and clouds are widened and brought onto the
map grid alike, whoever told them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from timesenmap.catalogs.bands import SCL
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.composite import SCL_SET_ASIDE
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.mask_blocks import BlockMasker
from timesenmap.pipeline.read import AssetSource, asset_source

ENTRY_POINTS = "timesenmap.maskers"
"""Group of entry points by which other packages offer maskers: a name, and a function without arguments that gives
the `BlockMasker` of that name, or raises a MapError that says what it lacks."""

SCENE_CLASSES = {
    0: "no data",
    1: "saturated or defective",
    2: "dark or topographic shadow",
    3: "cloud shadow",
    4: "vegetation",
    5: "bare",
    6: "water",
    7: "unclassified",
    8: "cloud, medium probability",
    9: "cloud, high probability",
    10: "thin cirrus",
    11: "snow or ice",
}
"""Of SCL: Sentinel-2 Products Specification Document, Level-2A."""


class Mask(Protocol):
    """Where the mask of one scene is to be had."""

    @property
    def address(self) -> str:
        """All that is needed to read it, as one string that travels in a graph."""


class Masker(Protocol):
    """A function from a scene to its mask."""

    @property
    def name(self) -> str:
        """As given to `--masker`."""

    @property
    def tells(self) -> frozenset[int]:
        """Scene classes it tells from the rest."""

    @property
    def set_aside(self) -> frozenset[int]:
        """Those that are not clear unless a job says otherwise."""

    @property
    def identity(self) -> dict[str, str]:
        """All that decides on its masks, in words: name, versions, hash of weights, settings."""

    def __call__(self, scene: Scene) -> Mask:
        """Say where the mask of a scene is to be had; nothing is read yet."""


@dataclass(frozen=True)
class SceneClassification:
    """The masker that takes each scene's own classification, the SCL of Level-2A, as it is."""

    name: str = "scl"
    tells: frozenset[int] = frozenset(SCENE_CLASSES)
    set_aside: frozenset[int] = SCL_SET_ASIDE

    @property
    def identity(self) -> dict[str, str]:
        """Its name: what else decides is in the scenes, whose baselines the record lists."""
        return {"name": self.name}

    def __call__(self, scene: Scene) -> AssetSource:
        """Give the asset that holds the classes."""
        return asset_source(scene, SCL)


SCENE_CLASSIFICATION = SceneClassification()


def masker_names() -> tuple[str, ...]:
    """Names that `load_masker` knows, without loading anything."""
    return tuple(dict.fromkeys((SCENE_CLASSIFICATION.name, "csmask", *(point.name for point in _offered()))))


def load_masker(name: str) -> Masker:
    """Find a masker by its name: "scl", "csmask", or one that an installed package offers (`ENTRY_POINTS`).

    Raises
    ------
    MapError
        Unknown name, with those that are known; a package that is not installed, with the command that installs it.
    """
    return SCENE_CLASSIFICATION if name == SCENE_CLASSIFICATION.name else load_block_masker(name)


@cache
def load_block_masker(name: str) -> BlockMasker:
    """Load a masker that computes its masks, once in a process; errors as `load_masker` has them."""
    if name == "csmask":
        from timesenmap.pipeline.csmask import csmask  # noqa: PLC0415 - knows an extra that may be missing

        return csmask()
    point = next((point for point in _offered() if point.name == name), None)
    if point is None:
        raise MapError(f"--masker {name}: unknown; known are {', '.join(masker_names())}")
    masker = point.load()()
    if not isinstance(masker, BlockMasker) or masker.name != name:
        raise MapError(
            f"--masker {name}: {point.value} gives no BlockMasker of that name; ask the authors of its package"
        )
    return masker


def classes_set_aside(masker: Masker, asked: Collection[int] | None) -> tuple[int, ...]:
    """Scene classes that are not clear: those a job asks for, else those the masker suggests; sorted.

    Raises
    ------
    MapError
        A class the masker cannot tell: to set it aside would do nothing, or something else than was meant.
    """
    unknown = sorted(set(asked or ()) - masker.tells - {0})
    if unknown:
        raise MapError(
            f"--set-aside {','.join(map(str, sorted(asked or ())))}: masker {masker.name} does not tell "
            f"{_listed(unknown)}; it tells {_listed(sorted(masker.tells | {0}))}: name some of these, or leave "
            "--set-aside out"
        )
    return tuple(sorted(masker.set_aside if asked is None else set(asked)))


def in_words(identity: dict[str, str]) -> str:
    """Name of a masker with its version, from its identity: "csmask (ukis-csmask 1.0.0)"."""
    made_by = identity.get("library")
    return f"{identity['name']} ({made_by})" if made_by else identity["name"]


def _listed(classes: Collection[int]) -> str:
    return ", ".join(f"{code} ({SCENE_CLASSES[code]})" for code in classes)


def _offered() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))
