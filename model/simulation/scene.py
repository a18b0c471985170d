"""One place in one year: what the recipes of the classes draw from."""

import math
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from timesenmap.model.simulation.canopy import CanopyModel, Geometry, Leaves
from timesenmap.model.simulation.climate import Climate, Place
from timesenmap.model.simulation.endmembers import Spectra, wetted
from timesenmap.model.simulation.settings import Herbs, Range, SimulationSettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """A place, its year, the days it is seen and the means to make reflectance.

    Attributes
    ----------
    days
        (12,) day of year of each month's look.
    window
        Seasons of the crop calendar at the place: name to (start, end) day of year, the end after the start.
    """

    place: Place
    region: str
    climate: Climate
    days: Floats
    geometry: Geometry
    settings: SimulationSettings
    spectra: Spectra
    canopies: CanopyModel
    rng: np.random.Generator
    window: dict[str, tuple[float, float]] = field(default_factory=dict)

    def draw(self, span: Range) -> float:
        """Evenly from a range."""
        return float(self.rng.uniform(*span))

    def draw_log(self, span: Range) -> float:
        """Evenly in the logarithm."""
        return math.exp(self.rng.uniform(math.log(span[0]), math.log(span[1])))

    def chance(self, probability: float) -> bool:
        """Whether something with this probability happens."""
        return bool(self.rng.random() < probability)

    @property
    def snow(self) -> Floats:
        """(12,) share of level open ground under snow."""
        return cast("Floats", np.tanh(self.climate.at(self.climate.snow, self.days) / 20.0))

    @property
    def fed(self) -> float:
        """Share of its leaf area that a plant without irrigation reaches here."""
        return 0.2 + 0.8 * min(self.climate.supply / 0.8, 1.0)

    @property
    def moisture(self) -> Floats:
        """(12,) filling of the root zone."""
        return self.climate.at(self.climate.moisture, self.days)

    def surface_wetness(self) -> Floats:
        """(12,) relative saturation of the uppermost soil: the root zone's, and the last rain or drying wind."""
        return cast("Floats", np.clip(0.6 * self.moisture * self.rng.uniform(0.1, 1.1, 12), 0, 1))

    def ground(self, pool: str = "soil", brightness: Range = (0.5, 0.88), wetness: Floats | None = None) -> Floats:
        """(12, 10) bare ground, rougher and so darker than in the laboratory, wet as the weather has it."""
        dry = self.spectra.mixture(pool, self.rng, 2) * self.draw(brightness)
        return wetted(dry, self.surface_wetness() if wetness is None else wetness)

    def snow_surface(self) -> Floats:
        """(12, 10) seasonal snow: bright when fresh, old and dirty now and then."""
        fresh, old = self.spectra.draw("snow", self.rng), self.spectra.draw("glacier snow", self.rng)
        age = self.rng.beta(1.5, 1.5, 12)[:, None]
        snow = ((1 - age) * fresh + age * old) * self.rng.uniform(0.75, 1.0, (12, 1))
        # Snow that has aged a day is coarser than what is modelled as fresh: darker in the short-wave infrared.
        snow[:, 8:] *= self.rng.uniform(0.2, 0.9, (12, 1))
        return snow

    def under_snow(self, surface: Floats, hidden: float = 1.0) -> Floats:
        """A surface where snow hides the share ``hidden`` of what it covers on open ground."""
        cover = (self.snow * hidden)[:, None]
        if not cover.any():
            return surface
        return (1 - cover) * surface + cover * self.snow_surface()

    def leaves(self, kind: str, vigour: Floats, *, yellowing: float = 0.5, brown: float = 0.3) -> Leaves:
        """Leaves of a kind through the year.

        Parameters
        ----------
        kind
            Name in ``leaves`` of the settings.
        vigour
            (12,) 1 in full growth, 0 at the end of senescence.
        yellowing
            Share of the chlorophyll lost by then.
        brown
            Brown pigment it gains until then.
        """
        ranges = self.settings.leaves[kind]
        cab = self.draw(ranges.cab) * (1 - yellowing * (1 - vigour))
        share = self.draw(ranges.car_share)
        return Leaves(
            n=self.draw(ranges.n),
            cab=cab,
            car=share * cab * (1 + 0.6 * (1 - vigour)),
            cbrown=self.draw(ranges.cbrown) + brown * (1 - vigour) ** 2,
            cw=self.draw(ranges.cw) * (1 - 0.7 * yellowing * (1 - vigour)),
            cm=self.draw(ranges.cm),
            angle=self.draw(ranges.angle),
            clumping=ranges.clumping,
        )

    def greenness(self, *, watered: bool = False, earlier: float = 0.0) -> Floats:
        """(12,) how far plants have grown, 0-1, from the climate's growing season."""
        index = self.climate.warmth if watered else self.climate.growth
        return np.clip(self.climate.at(index, self.days + earlier), 0, 1)

    def herbs(self, herbs: Herbs, ground: Floats, *, factor: Floats | None = None) -> Floats:
        """(12, 10) herbs over ground and their own litter; ``factor`` (12,) scales their leaf area (cuts, shade)."""
        green = self.greenness(watered=herbs.watered, earlier=herbs.earlier)
        lai, rest = self.draw(herbs.lai) * (1.0 if herbs.watered else self.fed), self.draw(herbs.rest)
        area = lai * (rest + (1 - rest) * green) * (1.0 if factor is None else factor)
        straw = wetted(self.spectra.draw("straw", self.rng) * self.draw((0.7, 1.0)), 0.3 * self.moisture)
        cover = self.draw(herbs.litter) * (1 - 0.5 * green)
        below = (1 - cover[:, None]) * ground + cover[:, None] * straw
        vigour = np.clip(0.35 + 0.65 * green, 0, 1)
        leaves = self.leaves(herbs.leaf, vigour, yellowing=self.draw((0.2, 0.7)), brown=self.draw((0, 0.5)))
        living = self.canopy(leaves, area, below)
        # Last year's stems stand among the green ones, most of all out of season.
        standing = (self.draw(herbs.standing) * (1 - 0.6 * green))[:, None]
        return (1 - standing) * living + standing * straw

    def canopy(self, leaves: Leaves, lai: Floats, below: Floats, gaps: Range = (0.02, 0.25)) -> Floats:
        """(12, 10) a canopy with gaps between plants, as fields and swards have them."""
        closed = self.canopies.reflectance(leaves, lai, below, self.geometry)
        share = gaps[0] + (gaps[1] - gaps[0]) * self.rng.random() ** 2
        return (1 - share) * closed + share * below
