"""The generated demonstration, looked at from outside: files, STAC, pixels, and what a user would check."""

import csv
import datetime as dt
import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import Polygon, shape

from timesenmap.catalogs import demonstration_spectra, demonstration_weather
from timesenmap.catalogs.bands import BANDS
from timesenmap.catalogs.demonstration import Demonstration, _area, make_demonstration
from timesenmap.catalogs.demonstration_covers import CROPS, TABLE
from timesenmap.catalogs.demonstration_landscape import draw_landscape
from timesenmap.catalogs.demonstration_noise import cells, chance
from timesenmap.catalogs.demonstration_scenes import cast_shade, classify
from timesenmap.catalogs.errors import CatalogError

SIZE = 96
CLOUDY = (3, 7, 8, 9, 10)  # SCL: shadow, unsure, cloud, cirrus
FINE = {"B02", "B03", "B04", "B08"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    return make_demonstration(tmp_path_factory.mktemp("demonstration") / "place", size=SIZE)


@pytest.fixture(scope="module")
def items(demo: Demonstration) -> list[pystac.Item]:
    return sorted(pystac.Catalog.from_file(demo.catalog).get_items(recursive=True), key=lambda i: i.datetime)


def read(item: pystac.Item, band: str) -> np.ndarray:
    """DN on the 10 m grid, coarse pixels repeated."""
    with rasterio.open(item.assets[band].get_absolute_href()) as source:
        values = source.read(1)
    return values if band in FINE else np.repeat(np.repeat(values, 2, 0), 2, 1)


def reflectance(item: pystac.Item, band: str) -> np.ndarray:
    """The rule of Planetary Computer's documentation, written down once more: +1000 from baseline 04.00 on."""
    offset = 1000 if item.properties["s2:processing_baseline"] >= "04.00" else 0
    return (read(item, band).astype(float) - offset) / 10000


def truth(demo: Demonstration) -> np.ndarray:
    with rasterio.open(demo.truth) as source:
        return source.read(1)


@pytest.fixture(scope="module")
def monthly(items: list[pystac.Item]) -> dict[str, np.ndarray]:
    """Monthly medians of clear pixels (12, y, x) of B03, B04, B08 and B11, by plain NumPy; NaN where none."""
    stacks: dict[str, list[np.ndarray]] = {"B03": [], "B04": [], "B08": [], "B11": []}
    for item in items:
        hidden = np.isin(read(item, "SCL"), (0, *CLOUDY, 11))
        for band, stack in stacks.items():
            stack.append(np.where(hidden, np.nan, reflectance(item, band)))
    months = np.array([item.datetime.month for item in items])
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        return {
            band: np.stack([np.nanmedian(np.stack(stack)[months == m], axis=0) for m in range(1, 13)])
            for band, stack in stacks.items()
        }


# ------------------------------------------------------------------------------------------------ files


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_seed_gives_the_same_bytes(demo: Demonstration, tmp_path: Path) -> None:
    again = make_demonstration(tmp_path / "elsewhere", size=SIZE)
    first, second = checksums(demo.folder), checksums(again.folder)
    assert first == second
    assert len(first) == demo.scenes * 12 + 7


def test_another_seed_draws_another_place(demo: Demonstration) -> None:
    ours, other = draw_landscape(SIZE, demo.seed), draw_landscape(SIZE, demo.seed + 1)
    assert np.mean(ours.cover != other.cover) > 0.3


def test_catalogue_survives_a_move_and_every_asset_opens(demo: Demonstration, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(demo.folder, moved)
    for document in moved.rglob("*.json"):
        assert str(demo.folder.parent) not in document.read_text()
    found = list(pystac.Catalog.from_file(moved / "catalog.json").get_items(recursive=True))
    assert len(found) == demo.scenes
    for item in found:
        assert set(item.assets) == {*BANDS, "SCL"}
        for asset in item.assets.values():
            with rasterio.open(asset.get_absolute_href()) as source:
                assert Path(source.name).is_relative_to(moved)


def test_rasters_are_cogs_on_the_grid_their_items_state(demo: Demonstration, items: list[pystac.Item]) -> None:
    for key, asset in items[0].assets.items():
        valid, errors, warnings = cog_validate(asset.get_absolute_href())
        assert (valid, errors, warnings) == (True, [], []), key
    for item in items:
        assert item.properties["proj:code"] == "EPSG:32632"
        for key, asset in item.assets.items():
            resolution = 10 if key in FINE else 20
            with rasterio.open(asset.get_absolute_href()) as source:
                assert source.crs.to_epsg() == 32632
                assert source.res == (resolution, resolution)
                assert source.bounds.left % 20 == source.bounds.top % 20 == 0
                assert source.shape == (SIZE * 10 // resolution,) * 2
                assert source.dtypes == (("uint8",) if key == "SCL" else ("uint16",))
                assert source.nodata == 0
                assert source.compression.name == "deflate"
                assert list(source.shape) == asset.extra_fields["proj:shape"]
                assert list(source.transform)[:6] == asset.extra_fields["proj:transform"]
    with rasterio.open(demo.truth) as made, rasterio.open(items[0].assets["B04"].get_absolute_href()) as band:
        assert (made.transform, made.shape, made.crs) == (band.transform, band.shape, band.crs)


def test_items_are_valid_stac(items: list[pystac.Item]) -> None:
    pytest.importorskip("jsonschema", reason="schemas are checked where jsonschema is installed")
    from pystac.validation import validate_dict

    for item in items:
        core = item.to_dict() | {"stac_extensions": []}  # the extensions' schemas are on the network
        assert validate_dict(core) == ["https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"]


def test_a_second_call_finds_the_first_and_anything_else_is_refused(demo: Demonstration, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.folder.rglob("*")}
    assert make_demonstration(demo.folder, size=SIZE) == demo
    assert before == {path: path.stat().st_mtime_ns for path in demo.folder.rglob("*")}
    with pytest.raises(CatalogError, match="something else"):
        make_demonstration(demo.folder, size=SIZE, seed=1)
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(CatalogError, match="something else"):
        make_demonstration(tmp_path, size=SIZE)
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize(("size", "seed"), [(95, 1), (64, 1), (97, 1), (0, 1), (96, -1)])
def test_impossible_sizes_and_seeds_are_refused(tmp_path: Path, size: int, seed: int) -> None:
    with pytest.raises(CatalogError, match=r"size|seed"):
        make_demonstration(tmp_path / "new", size=size, seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_an_interrupted_call(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total > 50) == (1, True)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_demonstration(tmp_path / "place", size=SIZE, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ year and sky


def test_two_orbits_return_every_ten_days_with_gaps(items: list[pystac.Item]) -> None:
    for number, satellite in ((65, "sentinel-2b"), (22, "sentinel-2a")):
        own = [i for i in items if i.properties["sat:relative_orbit"] == number]
        assert {i.properties["platform"] for i in own} == {satellite}
        days = np.diff([i.datetime.toordinal() for i in own])
        assert set(days % 10) == {0}
        assert days.max() > 10, "no acquisition is missing"
        assert np.median(days) == 10


def test_one_month_has_no_clear_pixel_and_every_other_month_has(demo: Demonstration, items: list[pystac.Item]) -> None:
    clear = np.zeros((12, SIZE, SIZE), int)
    for item in items:
        clear[item.datetime.month - 1] += ~np.isin(read(item, "SCL"), (0, *CLOUDY))
    without = tuple(month for month in range(1, 13) if not clear[month - 1].any())
    assert without == demo.months_without == (11,)
    assert any(item.datetime.month == 11 for item in items), "the month has scenes, all of them overcast"
    for month in set(range(1, 13)) - set(without):
        assert np.mean(clear[month - 1] > 0) > 0.8, month


def test_neighbouring_dates_agree_only_when_the_offset_is_heeded(items: list[pystac.Item]) -> None:
    compared = 0
    for before, after in itertools.pairwise(items):
        baselines = [item.properties["s2:processing_baseline"] >= "04.00" for item in (before, after)]
        if (after.datetime - before.datetime).days > 3 or baselines[0] == baselines[1]:
            continue
        clear = np.isin(read(before, "SCL"), (4, 5)) & np.isin(read(after, "SCL"), (4, 5))
        snowy = any(np.mean(read(item, "SCL") == 11) > 0.05 for item in (before, after))
        if clear.sum() < 500 or snowy:
            continue
        compared += 1
        for band in ("B02", "B04", "B08", "B11"):
            right = np.median((reflectance(after, band) - reflectance(before, band))[clear])
            wrong = np.median((read(after, band).astype(float) - read(before, band))[clear]) / 10000
            assert abs(right) < 0.03, (after.id, band)
            assert abs(abs(wrong) - 0.1) < 0.03, (after.id, band)
    assert compared >= 5


def test_every_month_and_both_orbits_mix_baselines(items: list[pystac.Item]) -> None:
    kinds = {(i.properties["sat:relative_orbit"], i.properties["s2:processing_baseline"] >= "04.00") for i in items}
    assert kinds == {(65, False), (65, True), (22, False), (22, True)}
    assert {i.properties["s2:processing_baseline"] for i in items} == {"02.14", "03.00", "03.01", "05.00"}
    declared = json.dumps([item.to_dict() for item in items])
    assert "raster:" not in declared
    assert "boa_offset" not in declared


def test_swath_edge_is_slanted_nodata_and_the_footprint_says_so(items: list[pystac.Item]) -> None:
    for item in items:
        with rasterio.open(item.assets["SCL"].get_absolute_href()) as source:
            scl, transform = source.read(1), source.transform
        footprint = transform_geom("EPSG:4326", "EPSG:32632", item.geometry)
        inside = geometry_mask([footprint], scl.shape, transform, invert=True)
        assert np.mean(inside != (scl != 0)) < 0.005, item.id
        for band in BANDS:
            assert np.array_equal(read(item, band) == 0, np.repeat(np.repeat(scl == 0, 2, 0), 2, 1)), (item.id, band)
        if item.properties["sat:relative_orbit"] == 65:
            assert (scl != 0).all()
        else:
            first = (scl != 0).argmax(axis=1)
            assert 0.4 < np.mean(scl != 0) < 0.8
            assert first[0] - first[-1] > 0.15 * len(first), "the edge leans to the south-west"


def test_scl_marks_the_clouds_that_the_pixels_show(items: list[pystac.Item]) -> None:
    checked = 0
    for item in items:
        scl, blue = read(item, "SCL"), reflectance(item, "B02")
        cloud, ground = np.isin(scl, (8, 9)), np.isin(scl, (4, 5, 6))
        valid = scl != 0
        assert item.properties["eo:cloud_cover"] == pytest.approx(
            100 * np.isin(scl, (8, 9, 10)).sum() / valid.sum(), abs=0.01
        )
        if cloud.sum() > 300 and ground.sum() > 300:
            checked += 1
            assert np.median(blue[scl == 9]) > 0.4
            assert np.median(blue[ground]) < 0.12
            assert np.mean(blue[ground] > 0.25) < 0.02, "clouds left in clear pixels"
    assert checked >= 5


def test_shadows_fall_away_from_the_sun() -> None:
    meadow = np.tile(np.array([0.03, 0.06, 0.05, 0.1, 0.3, 0.35, 0.38, 0.39, 0.2, 0.1], np.float32), (160, 160, 1))
    cumulus = [a for a in demonstration_weather.plan_year(20260611) if a.sky == "cumulus"]
    assert len(cumulus) >= 3
    for acquisition in cumulus[:3]:
        sky = demonstration_weather.draw_sky(acquisition, 320, 5)
        scl = classify(meadow, sky, np.ones((160, 160), bool))
        cloud, shadow = np.isin(scl, (8, 9)).astype(float), (scl == 3).astype(float)
        # Where the cloud mask has to be moved to lie best on the shadows.
        match = np.fft.ifft2(np.fft.fft2(shadow - shadow.mean()) * np.conj(np.fft.fft2(cloud - cloud.mean()))).real
        down, right = (int(n) - 160 * (n > 80) for n in np.unravel_index(match.argmax(), match.shape))
        elevation, azimuth = acquisition.sun
        bearing = np.rad2deg(np.arctan2(right, -down)) % 360
        assert abs((bearing - azimuth) % 360 - 180) < 8
        assert np.hypot(down, right) * 20 == pytest.approx(1100 / np.tan(np.deg2rad(elevation)), abs=30)


def test_sun_stands_where_the_almanac_says() -> None:
    latitude, declination = 48.1, 23.44
    noon = dt.datetime(2021, 6, 21, 11, 18, 40, tzinfo=dt.UTC)  # local noon at 10.9 degrees east, 2 min behind the mean
    assert demonstration_weather.sun_position(noon)[0] == pytest.approx(90 - latitude + declination, abs=0.3)
    assert demonstration_weather.sun_position(noon)[1] == pytest.approx(180, abs=1)
    noon = dt.datetime(2021, 12, 21, 11, 14, tzinfo=dt.UTC)
    assert demonstration_weather.sun_position(noon)[0] == pytest.approx(90 - latitude - declination, abs=0.3)
    morning = dt.datetime(2021, 3, 20, 5, 23, tzinfo=dt.UTC)  # the equinox's sunrise is in the east
    assert demonstration_weather.sun_position(morning)[0] == pytest.approx(0, abs=1)
    assert demonstration_weather.sun_position(morning)[1] == pytest.approx(90, abs=1.5)


def test_snow_is_seen_once_and_labelled(items: list[pystac.Item]) -> None:
    white = [item for item in items if np.mean(read(item, "SCL") == 11) > 0.2]
    assert len(white) == 1
    assert white[0].datetime.month == 1
    snow = read(white[0], "SCL") == 11
    b03, b11 = reflectance(white[0], "B03")[snow], reflectance(white[0], "B11")[snow]
    assert np.median((b03 - b11) / (b03 + b11)) > 0.4


# ------------------------------------------------------------------------------------------------ land


def test_truth_has_every_land_cover_and_crops_lie_on_cropland(demo: Demonstration) -> None:
    cover = truth(demo)
    shares = np.bincount(cover.ravel(), minlength=9) / cover.size
    assert set(np.unique(cover)) == set(range(1, 9))
    assert shares[[2, 3, 5]].min() > 0.1
    assert shares[1:].min() > 0.005
    with rasterio.open(demo.crops) as source:
        crops = source.read(1)
    assert np.array_equal(crops > 0, cover == 2)
    with demo.crop_legend.open() as lines:
        legend = {int(row["code"]): row["name"] for row in csv.DictReader(lines)}
    assert set(np.unique(crops)) == {0, *legend}
    assert list(legend.values()) == [crop.name for crop in CROPS]
    assert {"winter wheat", "maize", "winter rapeseed"} <= set(legend.values())


def ndvi(monthly: dict[str, np.ndarray], where: np.ndarray) -> np.ndarray:
    """Median NDVI of the pixels by month (12,)."""
    index = (monthly["B08"] - monthly["B04"]) / (monthly["B08"] + monthly["B04"])
    with np.errstate(all="ignore"):
        return np.array([np.nanmedian(m[where]) if np.isfinite(m[where]).any() else np.nan for m in index])


def test_crops_peak_when_they_do_in_bavaria(demo: Demonstration, monthly: dict[str, np.ndarray]) -> None:
    with rasterio.open(demo.crops) as source:
        crops = source.read(1)
    curve = {crop.name: ndvi(monthly, crops == code) for code, crop in enumerate(CROPS, start=1)}
    may, july, august = 4, 6, 7
    assert curve["winter wheat"][may] > 0.65
    assert curve["winter wheat"][august] < 0.45, "harvested in July"
    assert curve["winter barley"][july] < curve["winter barley"][may] - 0.3, "harvested before the wheat"
    assert curve["maize"][may] < 0.45, "just sown"
    assert curve["maize"][[july, august]].min() > 0.7
    assert curve["winter rapeseed"][may] > 0.7
    assert curve["winter rapeseed"][august] < 0.45
    assert np.nanmin(curve["clover-grass"]) > 0.4


def test_land_covers_look_like_themselves(demo: Demonstration, monthly: dict[str, np.ndarray]) -> None:
    cover = truth(demo)
    summer, winter = 6, 1
    curve = {code: ndvi(monthly, cover == code) for code in range(1, 9)}
    assert curve[3][summer] > 0.7
    assert curve[3][summer] > curve[3][winter] + 0.1
    assert curve[5][summer] > 0.55
    assert curve[6][summer] < 0.3
    assert curve[1][summer] < 0.5
    assert curve[8][summer] > curve[8][winter] + 0.2
    water = np.nanmedian(monthly["B11"][summer][cover == 7])
    assert water < 0.06
    assert water < np.nanmedian(monthly["B11"][summer][cover == 2]) / 3


def test_pixels_differ_lastingly_not_anew_each_time(demo: Demonstration, monthly: dict[str, np.ndarray]) -> None:
    meadow = truth(demo) == 5
    may, june = monthly["B08"][4], monthly["B08"][5]
    both = meadow & np.isfinite(may) & np.isfinite(june)
    assert np.corrcoef(may[both], june[both])[0, 1] > 0.5
    neighbours = both[:, 1:] & both[:, :-1]
    assert np.corrcoef(may[:, 1:][neighbours], may[:, :-1][neighbours])[0, 1] > 0.5
    assert np.corrcoef(monthly["B03"][4][both], monthly["B04"][4][both])[0, 1] > 0.4, "bands vary together"


def test_area_of_interest_is_a_parish_inside_the_scene_and_over_300_pixels_wide(demo: Demonstration) -> None:
    for size, place in ((320, _area(320, demo.seed)), (SIZE, json.loads(demo.aoi.read_text()))):
        polygon = shape(place["features"][0]["geometry"])
        assert polygon.is_valid
        assert polygon.exterior.is_ccw
        metric = shape(transform_geom("EPSG:4326", "EPSG:32632", polygon.__geo_interface__))
        left, bottom, right, top = metric.bounds
        assert 632000 < left < right < 632000 + size * 10
        assert 5329600 - size * 10 < bottom < top < 5329600
        wide, high = (np.ceil(hi / 10) - np.floor(lo / 10) for lo, hi in ((left, right), (bottom, top)))
        assert wide == high
        assert wide >= (300 if size == 320 else 0.9 * size)
        assert metric.area < 0.93 * Polygon.from_bounds(*metric.bounds).area


def test_shade_of_a_block_is_as_long_as_the_sun_is_low() -> None:
    heights = np.zeros((40, 40), np.float32)
    heights[20:24, 10:14] = 10.01  # metres; cells of 2.5 m
    shade = cast_shade(heights, 45.0, 180.0)
    expected = np.zeros_like(shade)
    expected[16:20, 10:14] = True  # 10 m long, to the north, the sun being in the south
    assert np.array_equal(shade, expected)
    assert cast_shade(heights, 45.0, 90.0)[20:24, 6:10].all()
    assert cast_shade(heights, 24.0, 180.0).sum() == 4 * 8  # 10.01 m / tan(24 degrees) reaches 8 whole cells of 2.5 m


def test_cells_are_the_nearest_seeds() -> None:
    axis = np.arange(60, dtype=np.float32) * 3
    x, y = np.meshgrid(axis, axis)
    made = cells(x, y, spacing=30.0, seed=9)
    seeds = np.unique(np.stack([made.x.ravel(), made.y.ravel()]), axis=1)
    distance = np.hypot(x[..., None] - seeds[0], y[..., None] - seeds[1])
    assert np.array_equal(np.hypot(x - made.x, y - made.y), distance.min(axis=-1).astype(np.float32))
    assert len(np.unique(made.ident)) == seeds.shape[1]


def test_hashed_chances_are_uniform() -> None:
    drawn = chance(np.arange(200)[:, None], np.arange(200)[None, :], 7)
    assert 0 <= drawn.min() < drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(4000, rel=0.06)
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 0.02


# ------------------------------------------------------------------------------------------------ spectra


def test_table_of_spectra_names_its_sources() -> None:
    head = [line for line in TABLE.read_text().splitlines() if line.startswith("#")]
    table = pd.read_csv(TABLE, comment="#")
    assert TABLE.stat().st_size < 200_000
    assert list(table.columns[:7]) == ["class", "month", "band", "mean", "sd", "n", "source"]
    for key in table.source.unique():
        assert any(line.startswith(f"# {key}: ") for line in head), key
    assert table["mean"].between(0, 1).all()
    assert {crop.name for crop in CROPS} <= set(table["class"])


def test_table_of_spectra_is_what_the_real_series_give(shared_data: Path, tmp_path: Path) -> None:
    demonstration_spectra.main(
        [str(shared_data / "series"), str(shared_data / "spectra" / "s2_spectra.parquet"), str(tmp_path / "new.csv")]
    )
    new, shipped = (pd.read_csv(path, comment="#") for path in (tmp_path / "new.csv", TABLE))
    pd.testing.assert_frame_equal(new, shipped, check_exact=False, atol=2e-4, rtol=0)


def test_table_agrees_with_plain_medians_of_bavarian_maize(shared_data: Path) -> None:
    series = pd.read_parquet(shared_data / "series" / "train.parquet")
    maize = series[(series.dataset == "worldcrops_bavaria") & series.label.isin(["Silomais", "Koernermais"])]
    table = pd.read_csv(TABLE, comment="#").set_index(["class", "month", "band"])
    for band in BANDS:
        for month in (5, 7, 8):
            row = table.loc[("maize", month, band)]
            assert row["mean"] == pytest.approx(maize[f"{band}_m{month:02d}"].median(), rel=0.1)
            assert row["n"] == 48
            assert row["source"] == "bavaria"
