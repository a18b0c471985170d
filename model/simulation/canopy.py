"""Reflectance of plant canopies in Sentinel-2's bands: PROSPECT-5 leaves in a SAIL canopy over any background.

The only module that needs the package ``prosail`` (extra ``simulate``); nothing of it is copied here.

Sources: PROSAIL, Jacquemoud et al. 2009, Remote Sens. Environ. 113:S56; PROSPECT-5, Feret et al. 2008, Remote Sens.
Environ. 112:3030; SAIL in four streams, Verhoef et al. 2007, IEEE TGRS 45:1808; needles that shade each other within
a shoot, Rautiainen and Stenberg 2005, Remote Sens. Environ. 96:98.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.config import DEFAULT_BANDS
from timesenmap.model.errors import ModelError
from timesenmap.model.simulation.tables import read_table

Floats = npt.NDArray[np.float64]

SENSORS: Final = ("S2A", "S2B", "S2C")
POINTS: Final = 7
"""Wavelengths a band, the middles of as many equal parts of its response.

Within 0.005 of the whole response at 1 nm (B06, on the red edge; the other bands within 0.003).
"""

THINNEST: Final = 0.02
"""Leaf area index below which only the background is seen."""


@dataclass(frozen=True)
class Leaves:
    """Leaves of a canopy; numbers or arrays (n,) of one value a date.

    Attributes
    ----------
    n
        Structure (layers of the leaf), 1-3.
    cab, car
        Chlorophyll and carotenoids, micrograms/cm2.
    cbrown
        Brown pigment, relative.
    cw, cm
        Water and dry matter, g/cm2.
    angle
        Mean leaf inclination, degrees.
    clumping
        Probability that a photon leaving a leaf meets another of the same shoot (needles about 0.5, else 0).
    """

    n: float
    cab: Floats
    car: Floats
    cbrown: Floats
    cw: Floats
    cm: float
    angle: float
    clumping: float = 0.0


@dataclass(frozen=True)
class Geometry:
    """Sun and view: zenith angles and the azimuth between them, degrees; sun of each date (n,)."""

    sun: Floats
    view: float
    azimuth: float


def read_response(path: str | Path) -> dict[str, Floats]:
    """Wavelengths that stand for each band.

    Parameters
    ----------
    path
        CSV of spectral response: ``wavelength_nm`` and a column ``<sensor>_<band>`` for S2A, S2B and S2C.

    Returns
    -------
    dict
        Sensor: (10 bands, POINTS) wavelengths in nanometres, each with the same weight.
    """
    columns = ("wavelength_nm", *(f"{sensor}_{band}" for sensor in SENSORS for band in DEFAULT_BANDS))
    remedy = "give ESA's table as CSV with wavelength_nm, S2A_B02, ..., S2C_B12"
    table = read_table(path, what="spectral response", columns=columns, remedy=remedy)
    wavelength = table["wavelength_nm"].to_numpy(np.float64)
    shares = (np.arange(POINTS) + 0.5) / POINTS

    def of_band(column: str) -> Floats:
        response = np.clip(table[column].to_numpy(np.float64), 0, None)
        if not response.sum() > 0:
            raise ModelError(f"spectral response '{path}': column {column} has no response")
        return cast("Floats", np.interp(shares, np.cumsum(response) / response.sum(), wavelength))

    return {sensor: np.stack([of_band(f"{sensor}_{band}") for band in DEFAULT_BANDS]) for sensor in SENSORS}


class CanopyModel:
    """PROSAIL in the bands of one satellite."""

    def __init__(self, wavelengths: Floats) -> None:
        try:
            prospect: Any = importlib.import_module("prosail.prospect_d")
            self._sail: Any = importlib.import_module("prosail.FourSAIL").foursail
        except ImportError as error:
            raise ModelError(
                f"simulating canopies needs PROSAIL ({error}): pip install 'timesenmap[simulate]'"
            ) from None
        # What a leaf's surface lets through depends on wavelength only: half of PROSPECT's time, spent once.
        if not hasattr(prospect.calctav, "cache"):
            prospect.calctav = _Remembered(prospect.calctav)
        self._prospect = prospect.run_prospect
        self._index = np.clip(np.rint(wavelengths).astype(int) - 400, 0, 2100).ravel()
        self._shape = wavelengths.shape

    def reflectance(self, leaves: Leaves, lai: Floats, background: Floats, geometry: Geometry) -> Floats:
        """Reflectance (n, 10) of a closed canopy on each date.

        Parameters
        ----------
        leaves
            Their state on each date.
        lai
            (n,) leaf area index.
        background
            (n, 10) what lies below: soil, litter, water, snow.
        geometry
            Sun of each date and view.
        """
        seen = background.astype(np.float64, copy=True)
        for date in np.flatnonzero(lai > THINNEST):
            _, reflected, passed = self._prospect(
                leaves.n, float(leaves.cab[date]), float(leaves.car[date]), float(leaves.cbrown[date]),
                float(leaves.cw[date]), leaves.cm, prospect_version="5",
            )  # fmt: skip
            reflected, passed = reflected[self._index], passed[self._index]
            if leaves.clumping:
                shoot = (1 - leaves.clumping) / (1 - leaves.clumping * (reflected + passed))
                reflected, passed = reflected * shoot, passed * shoot
            below = np.repeat(seen[date], self._shape[1])
            terms = self._sail(
                reflected, passed, leaves.angle, 0.0, 2, float(lai[date]), HOTSPOT,
                float(geometry.sun[date]), geometry.view, geometry.azimuth, below,
            )  # fmt: skip
            seen[date] = terms[17].reshape(self._shape).mean(1)  # bidirectional reflectance factor of the surface
        return seen


class _Remembered:
    """A function of a number and one array that never changes, computed once for each number."""

    def __init__(self, function: Any) -> None:
        self.function, self.cache = function, dict[tuple[float, int], Any]()

    def __call__(self, alpha: float, index: Any) -> Any:
        key = (alpha, id(index))
        if key not in self.cache:
            self.cache[key] = self.function(alpha, index)
        return self.cache[key]


HOTSPOT: Final = 0.1
"""Leaf size over canopy height; of little weight away from the hot spot."""
