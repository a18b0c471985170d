"""What a run left, opened for Python: maps and cube as xarray objects that know where they lie (``.rio``, ``.odc``).

Pixels are read when they are asked for, block by block.
"""

from collections.abc import Hashable
from os import PathLike
from pathlib import Path

import numpy as np
import rioxarray  # also gives xarray objects .rio
import xarray as xr
from pydantic import ValidationError

from timesenmap.pipeline import cube as cubes
from timesenmap.pipeline import figures, legend
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.rasters import BLOCK
from timesenmap.pipeline.record import MapRecord, RunRecord
from timesenmap.pipeline.workspace import require_cube

_CHUNK = 4 * BLOCK


def open_maps(out: str | PathLike[str]) -> xr.Dataset:
    """Open the maps of a run, lazily.

    Parameters
    ----------
    out
        The run's output folder.

    Returns
    -------
    Dataset
        All on the grid of the run, uint8 (y, x), y from north to south, with the CRS of the maps (``.rio.crs``). For
        each prompt set, hyphens in its name written as underscores:

        ``land_cover``
            Class codes, 0 = no data, 255 = unknown. CF attributes tell the classes: ``flag_values``, ``flag_meanings``
            (names with underscores for blanks, as CF has it) and ``flag_colors`` (#rrggbb).
        ``land_cover_confidence``
            Percent, 255 = no data.
        ``land_cover_probability``
            Where the run wrote it: percent (class, y, x), with the classes' names as coordinate ``land_cover_class``.
        ``land_cover_margin``
            Where the run wrote it: percent by which the best class leads the second best, 255 = no data.

        And ``observations``: months with a clear observation, 255 = outside the area. ``.rio.nodata`` says the no-data
        value of each; ``.rio.to_raster`` writes any of them.

    Raises
    ------
    MapError
        No record (``run.json``) in the folder, or one of another version; a map that it names is missing.
    """
    folder = Path(out)
    record = _record(folder)
    maps: dict[Hashable, xr.DataArray] = {}
    for one in record.maps:
        name = one.prompt_set.replace("-", "_")
        maps[name] = _band(folder / one.class_map).assign_attrs(long_name=one.title, **_flags(one))
        confidence = _band(folder / one.confidence_map)
        maps[f"{name}_confidence"] = confidence.assign_attrs(long_name=f"{one.title}: confidence", units="percent")
        if one.probability_map is not None:
            maps[f"{name}_probability"] = _probability(folder / one.probability_map, one, name)
        if one.margin_map is not None:
            margin = _band(folder / one.margin_map)
            maps[f"{name}_margin"] = margin.assign_attrs(long_name=f"{one.title}: margin", units="percent")
    months = _band(folder / record.observation_map)
    maps["observations"] = months.assign_attrs(long_name=legend.OBSERVATIONS.title, units="1")
    dataset = xr.Dataset(maps)
    dataset.attrs = {
        "Conventions": "CF-1.11",
        "title": record.title,
        "source": f"{figures.scenes(record)}, {figures.period(record)}; encoder {record.encoder.name} "
        f"(sha256 {record.encoder.sha256})",
        "references": "https://doi.org/10.1016/j.isprsjprs.2026.03.043",
        "license": figures.attribution(record),
    }
    return dataset


def open_cube(out: str | PathLike[str]) -> xr.Dataset:
    """Open the cube that a run kept, lazily, one Dask chunk a tile.

    Parameters
    ----------
    out
        The run's output folder.

    Returns
    -------
    Dataset
        ``reflectance`` float32 (month, band, y, x), 0-1, NaN = not seen in that month: monthly medians of the clear
        observations; ``clear`` uint8 (month, y, x), their number. Coordinates ``month`` (first days), ``band``
        (B02 ... B12), and y, x of pixel centres in the CRS of the maps.

    Raises
    ------
    MapError
        The run kept no cube, there or where its job says (``work``).
    """
    cube = cubes.open_cube(require_cube(Path(out), str(out)))
    whole = cube["reflectance"]
    reflectance = whole.where(whole > 0).astype(np.float32) * np.float32(1e-4)
    kept = {key: value for key, value in whole.attrs.items() if key not in ("scale_factor", "add_offset")}
    return cube.assign(reflectance=reflectance.assign_attrs(kept))


def _record(folder: Path) -> RunRecord:
    path = folder / "run.json"
    try:
        return RunRecord.read(path)
    except OSError as error:
        raise MapError(
            f"{folder}: holds no run.json ({error.strerror}); name the --out of a finished run of make-map"
        ) from None
    except ValidationError as error:
        raise MapError(
            f"{path}: was written by another version ({error.errors()[0]['msg']}); make the maps again with this one"
        ) from error


def _open(path: Path) -> xr.DataArray:
    if not path.is_file():
        raise MapError(f"map {path}: is missing; run make-map again with --job {path.parent / 'job.yaml'}")
    opened = rioxarray.open_rasterio(path, chunks={"band": -1, "y": _CHUNK, "x": _CHUNK})
    assert isinstance(opened, xr.DataArray)
    opened.attrs = {key: value for key, value in opened.attrs.items() if key == "_FillValue"}
    return opened


def _band(path: Path) -> xr.DataArray:
    return _open(path).isel(band=0, drop=True)


def _probability(path: Path, map_record: MapRecord, name: str) -> xr.DataArray:
    bands = _open(path).rename(band=f"{name}_class")
    named = bands.assign_coords({f"{name}_class": [c.name for c in map_record.classes]})
    return named.assign_attrs(long_name=f"{map_record.title}: probability of each class", units="percent")


def _flags(map_record: MapRecord) -> dict[str, object]:
    """Classes in the words of CF, section 3.5: no blanks within a meaning."""
    return {
        "flag_values": np.array([c.code for c in map_record.legend], np.uint8),
        "flag_meanings": " ".join("_".join(c.name.split()) for c in map_record.legend),
        "flag_colors": " ".join(c.colour for c in map_record.legend),
    }
