"""The picture of a run, the figures in it, and text in pictures."""

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from outputs_fixture import CROPS, HOSTILE, LAND_COVER, make_run
from PIL import Image

from timesenmap.pipeline import figures, lettering, pictures, preview
from timesenmap.pipeline.legend import CONFIDENCE, UNKNOWN, LegendEntry, rgb
from timesenmap.pipeline.rasters import write_class_map, write_confidence_map
from timesenmap.pipeline.record import GridRecord


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def words(monkeypatch):
    """Every text that is drawn."""
    drawn = []
    write = lettering.write
    monkeypatch.setattr(
        lettering, "write", lambda draw, at, text, size, **kw: (drawn.append(text), write(draw, at, text, size, **kw))
    )
    return drawn


def grid_record(crs="EPSG:32631", shape=(100, 200), transform=(10, 0, 501360, 0, -10, 5629680)):
    return GridRecord(crs=crs, shape=shape, transform=transform, resolution=transform[0])


# --- figures


def test_pixel_area_in_metres_and_in_feet():
    assert figures.pixel_hectares(grid_record()) == pytest.approx(0.01)
    feet = grid_record(crs="EPSG:2263", transform=(100, 0, 980000, 0, -100, 200000))
    assert figures.pixel_hectares(feet) == pytest.approx((100 * 0.3048006096) ** 2 / 1e4)
    assert figures.metres_a_pixel(feet) == pytest.approx(30.48006096)


def test_pixel_area_in_degrees_is_the_mean_on_the_ellipsoid():
    grid = grid_record(crs="EPSG:4326", shape=(1000, 1000), transform=(0.001, 0, 4.0, 0, -0.001, 51.0))
    lat = np.radians(51.0 - 0.001 * (np.arange(1000) + 0.5))
    a, e2 = 6378137.0, 0.00669437999014
    meridian = a * (1 - e2) / (1 - e2 * np.sin(lat) ** 2) ** 1.5
    parallel = a * np.cos(lat) / np.sqrt(1 - e2 * np.sin(lat) ** 2)
    expected = (meridian * parallel * np.radians(0.001) ** 2).mean() / 1e4
    assert figures.pixel_hectares(grid) == pytest.approx(expected, rel=1e-4)


def test_class_areas_are_those_of_the_array(run):
    areas = figures.class_areas(run.record.maps[0], run.record.grid)
    values = run.classes["land-cover"]
    codes, counts = np.unique(values[values > 0], return_counts=True)
    assert {a.code: a.pixels for a in areas} == dict(zip(codes.tolist(), counts.tolist(), strict=True))
    assert [a.pixels for a in areas] == sorted((a.pixels for a in areas), reverse=True)
    assert sum(a.share for a in areas) == pytest.approx(1)
    assert sum(a.hectares for a in areas) == pytest.approx((values > 0).sum() / 100)


def test_mean_confidence_is_that_of_the_array(run):
    confidence = run.confidence["crops"]
    assert figures.mean_confidence(run.record.maps[1]) == pytest.approx(confidence[confidence < 255].mean())


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [("2018-01", "2018-12", "January to December 2018"), ("2017-08", "2018-07", "August 2017 to July 2018")],
)
def test_period_in_words(run, first, last, words):
    months = (first, *["x"] * 10, last)
    observations = run.record.observations.model_copy(update={"months": months})
    assert figures.period(run.record.model_copy(update={"observations": observations})) == words


def test_area_comes_back_in_the_grid_pixel_by_pixel(run):
    geometry = figures.aoi_in_grid(run.record)
    mask = rasterio.features.geometry_mask([geometry], run.grid.shape, run.grid.affine, invert=True)
    np.testing.assert_array_equal(mask, run.inside)


def test_footprint_holds_every_corner_pixel():
    footprint = figures.footprint(grid_record())
    to_lonlat = pyproj.Transformer.from_crs(32631, 4326, always_xy=True)
    for x in (501365, 503355):
        for y in (5629675, 5628685):
            assert footprint.contains(shapely.Point(to_lonlat.transform(x, y)))
    assert not footprint.contains(shapely.Point(to_lonlat.transform(501355, 5629675)))


def test_shares_are_of_what_was_seen_unknown_or_not(tmp_path):
    run = make_run(tmp_path, height=90, width=100, maps=1, unknown_below=0.6)
    map_record = run.record.maps[0]
    values = run.classes["land-cover"]
    unknown = figures.unknown_area(map_record, run.record.grid)
    assert (unknown.pixels, unknown.name) == ((values == 255).sum(), "unknown (below 60%)")
    areas = figures.class_areas(map_record, run.record.grid)
    assert 255 not in {area.code for area in areas}
    assert sum(area.share for area in areas) + unknown.share == pytest.approx(1)
    assert figures.unknown_area(map_record.model_copy(update={"unknown": None}), run.record.grid) is None


@pytest.mark.parametrize(("below", "words"), [(0.6, "60%"), (0.625, "62.5%"), (0.57, "57%"), (1.0, "100%")])
def test_threshold_in_words(run, below, words):
    assert figures.unknown_rule(run.record.maps[0].model_copy(update={"unknown_below": below})) == f"below {words}"


# --- pictures


def test_grey_of_the_unseen_takes_no_class_its_colour():
    """Of 256 places in the palette 254 classes and unknown leave one, and 0 is transparent."""
    classes = [LegendEntry(code, f"class {code}", f"#00{code:02x}00") for code in range(1, 255)]
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values[0, 1:4] = 9  # the classes 1, 2 and 3 are in the legend, not in the picture
    unseen = values == 0
    rgba = np.asarray(pictures.colour_classes(values, [*classes, UNKNOWN], unseen=unseen).convert("RGBA"))
    assert rgba[0, 0].tolist() == [*rgb(pictures.NO_DATA_COLOUR), 255]
    assert rgba[15, 15].tolist() == [*rgb(UNKNOWN.colour), 255]
    for code in (4, 9, 254):
        assert (rgba[values == code] == [0, code, 0, 255]).all()


def test_large_map_is_read_small_without_new_classes(tmp_path):
    height, width = 2000, 3000
    values = np.full((height, width), 1, np.uint8)
    values[:, 1500:] = 200
    values[:100] = 0
    grid = GeoBox((height, width), Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    classes = [LegendEntry(1, "a", "#ff0000"), LegendEntry(200, "b", "#0000ff")]
    write_class_map(tmp_path / "m.tif", values, grid, classes, tags={})
    small = pictures.read_picture(tmp_path / "m.tif", longest=300, categories=True)
    assert set(np.unique(small)) == {0, 1, 200}
    # The picture is made from the 8 times coarser overview: its pixels at an edge may fall to either side.
    inner = np.ones_like(small, dtype=bool)
    inner[9:11] = inner[:, 149:151] = False
    np.testing.assert_array_equal(small[inner], values[5::10, 5::10][inner])
    assert pictures.read_picture(tmp_path / "m.tif", longest=9000, categories=True).shape == (height, width)


def test_small_confidence_is_a_mean_and_ignores_no_data(tmp_path):
    values = np.full((400, 400), 255, np.uint8)
    values[:200, ::2], values[:200, 1::2], values[200:, ::2] = 20, 60, 80
    grid = GeoBox((400, 400), Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    write_confidence_map(tmp_path / "c.tif", values, grid, tags={})
    small = pictures.read_picture(tmp_path / "c.tif", longest=100, categories=False)
    assert (np.unique(small[:50]).tolist(), np.unique(small[50:]).tolist()) == ([40], [80])


def test_coloured_classes_are_exact_and_the_rest_transparent():
    values = np.array([[0, 1], [200, 7]], np.uint8)
    picture = pictures.colour_classes(values, [LegendEntry(1, "a", "#ff8000"), LegendEntry(200, "b", "#0000ff")])
    rgba = np.asarray(picture.convert("RGBA"))
    assert rgba[0, 1].tolist() == [255, 128, 0, 255]
    assert rgba[1, 0].tolist() == [0, 0, 255, 255]
    assert rgba[0, 0, 3] == rgba[1, 1, 3] == 0


def test_coloured_ramp_reaches_both_ends():
    rgba = np.asarray(pictures.colour_ramp(np.array([[0, 100, 255]], np.uint8), CONFIDENCE).convert("RGBA"))
    assert rgba[0].tolist() == [[*rgb("#440154"), 255], [*rgb("#fde725"), 255], [*rgba[0, 2, :3].tolist(), 0]]


# --- the preview itself


def colours_of(picture: Image.Image) -> set[tuple[int, int, int]]:
    packed = np.asarray(picture.convert("RGB")).astype(int) @ [65536, 256, 1]
    return {(c >> 16, c >> 8 & 255, c & 255) for c in np.unique(packed).tolist()}


def test_preview_names_the_classes_that_occur_and_only_those(run, words):
    preview.draw_preview(run.out, run.record)
    present = {c.name for m in run.record.maps for c in m.classes if c.pixels}
    absent = {c.name for m in run.record.maps for c in m.classes} - present
    assert len(absent) == 8
    begun = {word.removesuffix("…") for word in words if word}
    assert all(any(name == word or (len(word) > 15 and name.startswith(word)) for word in begun) for name in present)
    assert not absent & set(words)
    share = (run.classes["land-cover"] == 2).sum() / (run.classes["land-cover"] > 0).sum()
    assert words[words.index("Cropland") - 1] == f"{share:.0%}"
    for expected in ("Fields near Ypres, 2018", "Land cover", "Crops", "1 km", "N", "no clear observation"):
        assert expected in words
    assert any(text.startswith("Contains modified Copernicus Sentinel data 2018.") for text in words)


def test_preview_shows_the_colours_of_the_map(run):
    shown = colours_of(preview.draw_preview(run.out, run.record))
    values = run.classes["land-cover"]
    for entry in LAND_COVER:
        assert (rgb(entry.colour) in shown) == bool((values == entry.code).any()), entry
    for entry in CROPS:
        assert (rgb(entry.colour) in shown) == bool((run.classes["crops"] == entry.code).any()), entry
    assert rgb(pictures.NO_DATA_COLOUR) in shown


def test_map_in_the_preview_lies_where_the_array_says(run):
    """Middle of every pixel of the panel against the array; outside the area and its hole stays paper."""
    panel = preview._panel(run.out, run.record, run.record.maps[0], 420 * 4)
    seen = np.asarray(panel)[2::4, 2::4].astype(int)
    table = np.full((256, 3), 255)
    for entry in LAND_COVER:
        table[entry.code] = rgb(entry.colour)
    expected = table[run.classes["land-cover"]]
    expected[run.inside & (run.classes["land-cover"] == 0)] = rgb(pictures.NO_DATA_COLOUR)
    # Pixels that the outline crosses are drawn over.
    edge = rasterio.features.rasterize(
        [shapely.boundary(figures.aoi_in_grid(run.record)).buffer(15)],
        run.grid.shape,
        transform=run.grid.affine,
        all_touched=True,
    )
    np.testing.assert_array_equal(seen[edge == 0], expected[edge == 0])
    assert (edge == 0).mean() > 0.95
    assert (seen[edge == 1] == rgb(preview._OUTLINE)).all(axis=-1).mean() > 0.2


def test_many_classes_are_summed_up_where_the_legend_is_full(run, words):
    preview._legend(run.record, run.record.maps[1], 900, columns=1, rows=6)
    assert "14 more classes" in words
    assert words.count("no clear observation") == 1


@pytest.mark.parametrize(
    "shape",
    [{"height": 1, "width": 1}, {"height": 9, "width": 300}, {"height": 300, "width": 9}, {"height": 64, "width": 64}],
)
@pytest.mark.parametrize("maps", [1, 2])
def test_any_shape_can_be_drawn(tmp_path, shape, maps):
    run = make_run(tmp_path, maps=maps, **shape)
    path = preview.write_preview(tmp_path, run.record)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert 600 < picture.width < 2000
    assert not list(tmp_path.glob("*.part"))


def test_same_run_same_picture(run, tmp_path):
    preview.write_preview(run.out, run.record)
    first = (run.out / "preview.png").read_bytes()
    preview.write_preview(run.out, run.record)
    assert (run.out / "preview.png").read_bytes() == first


@pytest.mark.parametrize(
    ("most", "length"), [(1, 1), (1.99, 1), (2, 2), (4999, 2000), (5000, 5000), (0.7, 0.5), (99999, 50000)]
)
def test_scale_bar_lengths_are_round(most, length):
    assert preview._round_length(most) == pytest.approx(length)


@pytest.mark.parametrize(
    ("share", "text"), [(0.5, "50%"), (0.0996, "10%"), (0.0994, "9.9%"), (0.001, "0.1%"), (0.0004, "<0.1%"), (0, "0%")]
)
def test_shares_in_words(share, text):
    assert figures.percent(share) == text


# --- lettering


def test_latin_text_is_set_as_it_stands():
    assert lettering.setting("Wheat (durum), 100%", 20)[0] == "Wheat (durum), 100%"


def test_letters_the_fonts_lack_lose_their_accents_or_become_a_question_mark(monkeypatch):
    monkeypatch.setattr(lettering, "_of_machine", lambda size: None)
    assert lettering.setting("Forêt d'été — Łąka Straße 水", 20)[0] == "Foret d'ete - ?aka Strasse ?"


def test_a_font_with_more_letters_is_used_where_the_machine_has_one():
    if lettering._of_machine(20) is None:
        pytest.skip("none of the usual fonts is installed")
    assert lettering.setting("prairie humide d'été", 20)[0] == "prairie humide d'été"


def test_shortened_and_wrapped_text_fits():
    assert lettering.shorten("short", 20, 500) == "short"
    cut = lettering.shorten(HOSTILE, 20, 150)
    assert cut.endswith("…")
    assert lettering.width(cut, 20) <= 150
    lines = lettering.wrap(HOSTILE + " " + "x" * 400, 20, 150)
    assert len(lines) > 3
    assert all(lettering.width(line, 20) <= 150 for line in lines)
