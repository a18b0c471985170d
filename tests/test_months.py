"""Signatures of months: equal where the composites are, different where anything they depend on is."""

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.months import month_signatures
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period

GRID = GeoBox((48, 48), rasterio.Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")
(TILE,) = tiles(GRID, 64)
YEAR, NEXT = Period.of(start="2020-01"), Period.of(start="2020-02")


def signatures(scenes: list[Scene], period: Period = YEAR, grid: GeoBox = GRID, **changed: object) -> tuple[str, ...]:
    how = {"masker": {"name": "scl"}, "set_aside": (0, 3, 9), "cloud_dilation": 0.0} | changed
    return month_signatures(scenes, grid, period, **how)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Thirteen months of two scenes with clouds, of two offsets."""
    folder, made = tmp_path_factory.mktemp("scenes"), []
    for number in range(26):
        random = np.random.default_rng(number)
        year, month = 2020 + number // 24, number // 2 % 12 + 1
        made.append(
            make_scene(
                folder,
                name=f"s{number:02d}",
                when=f"{year}-{month:02d}-{5 + 10 * (number % 2):02d}T10:00:00Z",
                scl=random.choice(np.array([4, 9], np.uint8), (32, 32), p=[0.7, 0.3]),
                scaling=Scaling(0.0001, -0.1 * (number % 2)),
                seed=number,
            )
        )
    return made


def test_a_month_is_the_same_whatever_the_period_and_what_else_is_made(scenes: list[Scene]) -> None:
    """Eleven months of two years that overlap have equal signatures and equal pixels; so has a month made alone."""
    year, following = signatures(scenes), signatures(scenes, NEXT)
    assert year[1:] == following[:11]
    assert len({*year, *following}) == 13
    whole = composite_tile(scenes, GRID, TILE, YEAR, set_aside=(0, 3, 9))
    later = composite_tile(scenes, GRID, TILE, NEXT, set_aside=(0, 3, 9))
    for one, other in zip(whole, later, strict=True):
        np.testing.assert_array_equal(one[1:], other[:11])
    for month in (0, 5, 11):
        alone = composite_tile(scenes, GRID, TILE, YEAR, set_aside=(0, 3, 9), months=[month])
        own = [scene for scene in scenes if YEAR.month_of(scene.datetime) == month]
        apart = composite_tile(own, GRID, TILE, YEAR, set_aside=(0, 3, 9))
        for part, one, also in zip(alone, whole, apart, strict=True):
            np.testing.assert_array_equal(part[month], one[month])
            np.testing.assert_array_equal(also[month], one[month])
            assert part[month].any()
            assert not np.delete(part, month, axis=0).any()


def changed_in(before: tuple[str, ...], after: tuple[str, ...]) -> list[int]:
    return [month for month in range(12) if before[month] != after[month]]


def test_what_a_month_is_made_of_changes_it_alone(scenes: list[Scene]) -> None:
    before = signatures(scenes)
    assert signatures(scenes[::-1]) == before  # whatever the order
    assert changed_in(before, signatures(scenes[:-6])) == [10, 11]
    first, *rest = scenes
    other = dataclasses.replace(first, scaling=dict.fromkeys(BANDS, Scaling(0.0001, -0.1)))
    assert changed_in(before, signatures([other, *rest])) == [0]
    item = first.item.clone()
    item.assets["B8A"].href = "elsewhere.tif"
    assert changed_in(before, signatures([dataclasses.replace(first, item=item), *rest])) == [0]


def test_precedence_within_a_pass_counts(tmp_path: Path) -> None:
    """Of scenes of one pass the newest baseline is taken first: a new baseline can change which."""
    pair = [make_scene(tmp_path, name=name, when=f"2020-03-05T10:00:{name}Z", seed=int(name)) for name in ("10", "20")]
    before = signatures(pair)
    pixels = composite_tile(pair, GRID, TILE, YEAR)[0]
    pair[1].item.properties["s2:processing_baseline"] = "05.10"
    assert changed_in(before, signatures(pair)) == [2]
    assert (composite_tile(pair, GRID, TILE, YEAR)[0] != pixels).any()


def test_a_pass_over_midnight_that_joins_scenes_of_the_next_month_counts(tmp_path: Path) -> None:
    """Two scenes of February that are far apart are of one pass where a third of January lies between them."""
    january = make_scene(tmp_path, name="a", when="2020-01-31T23:58:00Z", top=5605040.0)
    february = [
        make_scene(tmp_path, name="b", when="2020-02-01T00:01:00Z"),
        make_scene(tmp_path, name="c", when="2020-02-01T00:02:00Z", top=5610040.0),
    ]
    assert changed_in(signatures(february), signatures([january, *february])) == [0, 1]
    near = make_scene(tmp_path, name="d", when="2020-01-31T12:00:00Z", top=5605040.0)
    assert changed_in(signatures(february), signatures([near, *february])) == [0]


@pytest.mark.parametrize(
    "how",
    [{"masker": {"name": "scl", "version": "2"}}, {"set_aside": (0, 3, 8, 9)}, {"cloud_dilation": 60.0}],
)
def test_how_clouds_are_told_changes_every_month(scenes: list[Scene], how: dict[str, object]) -> None:
    assert changed_in(signatures(scenes), signatures(scenes, **how)) == list(range(12))


def test_months_of_other_grids_are_others(scenes: list[Scene]) -> None:
    before = signatures(scenes)
    for grid in (GRID.pad(1), GeoBox(GRID.shape, GRID.affine, "EPSG:32632"), GRID[:40, :]):
        assert changed_in(before, signatures(scenes, grid=grid)) == list(range(12))


def test_months_without_scenes_are_told_apart() -> None:
    assert len(set(signatures([]))) == 12
    assert Period(dt.date(2020, 1, 1)) == YEAR
