"""assess-map and sample-map from end to end: maps and references on disk, numbers counted again with NumPy."""

import json
import sqlite3

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.map_pixels import equal_pixel_hectares
from timesenmap.pipeline.rasters import write_class_map
from timesenmap.workflows import assess_map, sample_map

CLASSES = [
    LegendEntry(1, "Cropland", "#e6b422"),
    LegendEntry(2, "Forêt", "#1b5e20"),
    LegendEntry(7, "Water", "#1565c0"),
]
CODES = np.array([1, 2, 7])
HEIGHT, WIDTH = 560, 640  # more than a block each way
TRANSFORM = Affine(10, 0, 501360, 0, -10, 5629680)


def write(path, values, *, classes=CLASSES, epsg=32631, transform=TRANSFORM):
    write_class_map(path, values.astype(np.uint8), GeoBox(values.shape, transform, f"EPSG:{epsg}"), classes, tags={})
    return path


@pytest.fixture(scope="module")
def truth():
    """Wide and narrow patches; water is rare; no data along the left edge."""
    rng = np.random.default_rng(4)
    coarse = rng.choice(CODES, (HEIGHT // 8, WIDTH // 8), p=[0.6, 0.37, 0.03])
    values = np.kron(coarse, np.ones((8, 8), int))
    values[:, :3] = 0
    return values


@pytest.fixture(scope="module")
def mapped(truth):
    """The truth with errors: a tenth of the cropland shown as forest, a fifth of the water as cropland, ..."""
    rng = np.random.default_rng(5)
    draw = rng.random(truth.shape)
    values = np.where((truth == 1) & (draw < 0.10), 2, truth)
    values = np.where((truth == 7) & (draw < 0.20), 1, values)
    return np.where((truth == 2) & (draw < 0.005), 7, values)


@pytest.fixture
def map_path(tmp_path, mapped):
    return write(tmp_path / "land.tif", mapped)


def run(command, *arguments):
    done = CliRunner().invoke(command.main, [str(a) for a in arguments], catch_exceptions=False)
    return done.exit_code, done.stdout if done.exit_code == 0 else done.stderr


def assess(*arguments):
    code, output = run(assess_map, *arguments, "--json")
    assert code == 0, output
    return json.loads(output)


def refused(command, *arguments):
    code, output = run(command, *arguments)
    assert code == 2
    assert output.startswith("error: ")
    return output


def sample(map_path, out, *arguments):
    code, output = run(sample_map, map_path, "--out", out, *arguments)
    assert code == 0, output
    return out


def read(points):
    meta, _, geometry, fields = pyogrio.raw.read(points, layer="points")
    xy = shapely.get_coordinates(shapely.from_wkb(geometry))
    return xy, dict(zip(meta["fields"], fields, strict=True))


def place(columns, rows):
    return np.column_stack([TRANSFORM.c + 10 * np.atleast_1d(columns), TRANSFORM.f - 10 * np.atleast_1d(rows)])


def pixel_of(xy):
    rows, columns = (TRANSFORM.f - xy[:, 1]) / 10, (xy[:, 0] - TRANSFORM.c) / 10
    return np.floor(rows).astype(int), np.floor(columns).astype(int)


def interpret(points, truth, *, names=None, upto=None):
    """Fill the field as an interpreter does, in the GeoPackage itself."""
    names = names or {c.code: c.name for c in CLASSES}
    xy, fields = read(points)
    rows, columns = pixel_of(xy)
    with sqlite3.connect(points) as database:
        # They keep the spatial index and need functions that only GDAL and QGIS bring.
        for trigger in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{trigger[0]}"')
        for number, row, column in list(zip(fields["id"].tolist(), rows, columns, strict=True))[:upto]:
            database.execute("UPDATE points SET reference = ? WHERE id = ?", (names[int(truth[row, column])], number))
    database.close()


def write_points(path, xy, labels, *, crs="EPSG:32631", **fields):
    columns = {"reference": np.array(labels, object), **{k: np.array(v, object) for k, v in fields.items()}}
    geometry = shapely.to_wkb(shapely.points(np.asarray(xy, float)))
    pyogrio.raw.write(path, geometry, list(columns.values()), list(columns), geometry_type="Point", crs=crs)
    return path


def write_raster(path, values, transform, nodata=None):
    height, width = values.shape
    grid = {"width": width, "height": height, "crs": "EPSG:32631", "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, count=1, nodata=nodata, **grid) as target:
        target.write(values, 1)


def some_points(mapped, truth, count=400, seed=1):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, HEIGHT, count), rng.integers(3, WIDTH, count)
    xy = place(columns + rng.random(count), rows + rng.random(count))
    return xy, rows, columns


# --- sample, interpret, assess ------------------------------------------------------------------------------------


def test_from_sample_to_areas(tmp_path, map_path, mapped, truth):
    points = sample(map_path, tmp_path / "points.gpkg", "--count", 600, "--least", 60, "--seed", 3)
    xy, fields = read(points)
    assert list(fields) == ["id", "reference", "remark"]  # nothing tells the class of the map
    assert fields["id"].tolist() == list(range(1, 601))
    assert not any(fields["reference"])
    rows, columns = pixel_of(xy)
    np.testing.assert_allclose(place(columns + 0.5, rows + 0.5), xy)  # pixel centres
    interpret(points, truth)
    found = assess(map_path, "--reference", points, "--out", tmp_path / "out")

    assert (found["design"], found["compared"], found["unit"], found["left_out"]) == ("stratified", 600, "points", {})
    assert "Olofsson et al. 2014" in found["method"]
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (np.searchsorted(CODES, mapped[rows, columns]), np.searchsorted(CODES, truth[rows, columns])), 1)
    assert found["counts"] == counts.tolist()
    assert counts.sum(axis=1).min() >= 60
    share = np.array([(mapped == c).sum() for c in CODES]) / (mapped > 0).sum()
    np.testing.assert_allclose([s["share"] for s in found["strata"]], share)
    np.testing.assert_allclose(found["proportions"], share[:, None] * counts / counts.sum(axis=1, keepdims=True))
    valid = mapped > 0
    agreement = (mapped == truth)[valid].mean()
    assert found["overall_accuracy"]["low"] < agreement < found["overall_accuracy"]["high"]
    for entry in found["classes"]:
        true_area, mapped_area = (truth == entry["code"]).sum() / 100, (mapped == entry["code"]).sum() / 100
        assert entry["mapped_hectares"] == pytest.approx(mapped_area)
        assert entry["hectares"]["low"] < true_area < entry["hectares"]["high"]
        right = ((truth == entry["code"]) & (mapped == entry["code"])).sum() / 100
        for measure, whole in ((entry["users_accuracy"], mapped_area), (entry["producers_accuracy"], true_area)):
            assert measure["low"] < right / whole < measure["high"]
    # The map shows a quarter more forest than there is: the estimate knows.
    forest = found["classes"][1]
    assert forest["hectares"]["high"] < forest["mapped_hectares"]

    page = (tmp_path / "out" / "accuracy.html").read_text()
    assert json.loads((tmp_path / "out" / "accuracy.json").read_text()) == found
    assert "Forêt" in page
    assert "http" not in page.replace("http-equiv", "")
    assert f"{forest['hectares']['value']:,.1f}" in page


def test_intervals_cover_as_often_as_they_say(tmp_path, mapped, truth):
    """120 samples: the 80 % interval of a class's area holds the true area in about 80 % of them."""
    from timesenmap.pipeline.accuracy import normal_quantile, stratified_estimates
    from timesenmap.pipeline.sampling import stratified_sample

    class_map = read_class_map(write(tmp_path / "m.tif", mapped))
    sizes = np.array([(mapped == c).sum() for c in CODES])
    true_share = np.array([(truth == c).sum() for c in CODES]) / sizes.sum()
    hits = np.zeros(3)
    for seed in range(120):
        xy, _ = stratified_sample(class_map, count=400, least=80, seed=seed)
        rows, columns = pixel_of(xy)
        counts = np.zeros((3, 3, 3), int)
        i, j = np.searchsorted(CODES, mapped[rows, columns]), np.searchsorted(CODES, truth[rows, columns])
        np.add.at(counts, (i, i, j), 1)
        area = stratified_estimates(counts, sizes).area
        hits += np.abs(area.value - true_share) < normal_quantile(0.8) * area.standard_error
    assert (hits > 80).all()  # 96 expected, standard deviation 4.4
    assert (hits < 112).all()


def test_a_sample_without_errors_is_no_certainty(tmp_path, map_path, mapped):
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 60)
    interpret(points, mapped)
    found = assess(map_path, "--reference", points)
    assert found["overall_accuracy"] == {"value": 1, "standard_error": 0, "low": 1, "high": 1}
    assert any("Water (10): with few points" in note for note in found["notes"])


def test_the_same_seed_gives_the_same_points(tmp_path, map_path):
    one, other, third = (
        read(sample(map_path, tmp_path / f"{name}.gpkg", "--count", 100, "--seed", seed))[0]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)


def test_an_interpretation_is_never_overwritten(tmp_path, map_path):
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 100)
    assert "may hold an interpretation" in refused(sample_map, map_path, "--out", points, "--count", 100)


def test_sample_for_a_standard_error(tmp_path, map_path, mapped):
    points = sample(map_path, tmp_path / "p.gpkg", "--target-se", 0.02, "--expected-accuracy", 0.8)
    assert len(read(points)[0]) == 400  # (0.4 / 0.02) ** 2
    (tmp_path / "u.yaml").write_text("cropland: 0.5\nForêt: 0.9\n7: 0.5\n")
    points = sample(
        map_path,
        tmp_path / "q.gpkg",
        "--count",
        500,
        "--allocation",
        "optimal",
        "--expected-accuracy",
        tmp_path / "u.yaml",
    )
    design = json.loads((tmp_path / "q.design.json").read_text())
    deviation = {1: 0.5, 2: 0.3, 7: 0.5}
    wanted = {c: (mapped == c).sum() * deviation[c] for c in deviation}
    for stratum in design["strata"]:
        assert stratum["points"] == pytest.approx(500 * wanted[stratum["code"]] / sum(wanted.values()), abs=1)


def test_qgis_finds_the_class_names_in_the_style(tmp_path, map_path):
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 100)
    with sqlite3.connect(points) as database:
        ((table, style, default),) = database.execute(
            "SELECT f_table_name, styleQML, useAsDefault FROM layer_styles"
        ).fetchall()
    database.close()
    assert (table, default) == ("points", 1)
    assert 'type="ValueMap"' in style
    assert [f'value="{c.name}"' in style for c in CLASSES] == [True] * 3
    assert "unknown" not in style


def test_half_an_interpretation_is_a_smaller_sample(tmp_path, map_path, truth):
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 400, "--least", 60)
    interpret(points, truth, upto=250)
    found = assess(map_path, "--reference", points)
    assert (found["compared"], found["left_out"]) == (250, {"without reference": 150})
    assert found["overall_accuracy"]["standard_error"] > 0


def test_another_map_assessed_with_the_same_sample(tmp_path, map_path, mapped, truth):
    """Strata are the classes of the map that was sampled, not of the one assessed: Stehman 2014."""
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 600, "--least", 100)
    interpret(points, truth)
    better = np.where(truth == 7, 7, mapped)
    found = assess(write(tmp_path / "better.tif", better), "--reference", points)
    assert "Stehman 2014" in found["method"]
    np.testing.assert_allclose(
        [s["share"] for s in found["strata"]], [(mapped == c).sum() / (mapped > 0).sum() for c in CODES]
    )
    agreement = (better == truth)[mapped > 0].mean()
    assert found["overall_accuracy"]["low"] < agreement < found["overall_accuracy"]["high"]


# --- points of one's own ------------------------------------------------------------------------------------------


def test_simple_random_points_in_degrees(tmp_path, map_path, mapped, truth):
    xy, rows, columns = some_points(mapped, truth)
    lon, lat = Transformer.from_crs(32631, 4326, always_xy=True).transform(*xy.T)
    table = ["Lon,Lat,what"]
    names = {1: " CROPLAND ", 2: "2", 7: "water"}  # letter case, blanks and codes all mean the class
    table += [f"{x},{y},{names[int(truth[r, c])]}" for x, y, r, c in zip(lon, lat, rows, columns, strict=True)]
    (tmp_path / "points.csv").write_text("\n".join(table))
    found = assess(map_path, "--reference", tmp_path / "points.csv", "--field", "what", "--design", "simple")
    right = (mapped == truth)[rows, columns].mean()
    assert found["overall_accuracy"]["value"] == pytest.approx(right)
    population = (mapped > 0).sum()
    error = np.sqrt((1 - 400 / population) * right * (1 - right) / 399)
    assert found["overall_accuracy"]["standard_error"] == pytest.approx(error)
    assert found["overall_accuracy"]["high"] == pytest.approx(right + 1.959964 * error)
    assert "simple random" in found["method"]


def test_points_that_are_no_probability_sample(tmp_path, map_path, mapped, truth):
    xy, rows, columns = some_points(mapped, truth)
    labels = [{1: "Cropland", 2: "Forêt", 7: "Water"}[int(t)] for t in truth[rows, columns]]
    points = write_points(tmp_path / "p.geojson", np.column_stack(
        Transformer.from_crs(32631, 4326, always_xy=True).transform(*xy.T)), labels, crs="EPSG:4326")  # fmt: skip
    assert "how were the points drawn?" in refused(assess_map, map_path, "--reference", points)
    found = assess(map_path, "--reference", points, "--design", "none")
    assert "describe the points and not the map" in found["method"]
    assert found["overall_accuracy"] == {
        "value": pytest.approx((mapped == truth)[rows, columns].mean()),
        "standard_error": None,
        "low": None,
        "high": None,
    }
    assert (found["confidence"], found["proportions"], found["classes"][0]["hectares"]) == (None, None, None)


def test_strata_in_a_raster_and_in_a_field_agree(tmp_path, map_path, mapped, truth):
    """North and south as strata, 1 to 3; the raster is coarser than the map."""
    xy, rows, columns = some_points(mapped, truth)
    keep = (rows < 160) | (np.arange(400) % 2 == 0)
    xy, rows, columns = xy[keep], rows[keep], columns[keep]
    labels = [{1: "Cropland", 2: "Forêt", 7: "Water"}[int(t)] for t in truth[rows, columns]]
    south = rows >= 160
    points = write_points(tmp_path / "p.gpkg", xy, labels, zone=np.where(south, "south", "north"))
    zones = np.repeat([5] * 4 + [9] * 10, 16).reshape(14, 16).astype(np.int16)
    write_raster(tmp_path / "zones.tif", zones, Affine(400, 0, 501360, 0, -400, 5629680), nodata=-1)
    valid = mapped > 0
    hectares = {"north": valid[:160].sum() / 100, "south": valid[160:].sum() / 100}
    (tmp_path / "sizes.yaml").write_text("".join(f"{k}: {float(v)}\n" for k, v in hectares.items()))
    common = (map_path, "--reference", points, "--design", "stratified", "--strata")
    by_raster = assess(*common, tmp_path / "zones.tif")
    by_field = assess(*common, "zone", "--strata-sizes", tmp_path / "sizes.yaml")
    assert [s["name"] for s in by_raster["strata"]] == ["5", "9"]
    for key in ("value", "standard_error", "low", "high"):
        assert by_raster["overall_accuracy"][key] == pytest.approx(by_field["overall_accuracy"][key])
    np.testing.assert_allclose(by_raster["proportions"], by_field["proportions"])
    weights = np.array([hectares["north"], hectares["south"]]) / sum(hectares.values())
    right = (mapped == truth)[rows, columns]
    assert by_raster["overall_accuracy"]["value"] == pytest.approx(
        weights @ [right[~south].mean(), right[south].mean()]
    )
    assert "Stehman 2014" in by_raster["method"]
    assert "--strata-sizes" in refused(assess_map, *common, "zone")
    assert "not with simple" in refused(assess_map, *common, "zone", "--design", "simple")


def test_points_outside_are_named_and_counted(tmp_path, map_path, mapped, truth):
    xy, rows, columns = some_points(mapped, truth)
    labels = ["Water"] * 400
    xy[4] = place(-5, 10)
    xy[7] = place(10, HEIGHT + 0.5)
    xy[9] = place(1.5, 20.5)  # no data
    points = write_points(tmp_path / "p.gpkg", xy, labels)
    found = assess(map_path, "--reference", points, "--design", "simple")
    assert found["left_out"] == {"outside the map": 2, "where the map has no data": 1}
    assert any("id 5, 8" in note for note in found["notes"])
    assert found["compared"] == 397
    xy[:] = place(-50, -50)
    message = refused(
        assess_map, map_path, "--reference", write_points(tmp_path / "q.gpkg", xy, labels), "--design", "none"
    )
    assert "no point can be compared" in message


# --- labels -------------------------------------------------------------------------------------------------------


def test_labels_of_another_nomenclature(tmp_path, map_path, mapped, truth):
    xy, rows, columns = some_points(mapped, truth)
    names = {1: ["maize", "Wheat"], 2: ["woodland"], 7: ["Lake"]}
    labels = [names[int(t)][i % len(names[int(t)])] for i, t in enumerate(truth[rows, columns])]
    points = write_points(tmp_path / "p.gpkg", xy, labels)
    message = refused(assess_map, map_path, "--reference", points, "--design", "simple")
    assert "'Lake', 'Wheat', 'maize', 'woodland' are no class of the map" in message
    assert "Cropland (1), Forêt (2), Water (7)" in message
    (tmp_path / "c.yaml").write_text("Maize: Cropland\nwheat: 1\nwoodland: forêt\nlake: null\n")
    found = assess(map_path, "--reference", points, "--design", "simple", "--classes", tmp_path / "c.yaml")
    lakes = int((truth[rows, columns] == 7).sum())
    assert found["left_out"] == {"left out by --classes": lakes}
    assert found["compared"] == 400 - lakes
    (tmp_path / "c.yaml").write_text("maize: Moon\n")
    assert "'Moon' is no class" in refused(
        assess_map, map_path, "--reference", points, "--design", "simple", "--classes", tmp_path / "c.yaml"
    )


def test_unknown_pixels_count_or_are_left_out(tmp_path, mapped, truth):
    values = np.where(np.random.default_rng(8).random(mapped.shape) < 0.2, np.where(mapped, UNKNOWN.code, 0), mapped)
    map_path = write(tmp_path / "u.tif", values, classes=[*CLASSES, UNKNOWN])
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 500, "--least", 50)
    interpret(points, truth)
    rows, columns = pixel_of(read(points)[0])
    right = np.where(values[rows, columns] == 255, False, (values == truth)[rows, columns])
    share = np.array([(values == c).sum() for c in (*CODES, 255)]) / (values > 0).sum()
    means = np.array([right[values[rows, columns] == c].mean() for c in (*CODES, 255)])
    counted = assess(map_path, "--reference", points)
    assert counted["overall_accuracy"]["value"] == pytest.approx(share @ means)
    unknown = counted["classes"][-1]
    assert (unknown["name"], unknown["users_accuracy"]["value"], unknown["hectares"]) == ("unknown", None, None)
    assert any("never right" in note for note in counted["notes"])
    left = assess(map_path, "--reference", points, "--unknown", "left-out")
    assert left["overall_accuracy"]["value"] == pytest.approx(share[:3] @ means[:3] / share[:3].sum())
    assert left["left_out"] == {"unknown in the map": int((values[rows, columns] == 255).sum())}
    known = sample(map_path, tmp_path / "known.gpkg", "--count", 100, "--unknown", "left-out")
    interpret(known, truth)
    assert (values[pixel_of(read(known)[0])] != 255).all()
    assert "assess it with --unknown left-out" in refused(assess_map, map_path, "--reference", known)
    assert assess(map_path, "--reference", known, "--unknown", "left-out")["compared"] == 100
    # A reference cannot say unknown.
    odd = write_points(tmp_path / "odd.gpkg", read(points)[0], ["unknown"] * 500)
    assert "'unknown' is no class" in refused(assess_map, map_path, "--reference", odd, "--design", "none")


# --- rasters ------------------------------------------------------------------------------------------------------


def test_a_reference_raster_is_a_census(tmp_path, map_path, mapped, truth):
    """Nearest pixels on another grid, no data left out, areas of what both have, no intervals."""
    half = truth[::2, ::2].copy()
    half[:50] = 0
    codes = np.select([half == 1, half == 2, half == 7], [10, 20, 70], 0).astype(np.int32)
    write_raster(tmp_path / "r.tif", codes, Affine(20, 0, 501360, 0, -20, 5629680))
    (tmp_path / "c.yaml").write_text("10: Cropland\n20: Forêt\n70: Water\n")
    assert "'10', '20', '70' are no class" in refused(assess_map, map_path, "--reference", tmp_path / "r.tif")
    found = assess(map_path, "--reference", tmp_path / "r.tif", "--classes", tmp_path / "c.yaml")
    there = np.kron(half, np.ones((2, 2), int))
    both = (there > 0) & (mapped > 0)
    counts = [[int(((mapped == i) & (there == j))[both].sum()) for j in CODES] for i in CODES]
    assert found["counts"] == counts
    assert (found["design"], found["unit"], found["confidence"]) == ("census", "pixels", None)
    assert found["left_out"] == {"without reference": int(((mapped > 0) & ~both).sum())}
    assert f"{int(((mapped > 0) & ~both).sum()):,} without reference" in found["notes"][0]
    assert found["overall_accuracy"]["standard_error"] is None
    assert found["classes"][0]["hectares"]["value"] == pytest.approx(((there == 1) & both).sum() / 100)
    assert "no intervals" in found["method"]
    assert "is a raster" in refused(assess_map, map_path, "--reference", tmp_path / "r.tif", "--design", "simple")


def test_two_class_maps_are_compared_by_name(tmp_path, map_path, mapped, truth):
    other = [
        LegendEntry(3, "water", "#0000ff"),
        LegendEntry(4, "CROPLAND", "#ffff00"),
        LegendEntry(5, "forêt", "#00ff00"),
    ]
    values = np.select([truth == 7, truth == 1, truth == 2], [3, 4, 5], 0)
    found = assess(map_path, "--reference", write(tmp_path / "truth.tif", values, classes=other))
    assert found["overall_accuracy"]["value"] == pytest.approx((mapped == truth)[mapped > 0].mean())


# --- what is refused ----------------------------------------------------------------------------------------------


def test_bad_input(tmp_path, map_path, mapped, truth):
    xy, rows, columns = some_points(mapped, truth)
    good = write_points(tmp_path / "good.gpkg", xy, ["Water"] * 400)
    assert "no field 'truth'; its fields are 'reference'" in refused(
        assess_map, map_path, "--reference", good, "--design", "none", "--field", "truth"
    )
    empty = write_points(tmp_path / "empty.gpkg", xy, [""] * 400)
    assert "field 'reference' is empty in all 400" in refused(
        assess_map, map_path, "--reference", empty, "--design", "none"
    )
    with pytest.warns(UserWarning, match="crs"):
        placeless = write_points(tmp_path / "placeless.shp", xy, ["Water"] * 400, crs=None)
    assert "states no CRS" in refused(assess_map, map_path, "--reference", placeless, "--design", "none")
    (tmp_path / "p.csv").write_text("x,y,reference\n1,2,Water\n")
    assert "no columns lon and lat" in refused(
        assess_map, map_path, "--reference", tmp_path / "p.csv", "--design", "none"
    )
    assert "no such file" in refused(assess_map, map_path, "--reference", tmp_path / "no.gpkg")
    dry = mapped[rows, columns] != 7
    few = write_points(tmp_path / "few.gpkg", xy[dry], ["Water"] * int(dry.sum()))
    message = refused(assess_map, map_path, "--reference", few, "--design", "stratified")
    assert "too few points with a reference in 'Water' (0 points)" in message
    area = shapely.to_wkb(shapely.buffer(shapely.points(xy[:2]), 30))
    pyogrio.raw.write(tmp_path / "areas.gpkg", area, [np.array(["Water"] * 2, object)], ["reference"],
                      geometry_type="Polygon", crs="EPSG:32631")  # fmt: skip
    assert "holds 'Polygon'; points are needed" in refused(
        assess_map, map_path, "--reference", tmp_path / "areas.gpkg", "--design", "none"
    )
    sampled = sample(map_path, tmp_path / "s.gpkg", "--count", 100)
    assert "empty in all 100" in refused(assess_map, map_path, "--reference", sampled)


def test_a_map_without_class_names_is_refused(tmp_path, map_path):
    for sidecar in (map_path.with_name("land.tif.aux.xml"), map_path.with_suffix(".qml")):
        sidecar.unlink()
    assert "names its classes" in refused(sample_map, map_path, "--out", tmp_path / "p.gpkg", "--count", 100)


@pytest.mark.parametrize(("epsg", "scale"), [(4326, "differ in area"), (3857, "times their size")])
def test_maps_whose_pixels_differ_in_area_are_refused(tmp_path, mapped, epsg, scale):
    step = 1e-4 if epsg == 4326 else 10
    origin = (3.0, 50.8) if epsg == 4326 else (334_000, 6_580_000)
    path = write(tmp_path / "m.tif", mapped, epsg=epsg, transform=Affine(step, 0, origin[0], 0, -step, origin[1]))
    assert scale in refused(sample_map, path, "--out", tmp_path / "p.gpkg", "--count", 100)
    points = write_points(
        tmp_path / "p.gpkg", [[origin[0] + 99 * step, origin[1] - 99 * step]], ["Water"], crs=f"EPSG:{epsg}"
    )
    assert assess(path, "--reference", points, "--design", "none")["compared"] == 1


def test_pixel_areas(tmp_path, mapped):
    assert equal_pixel_hectares(read_class_map(write(tmp_path / "m.tif", mapped))) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --count N, or --target-se"),
        (["--target-se", 0.01], "need --expected-accuracy"),
        (["--count", 20, "--least", 10], "ask for 30 to"),
        (["--count", 100, "--allocation", "optimal", "--expected-accuracy", "1.5"], "between 0 and 1"),
    ],
)
def test_samples_that_cannot_be_had(tmp_path, map_path, options, message):
    assert message in refused(sample_map, map_path, "--out", tmp_path / "p.gpkg", *options)
    assert not (tmp_path / "p.gpkg").exists()
    assert "must end in .gpkg" in refused(sample_map, map_path, "--out", tmp_path / "p.shp", "--count", 100)


def test_tables_on_the_terminal(tmp_path, map_path, truth):
    points = sample(map_path, tmp_path / "p.gpkg", "--count", 300)
    interpret(points, truth)
    code, text = run(assess_map, map_path, "--reference", points)
    assert code == 0
    text = " ".join(text.split())  # titles are broken at the width of their table
    for part in ("user's", "producer's", "95 % interval", "rows map, columns reference", "Forêt"):
        assert part in text
