"""Sen4Map: a year of Sentinel-2 around each LUCAS point, in the two HDF5 layouts it is passed around in.

====== ==================================================================================================
raw    group ``Lucas_Point_<number>``: a dataset (acquisitions, 64, 64) of digital numbers for each of B2 .. B12
       and ``SCL``; attribute ``Image_ID`` names the acquisitions, with YYYYMM in each name
crops  group ``Lucas_Point_<number>``: a dataset ``image`` (frames, bands, size, size) of monthly composites in
       digital numbers, size 1, 5 or 9
====== ==================================================================================================

Both carry the attributes ``lc1``, ``lu1``, ``nuts0``, ``Coordinates`` and, where someone added them,
``bioregion_class_code`` and ``EUNIS_L2``. Source: Sharma et al. 2024 (Sen4Map); Jain et al. 2026, ISPRS J.
236:99-119.

A composite is the median of a month's acquisitions, pixels with SCL >= 9 (cloud, cirrus, snow) set aside. The
paper gives a month without acquisition the median of the year (``gaps="year"``); here such a month stays missing
by default (``gaps="keep"``), because the encoder masks what it has not seen. The authors' code differs from the
paper's words in three ways that this reader does not repeat: it enters a set-aside pixel into the median as
0, takes the lower of two middle values, and adds 1. So a pixel that was hidden for most of a month reads 1 in all
bands of their crops; it is missing here.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.errors import ModelError
from timesenmap.model.lucas import Labels, labels_of, nominal_place, place_of, plain, point_number

BANDS: Final = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
"""The ten bands as Sen4Map writes them, in the order of the encoder."""

CLOUDY: Final = 9
"""Lowest SCL class that is set aside: 9 high-probability cloud, 10 cirrus, 11 snow."""

YEAR: Final = 2018
PATCHES: Final = (1, 5, 9)
MONTHS: Final = 12

Gaps = Literal["keep", "year"]

_DATE = re.compile(r"(?<!\d)(20\d\d)(0[1-9]|1[0-2])")


class BadSampleError(ModelError):
    """One sample that cannot be used.

    Parameters
    ----------
    reason
        A few words under which such samples are counted.
    message
        Names the sample, the value and the remedy.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["BadSampleError"], tuple[str, str]]:
        """Pickle with both arguments: exceptions come back from worker processes that way."""
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class Place:
    """A LUCAS point with its year.

    Attributes
    ----------
    number
        Of the point; its name is ``Lucas_Point_<number>``.
    lon, lat
        Degrees, EPSG:4326.
    labels
        What the survey says.
    remarks
        What was left out or taken from elsewhere: (reason, detail) each.
    image
        uint16 (12, 10, patch, patch): reflectance * 10000, January to December, 0 = missing, as in the cube
        maps are made from.
    """

    number: str
    lon: float
    lat: float
    labels: Labels
    remarks: tuple[tuple[str, str], ...]
    image: NDArray[np.uint16]


@contextmanager
def open_sen4map(path: str | Path) -> Iterator[Any]:
    """Open a Sen4Map file for reading (an ``h5py.File``).

    Raises
    ------
    ModelError
        Without h5py, or where the file is missing, truncated or no HDF5.
    """
    try:
        import h5py  # noqa: PLC0415  (an extra: only who trains needs it)
    except ImportError:
        raise ModelError("Sen4Map needs h5py: pip install 'timesenmap[train]'") from None
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"Sen4Map file '{file}': not found")
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        cause = str(error).split("(", 1)[-1].rstrip(")")
        raise ModelError(f"Sen4Map file '{file}' cannot be opened ({cause}): download it again") from error
    with opened:
        yield opened


def list_points(path: str | Path) -> list[str]:
    """Group names of a file in their order; ModelError where there is none."""
    with open_sen4map(path) as file:
        names = list(file.keys())
    if not names:
        raise ModelError(f"Sen4Map file '{path}' holds no group: expected Lucas_Point_<number>")
    return names


def read_place(file: Any, name: str, *, patch: int = 1, gaps: Gaps = "keep", year: int = YEAR) -> Place:
    """Read one point of an open file, whichever layout it has.

    Parameters
    ----------
    file
        What :func:`open_sen4map` gave.
    name
        Of the group.
    patch
        Pixels around the centre that stay: 1, 5 or 9.
    gaps
        ``keep`` leaves a month without clear observation missing, ``year`` (the paper's) gives it the year's
        median.
    year
        Whose acquisitions count, in the raw layout.

    Raises
    ------
    BadSampleError
        The group is unreadable, has other bands or sizes, no usable observation, or no point's name.
    """
    if patch not in PATCHES:
        raise ModelError(f"patch {patch}: choose one of {', '.join(map(str, PATCHES))}")
    if gaps not in get_args(Gaps):
        raise ModelError(f"gaps '{gaps}': choose one of {', '.join(get_args(Gaps))}")
    where = f"{Path(str(file.filename)).name}, {name}"
    try:
        group = file[name]
        if not hasattr(group, "keys"):
            raise TypeError("a dataset where a group should be")  # noqa: TRY301 - told like any other damage
        attributes = dict(group.attrs.items())
        if "image" in group:
            reflectance = _read_crop(group, where, patch=patch, gaps=gaps)
        else:
            reflectance = _read_raw(group, attributes, where, patch=patch, gaps=gaps, year=year)
    except BadSampleError:
        raise
    except (OSError, LookupError, RuntimeError, AttributeError, TypeError, ValueError) as error:  # h5py's, on damage
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadSampleError("unreadable", f"{where}: cannot be read ({cause}); download the file again") from error
    centre = patch // 2
    if not (reflectance[..., centre, centre] > 0).any():
        raise BadSampleError("never observed", f"{where}: the point's own pixel has no clear observation in the year")
    try:
        number = point_number(name)
    except ModelError as error:
        raise BadSampleError("no LUCAS point", f"{where}: {error}") from None
    labels, unknown = labels_of(attributes)
    remarks = [("label outside the scheme, left empty", f"{where}: {value} is in no nomenclature") for value in unknown]
    given = attributes.get("Coordinates")
    place = place_of(number, given)
    if place is None:
        shown = np.asarray(given).tolist()
        remarks.append(("coordinates elsewhere", f"{where}: {shown} is not where the point's number says"))
        place = nominal_place(number)
    return Place(number, *place, labels, tuple(remarks), reflectance)


def months_of(names: Sequence[str], *, year: int = YEAR) -> NDArray[np.int64]:
    """Month 0-11 of acquisitions from the first YYYYMM in their names; -1 for another year or no date."""
    months = np.full(len(names), -1)
    for i, name in enumerate(names):
        match = _DATE.search(name)
        if match is not None and int(match[1]) == year:
            months[i] = int(match[2]) - 1
    return months


def monthly_composites(
    dn: NDArray[np.number[Any]], scl: NDArray[np.integer[Any]], months: NDArray[np.int64], *, gaps: Gaps = "keep"
) -> NDArray[np.float32]:
    """Median of each month's clear observations, pixel by pixel.

    Parameters
    ----------
    dn
        (acquisitions, bands, y, x) digital numbers; 0 and NaN are no data.
    scl
        (acquisitions, y, x) scene classification; from CLOUDY on set aside.
    months
        (acquisitions,) 0-11; others do not count.
    gaps
        See :func:`read_place`; the year's median, too, is over clear observations only.

    Returns
    -------
    array
        float32 (12, bands, y, x) digital numbers, NaN = missing.
    """
    values = dn.astype(np.float32)
    clear = (scl < CLOUDY)[:, None] & (values > 0)  # NaN > 0 is False
    values = np.where(clear, values, np.nan)
    composites = np.full((MONTHS, *values.shape[1:]), np.nan, np.float32)
    for month in range(MONTHS):
        composites[month] = _median(values[months == month])
    if gaps == "year":
        whole = _median(values[months >= 0])
        composites = np.where(np.isfinite(composites), composites, whole)
    return composites


def centre_of(size: int, patch: int) -> slice:
    """Rows (or columns) of the ``patch`` pixels around the centre of ``size``; the point is pixel size // 2."""
    start = size // 2 - patch // 2
    return slice(start, start + patch)


def to_cube(composites: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Digital numbers as the cube keeps them: rounded half to even, within 1..65535, 0 = missing."""
    kept = np.clip(np.rint(composites), 1, 65_535)
    return np.where(np.isfinite(composites), kept, 0).astype(np.uint16)


def from_cube(image: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Reflectance 0-1, NaN = missing, from the cube's numbers."""
    return np.where(image > 0, image / np.float32(10_000), np.float32(np.nan)).astype(np.float32)


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median over the first axis without NaN; NaN where there is nothing (np.nanmedian would warn)."""
    if not len(values):
        return np.full(values.shape[1:], np.nan, np.float32)
    ordered = np.sort(values, axis=0)  # NaN last
    count = np.isfinite(values).sum(0)
    middle = [np.take_along_axis(ordered, np.maximum(at, 0)[None], 0)[0] for at in ((count - 1) // 2, count // 2)]
    return np.where(count > 0, (middle[0] + middle[1]) / 2, np.nan).astype(np.float32)


def _read_raw(
    group: Any, attributes: dict[str, Any], where: str, *, patch: int, gaps: Gaps, year: int
) -> NDArray[np.uint16]:
    absent = [band for band in (*BANDS, "SCL") if band not in group]
    if absent:
        raise BadSampleError("bands", f"{where}: no {', '.join(absent)}; a raw group has B2 .. B12 and SCL")
    names = [plain(name) for name in np.atleast_1d(attributes.get("Image_ID", np.array([])))]
    shapes = {group[band].shape for band in (*BANDS, "SCL")}
    shape = group["SCL"].shape
    if len(shapes) != 1 or len(shape) != 3 or shape[0] != len(names) or min(shape[1:]) < patch:
        raise BadSampleError(
            "shape", f"{where}: bands of shape {sorted(shapes)} for {len(names)} names in Image_ID and patch {patch}"
        )
    months = months_of(names, year=year)
    if (months < 0).all():
        raise BadSampleError("no acquisition", f"{where}: none of {len(names)} acquisitions is of {year}")
    window = (slice(None), centre_of(shape[1], patch), centre_of(shape[2], patch))
    dn = np.stack([group[band][window] for band in BANDS], axis=1)  # (acquisitions, bands, patch, patch)
    return to_cube(monthly_composites(dn, group["SCL"][window], months, gaps=gaps))


def _read_crop(group: Any, where: str, *, patch: int, gaps: Gaps) -> NDArray[np.uint16]:
    shape = group["image"].shape
    if len(shape) != 4 or shape[0] != MONTHS:
        raise BadSampleError("shape", f"{where}: image of shape {shape}, not (12 months, 10 bands, size, size)")
    if shape[1] != len(BANDS):
        raise BadSampleError("bands", f"{where}: image has {shape[1]} bands, not {len(BANDS)}")
    if shape[2] != shape[3] or shape[2] % 2 == 0 or shape[2] < patch:
        raise BadSampleError("shape", f"{where}: patch {patch} cannot be cut from {shape[2]} x {shape[3]} pixels")
    window = (slice(None), slice(None), centre_of(shape[2], patch), centre_of(shape[3], patch))
    image = np.asarray(group["image"][window], np.float64)  # (12, 10, patch, patch)
    if (image[np.isfinite(image)] > 65_535).any():
        raise BadSampleError("values", f"{where}: values up to {np.nanmax(image):g} are no digital numbers")
    if np.isfinite(image).any() and np.nanmax(image) <= 2:
        raise BadSampleError("values", f"{where}: values up to {np.nanmax(image):g} look like reflectance 0-1, not DN")
    hidden = (image <= 1).all(1, keepdims=True)  # the authors' mark of a month hidden for the most part
    composites = np.where(hidden | (image <= 0), np.nan, image)
    if gaps == "year":
        composites = np.where(np.isfinite(composites), composites, _median(composites.astype(np.float32)))
    return to_cube(composites)
