"""The catalogue of a run, as pystac, odc-stac and stackstac read it."""

import datetime as dt
import hashlib
import json
import re
import shutil

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
import shapely
import stackstac
from outputs_fixture import HOSTILE, make_run

from timesenmap.pipeline import stac, stac_assets
from timesenmap.pipeline.describe import describe_run
from timesenmap.pipeline.stac import write_catalogue


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run") / "out", height=120, width=150, odd_name=HOSTILE)
    describe_run(made.out, made.record)
    made.record.write(made.out / "run.json")
    return made


@pytest.fixture(scope="module")
def items(run):
    catalogue = pystac.Catalog.from_file(run.out / "catalog.json")
    return {item.id: item for item in catalogue.get_items(recursive=True)}


def test_a_described_run_has_the_files_of_the_design_and_no_others(run):
    assert {path.relative_to(run.out).as_posix() for path in run.out.rglob("*") if path.is_file()} == {
        "land-cover.tif",
        "land-cover.tif.aux.xml",
        "land-cover.qml",
        "land-cover.confidence.tif",
        "land-cover.confidence.qml",
        "crops.tif",
        "crops.tif.aux.xml",
        "crops.qml",
        "crops.confidence.tif",
        "crops.confidence.qml",
        "observations.tif",
        "observations.qml",
        "aoi.geojson",
        "map.qgz",
        "preview.png",
        "index.html",
        "catalog.json",
        "stac/collection.json",
        "stac/items/land-cover.json",
        "stac/items/crops.json",
        "stac/items/observations.json",
        "run.json",
    }


def documents(run):
    return [run.out / "catalog.json", *sorted((run.out / "stac").rglob("*.json"))]


def test_catalogue_holds_one_collection_with_an_item_for_each_map(run, items):
    catalogue = pystac.Catalog.from_file(run.out / "catalog.json")
    (collection,) = catalogue.get_collections()
    assert catalogue.title == collection.title == run.record.title
    assert list(items) == ["land-cover-2018-01", "crops-2018-01", "observations-2018-01"]
    assert {item.collection_id for item in items.values()} == {collection.id}
    start, end = collection.extent.temporal.intervals[0]
    assert start == dt.datetime(2018, 1, 1, tzinfo=dt.UTC)
    assert end == dt.datetime(2018, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    assert collection.extent.spatial.bboxes[0] == list(shapely.geometry.shape(run.record.aoi).bounds)
    assert {"classes", "confidence", "observations", "thumbnail"} <= set(collection.item_assets)


def test_core_documents_are_valid(run):
    pytest.importorskip("jsonschema", reason="pystac validates with jsonschema, which is not installed")
    for path in documents(run):
        # Core schemas come with pystac; those of the extensions would need the network.
        pystac.validation.validate_dict(json.loads(path.read_text(encoding="utf-8")), extensions=[])


def test_links_lead_somewhere_inside_the_folder(run):
    for path in documents(run):
        for link in json.loads(path.read_text(encoding="utf-8"))["links"]:
            assert link["rel"] != "self"
            if link["rel"] == "license":
                continue
            target = (path.parent / link["href"]).resolve()
            assert target.is_file(), (path.name, link)
            assert target.is_relative_to(run.out.resolve())


def test_assets_are_there_with_their_size_and_checksum(run, items):
    checked = set()
    for path in (run.out / "stac" / "items").iterdir():
        for asset in json.loads(path.read_text(encoding="utf-8"))["assets"].values():
            target = path.parent / asset["href"]
            assert target.is_file(), asset["href"]
            if "file:checksum" in asset:
                content = target.read_bytes()
                assert asset["file:size"] == len(content)
                assert bytes.fromhex(asset["file:checksum"]) == b"\x12\x20" + hashlib.sha256(content).digest()
                checked.add(target.name)
    assert checked == {
        "land-cover.tif",
        "land-cover.confidence.tif",
        "land-cover.qml",
        "crops.tif",
        "crops.confidence.tif",
        "crops.qml",
        "observations.tif",
        "preview.png",
        "index.html",
        "map.qgz",
    }


def test_projection_is_that_of_the_file(run, items):
    for item, key in (("land-cover-2018-01", "classes"), ("observations-2018-01", "observations")):
        asset = items[item].assets[key]
        projection = pystac.extensions.projection.ProjectionExtension.ext(asset)
        with rasterio.open(asset.get_absolute_href()) as src:
            assert projection.code == f"EPSG:{src.crs.to_epsg()}"
            assert tuple(projection.shape) == src.shape
            assert tuple(projection.transform) == tuple(src.transform)
            assert tuple(projection.bbox) == tuple(src.bounds)


def test_classes_are_those_of_the_map_with_their_counts(run, items):
    asset = items["land-cover-2018-01"].assets["classes"]
    classes = asset.extra_fields["classification:classes"]
    values, total = run.classes["land-cover"], run.inside.sum()
    assert classes[0] == {
        "value": 0,
        "name": "no_data",
        "title": "no data",
        "nodata": True,
        "count": int((values[run.inside] == 0).sum()),
        "percentage": pytest.approx(100 * (values[run.inside] == 0).sum() / total, abs=1e-4),
    }
    for row in classes[1:]:
        assert row["count"] == (values == row["value"]).sum()
        assert row["percentage"] == pytest.approx(100 * (values == row["value"]).sum() / total, abs=1e-4)
        assert re.fullmatch(r"[0-9A-Za-z_-]+", row["name"])
        assert re.fullmatch(r"[0-9A-F]{6}", row["color_hint"])
    assert [row["title"] for row in classes[1:]] == [c.name for c in run.record.maps[0].classes]
    assert sum(row["percentage"] for row in classes) == pytest.approx(100, abs=0.01)
    assert len({row["name"] for row in classes}) == len(classes)


def test_margin_says_what_it_is_with_its_counts(tmp_path):
    run = make_run(tmp_path / "out", height=64, width=80, margin=True)
    describe_run(run.out, run.record)
    land, crops = (
        json.loads((run.out / "stac" / "items" / f"{name}.json").read_text())["assets"]
        for name in ("land-cover", "crops")
    )
    assert "margin" not in crops
    asset = land["margin"]
    (band,) = asset["bands"]
    assert (asset["href"], asset["roles"]) == ("../../land-cover.margin.tif", ["data"])
    assert (band["unit"], band["data_type"], band["nodata"]) == ("%", "uint8", 255)
    assert "second best" in band["description"]
    margin = run.margin["land-cover"]
    assert band["raster:histogram"]["buckets"] == [int((margin == n).sum()) for n in range(101)]
    collection = json.loads((run.out / "stac" / "collection.json").read_text())
    assert collection["item_assets"]["margin"]["title"] == asset["title"]


def test_unknown_is_a_class_of_the_map_that_uses_it(tmp_path):
    run = make_run(tmp_path, height=64, width=80, unknown_below=0.6)
    for name in ("preview.png", "index.html", "map.qgz"):
        (tmp_path / name).touch()
    write_catalogue(tmp_path, run.record)
    land, crops = (json.loads((tmp_path / f"stac/items/{name}.json").read_text()) for name in ("land-cover", "crops"))
    pixels = int((run.classes["land-cover"] == 255).sum())
    assert land["assets"]["classes"]["classification:classes"][-1] == {
        "value": 255,
        "name": "unknown",
        "title": "unknown",
        "color_hint": "7C7C7C",
        "description": "Confidence of the best class below 60%",
        "count": pixels,
        "percentage": pytest.approx(100 * pixels / run.inside.sum(), abs=1e-4),
    }
    assert sum(row["percentage"] for row in land["assets"]["classes"]["classification:classes"]) == pytest.approx(100)
    assert land["properties"]["timesenmap:unknown_below"] == 0.6
    assert "unknown" not in json.dumps(crops)


def test_provenance_is_complete(run, items):
    properties = items["crops-2018-01"].properties
    assert properties["processing:software"] == run.record.versions
    for part in (
        "111 Sentinel-2 scenes of",
        "monthly medians",
        "0, 1, 3, 8, 9, 10",
        "offset -0.1",
        "all-MiniLM-L6-v2",
        run.record.catalogue,
    ):
        assert part in properties["processing:lineage"]
    assert properties["timesenmap:prompts_sha256"] == run.record.maps[1].prompts_sha256
    assert properties["timesenmap:encoder_sha256"] == run.record.encoder.sha256
    assert properties["timesenmap:scenes"] == [scene.id for scene in run.record.scenes]
    assert properties["created"] == "2026-06-11T14:05:09Z"


def test_generated_scenes_are_not_said_to_be_copernicus_data(run):
    generated = {"attribution": "Scenes generated for demonstration", "catalogue": "Built-in demonstration"}
    record = run.record.model_copy(update=generated)
    for document in (stac._collection(record, []), stac._item(run.out, record, "x", "X", assets={})):
        text = json.dumps(document)
        assert "Scenes generated for demonstration 2018" in text
        assert not re.search("copernicus|sentinel-2", text, re.IGNORECASE)


def test_confidence_histogram_is_that_of_the_map(run, items):
    (band,) = items["crops-2018-01"].to_dict()["assets"]["confidence"]["bands"]
    confidence = run.confidence["crops"]
    assert band["raster:histogram"]["buckets"] == np.bincount(confidence[confidence < 255], minlength=101).tolist()


def test_a_run_without_any_classified_pixel_is_still_valid_json(run):
    nothing = run.record.maps[0].model_copy(
        update={
            "classes": tuple(c.model_copy(update={"pixels": 0}) for c in run.record.maps[0].classes),
            "confidence_histogram": (0,) * 101,
            "no_data_pixels": 0,
        }
    )
    _, item = stac._map_item(run.out, run.record, nothing)
    json.dumps(item, allow_nan=False)
    assert "raster:histogram" not in item["assets"]["confidence"]["bands"][0]
    assert "percentage" not in item["assets"]["classes"]["classification:classes"][0]


def test_raster_fields_are_those_of_the_extension(run):
    """By hand, because no package holds the schema of version 2.0.0; the others: integration/test_stac_validator.py."""
    bands = [
        band
        for path in (run.out / "stac" / "items").iterdir()
        for asset in json.loads(path.read_text(encoding="utf-8"))["assets"].values()
        for band in asset.get("bands", [])
    ]
    assert len(bands) == 5
    for band in bands:
        fields = {key: value for key, value in band.items() if key.startswith("raster:")}
        assert fields.keys() <= {"raster:spatial_resolution", "raster:sampling", "raster:histogram"}
        assert fields["raster:spatial_resolution"] == 10
        assert fields["raster:sampling"] == "area"
        histogram = fields.get("raster:histogram", {"count": 0, "min": 0, "max": 0, "buckets": []})
        assert histogram.keys() == {"count", "min", "max", "buckets"}
        assert histogram["count"] == len(histogram["buckets"])
        assert all(isinstance(count, int) for count in histogram["buckets"])


def test_odc_stac_loads_the_maps_as_they_are(items, run):
    loaded = odc.stac.load([items["land-cover-2018-01"]], bands=["classes", "confidence"])
    np.testing.assert_array_equal(loaded.classes.values[0], run.classes["land-cover"])
    np.testing.assert_array_equal(loaded.confidence.values[0], run.confidence["land-cover"])
    assert (loaded.classes.dtype, loaded.classes.nodata, loaded.confidence.nodata) == (np.uint8, 0, 255)
    assert loaded.odc.geobox == run.grid


def test_stackstac_loads_the_maps_as_they_are(items, run):
    # stackstac takes hrefs as they stand.
    loaded = stackstac.stack(
        [items["crops-2018-01"].clone().make_asset_hrefs_absolute()],
        assets=["classes"],
        epsg=32631,
        dtype="uint8",
        fill_value=np.uint8(0),
        rescale=False,
        xy_coords="center",
        resolution=10,
        bounds=run.grid.extent.boundingbox.bbox,
    )
    np.testing.assert_array_equal(loaded.values[0, 0], run.classes["crops"])
    assert loaded.time.values[0] == np.datetime64("2018-01-01")


def test_folder_can_be_moved(run, tmp_path):
    shutil.copytree(run.out, tmp_path / "elsewhere")
    catalogue = pystac.Catalog.from_file(tmp_path / "elsewhere" / "catalog.json")
    hrefs = [
        asset.get_absolute_href() for item in catalogue.get_items(recursive=True) for asset in item.assets.values()
    ]
    assert len(hrefs) == 19
    assert all(href.startswith(str(tmp_path / "elsewhere")) for href in hrefs)


def test_same_run_same_bytes_and_nothing_half_written(run):
    before = {path: path.read_bytes() for path in documents(run)}
    write_catalogue(run.out, run.record)
    assert {path: path.read_bytes() for path in documents(run)} == before
    assert not list(run.out.rglob("*.part"))


def test_grid_without_a_code_gives_its_wkt(run):
    wkt = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=51 +lon_0=3 +datum=WGS84 +units=m").to_wkt()
    fields = stac_assets.grid_fields(run.record.grid.model_copy(update={"crs": wkt}))
    assert fields["proj:code"] is None
    assert rasterio.crs.CRS.from_wkt(fields["proj:wkt2"]) == rasterio.crs.CRS.from_wkt(wkt)


def test_names_that_differ_in_punctuation_only_stay_different(run):
    first, second, *_ = run.record.maps[0].classes
    alike = (first.model_copy(update={"name": "C1/C2"}), second.model_copy(update={"name": "C1-C2"}))
    rows = stac_assets.class_rows(run.record.maps[0].model_copy(update={"classes": alike}))
    assert [row["name"] for row in rows] == ["no_data", "c1-c2-1", "c1-c2-2"]


def test_bounds_over_the_antimeridian_run_from_east_to_west():
    both = shapely.union_all([shapely.box(178, -18, 180, -16), shapely.box(-180, -18, -179, -16)])
    assert stac._bbox(both) == [178, -18, -179, -16]


@pytest.mark.parametrize(
    ("text", "slug"),
    [("Grass & herbs", "grass-herbs"), ("Forêt", "for-t"), ("水", "6c34"), ("水田", "6c34-7530"), ("C1 - 2", "c1-2")],
)
def test_identifiers(text, slug):
    assert stac_assets.slug(text) == slug
