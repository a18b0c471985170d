"""Preparation of training data: Sen4Map years into monthly crops.

Crops are shards that can be resumed and read by any number of workers (see ``shards``). A sample that cannot be
used is skipped and counted under its reason; with ``strict`` the first one stops everything.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd

from timesenmap.model.errors import ModelError
from timesenmap.model.lucas import Labels
from timesenmap.model.sen4map import (
    BANDS,
    YEAR,
    BadSampleError,
    Gaps,
    Place,
    from_cube,
    list_points,
    open_sen4map,
    read_place,
)
from timesenmap.model.series import SERIES_COLUMNS
from timesenmap.model.shards import Counts, Manifest, PreparedRows, Remark, Shard

POINTS_A_SHARD: Final = 2048

Advance = Callable[[int], None]
_T = TypeVar("_T")
_R = TypeVar("_R")

_LABELS: Final = ("lc1", "lu1", "country", "bioregion", "habitat")


@dataclass(frozen=True)
class CropTask:
    """The points of one shard: small and picklable, for a worker process."""

    points: tuple[tuple[Path, str], ...]  # (file, group)
    patch: int
    gaps: Gaps
    year: int
    strict: bool


def prepare_crops(
    sources: Sequence[Path],
    out: Path,
    *,
    patch: int = 1,
    gaps: Gaps = "keep",
    year: int = YEAR,
    workers: int = 1,
    strict: bool = False,
    points_a_shard: int = POINTS_A_SHARD,
    started: Callable[[int], Advance] | None = None,
) -> Counts:
    """Turn Sen4Map files of either layout into shards of monthly crops.

    Parameters
    ----------
    sources
        HDF5 files; a point in several of them is taken from the first.
    out
        Folder of the shards; an interrupted preparation goes on where it was.
    patch, gaps, year
        See :func:`~timesenmap.model.sen4map.read_place`.
    workers
        Processes that read; 1 reads in this one.
    strict
        Stop at the first sample that cannot be used, or of which something would be left out.
    started
        Told the number of points still to do; gives what is called with each number of points done.

    Raises
    ------
    ModelError
        A file that cannot be opened (all are tried before anything is read), a folder prepared otherwise.
    BadSampleError
        With ``strict`` only.
    """
    points, repeated = _points_of(sources)
    units = [tuple(points[i : i + points_a_shard]) for i in range(0, len(points), points_a_shard)]
    header = {
        "kind": "crops",
        "shards": len(units),
        "sources": [path.name for path in sources],
        "points": digest(f"{path.name}/{name}" for path, name in points),
        "patch": patch,
        "gaps": gaps,
        "year": year,
        "points a shard": points_a_shard,
        "bands": list(BANDS),
    }
    manifest = Manifest.resume_or_start(out, header)
    todo = [number for number in range(len(units)) if number not in manifest.finished]
    advance = started(sum(len(units[number]) for number in todo)) if started else ignore
    tasks = [CropTask(units[number], patch, gaps, year, strict) for number in todo]
    for position, shard in _unordered(make_crops, tasks, workers=workers):
        manifest.add(todo[position], shard)
        advance(len(tasks[position].points))
    counts = manifest.counts()
    if repeated:
        reason = "point of an earlier file, too"
        examples = {**counts.examples, reason: tuple(repeated[:3])}
        return replace(counts, remarks={**counts.remarks, reason: len(repeated)}, examples=examples)
    return counts


def make_crops(task: CropTask) -> Shard:
    """Read the points of a task; HDF5 files are opened in the process that calls."""
    places: list[Place] = []
    skipped, remarks = [], []
    for path in dict.fromkeys(path for path, _ in task.points):
        with open_sen4map(path) as file:
            for name in (name for at, name in task.points if at == path):
                try:
                    place = _read(file, name, task)
                except BadSampleError as error:
                    if task.strict:
                        raise
                    skipped.append(Remark(name, error.reason, str(error)))
                    continue
                places.append(place)
                remarks += [Remark(name, reason, detail) for reason, detail in place.remarks]
    shape = (0, 12, len(BANDS), task.patch, task.patch)
    images = np.stack([place.image for place in places]) if places else np.empty(shape, np.uint16)
    columns = {"number": [place.number for place in places]}
    columns |= {name: [getattr(place.labels, name) for place in places] for name in _LABELS}
    lonlat = np.array([(place.lon, place.lat) for place in places], np.float64).reshape(-1, 2)
    return Shard({"image": images, "lonlat": lonlat}, columns, tuple(skipped), tuple(remarks))


def label_names(crops: PreparedRows) -> pd.DataFrame:
    """Class names of places as in the shipped prompt sets: landcover, landuse, crop, habitat, country, bioregion.

    Beside them the LUCAS codes lc1 and lu1, which prompt sets may have as aliases; "" where nothing is known.
    """
    names = pd.DataFrame([Labels(*row).names for row in crops.frame[list(_LABELS)].itertuples(index=False)])
    return names.assign(lc1=crops.frame["lc1"], lu1=crops.frame["lu1"])


def series_of(crops: PreparedRows) -> pd.DataFrame:
    """The points' own pixels as a table of series, with label columns named as in the shipped prompt sets.

    Columns as :func:`~timesenmap.model.series.read_series` wants them, and landcover, landuse, crop, habitat,
    country, bioregion, lc1, lu1 (empty where unknown) and year.
    """
    image = crops.read("image", np.arange(len(crops)))
    centre = image.shape[-1] // 2
    reflectance = from_cube(image[..., centre, centre])
    lonlat = crops.read("lonlat", np.arange(len(crops)))
    names = label_names(crops)
    described = pd.DataFrame(
        {
            "dataset": "sen4map",
            "sample_id": crops.frame["number"],
            "lon": lonlat[:, 0],
            "lat": lonlat[:, 1],
            "year": YEAR,
            "level": "L2A",
            "label": names["landcover"],
        }
    )
    values = pd.DataFrame(reflectance.reshape(len(crops), -1), columns=list(SERIES_COLUMNS))
    return pd.concat([described, names, values], axis=1)


def _read(file: Any, name: str, task: CropTask) -> Place:
    place = read_place(file, name, patch=task.patch, gaps=task.gaps, year=task.year)
    if place.remarks and task.strict:
        raise BadSampleError(*place.remarks[0])
    return place


def _points_of(sources: Sequence[Path]) -> tuple[list[tuple[Path, str]], list[str]]:
    """(file, group) of every point, and those that were in an earlier file already."""
    if len({path.name for path in sources}) != len(sources):
        raise ModelError("two Sen4Map files have the same name: rename one of them")
    seen: set[str] = set()
    points: list[tuple[Path, str]] = []
    repeated: list[str] = []
    for path in sources:
        for name in list_points(path):
            if name in seen:
                repeated.append(f"{path.name}, {name}")
            else:
                seen.add(name)
                points.append((path, name))
    return points, repeated


def _unordered(work: Callable[[_T], _R], tasks: Sequence[_T], *, workers: int) -> Iterator[tuple[int, _R]]:
    """(position, result) of tasks as they finish, in this process or in several."""
    if workers <= 1 or len(tasks) <= 1:
        yield from ((position, work(task)) for position, task in enumerate(tasks))
        return
    # Spawned, not forked: the parent runs threads (progress bar), and HDF5 keeps global state.
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        queue = iter(enumerate(tasks))
        running = {pool.submit(work, task): position for position, task in islice(queue, 2 * workers)}
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    position = running.pop(future)
                    yield position, future.result()
                    for following, task in islice(queue, 1):
                        running[pool.submit(work, task)] = following
        finally:
            for future in running:
                future.cancel()


def default_workers() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def digest(names: Iterable[str]) -> str:
    """Hash of a list of names."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def ignore(amount: int) -> None:
    """Progress nobody watches."""
