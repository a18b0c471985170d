"""Stages over tiles: resumed where they stopped, started anew when their inputs change."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile, tiles
from timesenmap.pipeline.ledger import Ledger, TileResult
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.tiling import Stage, TileRun, TilesFailedError, Work

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

        return Stage(name, signature, Store.at(self.store), create)

    def run(
        self,
        signature: str = "s1",
        size: int = 32,
        fails: Callable[[Tile], Exception | bool] = lambda tile: False,
        retry_failed: bool = False,
    ) -> None:
        self.worked = []
        self.advanced = self.before = 0

        def work(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
            self.worked.append(tile.key)
            error = fails(tile)
            if error:
                raise OSError("no such scene") if error is True else error
            (self.store / tile.key).write_text(signature)
            return {name: TileResult(tile.key, {"pixels": [tile.pixels]}) for name in wanted}

        def advance(pixels: int, *, before: bool = False) -> None:
            self.advanced += pixels
            self.before += pixels if before else 0

        tile_run = TileRun(self.ledger, tiles(GRID, size), size, retry_failed=retry_failed)
        tile_run.run([self.stage(signature)], work=work, advance=advance)
        tile_run.require_all()


def silent(pixels: int, *, before: bool = False) -> None:
    """Show no progress."""


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
    with pytest.raises(TilesFailedError, match=rf"1 of 6 tiles are not done.*: cube {broken}: no such scene"):
        bench.run(fails=lambda tile: tile.key == broken)
    assert len(bench.ledger.done("cube")) == 5
    assert bench.ledger.failed("cube") == {broken: "OSError: no such scene"}
    bench.run()
    assert bench.worked == [broken]
    assert bench.made == 1


def test_every_failed_tile_is_named_with_its_reason(bench: Bench) -> None:
    with pytest.raises(TilesFailedError) as raised:
        bench.run(fails=lambda tile: tile.col == 1 and MemoryError(f"row {tile.row}"))
    assert [line.rpartition(": ")[0] for line in str(raised.value).splitlines()][1:] == ["  cube r0001c0001"]
    assert "row 0" in str(raised.value)
    assert "row 1" in str(raised.value)


@pytest.mark.parametrize("done_before", [0, 3])
def test_the_same_failure_again_and_again_stops_the_run(bench: Bench, done_before: int) -> None:
    with pytest.raises(TilesFailedError, match=r"5 tiles failed one after the other with OSError.*no such"):
        bench.run(size=16, fails=lambda tile: tile.row * 6 + tile.col >= done_before)
    assert len(bench.worked) == done_before + 5
    assert len(bench.ledger.done("cube")) == done_before


def test_failures_of_several_causes_are_no_reason_to_stop(bench: Bench) -> None:
    def fails(tile: Tile) -> Exception:
        return OSError("scene") if tile.col % 2 else MemoryError("much")

    with pytest.raises(TilesFailedError, match="24 of 24 tiles are not done"):
        bench.run(size=16, fails=fails)
    assert len(bench.worked) == 24


def test_broken_tiles_do_not_keep_a_run_from_the_others(bench: Bench) -> None:
    """Five broken tiles at the start stop the first run; the next does the others before it tries them again."""
    broken = [tile.key for tile in tiles(GRID, 16)][:5]
    for _ in range(2):
        with pytest.raises(TilesFailedError):
            bench.run(size=16, fails=lambda tile: tile.key in broken)
    assert bench.worked[-5:] == broken
    assert len(bench.ledger.done("cube")) == 24 - 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_run_at_once(bench: Bench, number: int) -> None:
    def fails(tile: Tile) -> Exception | bool:
        error = RuntimeError("the store could not be written")
        error.__cause__ = OSError(number, "No space left on device")
        return tile.col == 1 and error

    with pytest.raises(TilesFailedError, match=r"disk of .*store is full.*Make room"):
        bench.run(fails=fails)
    assert bench.worked == [tile.key for tile in tiles(GRID, 32)][:2]
    bench.run()
    assert bench.worked == [*[tile.key for tile in tiles(GRID, 32)][2:], "r0000c0001"]


def test_retry_failed_leaves_what_is_pending(bench: Bench) -> None:
    """Of six tiles one is done, one failed, and the run was stopped in the third."""

    def fails(tile: Tile) -> Exception | bool:
        if tile.key == "r0000c0002":
            raise KeyboardInterrupt
        return tile.key == "r0000c0001"

    with pytest.raises(KeyboardInterrupt):
        bench.run(fails=fails)
    with pytest.raises(TilesFailedError, match=r"4 of 6 tiles are not done.*without --retry-failed"):
        bench.run(retry_failed=True)
    assert bench.worked == ["r0000c0001"]
    bench.run()
    assert len(bench.worked) == 4


def test_retry_failed_never_starts_anew(bench: Bench) -> None:
    for signature, size in (("s2", 32), ("s1", 64)):
        with pytest.raises(TilesFailedError):
            bench.run(fails=lambda tile: tile.col == 1)
        with pytest.raises(MapError, match="of other inputs or of another tile size"):
            bench.run(signature, size, retry_failed=True)
        assert len(bench.ledger.done("cube")) == 4


@pytest.mark.parametrize(("reach", "left_out"), [(0, {(1, 1)}), (1, {(y, x) for y in range(3) for x in range(3)})])
def test_the_next_stage_leaves_out_what_waits_for_a_failed_tile(
    tmp_path: Path, reach: int, left_out: set[tuple[int, int]]
) -> None:
    """Where a stage needs the tiles around, these wait, too; the rest is done, and all of it the next time."""
    ledger, all_tiles = Ledger(tmp_path / "ledger.sqlite"), tiles(GRID, 16)
    asked: list[tuple[int, int]] = []

    def run(broken: tuple[int, int] | None, *, retry_failed: bool = False) -> None:
        asked.clear()

        def cube(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
            if (tile.row, tile.col) == broken:
                raise FloatingPointError("poisoned")
            return {"cube": TileResult("", {})}

        def labels(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
            asked.append((tile.row, tile.col))
            return {"labels": TileResult("", {})}

        tile_run = TileRun(ledger, all_tiles, 16, retry_failed=retry_failed)
        works: dict[str, tuple[Work, int]] = {"cube": (cube, 0), "labels": (labels, reach)}
        for name, (work, needs) in works.items():
            store = tmp_path / name
            tile_run.run([Stage(name, "s", Store.at(store), store.mkdir)], work=work, advance=silent, reach=needs)
        tile_run.require_all()

    with pytest.raises(TilesFailedError, match=f"{len(left_out)} of 24 tiles are not done.*cube r0001c0001: poisoned"):
        run((1, 1))
    assert set(asked) == {(tile.row, tile.col) for tile in all_tiles} - left_out
    run(None, retry_failed=True)
    assert set(asked) == left_out


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
        TileRun(bench.ledger, tiles(GRID, 32), 32).run([bench.stage()], work=work, advance=silent)


def test_stages_sharing_a_pass_do_only_what_each_lacks(tmp_path: Path) -> None:
    """A second prompt set is added: the first one's tiles are not asked for again."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    asked: list[frozenset[str]] = []

    def work(tile: Tile, wanted: frozenset[str]) -> dict[str, TileResult]:
        asked.append(wanted)
        return {name: TileResult(name, {}) for name in wanted}

    def stage(name: str) -> Stage:
        return Stage(name, "s", Store.at(tmp_path / name), (tmp_path / name).mkdir)

    def run(*names: str) -> None:
        asked.clear()
        TileRun(ledger, tiles(GRID, 64), 64).run([stage(name) for name in names], work=work, advance=silent)

    run("first")
    assert asked == [{"first"}] * 2
    run("first", "second")
    assert asked == [{"second"}] * 2
