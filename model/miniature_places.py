"""Simulated places: sixteen kinds of land, each with a year of Sentinel-2 and what stands there to be photographed.

A place is drawn once and both of its views, from space and from the ground, follow from the same hidden numbers:
what covers it, when that is green, how dense it is and what colour its soil has. Kinds that look alike on the
average of the year (maize, beet and rice; meadow and wheat) differ in when they are green.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

MONTHS: Final = 12

# Reflectance of what lies on the ground in B02 B03 B04 B05 B06 B07 B08 B8A B11 B12: round numbers of the shapes that
# published spectra have (leaves dark in red and bright in near infrared, snow the other way round, and so on).
_SPECTRA: Final = {
    "soil": (0.08, 0.11, 0.15, 0.18, 0.20, 0.22, 0.24, 0.25, 0.33, 0.28),
    "leaves": (0.03, 0.07, 0.03, 0.09, 0.30, 0.38, 0.42, 0.43, 0.20, 0.09),
    "straw": (0.07, 0.11, 0.15, 0.18, 0.22, 0.25, 0.28, 0.29, 0.35, 0.24),
    "blossom": (0.05, 0.16, 0.14, 0.20, 0.30, 0.36, 0.40, 0.41, 0.20, 0.10),
    "crowns": (0.025, 0.05, 0.025, 0.075, 0.26, 0.33, 0.36, 0.37, 0.17, 0.08),
    "branches": (0.04, 0.05, 0.06, 0.08, 0.11, 0.12, 0.14, 0.15, 0.18, 0.13),
    "needles": (0.02, 0.03, 0.02, 0.04, 0.13, 0.16, 0.18, 0.18, 0.08, 0.04),
    "heather": (0.04, 0.05, 0.07, 0.09, 0.13, 0.15, 0.17, 0.18, 0.24, 0.16),
    "water": (0.06, 0.06, 0.04, 0.035, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01),
    "snow": (0.85, 0.84, 0.82, 0.82, 0.81, 0.80, 0.79, 0.78, 0.12, 0.10),
    "roofs": (0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18, 0.19, 0.22, 0.20),
    "rock": (0.14, 0.17, 0.19, 0.20, 0.21, 0.22, 0.23, 0.24, 0.28, 0.25),
}
_REDNESS: Final = np.array((-0.5, -0.2, 0.3, 0.35, 0.3, 0.25, 0.2, 0.2, 0.1, 0.1))
"""How a red soil's bands differ from a grey one's."""


@dataclass(frozen=True)
class Season:
    """Something that covers a share of the ground between two dates, in months (0 = 1 January, may wrap)."""

    cover: str
    share: float
    start: float = 0.0
    end: float = 12.0
    slope: float = 0.35

    def shares(self, shift: float) -> NDArray[np.float64]:
        """Share (12,) in the middle of each month, the dates moved by ``shift`` months."""
        if self.start == 0 and self.end == 12:
            return np.full(MONTHS, self.share)
        month = np.arange(MONTHS) + 0.5
        up = _step((month - self.start - shift) / self.slope)
        down = _step((self.end + shift - month) / self.slope)
        return self.share * (up * down if self.start < self.end else np.maximum(up, down))


@dataclass(frozen=True)
class Kind:
    """A kind of land.

    Attributes
    ----------
    name
        What it is called in the prompt set.
    lc1, lu1
        LUCAS codes.
    phrases
        What someone standing there would say; the tower learns to read from these.
    base
        What lies under everything.
    seasons
        What covers it when, the later over the earlier.
    """

    name: str
    lc1: str
    lu1: str
    phrases: tuple[str, ...]
    base: str
    seasons: tuple[Season, ...]


KINDS: Final = (
    Kind("wheat", "B11", "U111", ("a field of wheat", "ripe wheat before the harvest", "winter wheat"), "soil",
         (Season("leaves", 0.9, 2.0, 6.0), Season("straw", 0.9, 6.0, 7.6))),
    Kind("maize", "B16", "U111", ("a field of maize", "tall maize plants", "maize in rows"), "soil",
         (Season("leaves", 0.9, 5.3, 8.9),)),
    Kind("sugar beet", "B22", "U111", ("a field of sugar beet", "low rows of beet leaves", "sugar beets"), "soil",
         (Season("leaves", 0.85, 4.9, 10.0),)),
    Kind("rape", "B32", "U111", ("a field of rape", "rapeseed in yellow flower", "oilseed rape"), "soil",
         (Season("leaves", 0.85, 1.5, 6.3), Season("blossom", 0.8, 3.4, 4.9, 0.2))),
    Kind("rice", "B17", "U111", ("a rice paddy", "flooded rice field", "rice growing in water"), "soil",
         (Season("water", 0.9, 3.2, 6.0), Season("leaves", 0.85, 5.5, 8.7))),
    Kind("meadow", "E20", "U111", ("a green meadow", "a meadow with flowers", "lush grass"), "soil",
         (Season("leaves", 0.55), Season("leaves", 0.5, 3.0, 9.5))),
    Kind("dry grassland", "E10", "U111", ("dry grassland", "yellow dry grass", "parched steppe"), "straw",
         (Season("leaves", 0.6, 9.8, 4.6),)),
    Kind("broadleaved forest", "C10", "U120", ("a broadleaved forest", "oak and beech trees", "deciduous woodland"),
         "branches", (Season("crowns", 0.95, 3.9, 9.9),)),
    Kind("coniferous forest", "C21", "U120", ("a coniferous forest", "spruce and pine trees", "dark fir woods"),
         "needles", ()),
    Kind("vineyard", "B82", "U111", ("a vineyard", "rows of grapevines on posts", "grape vines"), "soil",
         (Season("leaves", 0.45, 4.4, 9.3),)),
    Kind("olive grove", "B81", "U111", ("an olive grove", "olive trees on dry soil", "old olives"), "soil",
         (Season("needles", 0.4),)),
    Kind("heath", "D20", "U420", ("a heath", "purple heather", "moorland with low shrubs"), "heather",
         (Season("leaves", 0.2, 4.0, 9.0),)),
    Kind("lake", "G11", "U420", ("a lake", "open water", "a calm water surface"), "water", ()),
    Kind("town", "A11", "U370", ("a town", "houses and a street", "buildings with roofs"), "roofs",
         (Season("leaves", 0.2, 3.5, 9.8),)),
    Kind("bare rock", "F10", "U420", ("bare rock", "boulders and stones", "a rocky slope"), "rock", ()),
    Kind("snowy mountains", "G50", "U420", ("snowy mountains", "high peaks with snow", "a pasture below snowy peaks"),
         "rock", (Season("leaves", 0.55, 5.0, 9.0), Season("snow", 0.95, 10.2, 5.2))),
)  # fmt: skip


@dataclass(frozen=True)
class SimulatedPlace:
    """The hidden numbers of a place.

    Attributes
    ----------
    kind
        Number in KINDS.
    neighbours
        Kinds that may stand in the way of a photo.
    shift
        Months by which its seasons are late.
    density
        0.6-1: of what grows there.
    redness, brightness
        Of its soil: -1 grey to 1 red; a factor.
    visit
        Month (0-11) in which its photos were taken.
    """

    kind: int
    neighbours: tuple[int, ...]
    shift: float
    density: float
    redness: float
    brightness: float
    visit: int

    def shares(self) -> dict[str, NDArray[np.float64]]:
        """Share (12,) of the ground that each cover has in each month."""
        kind = KINDS[self.kind]
        found = {kind.base: np.ones(MONTHS)}
        for season in kind.seasons:
            share = np.clip(season.shares(self.shift) * (1.0 if season.cover == "snow" else self.density), 0, 1)
            found = {cover: under * (1 - share) for cover, under in found.items()}
            found[season.cover] = found.get(season.cover, np.zeros(MONTHS)) + share
        return found

    def spectrum(self, cover: str) -> NDArray[np.float64]:
        """Reflectance (10,) of a cover at this place."""
        spectrum = np.array(_SPECTRA[cover])
        if cover in ("soil", "rock"):
            spectrum = spectrum * self.brightness * (1 + 0.5 * self.redness * _REDNESS)
        return spectrum


def draw_places(number: int, rng: np.random.Generator) -> list[SimulatedPlace]:
    """Draw places, kinds in turn and then shuffled."""
    kinds = rng.permutation(np.arange(number) % len(KINDS))
    return [
        SimulatedPlace(
            kind=int(kind),
            neighbours=tuple(int(k) for k in rng.integers(len(KINDS), size=2)),
            shift=float(rng.normal(0, 0.35)),
            density=float(rng.uniform(0.6, 1.0)),
            redness=float(rng.uniform(-1, 1)),
            brightness=float(np.exp(rng.normal(0, 0.25))),
            visit=int(rng.integers(4, 9)),  # May to September, as the survey
        )
        for kind in kinds
    ]


def simulate_series(places: Sequence[SimulatedPlace], rng: np.random.Generator) -> NDArray[np.float32]:
    """Monthly composites of places: float32 (n, 12, 10), reflectance 0-1, NaN where clouds hid the month.

    Light and haze vary a place, a band and a month; a quarter of the winter's months and a tenth of the summer's are
    missing.
    """
    series = np.stack(
        [sum(share[:, None] * place.spectrum(cover) for cover, share in place.shares().items()) for place in places]
    )  # (n, 12, 10)
    n = len(places)
    light = rng.normal(0, 0.12, (n, 1, 1)) + rng.normal(0, 0.05, (n, MONTHS, 1)) + rng.normal(0, 0.04, (n, 1, 10))
    haze = np.abs(rng.normal(0, 0.012, (n, MONTHS, 1))) * np.array((1.5, 1.2, 1, 0.9, 0.8, 0.8, 0.7, 0.7, 0.4, 0.3))
    observed = np.maximum(series * np.exp(light) + haze + rng.normal(0, 0.006, series.shape), 1e-3)
    winter = np.isin(np.arange(MONTHS), (0, 1, 10, 11))
    hidden = rng.random((n, MONTHS)) < np.where(winter, 0.25, 0.1)
    hidden[np.arange(n), rng.integers(3, 10, n)] = False  # some month is always seen
    return cast("NDArray[np.float32]", np.where(hidden[..., None], np.nan, observed).astype(np.float32))


def _step(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(x)), np.float64)
