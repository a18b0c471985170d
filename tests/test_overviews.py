"""Overviews against a count by hand and against those of GDAL."""

from collections import Counter

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from timesenmap.pipeline.legend import LegendEntry
from timesenmap.pipeline.overviews import levels_until, mean_of_four, mode_of_four, sizes
from timesenmap.pipeline.rasters import write_class_map, write_confidence_map


def by_hand(values: np.ndarray, nodata: int) -> list[list[Counter]]:
    """How often each value other than no data occurs under each pixel of the overview."""
    height, width = values.shape
    return [
        [Counter(v for v in values[y : y + 2, x : x + 2].ravel().tolist() if v != nodata) for x in range(0, width, 2)]
        for y in range(0, height, 2)
    ]


@pytest.mark.parametrize("shape", [(40, 60), (41, 59), (1, 7), (1, 1)])
@pytest.mark.parametrize("nodata", [0, 255])
def test_mode_is_the_most_frequent_and_no_data_has_no_vote(shape, nodata):
    values = np.random.default_rng(3).choice(np.array([nodata, nodata, 1, 2, 3, 4], np.uint8), shape)
    got = mode_of_four(values, nodata)
    for row, counted in zip(got.tolist(), by_hand(values, nodata), strict=True):
        for value, votes in zip(row, counted, strict=True):
            assert value == nodata if not votes else votes[value] == max(votes.values())


def test_a_tie_favours_no_class():
    values = np.random.default_rng(4).integers(1, 5, (2000, 2000), np.uint8)
    shares = np.bincount(mode_of_four(values, 0).ravel(), minlength=5)[1:] / 1e6
    assert np.abs(shares - 0.25).max() < 0.003


@pytest.mark.parametrize("shape", [(40, 60), (41, 59), (1, 1)])
def test_mean_is_that_of_what_is_known(shape):
    values = np.random.default_rng(5).choice(np.array([255, 255, 0, 1, 50, 99, 100], np.uint8), shape)
    got = mean_of_four(values, 255)
    for row, counted in zip(got.tolist(), by_hand(values, 255), strict=True):
        for value, votes in zip(row, counted, strict=True):
            known = sorted(votes.elements())
            assert value == (int(sum(known) / len(known) + 0.5) if known else 255)


@pytest.mark.parametrize("kind", ["class", "confidence"])
def test_all_levels_are_those_of_gdal(tmp_path, kind):
    shape = (2048, 3072)
    rng = np.random.default_rng(6)
    grid = GeoBox(shape, Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    if kind == "class":
        values = np.kron(rng.integers(0, 5, (512, 768)), np.ones((4, 4))).astype(np.uint8)
        values[rng.random(shape) < 0.2] = 3
        write_class_map(
            tmp_path / "m.tif", values, grid, [LegendEntry(c, f"c{c}", f"#00000{c}") for c in range(1, 5)], tags={}
        )
    else:
        values = rng.integers(0, 101, shape, np.uint8)
        values[:300, :300] = 255
        write_confidence_map(tmp_path / "m.tif", values, grid, tags={})
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": shape[0], "width": shape[1]}
    with rasterio.open(tmp_path / "g.tif", "w", **profile, nodata=0 if kind == "class" else 255) as target:
        target.write(values[None])
        target.build_overviews([2, 4, 8], Resampling.mode if kind == "class" else Resampling.average)
    for level in range(3):
        with (
            rasterio.open(tmp_path / "m.tif", overview_level=level) as ours,
            rasterio.open(tmp_path / "g.tif", overview_level=level) as gdals,
        ):
            np.testing.assert_array_equal(ours.read(1), gdals.read(1))
    with rasterio.open(tmp_path / "m.tif") as ours:
        assert ours.overviews(1) == [2, 4, 8]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), [(512, 512)]),
        ((513, 4), [(513, 4), (257, 2)]),
        ((1024, 3), [(1024, 3), (512, 2)]),
        ((1100, 2049), [(1100, 2049), (550, 1025), (275, 513), (138, 257)]),
    ],
)
def test_sizes_are_halved_until_a_level_is_small(size, expected):
    assert sizes(*size, levels_until(max(size), 512)) == expected


def test_levels_are_those_of_repeated_halving():
    for length in [*range(1, 5000), 65536, 65537, 100_000]:
        sides = [length]
        while sides[-1] > 512:
            sides.append(-(-sides[-1] // 2))
        assert levels_until(length, 512) == len(sides)
        assert [side for side, _ in sizes(length, 1, len(sides))] == sides
