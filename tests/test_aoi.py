import json
import math
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.errors import MapError

SQUARE = box(3.0, 50.0, 3.1, 50.1)
BOW_TIE = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])


def geojson(path: Path, document: object) -> str:
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def feature(geometry: object) -> dict[str, object]:
    return {"type": "Feature", "properties": {}, "geometry": geometry}


def collection(*geometries: object) -> dict[str, object]:
    return {"type": "FeatureCollection", "features": [feature(geometry) for geometry in geometries]}


def vector_file(path: Path, *geometries: object, crs: str | None, kind: str = "Polygon", **options: object) -> str:
    wkb = np.array([None if geometry is None else shapely.to_wkb(geometry) for geometry in geometries], dtype=object)
    pyogrio.raw.write(path, wkb, [], [], geometry_type=kind, crs=crs, **options)
    return str(path)


def refused(*arguments: str, **options: str) -> str:
    with pytest.raises(MapError) as raised:
        read_aoi(*arguments, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# Boxes ------------------------------------------------------------------------------------------------------


def test_a_box_is_lon_lat():
    aoi = read_aoi("3.0,50.0,3.1,50.1")
    assert aoi.geometry.equals(SQUARE)
    assert aoi.source_crs == pyproj.CRS("EPSG:4326")
    assert aoi.name == "area"
    assert aoi.notes == ()


def test_a_box_in_metres_keeps_its_own_coordinates():
    aoi = read_aoi(" 501360, 5629040, 502000, 5629680", crs="EPSG:32631")
    assert aoi.source_geometry.bounds == (501360, 5629040, 502000, 5629680)
    corners = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(
        [501360, 502000, 502000, 501360], [5629040, 5629040, 5629680, 5629680]
    )
    expected = Polygon(np.column_stack(corners))
    assert aoi.geometry.symmetric_difference(expected).area < 1e-3 * expected.area
    assert len(aoi.geometry.exterior.coords) < 50  # a search sends it along


def test_a_box_over_the_antimeridian_is_cut_there():
    aoi = read_aoi("177.5,-18.5,-178.5,-16.0")
    assert isinstance(aoi.geometry, MultiPolygon)
    assert aoi.geometry.equals(MultiPolygon([box(177.5, -18.5, 180, -16), box(-180, -18.5, -178.5, -16)]))
    assert read_aoi("179,0,-180,1").geometry.equals(box(179, 0, 180, 1))


def test_metres_over_the_antimeridian_are_cut_there():
    aoi = read_aoi("800000,7990000,900000,8090000", crs="EPSG:32760")  # zone 60 south ends at 180
    assert isinstance(aoi.geometry, MultiPolygon)
    west, east = sorted(aoi.geometry.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180
    assert east.bounds[2] == 180
    assert aoi.geometry.bounds[2] - aoi.geometry.bounds[0] == 360
    # An equal-area CRS measures what UTM drew: scale at this place is 1.0003 to 1.0018.
    laea = pyproj.Transformer.from_crs("EPSG:4326", "+proj=laea +lon_0=180 +lat_0=-18", always_xy=True)
    parts = [shapely.transform(part, lambda xy: np.column_stack(laea.transform(*xy.T))) for part in (west, east)]
    assert sum(part.area for part in parts) == pytest.approx(1e10, rel=0.005)


@pytest.mark.parametrize(
    ("text", "crs", "said"),
    [
        ("1,2,3", None, "3 numbers; give four"),
        ("1,2,3,4,5", None, "5 numbers; give four"),
        ("3,50,nan,51", None, "not all numbers are finite"),
        ("3,50,inf,51", None, "not all numbers are finite"),
        ("3,51,4,50", None, "minx,miny must be smaller"),
        ("3,50,3,51", None, "minx,miny must be smaller"),
        ("3,50,4,50", None, "minx,miny must be smaller"),
        ("502000,5629040,501360,5629680", "EPSG:32631", "minx,miny must be smaller"),
        ("501360,5629040,502000,5629680", None, "--aoi-crs"),
        ("502000,5629040,501360,5629680", None, "--aoi-crs"),
        ("50,91,51,92", None, "out of range"),
        ("3,50,4,51", "EPSG:999999", "'EPSG:999999': unknown; give --aoi-crs"),
        ("3,50,4,51", "nonsense", "'nonsense': unknown"),
        ("3,50,4,51", "EPSG:4978", "no map CRS"),  # geocentric
        ("-100000,-100000,100000,100000", "EPSG:6931", "around a pole"),
        ("1e12,1e12,2e12,2e12", "EPSG:32631", "lies outside EPSG:32631"),
        ("", None, "no such file"),
        ("fields.geojson", None, "'fields.geojson': no such file"),
    ],
)
def test_bad_boxes_are_refused(text, crs, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(text, crs=crs)


# Files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        mapping(SQUARE),
        feature(mapping(SQUARE)),
        collection(mapping(SQUARE)),
        mapping(MultiPolygon([SQUARE])),
        {"type": "GeometryCollection", "geometries": [mapping(SQUARE)]},
    ],
    ids=["geometry", "feature", "collection", "multipolygon", "geometry collection"],
)
def test_geojson_in_all_its_forms(tmp_path, document):
    aoi = read_aoi(geojson(tmp_path / "my fields.geojson", document))
    assert aoi.geometry.equals(SQUARE)
    assert aoi.name == "my fields"


def test_features_are_united(tmp_path):
    shapes = [box(0, 0, 2, 2), box(1, 1, 3, 3), box(10, 0, 11, 1)]
    aoi = read_aoi(geojson(tmp_path / "a.json", collection(*map(mapping, shapes))))
    assert aoi.geometry.area == pytest.approx(4 + 4 - 1 + 1)
    assert aoi.notes == ()


def test_holes_stay_holes_and_heights_are_dropped(tmp_path):
    ring = Polygon([(0, 0, 7), (4, 0, 7), (4, 4, 7), (0, 4, 7)], [[(1, 1, 7), (1, 2, 7), (2, 2, 7), (2, 1, 7)]])
    aoi = read_aoi(geojson(tmp_path / "a.geojson", mapping(ring)))
    assert aoi.geometry.area == 15
    assert not aoi.geometry.has_z


@pytest.mark.parametrize(("name", "driver"), [("a.gpkg", "GPKG"), ("a.shp", "ESRI Shapefile"), ("a.fgb", "FlatGeobuf")])
def test_other_files_are_in_the_crs_they_state(tmp_path, name, driver):
    place = box(501360, 5629040, 502000, 5629680)
    aoi = read_aoi(vector_file(tmp_path / name, place, crs="EPSG:32631", driver=driver))
    assert aoi.source_geometry.equals(place)
    assert aoi.geometry.centroid.x == pytest.approx(3.02385, abs=1e-4)
    assert aoi.geometry.centroid.y == pytest.approx(50.81596, abs=1e-4)


def test_the_users_crs_overrides_the_files(tmp_path):
    path = vector_file(tmp_path / "wrong.gpkg", box(501360, 5629040, 502000, 5629680), crs="EPSG:32632")
    aoi = read_aoi(path, crs="EPSG:32631")
    assert aoi.geometry.centroid.x == pytest.approx(3.02385, abs=1e-4)


def test_a_shapefile_without_prj_is_lon_lat_and_says_so(tmp_path):
    path = vector_file(tmp_path / "bare.shp", SQUARE, crs=None, driver="ESRI Shapefile")
    aoi = read_aoi(path)
    assert aoi.geometry.equals(SQUARE)
    assert aoi.notes == ("bare.shp states no CRS: taken as lon/lat",)
    metres = vector_file(tmp_path / "metres.shp", box(500000, 5e6, 500100, 5.1e6), crs=None, driver="ESRI Shapefile")
    assert "--aoi-crs" in refused(metres)


def test_geojson_in_metres_needs_its_crs(tmp_path):
    document = mapping(box(501360, 5629040, 502000, 5629680))
    document["crs"] = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    path = geojson(tmp_path / "old.geojson", document)
    assert "--aoi-crs" in refused(path)
    assert read_aoi(path, crs="EPSG:32631").source_geometry.bounds == (501360, 5629040, 502000, 5629680)


def test_layers_must_leave_no_choice(tmp_path):
    path = vector_file(tmp_path / "two.gpkg", SQUARE, crs="EPSG:4326", layer="fields")
    vector_file(tmp_path / "two.gpkg", SQUARE, crs="EPSG:4326", layer="forests", append=True)
    assert "2 layers with geometry (fields, forests)" in refused(path)


def test_a_ring_across_the_antimeridian_is_understood(tmp_path):
    ring = Polygon([(179, -18), (-179, -18), (-179, -17), (179, -17)])  # read flat it spans 358 degrees
    aoi = read_aoi(geojson(tmp_path / "fiji.geojson", mapping(ring)))
    assert aoi.geometry.equals(MultiPolygon([box(179, -18, 180, -17), box(-180, -18, -179, -17)]))
    assert "antimeridian" in aoi.notes[0]


# Repairs ----------------------------------------------------------------------------------------------------


def test_a_bow_tie_is_repaired_and_said(tmp_path):
    aoi = read_aoi(geojson(tmp_path / "a.geojson", collection(mapping(SQUARE), mapping(BOW_TIE))))
    triangles = MultiPolygon([Polygon([(0, 0), (1, 1), (0, 2)]), Polygon([(2, 0), (2, 2), (1, 1)])])
    assert aoi.geometry.is_valid
    assert aoi.geometry.symmetric_difference(shapely.union_all([triangles, SQUARE])).area < 1e-12
    assert aoi.notes == ("feature 2: self-crossing ring repaired",)


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp"])
def test_a_bow_tie_in_other_files(tmp_path, name):
    aoi = read_aoi(vector_file(tmp_path / name, BOW_TIE, crs="EPSG:4326"))
    assert aoi.geometry.area == pytest.approx(2.0)
    assert len(aoi.notes) == 1


def test_a_ring_around_some_ground_twice_is_ambiguous(tmp_path):
    twice = Polygon([(0, 0), (4, 0), (4, 4), (0, 4), (0, 1), (3, 1), (3, 3), (1, 3), (1, 0)])
    assert "ambiguous" in refused(geojson(tmp_path / "a.geojson", mapping(twice)))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (collection(), "has no features"),
        (collection(None), "feature 1 has an empty geometry"),
        (collection(mapping(SQUARE), None), "feature 2 has an empty geometry"),
        ({"type": "Polygon", "coordinates": []}, "feature 1 has an empty geometry"),
        (mapping(shapely.Point(3, 50)), "is a Point, which has no area"),
        (mapping(shapely.LineString([(3, 50), (4, 51)])), "is a LineString, which has no area"),
        (mapping(shapely.MultiPoint([(3, 50), (4, 51)])), "is a Point, which has no area"),
        (collection(mapping(SQUARE), mapping(shapely.Point(3, 50))), "feature 2 is a Point"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "malformed geometry"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 0], [0, 0]]]}, "malformed geometry"),
        ({"type": "Polygon", "coordinates": 5}, "malformed geometry"),
        ({"type": "Polygone", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 0]]]}, "malformed geometry"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}, "encloses no area"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [math.nan, 1], [1, 0], [0, 0]]]}, "not finite"),
        ({"type": "Topology", "objects": {}}, "type 'Topology' holds no area"),
        ({"type": "FeatureCollection"}, "holds no area"),
        ([1, 2, 3], "type 'list' holds no area"),
        (mapping(box(0, 80, 10, 95)), "out of range"),
    ],
)
def test_bad_geojson_is_refused(tmp_path, document, said):
    path = geojson(tmp_path / "bad.geojson", document)
    message = refused(path)
    assert said in message
    assert path in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.geojson", b"{not json"),
        ("a.geojson", b"\xff\xfe\x00"),
        ("a.geojson", b""),
        ("a.gpkg", b"not a database"),
        ("a.shp", b""),
        ("a.csv", b"a,b\n1,2\n"),
        ("a.zip", b"PK"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    message = refused(str(path))
    assert str(path) in message
    assert "give a" in message


def test_empty_and_areal_layers(tmp_path):
    assert "has no features" in refused(vector_file(tmp_path / "empty.gpkg", crs="EPSG:4326"))
    assert "is a Point" in refused(
        vector_file(tmp_path / "p.gpkg", shapely.Point(3, 50), crs="EPSG:4326", kind="Point")
    )
    assert "empty geometry" in refused(vector_file(tmp_path / "n.gpkg", None, crs="EPSG:4326"))
    assert "cannot be read" in refused(str(tmp_path))
