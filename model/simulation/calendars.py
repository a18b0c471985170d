"""When the main seasons of annual crops begin and end, from a grid (WorldCereal, Franch et al. 2022)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timesenmap.model.simulation.tables import read_table

_COLUMNS = ("lat", "lon", "s1_sos_doy", "s1_eos_doy", "s2_sos_doy", "s2_eos_doy")


@dataclass(frozen=True)
class CropCalendar:
    """Start and end of two seasons by place."""

    lat: npt.NDArray[np.float64]
    lon: npt.NDArray[np.float64]
    seasons: npt.NDArray[np.float64]  # (n, 4): s1 start, s1 end, s2 start, s2 end

    @classmethod
    def read(cls, path: str | Path) -> "CropCalendar":
        """Read a parquet with lat, lon, s1_sos_doy, s1_eos_doy, s2_sos_doy, s2_eos_doy."""
        remedy = f"give a parquet with {', '.join(_COLUMNS)}"
        table = read_table(path, what="crop calendar", columns=_COLUMNS, remedy=remedy)
        values = table[list(_COLUMNS)].to_numpy(np.float64)
        return cls(values[:, 0], values[:, 1], values[:, 2:])

    def at(self, lon: float, lat: float) -> dict[str, tuple[float, float]]:
        """Seasons of the nearest cell, the end after the start; nothing more than 2 degrees away.

        Outside the tropics the first season of the north is the winter crops', that of the south the summer crops'.
        """
        distance = (self.lat - lat) ** 2 + ((self.lon - lon) * np.cos(np.radians(lat))) ** 2
        nearest = int(np.argmin(distance))
        if distance[nearest] > 4:
            return {}
        first_start, first_end, second_start, second_end = self.seasons[nearest]
        first = (first_start - 365.0 if first_start > first_end else first_start, first_end)
        second = (second_start - 365.0 if second_start > second_end else second_start, second_end)
        if abs(lat) < 23.5:
            return {"first": first, "second": second}
        winter, summer = (first, second) if lat > 0 else (second, first)
        return {"first": first, "second": second, "winter": winter, "summer": summer}
