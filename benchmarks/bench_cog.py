"""Class maps as cloud-optimised GeoTIFFs: ours against GDAL's COG driver on the same pixels.

Each is written by a process of its own, in turn, with as many threads and the same compression. The default is 8192 x
8192 pixels; with TIMESENMAP_BENCH_FULL=1 it is 40,000 x 40,000.

GDAL's COG driver
    The map is written by rows into a tiled GeoTIFF (deflate 1) and copied by the driver, which makes the overviews; the
    result is read once to check it, as ours is. GDAL's cache is its own choice, 5% of the machine's memory.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import rasterio
import rasterio.shutil
from generated import CLASSES, Patchwork
from lines import Line, peak_mib
from rasterio.windows import Window

from timesenmap.pipeline.cog import BLOCK, limit_block_cache
from timesenmap.pipeline.rasters import write_class_map

SIDE = 40_000 if os.environ.get("TIMESENMAP_BENCH_FULL") else 8192


def ours(path: Path, values: Patchwork) -> None:
    """Write the map as make-map does."""
    limit_block_cache()
    write_class_map(path, values, values.grid, CLASSES, tags={})


def gdal(path: Path, values: Patchwork) -> None:
    """Write it with GDAL's COG driver, and check it."""
    height, width = values.shape
    flat = path.with_name("flat.tif")
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 1, "height": height, "width": width, "nodata": 0,
        "crs": str(values.grid.crs), "transform": values.grid.affine, "tiled": True, "blockxsize": BLOCK,
        "blockysize": BLOCK, "compress": "DEFLATE", "zlevel": 1, "bigtiff": "IF_SAFER",
    }  # fmt: skip
    rows = [slice(y, min(y + BLOCK, height)) for y in range(0, height, BLOCK)]
    windows = [Window.from_slices(row, slice(0, width)) for row in rows]
    written = 0
    with rasterio.open(flat, "w", **profile) as target:
        for row, window in zip(rows, windows, strict=True):
            block = values[row, slice(0, width)]
            target.write(block, 1, window=window)
            written = zlib.crc32(block.data, written)
    rasterio.shutil.copy(
        flat, path, driver="COG", compress="DEFLATE", predictor="NO", blocksize=BLOCK, overview_resampling="mode",
        num_threads="ALL_CPUS", bigtiff="IF_SAFER",
    )  # fmt: skip
    flat.unlink()
    crc = 0
    with rasterio.open(path) as source:
        for window in windows:
            crc = zlib.crc32(source.read(1, window=window).data, crc)
    assert crc == written


def measure(name: str, side: int) -> dict[str, float]:
    """Write the map in a fresh process and say what that took."""
    command = [sys.executable, __file__, name, str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this very file
    if done.returncode:
        raise RuntimeError(f"{name}, {side} x {side}: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines(repeats: int) -> list[Line]:
    """Time, memory and size of both; the least of up to three turns, as others only ever add to it."""
    turns = [[measure(name, SIDE) for name in ("ours", "gdal")] for _ in range(min(repeats, 3))]
    figures = (
        ("time", "s", "seconds"),
        ("processor time", "s", "processor_seconds"),
        ("peak memory", "MiB", "peak_mib"),
        ("size", "MB", "megabytes"),
    )
    mine, theirs = ({key: min(turn[i][key] for turn in turns) for _, _, key in figures} for i in (0, 1))
    what = f"class map, {SIDE:,} x {SIDE:,}"
    return [
        Line(f"{what}: {label}", unit, mine[key], "GDAL's COG driver", theirs[key], less_is_better=True)
        for label, unit, key in figures
    ]


def main(name: str, side: int) -> None:
    """Write one map here, and print the figures as JSON."""
    values = Patchwork(side, side)
    with tempfile.TemporaryDirectory(prefix="bench-cog-") as folder:
        path = Path(folder) / "map.tif"
        started, worked = time.perf_counter(), time.process_time()
        {"ours": ours, "gdal": gdal}[name](path, values)
        found = {
            "seconds": time.perf_counter() - started,
            "processor_seconds": time.process_time() - worked,
            "peak_mib": peak_mib(),
            "megabytes": path.stat().st_size / 1e6,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
