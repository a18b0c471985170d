"""Two maps compared: a from-to matrix worked by hand, the change map pixel by pixel, the page and the refusals."""

import hashlib
import json
import re

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from timesenmap.pipeline import map_file
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.rasters import write_class_map, write_confidence_map
from timesenmap.workflows.compare_maps import main

CROPS, WOODS, TOWN = (
    LegendEntry(1, "Crops", "#e6b422"),
    LegendEntry(2, "Woods & <groves>", "#1b5e20"),
    LegendEntry(9, "Town", "#d7301f"),
)
CLASSES = [CROPS, WOODS, TOWN]
BEFORE = np.array([[1, 1, 1, 1, 2], [2, 2, 9, 9, 0], [1, 1, 255, 2, 1]], np.uint8)
AFTER = np.array([[1, 9, 9, 9, 2], [2, 1, 9, 255, 1], [2, 1, 1, 255, 0]], np.uint8)
# Stays 1>1, 2>2, 2>2, 9>9, 1>1: 5. Changes 1>9 three times, 2>1 once, 1>2 once. Unknown 3. No data 2.
SURE = np.full(BEFORE.shape, 80, np.uint8)
TAGS = {"TITLE": "Land cover, 2017", "PERIOD": "2017-01-01/2017-12-31", "ENCODER": "starter sha256:1"}


def write(path, values, confidence=None, classes=(*CLASSES, UNKNOWN), corner=(501360, 5629680), **tags):
    path.parent.mkdir(exist_ok=True)
    grid = GeoBox(values.shape, Affine(10, 0, corner[0], 0, -10, corner[1]), "EPSG:32631")
    write_class_map(path, values, grid, list(classes), tags=TAGS | tags)
    if confidence is not None:
        write_confidence_map(path.with_name(f"{path.stem}.confidence.tif"), confidence, grid, tags={})
    return path


def command(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def compared(tmp_path, *options, before=BEFORE, after=AFTER, confidences=(SURE, SURE), **tags):
    one = write(tmp_path / "2017" / "m.tif", before, confidences[0])
    other = write(
        tmp_path / "2018" / "m.tif",
        after,
        confidences[1],
        TITLE="Land cover, 2018",
        PERIOD="2018-01-01/2018-12-31",
        **tags,
    )
    run = command(one, other, "--out", tmp_path / "change", *options)
    assert run.exit_code == 0, run.output
    return json.loads((tmp_path / "change" / "comparison.json").read_text()), run.output


def change_values(tmp_path):
    with rasterio.open(tmp_path / "change" / "change.tif") as source:
        return source.read(1)


def test_matrix_and_map_worked_by_hand(tmp_path):
    record, output = compared(tmp_path)
    assert record["matrix"]["names"] == ["Crops", "Woods & <groves>", "Town", "unknown"]
    assert record["matrix"]["pixels"] == [[2, 1, 3, 0], [1, 2, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0]]
    assert record["matrix"]["hectares"][0] == [0.02, 0.01, 0.03, 0]
    assert record["matrix"]["shares"][0] == pytest.approx([2 / 13, 1 / 13, 3 / 13, 0], abs=1e-8)
    sums = {name: record[name]["pixels"] for name in ("seen", "unchanged", "changed", "uncertain", "unknown")}
    assert sums == {"seen": 13, "unchanged": 5, "changed": 5, "uncertain": 0, "unknown": 3}
    assert record["no_data_pixels"] == 2
    assert [(c["code"], c["name"], c["area"]["pixels"]) for c in record["changes"]] == [
        (4, "Crops → Town", 3),
        (5, "Crops → Woods & <groves>", 1),
        (6, "Woods & <groves> → Crops", 1),
    ]
    expected = [[1, 4, 4, 4, 1], [1, 6, 1, 255, 0], [5, 1, 255, 255, 0]]
    np.testing.assert_array_equal(change_values(tmp_path), expected)
    crops = record["classes"][0]
    assert [crops[key]["pixels"] for key in ("earlier", "later", "lost", "gained")] == [6, 4, 4, 1]
    assert "Crops → Town" in output
    assert "0.03" in output


def test_change_map_is_a_map_like_others_and_says_where_it_is_from(tmp_path):
    record, _ = compared(tmp_path)
    path = tmp_path / "change" / "change.tif"
    assert cog_validate(path, strict=True) == (True, [], [])
    found = read_class_map(path)
    assert found.names == {
        1: "no change",
        4: "Crops → Town",
        5: "Crops → Woods & <groves>",
        6: "Woods & <groves> → Crops",
        255: "unknown",
    }
    # Seven tenths of the town's d7301f, three of the crops' e6b422.
    assert found.classes[1].colour == "#{:02x}{:02x}{:02x}".format(
        *(round(0.7 * a + 0.3 * b) for a, b in [(0xD7, 0xE6), (0x30, 0xB4), (0x1F, 0x22)])
    )
    assert found.title == "Change: Land cover, 2017 → Land cover, 2018"
    for key, folder in (("EARLIER", "2017"), ("LATER", "2018")):
        checksum = hashlib.sha256((tmp_path / folder / "m.tif").read_bytes()).hexdigest()
        assert found.tags[key] == f"m.tif sha256:{checksum}"
        assert record[key.lower()]["sha256"] == checksum
    assert record["change_map_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_changes_of_too_little_confidence_are_uncertain(tmp_path):
    before, after = SURE.copy(), SURE.copy()
    before[0, 1], after[0, 2], after[0, 3] = 59, 59, 60  # of three changes 1 > 9, the third is just sure enough
    after[2, 0] = 10  # the only change 1 > 2
    before[0, 0] = before[2, 2] = 10  # neither what stays nor what is unknown becomes uncertain
    record, output = compared(tmp_path, "--uncertain-below", 0.6, confidences=(before, after))
    expected = [[1, 2, 2, 4, 1], [1, 5, 1, 255, 0], [2, 1, 255, 255, 0]]
    np.testing.assert_array_equal(change_values(tmp_path), expected)
    found = [(c["code"], c["name"][:9], c["area"]["pixels"], c["certain"]["pixels"]) for c in record["changes"]]
    assert found == [(4, "Crops → T", 3, 1), (5, "Woods & <", 1, 1), (2, "Crops → W", 1, 0)]
    assert (record["changed"]["pixels"], record["uncertain"]["pixels"], record["unchanged"]["pixels"]) == (2, 3, 5)
    assert record["matrix"]["pixels"][0] == [2, 1, 3, 0]
    assert record["matrix"]["uncertain_pixels"] == [[0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert read_class_map(tmp_path / "change" / "change.tif").names[2] == "uncertain change"
    assert "uncertain change" in output


def test_confidence_equal_to_the_threshold_is_enough(tmp_path):
    low = np.full(BEFORE.shape, 7, np.uint8)
    record, _ = compared(tmp_path, "--uncertain-below", 0.07, confidences=(low, low))
    assert record["uncertain"]["pixels"] == 0


def many_classes():
    """Twenty classes, of which each pair of different ones occurs: 380 kinds of change; the first pair most often."""
    codes = np.arange(1, 21, dtype=np.uint8)
    one, other = (part.ravel() for part in np.meshgrid(codes, codes, indexing="ij"))
    counts = np.where(one == other, 1, 500 - one.astype(int) * 20 - other)
    before, after = np.repeat(one, counts), np.repeat(other, counts)
    side = 200
    size = -(-before.size // side) * side
    return [np.resize(values, size).reshape(-1, side) for values in (before, after)]


def test_more_pairs_than_codes_share_the_last(tmp_path):
    classes = [LegendEntry(code, f"class {code}", f"#{code * 12:02x}8040") for code in range(1, 21)]
    before, after = many_classes()
    one = write(tmp_path / "a.tif", before, classes=classes)
    other = write(tmp_path / "b.tif", after, classes=classes)
    assert command(one, other, "--out", tmp_path / "change").exit_code == 0
    record = json.loads((tmp_path / "change" / "comparison.json").read_text())
    values = change_values(tmp_path)
    assert len(record["changes"]) == 380
    assert [c["code"] for c in record["changes"]] == [*range(4, 255), *[3] * 129]
    sizes = [c["area"]["pixels"] for c in record["changes"]]
    assert sizes == sorted(sizes, reverse=True)
    for change in record["changes"][:251:50]:
        here = (before == change["from_code"]) & (after == change["to_code"])
        assert ((values == change["code"]) == here).all()
    assert int((values == 3).sum()) == sum(sizes[251:])
    assert read_class_map(tmp_path / "change" / "change.tif").names[3] == "other change"
    page = (tmp_path / "change" / "index.html").read_text()
    assert "other change (129 kinds)" in page
    assert "227 more kinds of change" in page


def test_windows_do_not_matter(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    before, after = (rng.choice(np.array([0, 1, 2, 9, 255], np.uint8), (90, 70)) for _ in range(2))
    confidences = [rng.integers(0, 101, (90, 70), dtype=np.uint8) for _ in range(2)]
    records = []
    for block in (512, 13):
        monkeypatch.setattr(map_file, "BLOCK", block)
        folder = tmp_path / str(block)
        folder.mkdir()
        records.append(compared(folder, "--uncertain-below", 0.4, before=before, after=after, confidences=confidences))
    assert records[0][0] == records[1][0]
    changed = (before != after) & ~np.isin(before, [0, 255]) & ~np.isin(after, [0, 255])
    low = np.minimum(*confidences) < 40
    assert records[0][0]["uncertain"]["pixels"] == int((changed & low).sum())
    assert records[0][0]["changed"]["pixels"] == int((changed & ~low).sum())


def test_page_says_it_all_and_needs_nothing(tmp_path):
    compared(tmp_path, "--uncertain-below", 0.6)
    page = (tmp_path / "change" / "index.html").read_text(encoding="utf-8")
    assert "not an estimate of the area that changed" in page
    assert "Olofsson et al. 2014" in page
    assert "assess-map" in page
    assert "Woods &amp; &lt;groves&gt; → Crops" in page
    assert "<groves>" not in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|change\.tif|comparison\.json)[^"]*"', page)
    assert "differ in their" not in page


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({"ENCODER": "mine sha256:2", "UNKNOWN_BELOW": "0.5"}, "differ in their encoder and threshold of unknown:"),
        ({"REFINEMENT_1": "majority filter, window 3 x 3 pixels"}, "not refined alike"),
    ],
)
def test_maps_made_differently_are_said_to_be(tmp_path, tags, note):
    record, output = compared(tmp_path, **tags)
    assert any(note in line for line in record["notes"])
    assert len(record["notes"]) == 2


def test_maps_in_the_wrong_order_are_said_to_be(tmp_path):
    compared(tmp_path)
    run = command(tmp_path / "2018" / "m.tif", tmp_path / "2017" / "m.tif", "--out", tmp_path / "back")
    assert "backwards in time" in " ".join(run.output.split())


def test_no_change_at_all(tmp_path):
    record, _ = compared(tmp_path, after=BEFORE)
    assert record["changes"] == []
    assert set(np.unique(change_values(tmp_path))) == {0, 1, 255}
    assert "No pixel changed its class." in (tmp_path / "change" / "index.html").read_text()


def refused(tmp_path, message, *arguments):
    before = sorted(tmp_path.rglob("*"))
    run = command(*arguments)
    assert run.exit_code == 2, run.output
    assert re.search(message, run.output), run.output
    assert sorted(tmp_path.rglob("*")) == before


def test_what_cannot_be_compared_is_refused_by_what_differs(tmp_path):
    one, out = write(tmp_path / "a.tif", BEFORE), tmp_path / "change"
    moved = write(tmp_path / "moved.tif", BEFORE, corner=(501370, 5629680))
    refused(tmp_path, r"not the same grid \(transform.*same --aoi", one, moved, "--out", out)
    others = [CROPS, LegendEntry(2, "Forest", "#1b5e20"), TOWN, LegendEntry(12, "Sea", "#0000ff"), UNKNOWN]
    named = write(tmp_path / "named.tif", BEFORE, classes=others)
    expected = (
        r"not the same classes \(2 is 'Woods & <groves>' and 'Forest'; 12 is 'nothing' and 'Sea'\).*same --prompts"
    )
    refused(tmp_path, expected, one, named, "--out", out)
    refused(tmp_path, "nowhere.tif: cannot be read", one, tmp_path / "nowhere.tif", "--out", out)


def test_bad_thresholds_and_folders_are_refused(tmp_path):
    one = write(tmp_path / "a.tif", BEFORE)
    refused(tmp_path, r"a\.tif has no a\.confidence\.tif", one, one, "--out", tmp_path / "c", "--uncertain-below", 0.5)
    for value in (0, 60, "nan"):
        refused(tmp_path, "is no probability", one, one, "--out", tmp_path / "c", "--uncertain-below", value)
    refused(tmp_path, "holds files that compare-maps did not write", one, one, "--out", tmp_path)
    refused(tmp_path, "is a file", one, one, "--out", one)
