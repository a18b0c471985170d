"""Class maps read back: what ``write_class_map`` wrote, and files that are none."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN, LegendEntry
from timesenmap.pipeline.map_file import read_class_map, read_window, require_same_grid
from timesenmap.pipeline.rasters import write_class_map, write_confidence_map

CLASSES = [LegendEntry(1, "Cropland", "#e6b422"), LegendEntry(4, "Forêt & woods", "#1b5e20")]
GRID = GeoBox((700, 600), Affine(10, 0, 501360, 0, -10, 5629680), "EPSG:32631")
VALUES = np.random.default_rng(3).choice(np.array([0, 1, 4, 255], np.uint8), GRID.shape)


@pytest.fixture
def path(tmp_path):
    write_class_map(tmp_path / "m.tif", VALUES, GRID, [*CLASSES, UNKNOWN], tags={"TITLE": "Land cover, 2018"})
    return tmp_path / "m.tif"


def test_what_was_written_comes_back(path):
    found = read_class_map(path)
    assert found.classes == (*CLASSES, UNKNOWN)
    assert found.known == tuple(CLASSES)
    assert found.names == {1: "Cropland", 4: "Forêt & woods", 255: "unknown"}
    assert found.grid == GRID
    assert found.title == "Land cover, 2018"
    assert found.record.transform == (10, 0, 501360, 0, -10, 5629680)
    assert found.confidence_path == path.with_name("m.confidence.tif")
    np.testing.assert_array_equal(found[500:520, 30:600], VALUES[500:520, 30:600])
    np.testing.assert_array_equal(np.concatenate([found[window] for window in found.windows()]), VALUES)
    np.testing.assert_array_equal(found.pixels(), np.bincount(VALUES.ravel(), minlength=256))


def test_style_speaks_where_the_sidecar_is_lost(path):
    path.with_name("m.tif.aux.xml").unlink()
    assert read_class_map(path).classes == (*CLASSES, UNKNOWN)
    path.with_suffix(".qml").unlink()
    with pytest.raises(MapError, match=r"neither category names nor a QGIS style.*keep the \.aux\.xml and \.qml"):
        read_class_map(path)


def test_vrt_carries_names_and_colours(path):
    vrt = path.with_name("all.vrt")
    names = "".join(f"<Category>{name}</Category>" for name in ("no data", "Cropland", "", "", "Woods"))
    entries = '<Entry c1="0" c2="0" c3="0" c4="0"/>' * 4 + '<Entry c1="27" c2="94" c3="32" c4="255"/>'
    vrt.write_text(
        f"""<VRTDataset rasterXSize="600" rasterYSize="700"><SRS>EPSG:32631</SRS>
        <GeoTransform>501360, 10, 0, 5629680, 0, -10</GeoTransform>
        <VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue><ColorInterp>Palette</ColorInterp>
        <ColorTable>{entries}</ColorTable><CategoryNames>{names}</CategoryNames>
        <SimpleSource><SourceFilename relativeToVRT="1">m.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
        </VRTRasterBand></VRTDataset>"""
    )
    found = read_class_map(vrt)
    assert found.classes == (LegendEntry(1, "Cropland", "#000000"), LegendEntry(4, "Woods", "#1b5e20"))
    with pytest.raises(MapError, match=r"codes without a name \(255\)"):  # the VRT names no unknown
        found.pixels()


def test_other_files_are_refused_by_what_they_are(path, tmp_path):
    confidence = tmp_path / "m.confidence.tif"
    write_confidence_map(confidence, np.zeros(GRID.shape, np.uint8), GRID, tags={})
    with pytest.raises(MapError, match=r"no-data value is 255.*not its confidence"):
        read_class_map(confidence)
    with pytest.raises(MapError, match=r"nothing\.tif: cannot be read"):
        read_class_map(tmp_path / "nothing.tif")
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(MapError, match=r"text\.tif: cannot be read"):
        read_class_map(tmp_path / "text.tif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int16"}, "1 bands of int16"),
        ({"count": 3}, "3 bands of uint8"),
        ({"nodata": None}, "no-data value is None"),
        ({"crs": None}, "has no CRS"),
        ({"transform": Affine(10, 0, 0, 0, 10, 0)}, "not north-up"),
    ],
)
def test_rasters_of_another_form_are_refused(tmp_path, changes, message):
    form = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 9, "width": 9, "nodata": 0, "crs": "EPSG:32631"}
    with rasterio.open(tmp_path / "r.tif", "w", **(form | {"transform": GRID.affine} | changes)):
        pass
    with pytest.raises(MapError, match=message):
        read_class_map(tmp_path / "r.tif")


def test_grids_that_differ_are_refused_with_the_difference(path, tmp_path):
    moved, smaller = tmp_path / "moved.tif", tmp_path / "smaller.tif"
    write_class_map(moved, VALUES, GRID.pad(0).translate_pix(1, 0), [*CLASSES, UNKNOWN], tags={})
    write_class_map(smaller, VALUES[:99], GRID[:99], [*CLASSES, UNKNOWN], tags={})
    found = read_class_map(path)
    require_same_grid(found, path)
    with pytest.raises(MapError, match=r"not the same grid \(transform .*501360.* and .*501370.*same --aoi"):
        require_same_grid(found, moved)
    with pytest.raises(MapError, match=r"size \(y, x\) \(700, 600\) and \(99, 600\)"):
        require_same_grid(found, smaller)


def test_a_window_of_a_confidence_map(tmp_path):
    values = np.arange(700 * 600, dtype=np.uint32).reshape(GRID.shape) % 101
    write_confidence_map(tmp_path / "c.tif", values.astype(np.uint8), GRID, tags={})
    window = slice(512, 700), slice(0, 600)
    np.testing.assert_array_equal(read_window(tmp_path / "c.tif", window), values[window])
