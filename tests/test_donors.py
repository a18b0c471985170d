"""Months of a tile that a cube holds are found, whole and the right ones, or not at all."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from odc.geo.geobox import GeoBox

from timesenmap.pipeline import donors as module
from timesenmap.pipeline.cube import create_cube, fits_cube, write_tile
from timesenmap.pipeline.donors import Donor, donor_of, take_months
from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.workspace import signature

GRID = GeoBox((70, 90), rasterio.Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")
BEFORE, NOW = Period.of(start="2019-11"), Period.of(start="2020-01")


def signatures_of(period: Period) -> tuple[str, ...]:
    return tuple(signature(month=label) for label in period.labels)


def pixels_of(period: Period) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance and counts of the whole grid, another number for every month and pixel."""
    months = [np.random.default_rng(int(label.replace("-", ""))) for label in period.labels]
    reflectance = np.stack([random.integers(1, 65536, (10, 70, 90)).astype(np.uint16) for random in months])
    return reflectance, np.stack([random.integers(0, 256, (70, 90)).astype(np.uint8) for random in months])


def window(tile: Tile) -> tuple[slice, slice]:
    return slice(tile.y0, tile.y1), slice(tile.x0, tile.x1)


def put(path: Path, period: Period, chosen: list[Tile]) -> None:
    reflectance, clear = pixels_of(period)
    for tile in chosen:
        ys, xs = window(tile)
        write_tile(path, tile, reflectance[..., ys, xs], clear[..., ys, xs], signatures=signatures_of(period))


def cube(path: Path, *, tile_size: int = 32, without: int = 0, period: Period = BEFORE) -> Donor:
    """A cube of two months earlier, without its last tiles."""
    create_cube(path, GRID, period, tile_size=tile_size)
    every = tiles(GRID, tile_size)
    put(path, period, every[: len(every) - without])
    found = donor_of(path, path.name, NOW)
    assert found is not None
    return found


def check(taken: dict, tile: Tile, months: set[int], name: str) -> None:
    """What was taken is what the months hold, made up from nothing but their names."""
    reflectance, clear = pixels_of(NOW)
    assert set(taken) == months
    for month, ((bands, count), source) in taken.items():
        np.testing.assert_array_equal(bands, reflectance[(month, slice(None), *window(tile))], strict=True)
        np.testing.assert_array_equal(count, clear[(month, *window(tile))], strict=True)
        assert source == name


@pytest.mark.parametrize("cut", [32, 64, 1024, 13])
@pytest.mark.parametrize("own", [32, 48, 90])
def test_months_are_taken_whatever_the_tiles_of_either(tmp_path: Path, cut: int, own: int) -> None:
    donor = cube(tmp_path / "cube.zarr", tile_size=cut)
    assert donor.covers == frozenset(range(10))
    for tile in tiles(GRID, own):
        check(take_months([donor], tile, signatures_of(NOW)), tile, set(range(10)), "cube.zarr")


def test_only_where_every_tile_under_it_is_whole(tmp_path: Path) -> None:
    """The donor, of 3 x 3 tiles, lacks its last one: a larger tile over that one gets nothing, the others all."""
    donor = cube(tmp_path / "cube.zarr", without=1)
    for tile in tiles(GRID, 48):
        expected = set() if (tile.row, tile.col) == (1, 1) else set(range(10))
        check(take_months([donor], tile, signatures_of(NOW)), tile, expected, "cube.zarr")


def test_a_month_of_another_signature_is_not_the_same_month(tmp_path: Path) -> None:
    donor = cube(tmp_path / "cube.zarr")
    (tile, *_) = tiles(GRID, 32)
    wanted = [signature(other=True) if month in (0, 7) else one for month, one in enumerate(signatures_of(NOW))]
    check(take_months([donor], tile, wanted), tile, set(range(10)) - {0, 7}, "cube.zarr")


def test_donors_are_asked_in_turn_for_what_is_missing(tmp_path: Path) -> None:
    """Each has some of the tiles, or of the months; one that covers nothing that is missing is not opened."""
    first = cube(tmp_path / "first.zarr", without=5)
    second = cube(tmp_path / "second.zarr", period=Period.of(start="2020-09"))
    gone = Donor(Store.at(tmp_path / "gone.zarr"), "gone", frozenset(range(8, 12)))
    tile = tiles(GRID, 32)[0]
    taken = take_months([first, second, gone], tile, signatures_of(NOW))
    assert {month: source for month, (_, source) in taken.items()} == {
        **dict.fromkeys(range(10), "first.zarr"), 10: "second.zarr", 11: "second.zarr"
    }  # fmt: skip
    check(
        take_months([first, second], tiles(GRID, 32)[8], signatures_of(NOW)),
        tiles(GRID, 32)[8],
        {8, 9, 10, 11},
        "second.zarr",
    )


def test_a_tile_that_was_not_written_to_its_end_is_no_donor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between its arrays, over one that was whole."""
    donor, (tile, other, *_) = cube(tmp_path / "cube.zarr"), tiles(GRID, 32)
    reflectance, clear = pixels_of(BEFORE)
    half, signatures = reflectance[(..., *window(tile))] // 2, signatures_of(BEFORE)
    monkeypatch.setattr("timesenmap.pipeline.cube.month_marks", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_tile(donor.store, tile, half, clear[(..., *window(tile))], signatures=signatures)
    assert take_months([donor], tile, signatures_of(NOW)) == {}
    check(take_months([donor], other, signatures_of(NOW)), other, set(range(10)), "cube.zarr")


def test_a_tile_written_while_it_is_read_is_no_donor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor, tile = cube(tmp_path / "cube.zarr"), tiles(GRID, 32)[0]
    places, looks = module._places, []

    def meanwhile(*args: object) -> dict[int, int]:
        looks.append(args)
        if len(looks) == 2:  # after the pixels were read
            zarr.open_array(donor.store, path="made_of", mode="r+")[:, tile.row, tile.col] = 0
        return places(*args)

    monkeypatch.setattr(module, "_places", meanwhile)
    assert take_months([donor], tile, signatures_of(NOW)) == {}
    assert len(looks) == 2


@pytest.mark.parametrize("harm", ["removed", "half removed", "broken"])
def test_a_cube_that_cannot_be_read_is_said_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    broken, whole = cube(tmp_path / "broken.zarr"), cube(tmp_path / "whole.zarr")
    if harm == "removed":
        shutil.rmtree(broken.store.location)
    elif harm == "half removed":
        broken.store.delete("zarr.json")
    else:
        for shard in Path(broken.store.location).glob("reflectance/c/**/*"):
            if shard.is_file():
                shard.write_bytes(shard.read_bytes()[:-100])
    tile = tiles(GRID, 32)[4]
    with caplog.at_level(logging.WARNING):
        taken = take_months([broken, whole], tile, signatures_of(NOW))
    check(taken, tile, set(range(10)), "whole.zarr")
    assert f"tile {tile.key}: months cannot be taken from {broken.store}" in caplog.text


def test_what_is_no_donor(tmp_path: Path) -> None:
    assert donor_of(tmp_path / "no.zarr", "no", NOW) is None
    create_cube(tmp_path / "cube.zarr", GRID, Period.of(start="2018-01"), tile_size=32)
    assert donor_of(tmp_path / "cube.zarr", "other months", NOW) is None
    donor = cube(tmp_path / "old.zarr")
    (donor.store / "made_of").remove()  # as earlier versions wrote it
    assert donor_of(donor.store, "old", NOW) is None
    assert not fits_cube(donor.store, GRID, tile_size=32)


def test_a_cube_stays_where_its_tiles_can_be_written_over(tmp_path: Path) -> None:
    path = cube(tmp_path / "cube.zarr").store
    assert fits_cube(path, GRID, tile_size=32)
    assert not fits_cube(path, GRID, tile_size=48)
    assert not fits_cube(path, GRID[:, :80], tile_size=32)
    assert not fits_cube(tmp_path / "no.zarr", GRID, tile_size=32)


def test_a_removal_that_was_cut_short_leaves_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    donor = cube(tmp_path / "cube.zarr")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            donor.store.remove()
    assert any(Path(donor.store.location).rglob("c/*"))
    assert donor_of(donor.store, "half", NOW) is None
    assert not fits_cube(donor.store, GRID, tile_size=32)
    assert take_months([donor], tiles(GRID, 32)[0], signatures_of(NOW)) == {}
    donor.store.remove()
    donor.store.remove()
    assert not donor.store.exists()
