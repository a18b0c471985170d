"""Reference data: points with a class each, and what their labels mean in a map's classes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
import yaml
from numpy.typing import NDArray

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.projection import LON_LAT

_LON_LAT_COLUMNS = (("lon", "lat"), ("longitude", "latitude"))
_LISTED = 20  # names spelt out in a message


@dataclass(frozen=True)
class ReferencePoints:
    """Points of a file in its order: x and y (n,) in the CRS asked for, and the fields (n,) that were asked for."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    fields: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.x)


def read_points(path: Path, fields: Iterable[str], crs: pyproj.CRS, *, optional: Iterable[str] = ()) -> ReferencePoints:
    """Read points and some of their fields.

    Parameters
    ----------
    path
        GeoPackage, GeoJSON, Shapefile (or anything else GDAL reads), or CSV with columns lon and lat in degrees.
    fields, optional
        Fields to read; those that are optional may be missing.
    crs
        CRS to bring the points into.

    Raises
    ------
    MapError
        A file that cannot be read, has no CRS, no such field, several layers, no features, or other than points.
    """
    frame, lon, lat, stated = _read_csv(path) if path.suffix.lower() == ".csv" else _read_layer(path)
    found = {}
    for name in fields:
        if name not in frame:
            raise MapError(f"reference {path}: has no field '{name}'; its fields are {_listed(frame.columns)}")
        found[name] = frame[name].to_numpy(object)
    found |= {name: frame[name].to_numpy(object) for name in optional if name in frame}
    x, y = pyproj.Transformer.from_crs(stated, crs, always_xy=True).transform(lon, lat)
    return ReferencePoints(np.asarray(x, np.float64), np.asarray(y, np.float64), found)


def is_vector(path: Path) -> bool:
    """Whether a file holds points rather than a raster."""
    if path.suffix.lower() == ".csv":
        return True
    try:
        return len(pyogrio.list_layers(path)) > 0
    except pyogrio.errors.DataSourceError:
        return False


def _read_csv(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64], pyproj.CRS]:
    try:
        frame = pd.read_csv(path, dtype=str, skipinitialspace=True)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise MapError(f"reference {path}: cannot be read as CSV ({error})") from None
    names = {str(name).lower(): name for name in frame.columns}
    for lon, lat in _LON_LAT_COLUMNS:
        if lon in names and lat in names:
            try:
                x, y = (frame[names[name]].to_numpy(dtype=np.float64) for name in (lon, lat))
            except ValueError as error:
                raise MapError(f"reference {path}: {lon} and {lat} must be numbers in degrees ({error})") from None
            if np.isnan(x).any() or np.isnan(y).any() or (np.abs(x) > 180).any() or (np.abs(y) > 90).any():
                raise MapError(f"reference {path}: a {lon} or {lat} is missing or out of range; give degrees")
            return frame, x, y, LON_LAT
    raise MapError(f"reference {path}: has no columns lon and lat; its columns are {_listed(frame.columns)}")


def _read_layer(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64], pyproj.CRS]:
    try:
        layers = [name for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            raise MapError(
                f"reference {path}: {len(layers)} layers with geometry ({_listed(layers)}); give a file with one"
            )
        meta, _, geometries, columns = pyogrio.raw.read(path, layer=layers[0])
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise MapError(f"reference {path}: cannot be read ({error}); give points or a raster") from None
    frame = pd.DataFrame({name: pd.Series(values) for name, values in zip(meta["fields"], columns, strict=True)})
    if meta["crs"] is None:
        raise MapError(f"reference {path}: states no CRS; give it one (in QGIS: Layer, Set CRS, then save it)")
    if not len(geometries):
        raise MapError(f"reference {path}: has no features")
    points = shapely.from_wkb(geometries)
    if single := [i for i, point in enumerate(points) if point is None or point.is_empty]:
        raise MapError(f"reference {path}: feature {single[0] + 1} has no geometry; remove it")
    points = np.array([p.geoms[0] if p.geom_type == "MultiPoint" and len(p.geoms) == 1 else p for p in points])
    if other := sorted({p.geom_type for p in points} - {"Point"}):
        raise MapError(
            f"reference {path}: holds {_listed(other)}; points are needed: draw points in them, or burn them into a "
            "raster"
        )
    return frame, shapely.get_x(points), shapely.get_y(points), pyproj.CRS.from_user_input(meta["crs"])


def as_text(value: object) -> str:
    """Label of a field's value: text without blanks around it, whole numbers without a point; '' for nothing."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def read_mapping(path: Path) -> dict[str, str | None]:
    """Read a YAML of reference label -> class of the map (name or code), or null to leave it out.

    Raises
    ------
    MapError
        A file that is no such mapping, or names a label twice.
    """
    content = read_yaml(path, "--classes")
    mapping: dict[str, str | None] = {}
    for label, target in content.items():
        if isinstance(target, list | dict):
            raise MapError(f"--classes {path}: '{label}' has a {type(target).__name__}; write one class, or null")
        key = as_text(label).casefold()
        if key in mapping:
            raise MapError(f"--classes {path}: label '{label}' is there twice; names differ in more than case")
        mapping[key] = None if target is None else as_text(target)
    return mapping


def read_yaml(path: Path, option: str) -> dict[object, object]:
    """Read a YAML mapping that an option names; MapError where it is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MapError(f"{option} {path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not content:
        raise MapError(f"{option} {path}: must be lines of the form 'name: value'")
    return content


def match_labels(
    labels: Iterable[str], names: Mapping[int, str], mapping: Mapping[str, str | None] | None, where: str
) -> dict[str, int | None]:
    """Find the class that each label means.

    Parameters
    ----------
    labels
        As ``as_text`` gives them.
    names
        Code -> name of the map's classes.
    mapping
        As ``read_mapping`` gives it; labels that it does not hold are looked for among the names and codes.
    where
        Of the labels, for the message.

    Returns
    -------
    dict
        Label -> code, or None for labels to leave out. Letter case does not matter; names come before codes.

    Raises
    ------
    MapError
        Labels, or targets of the mapping, that are no class of the map.
    """
    codes = {str(code): code for code in names} | {name.strip().casefold(): code for code, name in names.items()}
    classes = ", ".join(f"{name} ({code})" for code, name in names.items())
    given = mapping or {}
    if wrong := sorted({target for target in given.values() if target is not None and target.casefold() not in codes}):
        raise MapError(f"--classes: {_listed(wrong)} is no class of the map; its classes are {classes}")
    found: dict[str, int | None] = {}
    strange = []
    for label in dict.fromkeys(labels):
        target = given.get(label.casefold(), label)
        if target is not None and target.casefold() not in codes:
            strange.append(label)
        else:
            found[label] = None if target is None else codes[target.casefold()]
    if strange:
        raise MapError(
            f"{where}: {_listed(sorted(strange))} {'is' if len(strange) == 1 else 'are'} no class of the map; its "
            f"classes are {classes}. Say with --classes which of them each label means, or null to leave it out"
        )
    return found


def _listed(names: Iterable[object]) -> str:
    shown = [f"'{name}'" for name in names]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return (", ".join(shown[:_LISTED]) or "none") + more
