"""Maps on disk, read back with rasterio, GDAL's own tools and rio-cogeo."""

import hashlib
import os
import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from timesenmap.pipeline import cog
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import CONFIDENCE, MARGIN, UNKNOWN, LegendEntry
from timesenmap.pipeline.rasters import (
    write_class_map,
    write_confidence_map,
    write_margin_map,
    write_observation_map,
    write_probability_map,
)

CLASSES = [
    LegendEntry(1, "Cropland", "#e6b422"),
    LegendEntry(4, "Forêt & woods", "#1b5e20"),
    LegendEntry(254, "Water", "#1565c0"),
]
TAGS = {"title": "Land cover 2018", "licence": "Contains modified Copernicus Sentinel data 2018"}


def grid_of(height: int, width: int, epsg: int = 32631) -> GeoBox:
    return GeoBox((height, width), Affine(10, 0, 501360, 0, -10, 5629680), f"EPSG:{epsg}")


def patches(height: int, width: int, *, size: int = 7, values=(0, 1, 4, 254)) -> np.ndarray:
    """Square patches of random classes, with single pixels strewn in."""
    rng = np.random.default_rng(5)
    coarse = rng.choice(values, (height // size + 1, width // size + 1)).astype(np.uint8)
    out = np.kron(coarse, np.ones((size, size), np.uint8))[:height, :width].copy()
    rng_mask = rng.random((height, width)) < 0.02
    out[rng_mask] = rng.choice(values, rng_mask.sum())
    return out


@pytest.fixture(scope="module")
def class_map(tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "land-cover.tif"
    values = patches(1100, 1300)
    write_class_map(path, values, grid_of(1100, 1300), CLASSES, tags=TAGS)
    return path, values


def test_values_grid_and_tags_come_back(class_map):
    path, values = class_map
    with rasterio.open(path) as src:
        np.testing.assert_array_equal(src.read(1), values)
        assert (src.count, src.dtypes, src.nodata) == (1, ("uint8",), 0)
        assert src.crs.to_epsg() == 32631
        assert src.transform == Affine(10, 0, 501360, 0, -10, 5629680)
        assert TAGS.items() <= src.tags().items()
        assert src.tags()["AREA_OR_POINT"] == "Area"
        assert src.block_shapes == [(512, 512)]
        assert src.compression.name == "deflate"


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (513, 511), (1100, 1300)])
def test_every_size_is_a_strictly_valid_cog(tmp_path, shape):
    values = np.clip(patches(*shape), 0, 100)
    write_class_map(tmp_path / "a.tif", np.where(values == 100, 4, values), grid_of(*shape), CLASSES, tags={})
    write_confidence_map(tmp_path / "b.tif", values, grid_of(*shape), tags={})
    write_observation_map(tmp_path / "c.tif", np.minimum(values, 12), grid_of(*shape), tags={})
    for name in "abc":
        assert cog_validate(tmp_path / f"{name}.tif", strict=True) == (True, [], [])


def test_colour_table_holds_the_classes(class_map):
    with rasterio.open(class_map[0]) as src:
        assert src.colorinterp[0].name == "palette"
        table = src.colormap(1)
    assert table[0][3] == 0
    assert {code: table[code] for code in (1, 4, 254)} == {
        1: (0xE6, 0xB4, 0x22, 255),
        4: (0x1B, 0x5E, 0x20, 255),
        254: (0x15, 0x65, 0xC0, 255),
    }
    # A TIFF palette has room for 256 colours, always: the others are black, which no class here is.
    assert {table[code][:3] for code in range(256) if code not in (1, 4, 254)} == {(0, 0, 0)}


def test_gdal_shows_names_colours_and_overviews(class_map):
    if not shutil.which("gdalinfo"):
        pytest.skip("gdalinfo is not installed (Debian: gdal-bin)")
    run = subprocess.run(["gdalinfo", class_map[0]], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in run.stdout.splitlines()]
    assert "LAYOUT=COG" in lines
    for expected in ("0: no data", "1: Cropland", "2:", "4: Forêt & woods", "254: Water", "4: 27,94,32,255"):
        assert expected in lines
    assert "Overviews: 650x550, 325x275" in lines


def test_unknown_has_its_place_in_map_legend_and_overviews(tmp_path):
    path, values = tmp_path / "m.tif", patches(1024, 1024, values=(0, 1, 4, 255))
    with pytest.raises(ValueError, match=r"without a meaning: \[255\]"):
        write_class_map(path, values, grid_of(1024, 1024), CLASSES, tags=TAGS)
    write_class_map(path, values, grid_of(1024, 1024), [*CLASSES, UNKNOWN], tags=TAGS)
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as src:
        np.testing.assert_array_equal(src.read(1), values)
        assert src.nodata == 0
        assert src.colormap(1)[255] == (0x7C, 0x7C, 0x7C, 255)
    with rasterio.open(path, overview_level=0) as src:
        overview = src.read(1)
    blocks = values.reshape(512, 2, 512, 2).transpose(0, 2, 1, 3).reshape(512, 512, 4)
    alone = (blocks == 255).sum(-1) > 2
    assert (overview[alone] == 255).all()
    assert ((blocks == 255).any(-1))[overview == 255].all()
    if shutil.which("gdalinfo"):
        lines = subprocess.run(["gdalinfo", path], capture_output=True, text=True, check=True).stdout.splitlines()
        assert {"255: unknown", "0: no data"} <= {line.strip() for line in lines}


@pytest.fixture(scope="module")
def probabilities():
    rng = np.random.default_rng(8)
    values = rng.integers(0, 101, (3, 700, 1100), np.uint8)
    values[:, :40] = 255
    return values


def test_probabilities_are_a_band_a_class(tmp_path, probabilities):
    path = tmp_path / "p.tif"
    store = zarr.create_array(store={}, shape=probabilities.shape, chunks=(1, 256, 256), dtype="uint8")
    store[:] = probabilities
    write_probability_map(path, store, grid_of(700, 1100), CLASSES, tags=TAGS)
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as src:
        np.testing.assert_array_equal(src.read(), probabilities)
        assert src.descriptions == tuple(entry.name for entry in CLASSES)
        assert (src.nodatavals, src.dtypes) == ((255,) * 3, ("uint8",) * 3)
        assert TAGS.items() <= src.tags().items()
    with rasterio.open(path, overview_level=0) as src:
        overview = src.read().astype(float)
    means = probabilities.reshape(3, 350, 2, 550, 2).mean(axis=(2, 4))
    assert np.abs(overview - means).max() <= 0.5
    assert not list(tmp_path.glob("*.part"))


def test_probabilities_of_another_number_of_classes_are_refused(tmp_path, probabilities):
    with pytest.raises(ValueError, match=r"values are \(3, 700, 1100\), the map is \(2, 700, 1100\)"):
        write_probability_map(tmp_path / "p.tif", probabilities, grid_of(700, 1100), CLASSES[:2], tags={})
    wrong = probabilities.copy()
    wrong[2, 600, 1000] = 101
    with pytest.raises(ValueError, match=r"without a meaning: \[101\]"):
        write_probability_map(tmp_path / "p.tif", wrong, grid_of(700, 1100), CLASSES, tags={})
    assert not list(tmp_path.iterdir())


def test_memory_for_many_bands_is_that_of_a_few_blocks(tmp_path, monkeypatch):
    """40 bands of 512 x 5120: a row of blocks is 105 MB, a block 10 MB; masks and copies of it are counted, too."""

    class Lazy:
        shape = (40, 512, 5120)

        def __getitem__(self, key):
            rows, columns = key[1:]
            return np.full((40, rows.stop - rows.start, columns.stop - columns.start), 7, np.uint8)

    monkeypatch.setattr(cog, "THREADS", 1)
    classes = [LegendEntry(code, f"class {code}", "#000000") for code in range(1, 41)]
    tracemalloc.start()
    try:
        write_probability_map(tmp_path / "p.tif", Lazy(), grid_of(512, 5120), classes, tags={})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 70e6


@pytest.mark.parametrize("level", [0, 1])
def test_no_class_in_an_overview_that_is_not_under_it(class_map, level):
    path, values = class_map
    factor = 2 ** (level + 1)
    with rasterio.open(path, overview_level=level) as src:
        overview = src.read(1)
        assert (src.height, src.width) == (1100 // factor, 1300 // factor)
    blocks = values.reshape(1100 // factor, factor, 1300 // factor, factor).transpose(0, 2, 1, 3)
    blocks = blocks.reshape(*overview.shape, -1)
    assert (blocks == overview[..., None]).any(axis=-1).all()
    if level == 0:  # the most frequent class, where one is more frequent than any other, no data left out
        counts = np.stack([(blocks == code).sum(-1) for code in (1, 4, 254)], axis=-1)
        ranked = np.sort(counts, axis=-1)
        clear = ranked[..., -1] > ranked[..., -2]
        assert clear.mean() > 0.5
        np.testing.assert_array_equal(overview[clear], np.array([1, 4, 254], np.uint8)[counts.argmax(-1)][clear])


def test_confidence_overview_is_the_mean_of_what_is_known(tmp_path):
    values = np.full((600, 600), 255, np.uint8)
    values[:2, :4] = [[10, 20, 40, 255], [30, 40, 255, 255]]
    write_confidence_map(tmp_path / "c.tif", values, grid_of(600, 600), tags={})
    with rasterio.open(tmp_path / "c.tif", overview_level=0) as src:
        assert src.read(1)[0, :3].tolist() == [25, 40, 255]
        assert src.nodata == 255


@pytest.mark.parametrize("threads", [1, 5])
def test_same_input_same_bytes(class_map, tmp_path, monkeypatch, threads):
    path, values = class_map
    store = zarr.create_array(tmp_path / "v.zarr", shape=values.shape, chunks=(100, 130), dtype="uint8")
    store[:] = values
    monkeypatch.setattr(cog, "THREADS", threads)
    write_class_map(tmp_path / "other-name.tif", store, grid_of(1100, 1300), CLASSES[::-1], tags=TAGS)
    for suffix in (".tif", ".tif.aux.xml", ".qml"):
        one = (path.parent / f"land-cover{suffix}").read_bytes()
        two = (tmp_path / f"other-name{suffix}").read_bytes()
        assert hashlib.sha256(one).digest() == hashlib.sha256(two).digest(), suffix


def test_bytes_do_not_depend_on_windows_and_threads(tmp_path, monkeypatch):
    """Three levels: in two passes over few windows, and over many."""
    values = patches(2300, 3100, size=40)
    maps = []
    for name, threads, side in (("a.tif", 1, 2048), ("b.tif", 4, 512)):
        monkeypatch.setattr(cog, "THREADS", threads)
        monkeypatch.setattr(cog, "_SIDE", side)
        write_class_map(tmp_path / name, values, grid_of(2300, 3100), CLASSES, tags=TAGS)
        maps.append((tmp_path / name).read_bytes())
    assert maps[0] == maps[1]


def test_no_more_than_a_window_is_asked_for_at_once_and_each_pixel_once(tmp_path, monkeypatch):
    class Watched:
        shape = (2100, 9000)

        def __init__(self):
            self.windows = []
            self.times = np.zeros(self.shape, np.uint8)

        def __getitem__(self, key):
            self.windows.append([part.stop - part.start for part in key])
            self.times[key] += 1
            return np.ones(self.windows[-1], np.uint8)

    monkeypatch.setattr(cog, "THREADS", 2)
    watched = Watched()
    tracemalloc.start()
    write_class_map(tmp_path / "w.tif", watched, grid_of(*watched.shape), CLASSES, tags={})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array(watched.windows).max() == 2048
    assert (watched.times == 1).all()
    assert peak < watched.times.nbytes + 14 * 2048 * 2048


def test_class_map_leaves_exactly_its_three_files(tmp_path):
    write_class_map(tmp_path / "m.tif", patches(90, 90), grid_of(90, 90), CLASSES, tags={})
    write_confidence_map(tmp_path / "m.confidence.tif", np.zeros((90, 90), np.uint8), grid_of(90, 90), tags={})
    assert {p.name for p in tmp_path.iterdir()} == {
        "m.tif",
        "m.tif.aux.xml",
        "m.qml",
        "m.confidence.tif",
        "m.confidence.qml",
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((90, 90), 3, np.uint8), r"rows 0-89, columns 0-89 hold values without a meaning: \[3\]"),
        (np.ones((90, 91), np.uint8), r"\(90, 91\).*\(90, 90\)"),
        (np.ones((90, 90), np.int16), "int16"),
    ],
)
def test_failure_leaves_the_previous_map_and_nothing_else(tmp_path, values, message):
    path = tmp_path / "m.tif"
    write_class_map(path, np.ones((90, 90), np.uint8), grid_of(90, 90), CLASSES, tags={})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        write_class_map(path, values, grid_of(90, 90), CLASSES, tags={})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("level", [0, 1])
def test_a_map_that_reads_back_differently_is_an_error(tmp_path, monkeypatch, level):
    """A damaged level 1 is what a disk that fills up while its temporary file is closed leaves: blocks of no data."""
    real_copy = rasterio.shutil.copy

    def copy_and_damage(src, dst, **options):
        if options["driver"] == "COG" and level:
            with rasterio.open(src.with_name("1.tif"), "r+") as source:
                source.write(np.zeros((1, 300, 300), np.uint8))
        real_copy(src, dst, **options)
        if options["driver"] == "COG" and not level:
            with rasterio.open(dst, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
                target.write(np.zeros((1, 600, 600), np.uint8))

    monkeypatch.setattr(cog.rasterio.shutil, "copy", copy_and_damage)
    with pytest.raises(OSError, match="disk full"):
        write_class_map(tmp_path / "m.tif", np.ones((600, 600), np.uint8), grid_of(600, 600), CLASSES, tags={})
    assert list(tmp_path.iterdir()) == []


def test_remains_of_a_killed_run_are_cleared(tmp_path):
    (tmp_path / "m.tif.part").mkdir()
    (tmp_path / "m.tif.part" / "flat.tif").write_bytes(b"half")
    write_class_map(tmp_path / "m.tif", np.ones((9, 9), np.uint8), grid_of(9, 9), CLASSES, tags={})
    assert not (tmp_path / "m.tif.part").exists()


def test_confidence_and_months_refuse_other_values(tmp_path):
    with pytest.raises(ValueError, match=r"\[101\]"):
        write_confidence_map(tmp_path / "c.tif", np.full((9, 9), 101, np.uint8), grid_of(9, 9), tags={})
    with pytest.raises(ValueError, match=r"\[13\]"):
        write_observation_map(tmp_path / "o.tif", np.full((9, 9), 13, np.uint8), grid_of(9, 9), tags={})


def test_margin_is_percent_with_a_style_of_its_own(tmp_path):
    values = np.clip(patches(600, 700), 0, 100)
    values[:5] = 255
    write_margin_map(tmp_path / "m.tif", values, grid_of(600, 700), tags=TAGS)
    with rasterio.open(tmp_path / "m.tif") as src:
        np.testing.assert_array_equal(src.read(1), values)
        assert (src.nodata, src.descriptions) == (255, ("margin (%)",))
        assert TAGS.items() <= src.tags().items()
    assert cog_validate(tmp_path / "m.tif", strict=True) == (True, [], [])
    style = (tmp_path / "m.qml").read_text(encoding="utf-8")
    assert all(f'color="{colour}"' in style for _, colour in MARGIN.stops)
    with pytest.raises(ValueError, match=r"\[101\]"):
        write_margin_map(tmp_path / "n.tif", np.full((9, 9), 101, np.uint8), grid_of(9, 9), tags={})


def test_south_up_grid_is_refused(tmp_path):
    upside_down = GeoBox((9, 9), Affine(10, 0, 0, 0, 10, 0), "EPSG:32631")
    with pytest.raises(ValueError, match="north-up"):
        write_class_map(tmp_path / "m.tif", np.ones((9, 9), np.uint8), upside_down, CLASSES, tags={})


def test_class_codes_are_checked_before_anything_is_written(tmp_path):
    with pytest.raises(MapError, match="used twice"):
        write_class_map(tmp_path / "m.tif", np.ones((9, 9), np.uint8), grid_of(9, 9), [*CLASSES, CLASSES[0]], tags={})
    assert list(tmp_path.iterdir()) == []


def test_confidence_style_is_the_ramp(tmp_path):
    write_confidence_map(tmp_path / "c.tif", np.zeros((9, 9), np.uint8), grid_of(9, 9), tags={})
    text = (tmp_path / "c.qml").read_text(encoding="utf-8")
    for _, colour in CONFIDENCE.stops:
        assert f'color="{colour}"' in text


def test_the_block_cache_is_limited_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("GDAL_CACHEMAX", "64")
    cog.limit_block_cache()
    assert os.environ["GDAL_CACHEMAX"] == "64"
    monkeypatch.delenv("GDAL_CACHEMAX")
    cog.limit_block_cache()
    assert os.environ["GDAL_CACHEMAX"] == "128"
