"""simulate-series: physical sense, the same bytes for a seed, gaps that tell nothing, and bad input."""

import dataclasses
import importlib.util

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from timesenmap.model.captions import load_captions
from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.series import SERIES_COLUMNS, read_series
from timesenmap.model.simulation import load_settings, read_inputs, simulate_series
from timesenmap.model.simulation.calendars import CropCalendar
from timesenmap.model.simulation.canopy import Geometry, Leaves
from timesenmap.model.simulation.climate import DAYS, Place, climate_of
from timesenmap.model.simulation.endmembers import read_spectra, wetted
from timesenmap.model.simulation.simulate import make_scene, reflectance
from timesenmap.model.simulation.water import water_reflectance
from timesenmap.workflows.simulate_series import main

RED, NIR, SWIR = DEFAULT_BANDS.index("B04"), DEFAULT_BANDS.index("B08"), DEFAULT_BANDS.index("B11")
SETTINGS = load_settings()


@pytest.fixture(scope="module")
def inputs(shared_data):
    if importlib.util.find_spec("prosail") is None:
        pytest.skip("PROSAIL is not installed (extra simulate)")
    folder = shared_data / "spectra"
    return read_inputs(SETTINGS, spectra=folder / "s2_spectra.parquet", response=folder / "s2_srf.csv")


def surfaces(inputs, name, *, count=10, region=None, seed=3):
    """(count, 12, 10) surfaces of a class before weather, northern months (southern series rolled by six)."""
    recipe = SETTINGS.classes[name]
    if region is not None:
        recipe = recipe.model_copy(update={"regions": (region,)})
    made = []
    for number in range(count):
        scene = make_scene(SETTINGS, inputs, recipe, np.random.default_rng([seed, number]))
        made.append(np.roll(reflectance(scene, recipe), 6 if scene.place.southern else 0, axis=0))
    return np.stack(made)


def ndvi(surface):
    return (surface[..., NIR] - surface[..., RED]) / (surface[..., NIR] + surface[..., RED])


# ---- settings


def test_every_class_is_a_caption_and_the_table_reviews_every_label():
    table = load_captions()
    made = {recipe.caption or name for name, recipe in SETTINGS.classes.items()}
    assert made == set(table.sources["simulated"].labels)
    assert all(entry.caption == label for label, entry in table.sources["simulated"].labels.items())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("classes", "cotton", "regions"), ["atlantis"], "'cotton' names region 'atlantis'"),
        (("classes", "maize", "leaf"), "plastic", "leaves 'plastic'"),
        (("classes", "maize", "seasons"), [{"regions": ["corn belt"], "dates": [1, 2, 3, 4]}], "no dates in"),
        (("classes", "maize", "seasons"), [{"dates": [1, 2, 3, 4], "window": "summer"}], "either dates or a window"),
        (("classes", "maize", "heigth"), 3, "heigth"),
    ],
)
def test_faulty_settings_are_refused(tmp_path, path, value, message):
    content = SETTINGS.model_dump(mode="json")
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    file = tmp_path / "classes.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ModelError, match=message):
        load_settings(file)


def test_no_region_lies_in_the_place_that_stays_unseen(inputs):
    recipe = SETTINGS.classes["maize"].model_copy(update={"regions": ("box",)})
    box = SETTINGS.regions["north sea lowlands"].model_copy(update={"lon": (3.01, 3.09), "lat": (50.81, 50.82)})
    settings = SETTINGS.model_copy(update={"regions": {**SETTINGS.regions, "box": box}})
    for number in range(30):
        place = make_scene(settings, inputs, recipe, np.random.default_rng(number)).place
        assert place.lon > 3.05


# ---- physics without canopies


def test_water_is_dark_in_the_infrared_and_mud_brightens_it():
    def deep(particles, depth=50.0):
        return water_reflectance(
            chlorophyll=np.array([2.0]), particles=np.array([particles]), dissolved=np.array([0.2]),
            depth=np.array([depth]), bottom=np.full((1, 10), 0.3), sun_zenith=np.array([40.0]),
        )[0]  # fmt: skip

    assert deep(0.5)[SWIR] < 0.002
    assert deep(0.5).max() < 0.06
    assert deep(100.0)[RED] > 3 * deep(0.5)[RED]
    assert deep(0.5, depth=0.0) == pytest.approx(0.3 * 0.52 / (1 - 1.7 * 0.3 / np.pi), rel=1e-6)  # nothing but bottom
    assert deep(0.5, depth=2.0)[0] > deep(0.5)[0]


def test_soil_darkens_with_water_most_in_the_short_wave_infrared():
    dry = np.full(10, 0.4)
    soil = wetted(dry, np.array([0.0, 0.3, 1.0]))
    np.testing.assert_allclose(soil[0], dry)
    assert (np.diff(soil, axis=0) < 0).all()
    assert soil[2, SWIR] < soil[2, RED]


PLAIN = Place(
    lon=10, lat=48, altitude=200, continentality=0.4, rain=700, wettest=180, concentration=0.3, rainy_seasons=1
)


def test_seasons_of_the_hemispheres_are_mirrored():
    north = climate_of(PLAIN, np.random.default_rng(1))
    south = climate_of(dataclasses.replace(PLAIN, lat=-48, wettest=(180 + 182.5) % 365), np.random.default_rng(1))
    assert DAYS[np.argmax(north.temperature)] == pytest.approx(200, abs=30)
    assert abs(DAYS[np.argmax(south.temperature)] - 17) < 30 or DAYS[np.argmax(south.temperature)] > 352
    assert np.corrcoef(north.growth, np.roll(south.growth, DAYS.size // 2))[0, 1] > 0.85


def test_cold_places_have_snow_and_the_tropics_have_none():
    cold = climate_of(dataclasses.replace(PLAIN, lat=60, continentality=0.7), np.random.default_rng(2))
    warm = climate_of(dataclasses.replace(PLAIN, lat=5, rain=2600, concentration=0.0), np.random.default_rng(2))
    assert cold.snow[0] > 10
    assert cold.snow[DAYS.searchsorted(200)] == 0
    assert warm.snow.max() == 0
    assert warm.growth.min() > 0.5


# ---- surfaces


def test_a_canopy_in_few_wavelengths_is_that_of_the_whole_response(inputs, shared_data):
    import prosail

    table = pd.read_csv(shared_data / "spectra" / "s2_srf.csv")
    whole = prosail.run_prosail(
        1.5, 45.0, 9.0, 0.1, 0.012, 0.006, 2.5, 55.0, 0.1, 40.0, 5.0, 60.0,
        rsoil0=np.full(2101, 0.15), prospect_version="5",
    )  # fmt: skip
    at = np.interp(table["wavelength_nm"], np.arange(400, 2501), whole)
    expected = [np.average(at, weights=table[f"S2B_{band}"].clip(lower=0)) for band in DEFAULT_BANDS]
    one = np.ones(1)
    leaves = Leaves(n=1.5, cab=45 * one, car=9 * one, cbrown=0.1 * one, cw=0.012 * one, cm=0.006, angle=55.0)
    geometry = Geometry(sun=40 * one, view=5.0, azimuth=60.0)
    made = inputs.canopies["S2B"].reflectance(leaves, 2.5 * one, np.full((1, 10), 0.15), geometry)
    np.testing.assert_allclose(made[0], expected, atol=0.005)
    bare = inputs.canopies["S2B"].reflectance(leaves, 0 * one, np.full((1, 10), 0.15), geometry)
    np.testing.assert_array_equal(bare, np.full((1, 10), 0.15))


def test_seasons_of_a_crop_calendar_are_those_of_the_nearest_cell(tmp_path):
    columns = {"s1_sos_doy": [270, 276], "s1_eos_doy": [215, 164], "s2_sos_doy": [90, 159], "s2_eos_doy": [259, 338]}
    pd.DataFrame({"lat": [50.75, -28.25], "lon": [4.25, 26.25], **columns}).to_parquet(tmp_path / "calendar.parquet")
    calendar = CropCalendar.read(tmp_path / "calendar.parquet")
    assert calendar.at(4.0, 51.0)["winter"] == (270 - 365, 215)
    assert calendar.at(4.0, 51.0)["summer"] == (90, 259)
    assert calendar.at(26.0, -28.0)["summer"] == (276 - 365, 164)  # the south sows its summer crops in October
    assert calendar.at(100.0, 10.0) == {}
    with pytest.raises(ModelError, match=r"crop calendar .* not found"):
        CropCalendar.read(tmp_path / "none.parquet")


@pytest.mark.parametrize("name", SETTINGS.classes)
def test_every_class_reflects_between_nothing_and_little_more_than_all(inputs, name):
    made = surfaces(inputs, name, count=2)
    assert np.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1.3


def test_forests_differ_in_brightness_and_season(inputs):
    conifers = surfaces(inputs, "coniferous forest", region="central europe")
    broadleaves = surfaces(inputs, "broadleaved forest", region="central europe")
    rainforest = surfaces(inputs, "tropical forest")
    assert np.median(conifers[:, 5:8, NIR]) < 0.75 * np.median(broadleaves[:, 5:8, NIR])
    assert np.median(ndvi(broadleaves)[:, 6]) > np.median(ndvi(broadleaves)[:, 0]) + 0.2
    assert np.median(ndvi(rainforest)) > 0.75
    assert np.ptp(np.median(ndvi(rainforest), axis=0)) < 0.15


def test_wheat_is_green_before_maize(inputs):
    wheat = np.median(ndvi(surfaces(inputs, "winter wheat", region="western europe")), axis=0)
    maize = np.median(ndvi(surfaces(inputs, "maize", region="western europe")), axis=0)
    assert 3 <= np.argmax(wheat) <= 5
    assert 6 <= np.argmax(maize) <= 8
    assert wheat[4] > maize[4] + 0.3
    assert maize[7] > wheat[7] + 0.3


def test_the_south_grows_its_maize_half_a_year_later(inputs):
    recipe = SETTINGS.classes["maize"].model_copy(update={"regions": ("pampas",)})
    scenes = [make_scene(SETTINGS, inputs, recipe, np.random.default_rng([4, number])) for number in range(10)]
    maize = np.median([ndvi(reflectance(scene, recipe)) for scene in scenes], axis=0)
    assert maize[[11, 0]].mean() > maize[[3, 9]].mean() + 0.4  # bare in October, harvested in April


def test_snow_is_bright_in_the_visible_and_dark_in_the_short_wave_infrared(inputs):
    snow = surfaces(inputs, "snow")
    assert np.median(snow[..., RED]) > 0.5
    assert np.median(snow[..., SWIR]) < 0.2


def test_rice_stands_in_water_before_it_is_green(inputs):
    rice = np.median(surfaces(inputs, "rice", region="italy and greece", count=16), axis=0)
    assert rice[4, SWIR] < 0.6 * rice[2, SWIR]
    assert ndvi(rice)[7] > 0.7


def test_fodder_is_bare_at_times_and_permanent_meadows_never(inputs):
    growing = slice(3, 10)
    alfalfa = ndvi(surfaces(inputs, "alfalfa", region="western europe", count=20))[:, growing].min(axis=1)
    meadow = ndvi(surfaces(inputs, "permanent meadow", region="western europe", count=20))[:, growing].min(axis=1)
    assert (alfalfa < 0.25).mean() > 0.2  # new fields before they come up, and looks just after a cut
    assert meadow.min() > 0.25
    assert np.median(meadow) > np.median(alfalfa) + 0.1


def test_dry_shrubs_are_brighter_in_the_short_wave_than_in_the_near_infrared(inputs):
    dry = surfaces(inputs, "shrubland", region="great basin", count=20)[:, 6:9]
    heath = surfaces(inputs, "heath", region="british isles", count=20)[:, 6:9]
    assert np.median(dry[..., SWIR] / dry[..., NIR]) > 1
    assert np.median(heath[..., SWIR] / heath[..., NIR]) < 0.8


def test_highland_wetlands_are_dry_grass_in_winter_and_green_in_summer(inputs):
    wetland = np.median(surfaces(inputs, "wetland", region="highveld", count=20), axis=0)  # January and July swapped
    assert ndvi(wetland)[[5, 6, 7]].mean() > ndvi(wetland)[[0, 1, 2]].mean() + 0.15
    assert wetland[[0, 1, 2], SWIR].mean() > wetland[[5, 6, 7], SWIR].mean()


def test_towns_are_greener_where_there_are_gardens(inputs):
    assert np.median(ndvi(surfaces(inputs, "suburb"))[:, 5:8]) > np.median(ndvi(surfaces(inputs, "town centre"))) + 0.15


# ---- tables


def values(frame):
    return frame[list(SERIES_COLUMNS)].to_numpy()


def test_the_same_seed_gives_the_same_series_and_a_longer_table_begins_with_the_shorter(inputs, tmp_path):
    longer, shorter = (simulate_series(SETTINGS, inputs, count=count, seed=5) for count in (12, 8))
    pd.testing.assert_frame_equal(longer.iloc[:8], shorter)
    other = simulate_series(SETTINGS, inputs, count=8, seed=6)
    assert not np.array_equal(values(other), values(shorter), equal_nan=True)
    longer.to_parquet(tmp_path / "simulated.parquet")
    assert len(read_series(tmp_path / "simulated.parquet")) == 12


def test_gaps_are_the_same_whatever_the_class(inputs):
    sand, lake = (simulate_series(SETTINGS, inputs, count=40, seed=7, classes=[name]) for name in ("sand", "lake"))
    missing = np.isnan(values(sand))
    assert 0.05 < missing.mean() < 0.5
    np.testing.assert_array_equal(missing, np.isnan(values(lake)))


def test_gaps_are_borrowed_from_real_series(inputs):
    pattern = np.zeros((12, 10), bool)
    pattern[3:], pattern[:, 7] = True, True
    borrowed = dataclasses.replace(inputs, patterns=pattern[None])
    frame = simulate_series(SETTINGS, borrowed, count=3, seed=7, classes=["sand"])
    np.testing.assert_array_equal(np.isnan(values(frame)).reshape(3, 12, 10), np.broadcast_to(pattern, (3, 12, 10)))


# ---- bad input


def test_classes_and_counts_that_cannot_be(inputs):
    with pytest.raises(ModelError, match="class 'moon' is not simulated; there are: winter wheat"):
        simulate_series(SETTINGS, inputs, count=1, seed=0, classes=["moon"])
    with pytest.raises(ModelError, match="count 0"):
        simulate_series(SETTINGS, inputs, count=0, seed=0)


def test_spectra_that_lack_what_is_needed(tmp_path):
    path = tmp_path / "spectra.parquet"
    with pytest.raises(ModelError, match="not found; give a parquet of surface spectra"):
        read_spectra(path, SETTINGS.pools)
    path.write_text("no table")
    with pytest.raises(ModelError, match="cannot be read"):
        read_spectra(path, SETTINGS.pools)
    bands = {band: [0.2] for band in DEFAULT_BANDS}
    pd.DataFrame({"source": ["ICRAF"], "material": ["x"], **bands}).to_parquet(path)
    with pytest.raises(ModelError, match="column group is missing"):
        read_spectra(path, SETTINGS.pools)
    pd.DataFrame({"source": ["ICRAF"], "material": ["x"], "group": ["soil"], **bands}).to_parquet(path)
    with pytest.raises(ModelError, match="no row fits pool"):
        read_spectra(path, SETTINGS.pools)


def test_the_command_names_what_is_missing(tmp_path):
    run = CliRunner().invoke(main, ["--out", str(tmp_path / "x.parquet")])
    assert run.exit_code == 2
    assert "--spectra is missing" in run.stderr
    run = CliRunner().invoke(main, ["--out", str(tmp_path / "x.csv")])
    assert run.exit_code == 2
    assert "must end in .parquet" in run.stderr


def test_the_command_writes_a_series_file(inputs, shared_data, tmp_path):
    folder = shared_data / "spectra"
    out = tmp_path / "made" / "simulated.parquet"
    run = CliRunner().invoke(
        main,
        ["--out", str(out), "--count", "3", "--classes", "sand,eutrophic lake", "--spectra",
         str(folder / "s2_spectra.parquet"), "--srf", str(folder / "s2_srf.csv"),
         "--patterns", str(shared_data / "series" / "rondonia_s2_2018_19.parquet")],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert set(read_series(out).frame["label"]) <= {"sand", "lake"}
