"""Where the time goes: phases that add up to the time a tile took, whatever threads did it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from timesenmap.pipeline import profile
from timesenmap.pipeline.read import AssetSource, read_asset


class Hands:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = self.computed = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def compute(self, seconds: float) -> None:
        self.now += seconds
        self.computed += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(time, "perf_counter", lambda: hands.now)
    monkeypatch.setattr(time, "thread_time", lambda: hands.computed)
    return hands


def test_what_belongs_to_no_phase_is_the_rest(hands: Hands) -> None:
    with profile.measured() as meter:
        hands.wait(1)
        with profile.timed("writing"):
            hands.wait(2)
        hands.wait(4)
    assert meter.seconds == {"writing": 2, "rest": 5}


def test_waiting_is_reading_and_computing_is_decoding(hands: Hands) -> None:
    with profile.measured() as meter, profile.reading():
        hands.wait(3)
        hands.compute(2)
        with profile.timed("resampling"):
            hands.compute(10)
    assert meter.seconds == {"reading": 3, "decoding": 2, "resampling": 10, "rest": 0}


def test_inner_phases_are_not_counted_twice(hands: Hands) -> None:
    with profile.measured() as meter, profile.timed("masking"):
        hands.wait(1)
        with profile.timed("resampling"):
            hands.wait(2)
            with profile.timed("reading"):
                hands.wait(4)
    assert meter.seconds == {"masking": 1, "resampling": 2, "reading": 4, "rest": 0}


def test_wall_time_of_threads_is_divided_in_proportion(hands: Hands) -> None:
    """Two threads read for 6 s and composite for 2 s in all, in 4 s by the clock."""
    with profile.measured() as meter:
        with profile.divided():
            threads = [
                threading.Thread(
                    target=profile.spend, args=({"reading": 3.0, "compositing": 1.0},), kwargs={"bytes_read": 5}
                )
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            hands.wait(4)
        hands.wait(1)
    assert meter.seconds == {"reading": 3, "compositing": 1, "rest": 1}
    assert meter.bytes_read == 10


def test_a_failure_does_not_leave_the_meter_running(hands: Hands) -> None:
    with pytest.raises(RuntimeError), profile.measured(), profile.divided(), profile.timed("encoding"):
        raise RuntimeError("broken")
    profile.spend({"encoding": 1.0})
    with profile.measured() as meter:
        hands.wait(1)
    assert meter.seconds == {"rest": 1}


def test_all_threads_are_counted() -> None:
    with profile.measured() as meter, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: profile.spend({"decoding": float(n)}, bytes_read=n), range(500)))
    assert meter.seconds["decoding"] == sum(range(500))
    assert meter.bytes_read == sum(range(500))


@pytest.mark.parametrize(
    ("options", "window", "expected"),
    [
        ({"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64}, (0, 64), 64 * 64 * 2),
        ({"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64}, (60, 70), 4 * 64 * 64 * 2),
        ({"driver": "GTiff", "blockysize": 16}, (0, 20), 2 * 16 * 128 * 2),
        ({"driver": "JP2OpenJPEG"}, (0, 20), 20 * 20 * 2),
    ],
)
def test_bytes_are_those_of_the_blocks_read(
    tmp_path: Path, options: dict[str, object], window: tuple[int, int], expected: int
) -> None:
    """Of GeoTIFF the blocks a window reaches into, whole; of formats that do not tell, its pixels."""
    grid = GeoBox.from_bbox((500000, 5600000, 501280, 5601280), crs="EPSG:32631", resolution=10)
    path = tmp_path / ("band.jp2" if "JP2" in str(options["driver"]) else "band.tif")
    raster = {"width": 128, "height": 128, "count": 1, "dtype": "uint16", "crs": "EPSG:32631", "transform": grid.affine}
    with rasterio.open(path, "w", **raster, **options) as target:
        target.write(np.random.default_rng(0).integers(1, 9999, (1, 128, 128), np.uint16))
    part = grid[slice(*window), slice(*window)]
    with profile.measured() as meter:
        read_asset(AssetSource("item", "B04", str(path)), part, method="nearest")
    assert meter.bytes_read == expected
    assert set(meter.seconds) == {"reading", "decoding", "resampling", "masking", "rest"}


def test_blocks_that_a_file_leaves_out_cost_nothing(tmp_path: Path) -> None:
    grid = GeoBox.from_bbox((500000, 5600000, 501280, 5601280), crs="EPSG:32631", resolution=10)
    path = tmp_path / "band.tif"
    raster = {"width": 128, "height": 128, "count": 1, "dtype": "uint16", "crs": "EPSG:32631", "transform": grid.affine}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, blockxsize=64, blockysize=64, sparse_ok=True, **raster):
        pass
    with profile.measured() as meter:
        read_asset(AssetSource("item", "B04", str(path)), grid, method="nearest")
    assert meter.bytes_read == 0
