"""make-map from Python: an area and words in, xarray out."""

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import xarray as xr

from timesenmap.pipeline.opened import open_maps
from timesenmap.workflows.job import resolve_job
from timesenmap.workflows.make_map import make_map


def map_area(
    aoi: str | PathLike[str] | Sequence[float],
    *,
    prompts: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    year: int | None = None,
    **job: Any,
) -> xr.Dataset:
    """Map an area as ``make-map`` does, and open the maps.

    All that the command leaves is in ``out`` afterwards; a second call over the same folder redoes only what changed,
    and one that was interrupted goes on where it was.

    Parameters
    ----------
    aoi
        File of polygons, or minx, miny, maxx, maxy; lon/lat unless ``aoi_crs`` says otherwise.
    prompts
        Prompt sets: shipped names or YAML files.
    out
        Output folder.
    year
        Calendar year; or give ``start="YYYY-MM"``, the first of twelve months.
    **job
        What else a job file may hold, by the names of the flags: ``catalog``, ``encoder``, ``unknown_below``, ...

    Returns
    -------
    Dataset, as of `timesenmap.pipeline.open_maps`.

    Raises
    ------
    MapError, CatalogError, ModelError
        Bad input, an unknown field among it; nothing was written.
    SceneReadError, TilesFailedError
        Something could not be read or computed; what was finished is kept, and the same call goes on from there.
    """
    names = [prompts] if isinstance(prompts, str | PathLike) else prompts
    fields: dict[str, object] = {
        "aoi": fspath(aoi) if isinstance(aoi, str | PathLike) else list(aoi),
        "prompts": [fspath(name) for name in names],
        "out": fspath(out),
        **({} if year is None else {"year": year}),
        **{name: fspath(value) if isinstance(value, PathLike) else value for name, value in job.items()},
    }
    record = make_map(resolve_job(fields, None))
    return open_maps(str(record.job["out"]))
