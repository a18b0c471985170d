"""The built-in demonstration: a generated place, a year of Sentinel-2-like scenes of it, and the truth.

The ground is drawn once (`demonstration_landscape`), gets spectra computed from real series and published
spectra (`demonstration_covers`), is seen through a year's weather (`demonstration_weather`,
`demonstration_scenes`) and written as a real service would serve it (`demonstration_items`). The same size and
seed give the same bytes of every file.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pystac

from timesenmap.catalogs.demonstration_covers import CROPS
from timesenmap.catalogs.demonstration_items import (
    lonlat,
    swath,
    write_catalog,
    write_raster,
    write_scene,
)
from timesenmap.catalogs.demonstration_landscape import draw_landscape
from timesenmap.catalogs.demonstration_noise import chance
from timesenmap.catalogs.demonstration_scenes import render_scene, survey
from timesenmap.catalogs.demonstration_weather import OVERCAST_MONTH, YEAR, Acquisition, plan_year
from timesenmap.catalogs.errors import CatalogError

VERSION = 1  # of what is generated: raise it with every change to the bytes, so that old folders are refused
RECORD = "demonstration.json"
SMALLEST = 96  # pixels; below this a field is smaller than a pixel


@dataclass(frozen=True)
class Demonstration:
    """Where the parts of a demonstration are.

    `catalog`: static STAC catalogue of the scenes. `aoi`: GeoJSON polygon, lon/lat, slightly inside the scenes.
    `truth`: GeoTIFF uint8 of 10 m, codes of the prompt set land-cover, 0 = no data. `crops`: GeoTIFF uint8,
    1.. = what grew there, 0 = not cropland; `crop_legend`: CSV of its codes, names and LUCAS codes.
    `months_without`: months (1-12) without any clear observation.
    """

    folder: Path
    catalog: Path
    aoi: Path
    truth: Path
    crops: Path
    crop_legend: Path
    year: int
    scenes: int
    size: int
    seed: int
    months_without: tuple[int, ...]


def make_demonstration(
    folder: Path,
    *,
    size: int = 320,
    seed: int = 20260611,
    progress: Callable[[int, int], None] | None = None,
) -> Demonstration:
    """Generate the demonstration into `folder`, or find it there whole from an earlier call.

    Parameters
    ----------
    folder
        Where to put it: a folder that does not exist, is empty, or holds the same demonstration.
    size
        Width and height in pixels of 10 m: even, at least 96. The area of interest is a twentieth smaller.
    seed
        Another seed draws other fields, woods, lake shores and weather in the same valley.
    progress
        Called with (scenes done, scenes in all) after each scene.

    Returns
    -------
    Demonstration
        Paths of the catalogue, area of interest and truth. All rasters are EPSG:32632.

    Raises
    ------
    CatalogError
        Size or seed out of range, or the folder holds something else.
    """
    folder = Path(folder).absolute()
    if size < SMALLEST or size % 2:
        raise CatalogError(f"size {size}: the demonstration needs an even number of pixels, {SMALLEST} or more")
    if seed < 0:
        raise CatalogError(f"seed {seed}: give a whole number of 0 or more")
    plan = plan_year(seed)
    made = _demonstration(folder, size=size, seed=seed, scenes=len(plan))
    record = _record(made)
    if folder.exists():
        if _recorded(folder) == record:
            return made
        if not folder.is_dir() or any(folder.iterdir()):
            raise CatalogError(f"{folder}: holds something else than this demonstration; name an empty or new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: everything is written beside the folder and moved there at the end.
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(beside, size=size, seed=seed, plan=plan, progress=progress)
        (beside / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        beside.chmod(0o755)
        beside.replace(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return made


def _record(made: Demonstration) -> dict[str, object]:
    """What RECORD says, paths relative to the folder: enough to tell this demonstration from any other."""
    paths = {name: getattr(made, name).name for name in ("catalog", "aoi", "truth", "crops", "crop_legend")}
    return {
        "version": VERSION,
        "size": made.size,
        "seed": made.seed,
        "year": made.year,
        "scenes": made.scenes,
        "months_without": list(made.months_without),
        **paths,
    }


def _recorded(folder: Path) -> object:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _demonstration(folder: Path, *, size: int, seed: int, scenes: int) -> Demonstration:
    return Demonstration(
        folder=folder,
        catalog=folder / "catalog.json",
        aoi=folder / "demonstration-parish.geojson",
        truth=folder / "truth.tif",
        crops=folder / "crops.tif",
        crop_legend=folder / "crops.csv",
        year=YEAR,
        scenes=scenes,
        size=size,
        seed=seed,
        months_without=(OVERCAST_MONTH,),
    )


def _write(
    folder: Path,
    *,
    size: int,
    seed: int,
    plan: tuple[Acquisition, ...],
    progress: Callable[[int, int], None] | None,
) -> None:
    ground = survey(draw_landscape(size, seed), seed)
    paths = _demonstration(folder, size=size, seed=seed, scenes=len(plan))
    write_raster(paths.truth, ground.truth, resolution=10)
    write_raster(paths.crops, ground.crops, resolution=10)
    legend = "".join(f"{code},{crop.name},{crop.lucas}\n" for code, crop in enumerate(CROPS, start=1))
    paths.crop_legend.write_text("code,name,lucas\n" + legend, encoding="utf-8")
    paths.aoi.write_text(json.dumps(_area(size, seed), indent=1) + "\n", encoding="utf-8")
    items: list[pystac.Item] = []

    def scene(acquisition: Acquisition) -> pystac.Item:
        arrays = render_scene(ground, acquisition, swath(acquisition, size))
        return write_scene(folder / "scenes", acquisition, arrays, size)

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for done, item in enumerate(pool.map(scene, plan), start=1):
            items.append(item)
            if progress:
                progress(done, len(plan))
    write_catalog(folder, items)


def _area(size: int, seed: int) -> dict[str, object]:
    """Area of interest as GeoJSON: a parish-like polygon whose box stays a fortieth of the size inside."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    reach = np.ones_like(angle)
    for k in range(2, 8):
        reach += 0.10 / k * np.sin(k * angle + 2 * np.pi * float(chance(seed, 41, k)))
    corner = np.abs(np.cos(angle)) ** 4 + np.abs(np.sin(angle)) ** 4  # between a circle and a square
    x, y = reach * np.cos(angle) / corner**0.25, reach * np.sin(angle) / corner**0.25
    # A third of a pixel more than whole pixels, so that rounding of lon/lat cannot tip the box over a grid line.
    margin = (round(size / 40) + 0.3) * 10
    span = size * 10 - 2 * margin
    x, y = (margin + span * (v - v.min()) / (v.max() - v.min()) for v in (x, y))
    # North is up and y runs down, so going round by rising angle is clockwise on the map: reverse it (RFC 7946).
    ring = lonlat(np.append(x, x[0])[::-1], np.append(y, y[0])[::-1])
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {"name": "Demonstration parish (generated)"},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        ],
    }
