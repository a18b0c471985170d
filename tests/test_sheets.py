"""Sheets and their VRT against the same map in one file; and through make-map."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from flaky_server import serving
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.cog import levels_of
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.legend import LegendEntry
from timesenmap.pipeline.map_file import read_class_map
from timesenmap.pipeline.pictures import read_picture
from timesenmap.pipeline.rasters import write_class_map, write_probability_map
from timesenmap.pipeline.record import RunRecord
from timesenmap.pipeline.sheets import SheetValues, cut, sheet_file, write_mosaic
from timesenmap.workflows import job as job_module
from timesenmap.workflows import make_map_command as command

CLASSES = [LegendEntry(1, "Cropland", "#e6b422"), LegendEntry(4, "Forêt & woods", "#1b5e20")]
SHAPE = (2300, 3300)
GRID = GeoBox(SHAPE, Affine(10, 0, 500000, 0, -10, 5600000), "EPSG:32631")
NAMES = ("land-cover", "land-cover.confidence", "land-cover.probability", "land-cover.margin", "observations")
TAGS = {"TITLE": "Land cover 2018", "LICENCE": "Contains modified Copernicus Sentinel data 2018"}


def box(x0: int, y0: int, x1: int, y1: int) -> str:
    """Area of columns x0..x1 and rows y0..y1 of the grid, as make-map takes it."""
    return f"{500000 + 10 * x0},{5600000 - 10 * y1},{500000 + 10 * x1},{5600000 - 10 * y0}"


def in_sheets(path: Path, values: np.ndarray, write, *, size: int, area: str) -> list[Tile]:
    """Write a map as sheets and VRT, as make-map does."""
    folder, name = path.parent, path.stem
    found = cut(GRID, size, read_aoi(area, crs="EPSG:32631"))
    files = {sheet: folder / sheet_file(name, sheet) for sheet in found}
    for sheet, file in files.items():
        write(file, SheetValues(values, sheet), sheet.geobox(GRID), levels_of(size))
    write_mosaic(path, files, GRID)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Folder with ``one.tif`` and ``many.vrt`` of the same class map: fields of 9 pixels and single ones."""
    folder = tmp_path_factory.mktemp("sheets")
    rng = np.random.default_rng(12)
    values = np.kron(rng.choice([0, 1, 1, 4], (256, 367)), np.ones((9, 9))).astype(np.uint8)[: SHAPE[0], : SHAPE[1]]
    odd = rng.random(SHAPE) < 0.03
    values[odd] = rng.choice([1, 4], odd.sum())

    def write(path: Path, part, grid: GeoBox, levels: int | None = None) -> None:
        write_class_map(path, part, grid, CLASSES, tags=TAGS, levels=levels)

    write(folder / "one.tif", values, GRID)
    assert len(in_sheets(folder / "many.vrt", values, write, size=1024, area=box(0, 0, 3300, 2300))) == 3 * 4
    return folder, values


def test_the_vrt_is_the_map_at_every_level(both: tuple[Path, np.ndarray]) -> None:
    folder, values = both
    with rasterio.open(folder / "many.vrt") as many, rasterio.open(folder / "one.tif") as one:
        np.testing.assert_array_equal(many.read(1), values)
        assert many.overviews(1) == [2]
        assert (many.crs, many.transform, many.shape, many.nodata) == (one.crs, one.transform, one.shape, 0)
        assert many.colormap(1) == one.colormap(1)
        assert many.colorinterp == one.colorinterp
        assert many.descriptions == one.descriptions
        assert TAGS.items() <= many.tags().items()
    with (
        rasterio.open(folder / "many.vrt", overview_level=0) as many,
        rasterio.open(folder / "one.tif", overview_level=0) as one,
    ):
        np.testing.assert_array_equal(many.read(1), one.read(1))


def test_each_sheet_is_a_valid_cog_with_a_legend_of_its_own(both: tuple[Path, np.ndarray]) -> None:
    folder, values = both
    sheets = sorted((folder / "sheets").glob("*.tif"))
    assert [sheet.name for sheet in sheets[:2]] == ["many.r0000c0000.tif", "many.r0000c0001.tif"]
    for sheet in sheets:
        assert cog_validate(sheet, strict=True, quiet=True) == (True, [], [])
    second = read_class_map(sheets[1])
    assert second.names == {1: "Cropland", 4: "Forêt & woods"}
    np.testing.assert_array_equal(second[0:1024, 0:1024], values[:1024, 1024:2048])
    assert second.grid.affine == GRID.affine @ Affine.translation(1024, 0)


def test_the_vrt_is_a_class_map_wherever_its_folder_goes(both: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, values = both
    moved = shutil.copytree(folder, tmp_path / "moved")
    class_map = read_class_map(moved / "many.vrt")
    assert [(entry.code, entry.name, entry.colour) for entry in class_map.classes] == [
        (entry.code, entry.name, entry.colour) for entry in CLASSES
    ]
    np.testing.assert_array_equal(class_map[1000:1100, 900:2100], values[1000:1100, 900:2100])
    assert (moved / "many.qml").read_bytes() == (folder / "one.qml").read_bytes()
    assert class_map.confidence_path == moved / "many.confidence.vrt"
    if shutil.which("gdalinfo"):
        done = subprocess.run(["gdalinfo", moved / "many.vrt"], capture_output=True, text=True, check=True)
        lines = {line.strip() for line in done.stdout.splitlines()}
        assert {"1: Cropland", "4: Forêt & woods", "4: 27,94,32,255", "Overviews: 1650x1150"} <= lines
        assert "LAYOUT=COG" not in lines


def test_sheets_that_the_area_does_not_touch_are_left_out(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 101, (2, *SHAPE), np.uint8)

    def write(path: Path, part, grid: GeoBox, levels: int) -> None:
        write_probability_map(path, part, grid, CLASSES, tags={}, levels=levels)

    found = in_sheets(tmp_path / "p.vrt", values, write, size=2048, area=box(2100, 0, 3300, 2300))
    assert [sheet.key for sheet in found] == ["r0000c0001", "r0001c0001"]
    with rasterio.open(tmp_path / "p.vrt") as mosaic:
        got = mosaic.read()
        assert mosaic.descriptions == ("Cropland", "Forêt & woods")
        assert mosaic.nodatavals == (255, 255)
    np.testing.assert_array_equal(got[:, :, 2048:], values[:, :, 2048:])
    assert (got[:, :, :2048] == 255).all()


def test_a_map_that_fits_has_no_sheets() -> None:
    area = read_aoi(box(0, 0, 3300, 2300), crs="EPSG:32631")
    assert cut(GRID, 3584, area) == []
    assert len(cut(GRID, 3072, area)) == 2


def test_the_same_sheets_give_the_same_vrt(both: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    folder, _ = both
    before = (folder / "many.vrt").read_bytes()
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    files = {
        sheet: moved / sheet_file("many", sheet)
        for sheet in cut(GRID, 1024, read_aoi(box(0, 0, 3300, 2300), crs="EPSG:32631"))
    }
    write_mosaic(moved / "many.vrt", files, GRID)
    assert (moved / "many.vrt").read_bytes() == before


def test_a_picture_over_http_is_made_from_overviews(both: tuple[Path, np.ndarray]) -> None:
    folder, _ = both
    whole = sum(sheet.stat().st_size for sheet in (folder / "sheets").glob("*.tif"))
    with (
        serving(folder) as server,
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_INGESTED_BYTES_AT_OPEN=4096),
    ):
        with rasterio.open(f"/vsicurl/{server.url}/many.vrt") as mosaic:
            got = mosaic.read(1, out_shape=(1150, 1650))
        sent = server.sent
    with rasterio.open(folder / "one.tif", overview_level=0) as one:
        np.testing.assert_array_equal(got, one.read(1))
    assert sent < 0.5 * whole


def run(*args: object) -> None:
    result = CliRunner().invoke(command.main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def made(place: Demonstration, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], Path]:
    """Flags of a run whose maps are sheets of 32 pixels, and its folder."""
    out = tmp_path_factory.mktemp("made") / "out"
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_module, "BLOCK", 32)
        run(*flags, "--sheet-size", 32, "--probabilities", "--margin", "--out", out)
    return flags, out


def test_make_map_writes_sheets_and_describes_them(made: tuple[list[object], Path], tmp_path: Path) -> None:
    flags, out = made
    record = RunRecord.read(out / "run.json")
    (map_record,) = record.maps
    assert (map_record.class_map, record.observation_map) == ("land-cover.vrt", "observations.vrt")
    assert not list(out.glob("*.tif"))
    on_disk = {path.relative_to(out).as_posix() for path in out.glob("sheets/*.tif")}
    assert {sheet.file for sheets in record.sheets.values() for sheet in sheets} == on_disk
    assert len(on_disk) == len(NAMES) * len(record.sheets["land-cover.vrt"]) >= 16
    run(*flags, "--probabilities", "--margin", "--out", tmp_path / "one")
    for name in NAMES:
        with rasterio.open(out / f"{name}.vrt") as many, rasterio.open(tmp_path / "one" / f"{name}.tif") as one:
            np.testing.assert_array_equal(many.read(), one.read())
    class_map = read_class_map(out / "land-cover.vrt")
    np.testing.assert_array_equal(
        read_picture(class_map.path, longest=5000, categories=True),
        class_map[: class_map.shape[0], : class_map.shape[1]],
    )
    item = pystac.Item.from_file(str(next((out / "stac" / "items").glob("land-cover*.json"))))
    assert item.assets["classes"].href.endswith("land-cover.vrt")
    assert item.assets["margin"].href.endswith("land-cover.margin.vrt")
    listed = {key: asset for key, asset in item.assets.items() if key.startswith("classes-")}
    assert {f"classes-{sheet.key}" for sheet in record.sheets["land-cover.vrt"]} == set(listed)
    for key, asset in listed.items():
        file = out / "stac" / "items" / asset.href
        with rasterio.open(file) as sheet:
            assert list(sheet.shape) == asset.extra_fields["proj:shape"], key
            assert list(sheet.transform) == asset.extra_fields["proj:transform"], key
    in_json = json.loads((out / "run.json").read_text())["sheets"]
    assert set(in_json) == {f"{name}.vrt" for name in NAMES}


def test_finished_sheets_stay_and_other_forms_of_a_map_go(
    made: tuple[list[object], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags, before = made
    out = shutil.copytree(before, tmp_path / "out")
    monkeypatch.setattr(job_module, "BLOCK", 32)
    lost = out / "sheets" / "land-cover.r0001c0001.tif"
    expected = {path.name: path.read_bytes() for path in (out / "sheets").glob("*.tif")}
    lost.unlink()
    times = {path.name: path.stat().st_mtime_ns for path in (out / "sheets").glob("*.tif")}
    run(*flags, "--sheet-size", 32, "--probabilities", "--margin", "--out", out)
    assert {path.name: path.read_bytes() for path in (out / "sheets").glob("*.tif")} == expected
    assert {name: (out / "sheets" / name).stat().st_mtime_ns for name in times} == times

    run(*flags, "--sheet-size", 64, "--probabilities", "--margin", "--out", out)
    keys = {path.name.split(".")[-2] for path in (out / "sheets").iterdir() if path.suffix == ".tif"}
    assert keys == {"r0000c0000", "r0000c0001", "r0001c0000", "r0001c0001"}
    run(*flags, "--probabilities", "--margin", "--out", out)
    assert not (out / "sheets").exists()
    assert not list(out.glob("*.vrt"))
    assert (out / "land-cover.tif").is_file()
    assert (out / "land-cover.qml").is_file()


@pytest.mark.parametrize("size", [500, 0, 100])
def test_a_sheet_is_cut_at_blocks(place: Demonstration, tmp_path: Path, size: int) -> None:
    result = CliRunner().invoke(
        command.main,
        [
            "--aoi",
            str(place.aoi),
            "--prompts",
            "land-cover",
            "--year",
            "2020",
            "--out",
            str(tmp_path / "o"),
            "--sheet-size",
            str(size),
        ],
    )
    assert result.exit_code == 2
    assert f"--sheet-size '{size}': {size} is not a multiple of 512" in result.output
