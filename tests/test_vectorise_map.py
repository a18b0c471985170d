"""Polygons of class maps, read back with pyogrio, laid over the pixels and measured on the ellipsoid."""

import sqlite3
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox

from timesenmap.pipeline import polygons
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.polygons import write_polygons
from timesenmap.pipeline.rasters import write_class_map
from timesenmap.workflows.vectorise_map import main

CLASSES = [LegendEntry(1, "Crops & co", "#e6b422"), LegendEntry(7, "Forêt", "#1b5e20"), UNKNOWN]
UTM = GeoBox((90, 120), Affine(10, 0, 501360, 0, -10, 5629680), "EPSG:32631")


def write(path, values, grid):
    write_class_map(path, values, grid[: values.shape[0], : values.shape[1]], CLASSES, tags={})
    return read_class_map(path)


def noise(shape=(90, 120)):
    return np.random.default_rng(4).choice(np.array([0, 1, 7, 255], np.uint8), shape)


def read(path):
    meta, _, geometry, columns = pyogrio.raw.read(path, layer=path.stem)
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"], columns, strict=True))


def test_polygons_worked_by_hand(tmp_path):
    values = np.array([[1, 1, 7], [1, 7, 0], [255, 7, 1]], np.uint8)
    sums = write_polygons(write(tmp_path / "m.tif", values, UTM), tmp_path / "m.gpkg")
    meta, geometry, columns = read(tmp_path / "m.gpkg")
    assert pyproj.CRS(meta["crs"]).equals(pyproj.CRS("EPSG:32631"))
    assert meta["geometry_type"] == "Polygon"
    x, y = 501360, 5629680
    expected = {
        (1, "Crops & co"): [[(0, 0), (0, 2), (1, 2), (1, 1), (2, 1), (2, 0)], [(2, 2), (2, 3), (3, 3), (3, 2)]],
        (7, "Forêt"): [[(2, 0), (2, 1), (3, 1), (3, 0)], [(1, 1), (1, 3), (2, 3), (2, 1)]],
        (255, "unknown"): [[(0, 2), (0, 3), (1, 3), (1, 2)]],
    }
    drawn = [
        (*key, shapely.Polygon([(x + 10 * col, y - 10 * row) for col, row in ring])) for key, rings in expected.items()
        for ring in rings
    ]  # fmt: skip
    found = list(zip(columns["code"], columns["name"], geometry, strict=True))
    assert len(found) == len(drawn)
    for code, name, polygon in drawn:
        assert sum(c == code and n == name and g.equals(polygon) for c, n, g in found) == 1
    assert [(s.entry.code, s.polygons) for s in sums] == [(1, 2), (7, 2), (255, 1)]
    assert [s.hectares for s in sums] == pytest.approx([0.04, 0.03, 0.01], abs=1e-4)


def test_valid_neighbours_meet_without_gap_or_overlap(tmp_path, monkeypatch):
    monkeypatch.setattr(polygons, "_BATCH", 500)  # several writes into one layer
    values = noise()
    write_polygons(write(tmp_path / "m.tif", values, UTM), tmp_path / "m.gpkg")
    _, geometry, columns = read(tmp_path / "m.gpkg")
    assert len(geometry) > 1500
    assert shapely.is_valid(geometry).all()
    assert set(shapely.get_type_id(geometry)) == {shapely.GeometryType.POLYGON}
    pixels = int((values != 0).sum())
    assert shapely.area(geometry).sum() == pixels * 100
    assert shapely.union_all(geometry).area == pixels * 100
    burned = rasterio.features.rasterize(
        zip(geometry, columns["code"].tolist(), strict=True), values.shape, transform=UTM.affine, dtype="uint8"
    )
    np.testing.assert_array_equal(burned, values)
    for code in (1, 7, 255):
        of_class = columns["code"] == code
        assert shapely.area(geometry[of_class]).sum() == int((values == code).sum()) * 100


@pytest.mark.parametrize(
    ("crs", "corner", "step"),
    [
        ("EPSG:32631", (501360, 5629680), 300),  # near the central meridian UTM shows 0.08 % too little
        ("EPSG:32631", (160000, 5629680), 300),  # and too much at the zone's edge
        ("EPSG:4326", (4.0, 60.0), 0.01),  # a degree of longitude is half one of latitude
        ("EPSG:3035", (3900000, 3100000), 500),
    ],
)
def test_areas_are_those_on_the_ground(tmp_path, crs, corner, step):
    values = np.kron(noise((9, 12)), np.ones((10, 10), np.uint8))
    values[values == 0] = 7
    grid = GeoBox(values.shape, Affine(step, 0, corner[0], 0, -step, corner[1]), crs)
    write_polygons(write(tmp_path / "m.tif", values, grid), tmp_path / "m.gpkg")
    _, geometry, columns = read(tmp_path / "m.gpkg")
    to_lon_lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def on_the_ellipsoid(polygon):
        dense = shapely.segmentize(polygon, step)
        moved = shapely.transform(dense, lambda xy: np.column_stack(to_lon_lat.transform(xy[:, 0], xy[:, 1])))
        return abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(moved)[0]) / 1e4

    expected = [on_the_ellipsoid(polygon) for polygon in geometry]
    np.testing.assert_allclose(columns["hectares"], expected, rtol=2e-6, atol=1e-4)
    whole = on_the_ellipsoid(shapely.box(*grid.boundingbox))
    assert columns["hectares"].sum() == pytest.approx(whole, rel=1e-6)


def test_simplified_edges_are_shared_and_areas_those_of_the_pixels(tmp_path):
    y, x = np.mgrid[:90, :120]
    values = np.where(y < x * 0.7 + 5, 1, 7).astype(np.uint8)  # a slope in steps
    values[(y - 40) ** 2 + (x - 60) ** 2 < 900] = 255  # a disc over it
    values[:9, :30] = 0
    source = write(tmp_path / "m.tif", values, UTM)
    write_polygons(source, tmp_path / "steps.gpkg")
    write_polygons(source, tmp_path / "smooth.gpkg", simplify=20)
    _, steps, before = read(tmp_path / "steps.gpkg")
    _, smooth, after = read(tmp_path / "smooth.gpkg")
    assert before["code"].tolist() == after["code"].tolist()
    assert before["hectares"].tolist() == after["hectares"].tolist()
    assert shapely.is_valid(smooth).all()
    assert shapely.coverage_is_valid(smooth)
    assert shapely.get_num_coordinates(smooth).sum() < shapely.get_num_coordinates(steps).sum() / 4
    united = shapely.union_all(smooth)
    assert united.area == pytest.approx(shapely.area(smooth).sum(), rel=1e-12)  # nothing twice
    assert united.area == pytest.approx(shapely.area(steps).sum(), rel=0.002)
    assert len(united.interiors) == 0  # no gap
    disc = smooth[after["code"] == 255]
    assert shapely.area(disc).sum() == pytest.approx(np.pi * 300**2, rel=0.03)
    # No edge has moved by more than three pixels.
    assert max(shapely.hausdorff_distance(a, b) for a, b in zip(steps, smooth, strict=True)) < 30


def test_the_style_is_in_the_file(tmp_path):
    write_polygons(write(tmp_path / "m.tif", noise((20, 20)), UTM), tmp_path / "m.gpkg")
    with sqlite3.connect(tmp_path / "m.gpkg") as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, useAsDefault, styleQML FROM layer_styles ORDER BY update_time"
        ).fetchall()  # QGIS orders by it, too
        assert database.execute("PRAGMA user_version").fetchone() == (10200,)
        (column,) = database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
    ((layer, geometry_column, default, style),) = rows
    assert (layer, geometry_column, default) == ("m", column, 1)
    renderer = ET.fromstring(style.partition("\n")[2]).find("renderer-v2")
    categories = [(c.get("value"), c.get("label")) for c in renderer.iter("category")]
    assert categories == [("1", "Crops & co"), ("7", "Forêt"), ("255", "unknown")]
    colours = [p.get("v") for p in renderer.iter("prop") if p.get("k") == "color"]
    assert colours == ["230,180,34,255", "27,94,32,255", "124,124,124,255"]


def test_command_replaces_an_older_file_and_tells_the_sums(tmp_path):
    write(tmp_path / "m.tif", np.array([[1, 7]], np.uint8), UTM)
    (tmp_path / "p.gpkg").write_bytes(b"of another time")
    run = CliRunner().invoke(main, [str(tmp_path / "m.tif"), "--out", str(tmp_path / "p.gpkg")])
    assert run.exit_code == 0, run.output
    assert "Crops & co" in run.output
    assert len(read(tmp_path / "p.gpkg")[1]) == 2
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize(
    ("values", "name", "options", "message"),
    [
        ([[0, 0]], "p.gpkg", [], "nothing but no data"),
        ([[1, 7]], "p.shp", [], "ends in .gpkg"),
        ([[1, 7]], "p.gpkg", ["--simplify", "0"], "--simplify 0: is no length"),
        ([[1, 7]], "p.gpkg", ["--simplify", "nan"], "--simplify nan: is no length"),
    ],
)
def test_bad_input_ends_with_one_line_and_no_file(tmp_path, values, name, options, message):
    write(tmp_path / "m.tif", np.array(values, np.uint8), UTM)
    run = CliRunner().invoke(main, [str(tmp_path / "m.tif"), "--out", str(tmp_path / name), *options])
    assert run.exit_code == 2
    assert message in run.output
    assert not (tmp_path / name).exists()
