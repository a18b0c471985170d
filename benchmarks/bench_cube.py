"""Cubes: from a year of scenes on disk to the twelve monthly medians of one tile.

Each contender runs in a process of its own, one after the other, `repeats` times in turn; the scenes are in the page
cache. The default is a tile of 512 x 512 pixels and 35 scenes (about five minutes on two cores); with
TIMESENMAP_BENCH_FULL=1 it is 1024 x 1024 and 70.

floor
    One process that decodes every block the tile meets once with rasterio, repeats the pixels of 20 m bands, and takes
    our own median of integers, on the same threads: what is left out is all that makes a cube right.
stackstac, odc-stac
    As their documentation has it: stack, mask by SCL, ``groupby("time.month").median()``, float32.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import odc.stac
import pystac
import rasterio
import stackstac
import xarray as xr
from cube_scenes import FULL, SMALL, Year, make_year
from dask.base import collections_to_expr
from lines import Line, peak_mib
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.windows import from_bounds

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.radiometry import Scaling
from timesenmap.catalogs.scenes import Scene
from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.observe import composite_tile, scenes_by_month, tile_tasks
from timesenmap.pipeline.period import Period

THREADS = os.cpu_count() or 1
PERIOD = Period.of(year=2020)

# Of dask: chunks of a library's stack, pixels on a side. Its own default would cut a tile of 1024 less, but the medians
# of a month of all bands must fit memory.
_CHUNK = 512


def ours(scenes: Sequence[Scene], grid: GeoBox) -> NDArray[np.uint16]:
    """Monthly medians, uint16 (12, 10, y, x)."""
    tile = Tile(0, 0, 0, grid.shape.y, 0, grid.shape.x)
    return composite_tile(scenes, grid, tile, PERIOD, threads=THREADS)[0]


def floor(scenes: Sequence[Scene], grid: GeoBox) -> NDArray[np.uint16]:
    """Decode all, repeat 20 m pixels, median."""
    result = np.zeros((12, len(BANDS), *grid.shape), np.uint16)
    strips = np.array_split(np.arange(grid.shape.y), THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        for month, group in enumerate(scenes_by_month(scenes, PERIOD)):
            if not group:
                continue
            dn = np.empty((len(group), len(BANDS), *grid.shape), np.uint16)
            scl = np.empty((len(group), *grid.shape), np.uint8)
            targets = [(scene.href(band), dn[i, j]) for i, scene in enumerate(group) for j, band in enumerate(BANDS)]
            targets += [(scene.href(SCL), scl[i]) for i, scene in enumerate(group)]
            list(pool.map(lambda pair: _read(*pair, grid), targets))
            multiply, add = np.ones(dn.shape[:2]), np.full(dn.shape[:2], -1000.0)

            def median(rows: NDArray[np.intp]) -> None:
                ys = slice(rows[0], rows[-1] + 1)
                result[month, :, ys] = composite(dn[:, :, ys], scl[:, ys], multiply, add)[0]  # noqa: B023 - used at once

            list(pool.map(median, strips))
    return result


def _read(path: str, target: NDArray[Any], grid: GeoBox) -> None:
    with rasterio.open(path) as raster:
        pixels = raster.read(1, window=from_bounds(*grid.boundingbox, raster.transform))
    parts = target.shape[0] // pixels.shape[0]
    target[:] = pixels if parts == 1 else np.repeat(np.repeat(pixels, parts, axis=0), parts, axis=1)


def through_stackstac(scenes: Sequence[Scene], grid: GeoBox) -> xr.DataArray:
    """Stack, mask, group by month, median."""
    items = []
    for scene in scenes:
        item = scene.item.to_dict(include_self_link=False)
        item["properties"]["proj:epsg"] = 32631
        items.append(item)
    options: dict[str, Any] = {"epsg": 32631, "resolution": 10, "bounds": tuple(grid.boundingbox), "chunksize": _CHUNK}
    options |= {"rescale": False, "dtype": np.dtype("float32"), "fill_value": np.float32(np.nan)}
    dn = stackstac.stack(items, assets=list(BANDS), resampling=Resampling.bilinear, **options)
    scl = stackstac.stack(items, assets=[SCL], resampling=Resampling.nearest, **options).isel(band=0, drop=True)
    return _median(dn, scl)


def through_odc(scenes: Sequence[Scene], grid: GeoBox) -> xr.DataArray:
    """Load, mask, group by month, median."""
    items = [scene.item for scene in scenes]
    resampling = {"*": "bilinear", SCL: "nearest"}
    chunks = {"x": _CHUNK, "y": _CHUNK, "time": 1}
    bands = [*BANDS, SCL]
    data = odc.stac.load(
        items, bands=bands, geobox=grid, chunks=chunks, groupby="id", resampling=resampling, dtype="uint16", nodata=0
    )
    dn = data[list(BANDS)].to_dataarray("band").astype(np.float32)
    return _median(dn.where(dn > 0), data[SCL])


def _median(dn: xr.DataArray, scl: xr.DataArray) -> xr.DataArray:
    clear = ~scl.isin(list(SCL_SET_ASIDE)) & dn.notnull().all("band")
    masked = dn.where(clear).assign_coords(month=("time", dn.time.dt.month.values))
    numbers = (masked - 1000).drop_vars(set(masked.coords) - {"time", "month"})
    median: xr.DataArray = numbers.groupby("month").median("time").transpose("month", "band", "y", "x")
    return median


def tasks_of_ours(scenes: Sequence[Scene], grid: GeoBox) -> int:
    """Tasks that Dask gets to make our medians."""
    months = scenes_by_month(scenes, PERIOD)
    passes = [list(range(len(month))) for month in months]
    reflectance, clear = np.zeros((12, len(BANDS), *grid.shape), np.uint16), np.zeros((12, *grid.shape), np.uint8)
    return len(collections_to_expr(tile_tasks(months, passes, grid, reflectance, clear)).__dask_graph__())


def _computed(lazy: Callable[[Sequence[Scene], GeoBox], xr.DataArray], scenes: Sequence[Scene], grid: GeoBox) -> Any:
    with warnings.catch_warnings(), dask.config.set(scheduler="threads", num_workers=THREADS):
        warnings.simplefilter("ignore")  # a pixel that is never clear is NaN, as it should be
        return lazy(scenes, grid).compute().values


CONTENDERS: dict[str, Callable[[Sequence[Scene], GeoBox], Any]] = {
    "ours": ours,
    "floor": floor,
    "stackstac": lambda scenes, grid: _computed(through_stackstac, scenes, grid),
    "odc": lambda scenes, grid: _computed(through_odc, scenes, grid),
}


def lines(repeats: int) -> list[Line]:
    """Compare with the floor and with the libraries: pixels of the tile a second, peak memory, tasks."""
    year = FULL if os.environ.get("TIMESENMAP_BENCH_FULL") else SMALL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {}
        for clouds in (True, False):
            scenes = make_year(folder, year, clouds=clouds)
            (folder / "items.json").write_text(
                json.dumps([one.item.to_dict(include_self_link=False) for one in scenes])
            )
            contenders = list(CONTENDERS) if clouds else ["ours", "floor"]
            _measured("floor", folder, year)  # after which the scenes are in the page cache, for all
            rounds = [{name: _measured(name, folder, year) for name in contenders} for _ in range(repeats)]
            found[clouds] = {
                name: {key: statistics.median(one[name][key] for one in rounds) for key in rounds[0][name]}
                for name in rounds[0]
            }
        tasks = tasks_of_ours(scenes, year.grid), len(through_stackstac(scenes, year.grid).__dask_graph__())
    return _compared(found[True], found[False], year, tasks)


def _compared(
    cloudy: dict[str, dict[str, float]], clear: dict[str, dict[str, float]], year: Year, tasks: tuple[int, int]
) -> list[Line]:
    what = f"cube, {year.scenes} scenes, {year.tile} x {year.tile}"
    names = {"floor": "floor (every block decoded once)", "stackstac": "stackstac, groupby median"}
    names["odc"] = "odc-stac, groupby median"
    result: list[Line] = []

    def add(said: str, unit: str, ours: float, reference: str, theirs: float) -> None:
        result.append(Line(what + said, unit, ours, reference, theirs, less_is_better=True))

    for weather, figures in (("", cloudy), (", no cloud in any", clear)):
        mine = figures.pop("ours")
        for said, unit, key in (("", "s", "seconds"), (", processor", "s", "processor"), (", peak", "MiB", "peak")):
            for name, theirs in figures.items():
                add(weather + said, unit, mine[key], names[name], theirs[key])
        add(f"{weather}, peak", "MiB", mine["peak"], "limit of a worker", 1536)
    add(", graph", "tasks", tasks[0], names["stackstac"], tasks[1])
    add(", graph", "tasks", tasks[0], "limit of a tile and year", 300)
    return result


def _measured(contender: str, folder: Path, year: Year) -> dict[str, float]:
    """Seconds, processor seconds and peak MiB of a contender in a fresh process."""
    numbers = map(str, (year.tile, *year.corner))
    command = [sys.executable, __file__, contender, str(folder), *numbers]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own file
    figures: dict[str, float] = json.loads(said.splitlines()[-1])
    return figures


def main() -> None:
    """Run one contender on the scenes of a folder: seconds, processor seconds, peak memory in MiB, as JSON."""
    name, folder, side, row, col = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    found = json.loads((folder / "items.json").read_text())
    scenes = [
        Scene(
            pystac.Item.from_dict(item),
            {band: band for band in (*BANDS, SCL)},
            dict.fromkeys(BANDS, Scaling(0.0001, -0.1)),
        )
        for item in found
    ]
    grid = Year(len(scenes), side, 0, (row, col)).grid
    CONTENDERS[name](scenes[:2], grid[:64, :64])  # what is imported and looked up once in a process does not count
    started, used = time.perf_counter(), time.process_time()
    CONTENDERS[name](scenes, grid)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(json.dumps({"seconds": seconds, "processor": used, "peak": peak_mib()}))


if __name__ == "__main__":
    main()
