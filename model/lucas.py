"""LUCAS 2018: point names, photo names and the nomenclatures its labels come from.

LUCAS is Eurostat's survey of land use and cover. A point's number is its place: easting and northing in km of
the pan-European grid (EPSG:3035), so ``40683280`` lies at E 4068 km, N 3280 km. Names of photos and the order
of the numbered bioregions and habitats are facts of the authors' public data (Jain et al. 2026).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.errors import ModelError
from timesenmap.model.prompts import PromptSet, load_prompt_set

DIRECTIONS: Final = ("N", "E", "S", "W")
"""Order of a place's photos in every array of this project."""

COUNTRIES: Final = {
    "AT": "Austria", "BE": "Belgium", "BG": "Bulgaria", "CY": "Cyprus", "CZ": "Czech Republic", "DE": "Germany",
    "DK": "Denmark", "EE": "Estonia", "EL": "Greece", "ES": "Spain", "FI": "Finland", "FR": "France",
    "HR": "Croatia", "HU": "Hungary", "IE": "Ireland", "IT": "Italy", "LT": "Lithuania", "LU": "Luxembourg",
    "LV": "Latvia", "MT": "Malta", "NL": "Netherlands", "PL": "Poland", "PT": "Portugal", "RO": "Romania",
    "SE": "Sweden", "SI": "Slovenia", "SK": "Slovakia", "UK": "United Kingdom",
}  # fmt: skip
"""NUTS 0 code -> name, the 28 countries of LUCAS 2018."""

BIOREGIONS: Final = (
    "Alpine", "Anatolian", "Arctic", "Atlantic", "Black Sea", "Boreal", "Continental", "Macaronesia",
    "Mediterranean", "Outside", "Pannonian", "Steppic",
)  # fmt: skip
"""Biogeographical regions (EEA) by the number they have in ``bioregion_class_code``."""

DROPPED_BIOREGIONS: Final = frozenset({"Anatolian", "Arctic", "Macaronesia", "Outside"})
"""Regions the paper's ecology tasks leave out."""

HABITATS: Final = (
    "I1", "J2", "E2", "G1", "G3", "F3", "E3", "C2", "J1", "G4", "E1", "F2", "E4", "G2", "G5", "FB", "F5", "F4", "D1",
    "J4", "J3", "F7", "C1", "F1", "H3", "F6", "D3", "I2", "J6", "H5", "E6", "E7", "D5", "D2", "F9", "H2", "D6", "B1",
    "C3", "J5", "D4", "H4", "B3", "B2",
)  # fmt: skip
"""EUNIS level-2 habitats by the number they have in ``EUNIS_L2``."""

_LC1: Final = re.compile(
    r"A[123]0|A1[1-3]|A2[12]|B[1-578]0|B1[1-9]|B2[1-3]|B3[1-7]|B4[1-5]|B5[1-5]|B7[1-7]|B8[1-4]|BX[12]"
    r"|C[123]0|C2[1-3]|C3[1-3]|CXX[1-9A-E]|D[12]0|E[123]0|F[1-4]0|G[1-5]0|G1[12]|G2[12]|H[12]0|H1[12]|H2[1-3]"
)
_LU1: Final = re.compile(
    r"U11[1-3]|U120|U130|U140|U150|U210|U22[1-8]|U31[1-9]|U32[12]|U330|U34[12]|U350|U36[12]|U370|U41[1-5]|U420"
)
_POINT: Final = re.compile(r"(?:Lucas_Point_)?(\d{7,8})")
_PHOTO: Final = re.compile(r"([A-Z]{2})_(\d{7,8})([NESW])")


@dataclass(frozen=True)
class Labels:
    """What the survey and the ecological maps say of a point; "" where nothing is said.

    Attributes
    ----------
    lc1, lu1
        LUCAS codes of land cover (B16) and land use (U111).
    country
        NUTS 0 code.
    bioregion, habitat
        Name of the biogeographical region; EUNIS level-2 code.
    """

    lc1: str = ""
    lu1: str = ""
    country: str = ""
    bioregion: str = ""
    habitat: str = ""

    @property
    def names(self) -> dict[str, str]:
        """Names as in the shipped prompt sets: land cover, land use, crop, habitat, country and bioregion."""
        return {
            "landcover": class_name("land-cover", self.lc1[:1]),
            "landuse": class_name("land-use", self.lu1),
            "crop": class_name("crops", self.lc1) if self.lc1.startswith("B") else "",
            "habitat": class_name("habitats", self.habitat),
            "country": COUNTRIES.get(self.country, ""),
            "bioregion": self.bioregion,
        }


def labels_of(attributes: dict[str, Any]) -> tuple[Labels, tuple[str, ...]]:
    """Labels in a Sen4Map group's attributes, and what lies outside the nomenclatures.

    Returns
    -------
    labels
        With "" for what is absent or unknown.
    unknown
        ``"lc1 'X99'"`` for each value no nomenclature has.
    """
    given = {name: plain(attributes.get(name)) for name in ("lc1", "lu1", "nuts0", "bioregion_class_code", "EUNIS_L2")}
    found = {
        "lc1": _matching(_LC1, given["lc1"]),
        "lu1": _matching(_LU1, given["lu1"]),
        "nuts0": given["nuts0"] if given["nuts0"] in COUNTRIES else "",
        "bioregion_class_code": _bioregion(given["bioregion_class_code"]),
        "EUNIS_L2": _habitat(given["EUNIS_L2"]),
    }
    unknown = tuple(f"{name} '{value}'" for name, value in given.items() if value and not found[name])
    return Labels(*found.values()), unknown


def plain(value: Any) -> str:
    """Text of an HDF5 attribute: str, bytes, number or array of one; "" for none and for not-a-number."""
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        return plain(value.reshape(-1)[0]) if value.size else ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, (float, np.floating)):
        return "" if not np.isfinite(value) else f"{value:g}"
    text = str(value).strip()
    return "" if text.lower() in ("na", "nan", "none") else text


def point_number(name: str) -> str:
    """Number of ``Lucas_Point_40683280``; ModelError for another name."""
    match = _POINT.fullmatch(name)
    if match is None:
        raise ModelError(
            f"'{name}' is no LUCAS point: names are Lucas_Point_ and the seven or eight digits of its place"
        )
    return match[1]


def nominal_place(number: str) -> tuple[float, float]:
    """Longitude and latitude (degrees, EPSG:4326) that a point's number says, to 1 km."""
    easting, northing = (int(digits) * 1000.0 for digits in (number[:-4], number[-4:]))
    lon, lat = _to_degrees().transform(easting, northing)
    return float(lon), float(lat)


def place_of(number: str, coordinates: Any, *, tolerance: float = 0.25) -> tuple[float, float] | None:
    """Longitude and latitude of a point from its ``Coordinates``, in whichever order they were written.

    The published tables have them under swapped names, so the number decides: the order that lies nearer to
    the nominal place is taken. Without coordinates the nominal place itself stands.

    Returns
    -------
    tuple or None
        Degrees; None where they are not two numbers that lie, in one order or the other, within ``tolerance``
        degrees of what the number says.
    """
    lon, lat = nominal_place(number)
    if coordinates is None:
        return lon, lat
    try:
        first, second = (float(value) for value in np.asarray(coordinates, np.float64).reshape(-1))
    except (TypeError, ValueError):  # not two numbers
        return None
    orders = ((first, second), (second, first))
    best = min(orders, key=lambda order: abs(order[0] - lon) + abs(order[1] - lat))
    return best if max(abs(best[0] - lon), abs(best[1] - lat)) <= tolerance else None


def photo_key(country: str, number: str, direction: str) -> str:
    """Name of a photo: ``NL_40683280W``."""
    return f"{country}_{number}{direction}"


def parse_photo_key(key: str) -> tuple[str, str, str] | None:
    """Country, number and direction of a photo's name; None for another name."""
    match = _PHOTO.fullmatch(key)
    return None if match is None else (match[1], match[2], match[3])


def photo_keys(countries: list[str], numbers: list[str]) -> NDArray[np.str_]:
    """Names of the photos of places: str (n, 4), directions in the order of DIRECTIONS."""
    keys = [[photo_key(c, n, direction) for direction in DIRECTIONS] for c, n in zip(countries, numbers, strict=True)]
    return np.array(keys, dtype=np.str_).reshape(-1, len(DIRECTIONS))


@lru_cache(maxsize=1024)
def class_name(prompt_set: str, code: str) -> str:
    """Name of the class of a shipped prompt set whose reference holds a code; "" where none does."""
    return _references(prompt_set).get(code, "")


@lru_cache(maxsize=8)
def _references(prompt_set: str) -> dict[str, str]:
    """Reference code -> class name; a reference such as U111-U113 holds every code in between."""
    loaded: PromptSet = load_prompt_set(prompt_set)
    names: dict[str, str] = {}
    for entry in loaded.classes:
        for part in re.split(r"[,;/]\s*", entry.reference or ""):
            first, _, last = part.strip().partition("-")
            if last:
                numbers = range(int(first[1:]), int(last[1:]) + 1)
                names.update({f"{first[0]}{number}": entry.name for number in numbers})
            else:
                names[first] = entry.name
    return names


@lru_cache(maxsize=1)
def _to_degrees() -> Any:
    from pyproj import Transformer  # noqa: PLC0415  (only where places are read)

    return Transformer.from_crs(3035, 4326, always_xy=True)


def _matching(pattern: re.Pattern[str], value: str) -> str:
    return value.upper() if pattern.fullmatch(value.upper()) else ""


def _numbered(value: str, names: tuple[str, ...]) -> str:
    return names[int(value)] if value.isdigit() and int(value) < len(names) else ""


def _bioregion(value: str) -> str:
    """Name of a region given by number or by name (BlackSea, Black Sea)."""
    squeezed = {name.replace(" ", "").casefold(): name for name in BIOREGIONS}
    return _numbered(value, BIOREGIONS) or squeezed.get(value.replace(" ", "").casefold(), "")


def _habitat(value: str) -> str:
    """EUNIS code of a habitat given by number, by code or by name."""
    if not value:
        return ""
    found = _numbered(value, HABITATS)
    if found:
        return found
    names = {name.casefold(): code for code, name in _references("habitats").items()}
    return value.upper() if value.upper() in HABITATS else names.get(value.casefold(), "")
