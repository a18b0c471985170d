"""A run from Python: what map_area and open_maps give is what rasterio reads."""

import datetime as dt
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.model.prompts import load_prompt_set
from timesenmap.pipeline import open_cube, open_maps
from timesenmap.pipeline.errors import MapError
from timesenmap.workflows import map_area


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python") / "out"


@pytest.fixture(scope="module")
def maps(place: Demonstration, out: Path) -> xr.Dataset:
    return map_area(
        place.aoi,
        prompts="land-cover",
        year=place.year,
        out=out,
        catalog=place.catalog,
        probabilities=True,
        margin=True,
        unknown_below=0.5,
        tile_size=32,
    )


def test_every_map_is_what_rasterio_reads(maps: xr.Dataset, out: Path) -> None:
    files = {
        "land_cover": "land-cover.tif",
        "land_cover_confidence": "land-cover.confidence.tif",
        "land_cover_margin": "land-cover.margin.tif",
        "land_cover_probability": "land-cover.probability.tif",
        "observations": "observations.tif",
    }
    assert set(maps.data_vars) == set(files)
    for name, file in files.items():
        with rasterio.open(out / file) as source:
            values = source.read()
            opened = maps[name]
            np.testing.assert_array_equal(opened.values, values if name.endswith("probability") else values[0])
            assert opened.dtype == np.uint8
            assert opened.rio.crs == source.crs
            assert opened.rio.transform() == source.transform
            assert opened.rio.nodata == source.nodata
    assert (maps.land_cover == 255).any()


def test_maps_are_read_when_they_are_asked_for(maps: xr.Dataset) -> None:
    assert all(variable.chunks is not None for variable in maps.data_vars.values())


def test_attributes_tell_the_classes(maps: xr.Dataset) -> None:
    classes = load_prompt_set("land-cover").classes
    attributes = maps.land_cover.attrs
    assert attributes["flag_values"].dtype == np.uint8
    assert attributes["flag_values"].tolist() == [*(c.code for c in classes), 255]
    meanings = attributes["flag_meanings"].split()
    assert [name.replace("_", " ") for name in meanings] == [*(c.name for c in classes), "unknown"]
    assert attributes["flag_colors"].split()[:-1] == [c.colour for c in classes]
    assert maps.land_cover_probability.land_cover_class.values.tolist() == [c.name for c in classes]
    assert "generated for demonstration" in maps.attrs["license"]


def test_maps_survive_another_format_with_their_classes(maps: xr.Dataset, tmp_path: Path) -> None:
    maps.to_zarr(tmp_path / "maps.zarr", consolidated=False)
    again = xr.open_zarr(tmp_path / "maps.zarr", consolidated=False, mask_and_scale=False, decode_coords="all")
    for name in maps.data_vars:
        np.testing.assert_array_equal(again[name].values, maps[name].values)
    assert again.land_cover.rio.crs == maps.land_cover.rio.crs
    assert again.land_cover.attrs["flag_meanings"] == maps.land_cover.attrs["flag_meanings"]
    assert list(again.land_cover.attrs["flag_values"]) == maps.land_cover.attrs["flag_values"].tolist()


def test_cube_is_reflectance_with_gaps_on_the_grid_of_the_maps(maps: xr.Dataset, out: Path) -> None:
    cube = open_cube(out)
    stored = zarr.open_array(out / "work" / "cube.zarr", path="reflectance", mode="r")[:]
    expected = np.where(stored > 0, stored / 10_000, np.nan)
    assert cube.reflectance.dtype == np.float32
    assert cube.reflectance.chunks is not None
    np.testing.assert_allclose(cube.reflectance.values, expected, rtol=1e-6)
    assert np.isnan(expected).any()
    assert cube.band.values.tolist()[:3] == ["B02", "B03", "B04"]
    assert cube.month.values[0] == np.datetime64(dt.date(2021, 1, 1))
    xr.align(cube, maps, join="exact")
    assert cube.rio.crs == maps.rio.crs


def test_again_redoes_nothing(maps: xr.Dataset, out: Path, place: Demonstration) -> None:
    before = (out / "land-cover.tif").stat().st_mtime_ns
    fields = {
        "catalog": str(place.catalog),
        "probabilities": True,
        "margin": True,
        "unknown_below": 0.5,
        "tile_size": 32,
    }
    again = map_area(str(place.aoi), prompts=["land-cover"], year=place.year, out=str(out), **fields)
    assert (out / "land-cover.tif").stat().st_mtime_ns == before
    xr.testing.assert_identical(again, maps)


def test_bounds_stand_for_an_area(maps: xr.Dataset, out: Path, place: Demonstration, tmp_path: Path) -> None:
    west, south, east, north = maps.land_cover.rio.transform_bounds("EPSG:4326")
    inside = (west + (east - west) / 3, south + (north - south) / 3, east, north)
    part = map_area(inside, prompts="land-cover", year=place.year, out=tmp_path / "part", catalog=str(place.catalog))
    assert 0 < part.land_cover.size < maps.land_cover.size


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(MapError, match="unknown field 'yaer'"):
        map_area((0, 50, 1, 51), prompts="land-cover", out=tmp_path / "no", yaer=2021)
    assert not (tmp_path / "no").exists()
    with pytest.raises(MapError, match=re.escape("holds no run.json")):
        open_maps(tmp_path)
    with pytest.raises(MapError, match="holds no cube"):
        open_cube(tmp_path)


def test_a_missing_map_is_named(maps: xr.Dataset, out: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((out / "run.json").read_bytes())
    with pytest.raises(MapError, match=r"land-cover\.tif: is missing"):
        open_maps(tmp_path)
