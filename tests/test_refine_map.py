"""Majority filter and sieve against maps worked by hand and a plain loop; the command against its files."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from timesenmap.pipeline import refine
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.majority import MajorityFiltered
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.rasters import write_class_map
from timesenmap.pipeline.refine import memory_needed, refine_map, sieved
from timesenmap.workflows.refine_map import main

CLASSES = [
    LegendEntry(1, "Crops", "#e6b422"),
    LegendEntry(2, "Woods", "#1b5e20"),
    LegendEntry(3, "Town", "#d7301f"),
    LegendEntry(4, "Water", "#1565c0"),
]
TAGS = {"TITLE": "Land cover, 2018", "ENCODER": "starter sha256:abc"}


def codes(text):
    return np.array([[int(x) for x in row.split()] for row in text.strip().splitlines()], np.uint8)


def write(path, values, classes=(*CLASSES, UNKNOWN), **more):
    grid = GeoBox(values.shape, Affine(10, 0, 501360, 0, -10, 5629680), "EPSG:32631")
    write_class_map(path, values, grid, list(classes), tags=TAGS | more)
    return read_class_map(path)


def filtered(values, window=3):
    return MajorityFiltered(values, window)[:, :]


def test_majority_worked_by_hand():
    # Middle: 1 has five votes of nine. Above it, 1 and 2 have three each: it stays 1.
    found = filtered(codes("1 1 2\n1 2 2\n1 1 2"))
    np.testing.assert_array_equal(found, codes("1 1 2\n1 1 2\n1 1 2"))


def test_a_tie_keeps_the_pixels_own_class():
    # Around the middle: 1 and 2 four votes each, the pixel is 3.
    np.testing.assert_array_equal(filtered(codes("1 1 1\n1 3 2\n2 2 2"))[1, 1], 3)
    # 1 and 3 tie where the pixel is 3; one vote more and it turns.
    np.testing.assert_array_equal(filtered(codes("1 1 1\n3 3 3\n2 2 0"))[1, 1], 3)
    np.testing.assert_array_equal(filtered(codes("1 1 1\n1 3 3\n2 2 0"))[1, 1], 1)


def test_no_data_and_unknown_neither_vote_nor_change():
    found = filtered(codes("0 0 0\n0 1 0\n0 0 0"))
    np.testing.assert_array_equal(found, codes("0 0 0\n0 1 0\n0 0 0"))
    found = filtered(codes("255 255 255\n255 2 1\n1 255 0"))
    np.testing.assert_array_equal(found, codes("255 255 255\n255 1 1\n1 255 0"))
    np.testing.assert_array_equal(filtered(codes("1 1 1\n1 255 0\n1 1 1")), codes("1 1 1\n1 255 0\n1 1 1"))


@pytest.mark.parametrize("window", [3, 5, 9])
def test_majority_is_that_of_a_plain_loop_whatever_the_windows(window):
    values = np.random.default_rng(window).choice(np.array([0, 1, 2, 3, 255], np.uint8), (37, 41))
    halo, expected = window // 2, values.copy()
    for y, x in np.ndindex(values.shape):
        square = values[max(y - halo, 0) : y + halo + 1, max(x - halo, 0) : x + halo + 1].ravel().tolist()
        votes = Counter(v for v in square if v not in (0, 255)).most_common()
        clear = votes and (len(votes) == 1 or votes[0][1] > votes[1][1])
        if values[y, x] not in (0, 255) and clear:
            expected[y, x] = votes[0][0]
    assert (expected != values).any()
    whole = MajorityFiltered(values, window)
    np.testing.assert_array_equal(whole[:, :], expected)
    for step in (1, 7, 16):
        for y0 in range(0, 37, step):
            np.testing.assert_array_equal(whole[y0 : y0 + step, 3:39], expected[y0 : y0 + step, 3:39])


@pytest.mark.parametrize("window", [0, 1, 4, -3])
def test_majority_windows_without_a_middle_are_refused(window):
    with pytest.raises(MapError, match=rf"--majority {window}: .*odd number, 3 or more"):
        MajorityFiltered(np.ones((9, 9), np.uint8), window)


PATCHES = """
1 1 1 1 1 1 1
1 2 2 1 3 1 1
1 2 2 1 1 3 1
1 1 1 1 1 1 1
4 4 4 4 4 4 4
0 0 3 255 0 2 2
"""


def test_sieve_worked_by_hand():
    values = codes(PATCHES)
    # Two pixels: the lone threes go to what surrounds them; below, 3 can only go up, no data and unknown are walls.
    expected = codes(PATCHES.replace("1 2 2 1 3 1 1", "1 2 2 1 1 1 1").replace("1 1 3 1", "1 1 1 1"))
    expected[5, 2] = 4
    np.testing.assert_array_equal(sieved(values, smallest=2, connectivity=4), expected)
    # Five: the four twos go, and the two below right to their only neighbour.
    expected[1:3, 1:3] = 1
    expected[5, 5:] = 4
    np.testing.assert_array_equal(sieved(values, smallest=5, connectivity=4), expected)


def test_corners_join_patches_where_asked():
    found = sieved(codes(PATCHES), smallest=2, connectivity=8)
    assert (found[1, 4], found[2, 5]) == (3, 3)


def test_small_beside_small_goes_on_to_the_large():
    np.testing.assert_array_equal(
        sieved(codes("1 2 2 3 3 3 4 4 4 4"), smallest=4, connectivity=4), codes("4 4 4 4 4 4 4 4 4 4")
    )


def test_a_small_patch_between_walls_stays():
    values = codes("0 1 255 2 2 2 2\n0 0 0 2 2 2 2")
    np.testing.assert_array_equal(sieved(values, smallest=4, connectivity=4), values)


def test_memory_is_counted_and_what_is_too_much_refused(monkeypatch, tmp_path):
    # Three pixels differ from those above and to the left.
    values = codes("1 1 1 1\n1 2 2 1\n1 2 3 1\n1 1 1 4")
    assert memory_needed(values) == 4 * 16 + 40 * 3
    tall = np.tile(values, (200, 1))
    assert memory_needed(tall) == 4 * tall.size + 40 * 200 * 3
    source = write(tmp_path / "m.tif", values)
    monkeypatch.setattr(refine, "MEMORY_LIMIT", 4 * 16 + 40 * 3 - 1)
    with pytest.raises(MapError, match=r"whole map in memory, 0\.0 GB.*larger machine.*--majority alone"):
        refine_map(source, tmp_path / "o.tif", minimum_mapping_unit=0.02)
    assert not (tmp_path / "o.tif").exists()
    refine_map(source, tmp_path / "o.tif", majority=3)


def test_the_refined_map_keeps_everything_and_says_what_was_done(tmp_path):
    rng = np.random.default_rng(1)
    values = np.kron(rng.integers(0, 5, (30, 28), np.uint8), np.ones((20, 20), np.uint8))
    values[rng.random(values.shape) < 0.05] = 2
    values[100:140, 200:220] = 255
    source = write(tmp_path / "m.tif", values)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    out = tmp_path / "m.refined.tif"
    run = CliRunner().invoke(
        main, [str(source.path), "--out", str(out), "--majority", "5", "--minimum-mapping-unit", "1.5"]
    )
    assert run.exit_code == 0, run.output
    assert {name: (tmp_path / name).read_bytes() for name in before} == before

    expected = sieved(MajorityFiltered(values, 5)[:, :], smallest=150, connectivity=4)
    result = read_class_map(out)
    with rasterio.open(out) as made:
        np.testing.assert_array_equal(made.read(1), expected)
    assert cog_validate(out, strict=True) == (True, [], [])
    assert result.classes == source.classes
    assert result.grid == source.grid
    checksum = hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert result.tags.items() >= (TAGS | {"SOURCE": "m.tif", "SOURCE_SHA256": checksum}).items()
    steps = [
        "majority filter, window 5 x 5 pixels",
        "minimum mapping unit 1.5 ha (150 pixels, 4-connected patches)",
    ]
    assert [result.tags["REFINEMENT_1"], result.tags["REFINEMENT_2"]] == steps

    record = json.loads((tmp_path / "m.refined.json").read_text())
    assert (record["steps"], record["source_sha256"]) == (steps, checksum)
    assert record["result_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert record["changed_pixels"] == int((expected != values).sum())
    for row in record["classes"]:
        assert row["pixels_before"] == int((values == row["code"]).sum())
        assert row["hectares_after"] == pytest.approx(int((expected == row["code"]).sum()) * 0.01)
    assert [row["name"] for row in record["classes"]] == ["Crops", "Woods", "Town", "Water", "unknown"]


def test_steps_of_a_second_refinement_are_added(tmp_path):
    first = tmp_path / "1.tif"
    refine_map(write(tmp_path / "m.tif", codes(PATCHES)), first, majority=3)
    refine_map(read_class_map(first), tmp_path / "2.tif", minimum_mapping_unit=0.02, connectivity=8)
    tags = read_class_map(tmp_path / "2.tif").tags
    assert tags["REFINEMENT_1"] == "majority filter, window 3 x 3 pixels"
    assert tags["REFINEMENT_2"] == "minimum mapping unit 0.02 ha (2 pixels, 8-connected patches)"
    assert tags["SOURCE_SHA256"] == hashlib.sha256(first.read_bytes()).hexdigest()


def test_half_a_hectare_is_fifty_pixels(tmp_path):
    assert refine.smallest_patch(write(tmp_path / "m.tif", np.ones((20, 20), np.uint8)), 0.5) == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to do: give --minimum-mapping-unit HECTARES, --majority WINDOW, or both"),
        (["--minimum-mapping-unit", "0.01"], "no more than a pixel (0.01 ha)"),
        (["--minimum-mapping-unit", "nan"], "--minimum-mapping-unit nan"),
        (["--minimum-mapping-unit", "9"], "is the whole map m.tif or more"),
        (["--majority", "4"], "--majority 4: the window has a middle"),
    ],
)
def test_bad_options_end_with_one_line_and_no_file(tmp_path, options, message):
    write(tmp_path / "m.tif", codes(PATCHES))
    before = {p.name for p in tmp_path.iterdir()}
    run = CliRunner().invoke(main, [str(tmp_path / "m.tif"), "--out", str(tmp_path / "o.tif"), *options])
    assert run.exit_code == 2
    assert message in run.output
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("name", "message"), [("m.tif", "is the map itself"), ("o.png", "ends in .tif")])
def test_the_map_itself_is_never_written_over(tmp_path, name, message):
    source = write(tmp_path / "m.tif", codes(PATCHES))
    with pytest.raises(MapError, match=message):
        refine_map(source, tmp_path / name, majority=3)
