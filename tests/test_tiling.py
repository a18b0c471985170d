"""Stages over tiles: resumed where they stopped, started anew when their inputs change."""

from collections.abc import Callable
from pathlib import Path

import pytest
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.ledger import Ledger, TileResult
from timesenmap.pipeline.tiling import Stage, TilesFailedError, run_stages

GRID = GeoBox.from_bbox((500000, 5600000, 500960, 5600640), crs="EPSG:32631", resolution=10)


class Bench:
    """A stage whose store is a folder with one file a tile."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder / "ledger.sqlite")
        self.store = folder / "store"
        self.made = 0
        self.worked: list[str] = []
        self.advanced = self.before = 0

    def stage(self, signature: str = "s1", name: str = "cube") -> Stage:
        def create() -> None:
            self.made += 1
            self.store.mkdir()

        return Stage(name, signature, self.store, create)

    def run(self, signature: str = "s1", size: int = 32, fails: Callable[[Tile], bool] = lambda tile: False) -> None:
        self.worked = []
        self.advanced = self.before = 0

        def work(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
            self.worked.append(tile.key)
            if fails(tile):
                raise OSError("disk full")
            (self.store / tile.key).write_text(signature)
            return {name: TileResult(tile.key, {"pixels": [tile.pixels]}) for name in wanted}

        def advance(pixels: int, *, before: bool = False) -> None:
            self.advanced += pixels
            self.before += pixels if before else 0

        run_stages(
            self.ledger, [self.stage(signature)], tiles=tiles(GRID, size), tile_size=size, work=work, advance=advance
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_tile_once_and_nothing_the_second_time(bench: Bench) -> None:
    bench.run()
    assert bench.worked == [tile.key for tile in tiles(GRID, 32)]
    assert bench.advanced == 96 * 64
    assert bench.ledger.totals("cube") == {"pixels": [96 * 64]}
    bench.run()
    assert bench.worked == []
    assert bench.advanced == bench.before == 96 * 64
    assert bench.made == 1


def test_finished_under_another_tile_size_is_finished(bench: Bench) -> None:
    bench.run(size=32)
    bench.run(size=64)
    assert bench.worked == []


def test_unfinished_under_another_tile_size_starts_anew(bench: Bench) -> None:
    with pytest.raises(TilesFailedError):
        bench.run(size=32, fails=lambda tile: tile.col == 1)
    bench.run(size=64)
    assert bench.worked == [tile.key for tile in tiles(GRID, 64)]
    assert bench.made == 2
    assert bench.ledger.totals("cube") == {"pixels": [96 * 64]}


def test_a_failed_tile_does_not_stop_the_others_and_is_done_next_time(bench: Bench) -> None:
    broken = tiles(GRID, 32)[2].key
    with pytest.raises(TilesFailedError, match=f"1 of 6 tiles failed, first {broken}: disk full"):
        bench.run(fails=lambda tile: tile.key == broken)
    assert len(bench.ledger.done("cube")) == 5
    bench.run()
    assert bench.worked == [broken]
    assert bench.made == 1


def test_nothing_but_failures_stops_early(bench: Bench) -> None:
    with pytest.raises(TilesFailedError, match="5 of 24"):
        bench.run(size=16, fails=lambda tile: True)
    assert len(bench.worked) == 5


def test_other_inputs_start_the_stage_anew(bench: Bench) -> None:
    bench.run("s1")
    bench.run("s2")
    assert len(bench.worked) == 6
    assert {path.read_text() for path in bench.store.iterdir()} == {"s2"}


def test_a_lost_store_is_made_again(bench: Bench) -> None:
    bench.run()
    for path in bench.store.iterdir():
        path.unlink()
    bench.store.rmdir()
    bench.run()
    assert len(bench.worked) == 6


def test_bad_input_found_late_is_still_bad_input(bench: Bench) -> None:
    def work(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
        raise MapError("this worker has another encoder")

    with pytest.raises(MapError, match="another encoder"):
        run_stages(
            bench.ledger,
            [bench.stage()],
            tiles=tiles(GRID, 32),
            tile_size=32,
            work=work,
            advance=lambda pixels, before=False: None,
        )


def test_stages_sharing_a_pass_do_only_what_each_lacks(tmp_path: Path) -> None:
    """A second prompt set is added: the first one's tiles are not asked for again."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    asked: list[frozenset[str]] = []

    def work(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
        asked.append(wanted)
        return {name: TileResult(name, {}) for name in wanted}

    def stage(name: str) -> Stage:
        return Stage(name, "s", tmp_path / name, (tmp_path / name).mkdir)

    def run(*names: str) -> None:
        asked.clear()
        run_stages(
            ledger,
            [stage(name) for name in names],
            tiles=tiles(GRID, 64),
            tile_size=64,
            work=work,
            advance=lambda pixels, before=False: None,
        )

    run("first")
    assert asked == [{"first"}] * 2
    run("first", "second")
    assert asked == [{"second"}] * 2
