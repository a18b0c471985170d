"""How the demonstration's land looks month by month: statistics of real series and published spectra.

The table `demonstration_spectra.csv` beside this module is computed, never edited. To make it again::

    python -m timesenmap.catalogs.demonstration_spectra SERIES_DIR SPECTRA_FILE OUT.csv

Reflectance is 0-1 everywhere. A row is one class, calendar month (0 = the same all year) and band: mean and
standard deviation between series, the number of series behind them (0 = interpolated from the neighbouring
months) and the loadings of the first three principal components of the class's standardised anomalies, so that
bands vary together as they do on real land:  anomaly = sd * (z1 pc1 + z2 pc2 + z3 pc3), z standard normal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from timesenmap.catalogs.bands import BANDS

Floats = npt.NDArray[np.float64]
Frame = pd.DataFrame

MONTHS = range(1, 13)
COMPONENTS = 3
MIN_SERIES = 3  # a month with fewer snow-free series is interpolated from its neighbours
MIN_REGIONAL = 8  # with fewer series than this in the preferred region the other regions join

SOURCES = {
    "bavaria": "WorldCrops Bavaria 2018, Sentinel-2 L2A (aliFrancis/WorldCrops, MIT)",
    "europe": "Bavaria 2018 (as above) with France 2022-2023 and Flanders 2021, Sentinel-2 L2A "
    "(WorldCereal/worldcereal-classification, MIT); French B8A estimated from B07 and B08",
    "france": "France 2022-2023, Sentinel-2 L2A (WorldCereal/worldcereal-classification, MIT); "
    "B8A estimated from B07 and B08 of the Bavarian series",
    "lesotho": "Lesotho 2021, Sentinel-2 L2A two-month geomedians moved by half a year to northern seasons "
    "(frontiersi/land_cover_mapping_DEAfrica, Apache-2.0; points: FAO)",
    "ucsb": "UCSB Santa Barbara urban library, measured (earthlib, MIT; EcoSIS: cite Herold et al. 2004, "
    "Remote Sensing of Environment 91:304-319)",
    "slum": "LUMA SLUM London urban library, measured (CC0-1.0)",
    "water": "simulated with the Lee 2002 model and WASI / bio_optics tables (tables Apache-2.0)",
    "snow": "USGS splib07, measured, as resampled by JPL (US public domain; Apache-2.0)",
}


@dataclass(frozen=True)
class SeriesClass:
    """One class taken from labelled series: its labels by region, the preferred region first."""

    labels: Mapping[str, Sequence[str]]
    select: Callable[[Frame], Frame] = lambda frame: frame


BAVARIA, FRANCE_2022, FRANCE_2023, FLANDERS, LESOTHO = (
    "worldcrops_bavaria",
    "worldcereal_FRA2022_month",
    "worldcereal_FRA2023_dekad",
    "worldcereal_BEL2021_dummy",
    "lesotho",
)


def _ndvi(frame: Frame, months: Iterable[int]) -> pd.Series[float]:
    """Mean NDVI of each series over `months`."""
    parts = []
    for month in months:
        nir, red = frame[f"B08_m{month:02d}"], frame[f"B04_m{month:02d}"]
        parts.append((nir - red) / (nir + red))
    return pd.concat(parts, axis=1).mean(axis=1)


def _deciduous(frame: Frame) -> Frame:
    """Woodland that loses its leaves: the source names few species, so the series' own seasons decide."""
    return frame[_ndvi(frame, (6, 7, 8)) - _ndvi(frame, (1, 2, 3)) > 0.15]


def _closed_evergreen(frame: Frame) -> Frame:
    """Woodland dense and green all year: the nearest to a European spruce stand that the series hold."""
    return frame[(_ndvi(frame, (5, 7, 9)) > 0.65) & (_ndvi(frame, (11, 1, 3)) > 0.65)]


SERIES_CLASSES: dict[str, SeriesClass] = {
    "winter wheat": SeriesClass(
        {
            BAVARIA: ("Winterweizen (Weichweizen)",),
            FRANCE_2023: ("winter_common_soft_wheat",),
            FLANDERS: ("unspecified_winter_wheat",),
        }
    ),
    "winter barley": SeriesClass(
        {BAVARIA: ("Wintergerste",), FRANCE_2023: ("winter_common_barley",), FLANDERS: ("winter_barley",)}
    ),
    "spring barley": SeriesClass({BAVARIA: ("Sommergerste",), FRANCE_2023: ("spring_common_barley",)}),
    "winter rapeseed": SeriesClass({BAVARIA: ("Winterraps",), FRANCE_2023: ("winter_rapeseed_rape",)}),
    "maize": SeriesClass(
        {
            BAVARIA: ("Silomais", "Koernermais"),
            FRANCE_2023: ("maize", "grain_maize_corn_popcorn"),
            FLANDERS: ("maize",),
        }
    ),
    "sunflower": SeriesClass({FRANCE_2023: ("sunflower",)}),
    "clover-grass": SeriesClass(
        {
            BAVARIA: ("Kleegras - Klee-/Luzernegras-Gemisch", "Klee-Luzerne-Gemisch", "Ackergras", "Luzerne"),
            FRANCE_2023: ("temporary_meadows", "alfalfa_lucerne", "fodder_mixtures"),
        }
    ),
    "meadow": SeriesClass(
        {
            BAVARIA: ("Wiesen (einschl. Streuobstwiesen)", "Maehweiden", "Weiden"),
            FRANCE_2023: ("longterm_meadows",),
            FLANDERS: ("managed_grasslands",),
        }
    ),
    "broadleaved forest": SeriesClass(
        {FRANCE_2022: ("oak", "sweet_chestnuts", "trees_unspecified")}, select=_deciduous
    ),
    "coniferous forest": SeriesClass({LESOTHO: ("Trees",)}, select=_closed_evergreen),
    "heath": SeriesClass({LESOTHO: ("Shrubland",)}),
    "wetland": SeriesClass({LESOTHO: ("Wetland",)}),
}

MATERIALS: dict[str, tuple[str, str]] = {  # class: (key of SOURCES, pattern of the material's name)
    "red roof": ("ucsb", r"^tile \["),
    "grey roof": ("ucsb", r"^(?:concrete_tile|comp_shingle) \["),
    "metal roof": ("slum", r"^metal \["),
    "asphalt": ("ucsb", r"^road \["),
    "concrete": ("slum", r"^concrete/cement \["),
    "gravel": ("ucsb", r"^gravel \["),
    "sand": ("ucsb", r"^sand \["),
    "earth": ("ucsb", r"^soil \["),
    "clear water": ("water", r"^clear water"),
    "green water": ("water", r"^eutrophic water"),
    "turbid water": ("water", r"^turbid water"),
    "snow": ("snow", r"snow"),
}
_SOURCE_PREFIX = {"ucsb": "UCSB", "slum": "LUMA SLUM", "water": "SIM water", "snow": "USGS splib07 liquids/snow"}


def read_series(folder: Path) -> Frame:
    """European and Lesotho L2A series with a column `region`, snow and clouds as NaN, northern seasons."""
    train = pd.read_parquet(folder / "train.parquet")
    train = train[train.level == "L2A"].assign(region=train.dataset)
    south = pd.read_parquet(folder / "lesotho_deafrica_2021.parquet").assign(region=LESOTHO)
    moved = {f"{b}_m{m:02d}": f"{b}_m{(m + 5) % 12 + 1:02d}" for b in BANDS for m in MONTHS}
    columns = ["region", "label", *moved]
    series = pd.concat(
        [train[columns], south.rename(columns=moved)[columns]],
        ignore_index=True,
    )
    for m in MONTHS:
        month = [f"{b}_m{m:02d}" for b in BANDS]
        # Nothing that grows here is this bright in the blue: snow, cloud or haze that the source's mask missed.
        series.loc[series[f"B02_m{m:02d}"] > 0.15, month] = np.nan
    return _with_b8a(series)


def _with_b8a(series: Frame) -> Frame:
    """Fill B8A, absent from the French series, by least squares on B07 and B08 (residual 0.009)."""
    stacked = {b: series[[f"{b}_m{m:02d}" for m in MONTHS]].to_numpy(float) for b in ("B07", "B08", "B8A")}
    design = np.stack([stacked["B07"], stacked["B08"], np.ones_like(stacked["B07"])], axis=-1)
    known = (
        np.isfinite(design).all(axis=-1) & np.isfinite(stacked["B8A"]) & (series.region == BAVARIA).to_numpy()[:, None]
    )
    weights = np.linalg.lstsq(design[known], stacked["B8A"][known], rcond=None)[0]
    filled = np.where(np.isfinite(stacked["B8A"]), stacked["B8A"], design @ weights)
    return series.assign(**{f"B8A_m{m:02d}": filled[:, m - 1] for m in MONTHS})


def _statistics(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation along the first axis of values within three robust deviations of the median."""
    median = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - median), axis=0)
    kept = np.where(np.abs(values - median) <= np.maximum(3 * spread, 1e-6), values, np.nan)
    return np.nanmean(kept, axis=0), np.nanstd(kept, axis=0)


def _loadings(anomalies: Floats) -> Floats:
    """Loadings (bands, COMPONENTS) of standardised anomalies (n, bands): eigenvectors of the correlation.

    Each column is scaled by the square root of its eigenvalue and its sign is fixed by a positive sum.
    """
    bounded = np.clip(anomalies, -3, 3)
    correlation = np.corrcoef(bounded, rowvar=False)
    eigenvalues, vectors = np.linalg.eigh(correlation)
    top = np.argsort(eigenvalues)[::-1][:COMPONENTS]
    loadings = vectors[:, top] * np.sqrt(eigenvalues[top])
    return np.asarray(loadings * np.where(loadings.sum(axis=0) < 0, -1.0, 1.0))


def _source(regions: set[str]) -> str:
    if regions == {LESOTHO}:
        return "lesotho"
    if regions == {BAVARIA}:
        return "bavaria"
    return "europe" if BAVARIA in regions else "france"


def series_class_rows(name: str, spec: SeriesClass, series: Frame) -> list[dict[str, object]]:
    """Rows of the table for one class of labelled series."""
    parts = [series[(series.region == r) & series.label.isin(labels)] for r, labels in spec.labels.items()]
    chosen = spec.select(pd.concat(parts))
    # One region's year where it has one: two climates in one curve would invent a season. A winter month under
    # snow is then interpolated, which is what the ground below does.
    preferred = chosen[chosen.region == next(iter(spec.labels))]
    if len(preferred) >= MIN_REGIONAL:
        chosen = preferred
    means, sds, counts = np.full((12, 10), np.nan), np.full((12, 10), np.nan), np.zeros(12, int)
    sources, anomalies = [""] * 12, []
    for m in MONTHS:
        used = chosen[[*(f"{b}_m{m:02d}" for b in BANDS), "region"]].dropna()
        if len(used) < MIN_SERIES:
            continue
        values = used[[f"{b}_m{m:02d}" for b in BANDS]].to_numpy(float)
        means[m - 1], sds[m - 1] = _statistics(values)
        counts[m - 1], sources[m - 1] = len(used), _source(set(used.region))
        anomalies.append((values - means[m - 1]) / sds[m - 1])
    known = np.flatnonzero(counts)
    for table in (means, sds):
        for band in range(10):
            table[:, band] = np.interp(np.arange(12), known, table[known, band], period=12)
    fallback = _source(set(chosen.region))
    return _rows(
        name,
        MONTHS,
        means=means,
        sds=sds,
        counts=counts,
        sources=[s or fallback for s in sources],
        loadings=_loadings(np.vstack(anomalies)),
    )


def material_rows(name: str, spectra: Frame) -> list[dict[str, object]]:
    """Rows of the table (month 0: the same all year) for one published material."""
    key, pattern = MATERIALS[name]
    found = spectra[
        spectra.source.str.startswith(_SOURCE_PREFIX[key]) & spectra.material.str.contains(pattern, regex=True)
    ]
    if name == "turbid water":  # rivers of the demonstration carry little: leave out floods
        found = found[found.material.str.extract(r"tsm=([\d.]+)")[0].astype(float).to_numpy() < 120]
    if name == "snow":  # fresh enough to be bright, not slush
        found = found[(found.group == "snow") & (found.B03 > 0.5)]
    values = found[list(BANDS)].dropna().to_numpy(float)
    mean, sd = _statistics(values)
    loadings = _loadings((values - mean) / np.maximum(sd, 1e-6))
    counts = np.array([len(values)])
    return _rows(name, [0], means=mean[None], sds=sd[None], counts=counts, sources=[key], loadings=loadings)


def _rows(
    name: str,
    months: Iterable[int],
    *,
    means: Floats,
    sds: Floats,
    counts: npt.NDArray[np.int_],
    sources: Sequence[str],
    loadings: Floats,
) -> list[dict[str, object]]:
    return [
        {
            "class": name,
            "month": month,
            "band": band,
            "mean": round(float(means[i, b]), 4),
            "sd": round(float(sds[i, b]), 4),
            "n": int(counts[i]),
            "source": sources[i],
        }
        | {f"pc{k + 1}": round(float(loadings[b, k]), 3) for k in range(COMPONENTS)}
        for i, month in enumerate(months)
        for b, band in enumerate(BANDS)
    ]


def compute_table(series_folder: Path, spectra_file: Path) -> Frame:
    """Table of all classes from the real series and the published spectra."""
    series, spectra = read_series(series_folder), pd.read_parquet(spectra_file)
    rows = [row for name, spec in SERIES_CLASSES.items() for row in series_class_rows(name, spec, series)]
    rows += [row for name in MATERIALS for row in material_rows(name, spectra)]
    return pd.DataFrame(rows)


def write_table(table: Frame, path: Path) -> None:
    """Write the table as CSV, its sources and licences in the comment lines at its head."""
    lines = [
        "# Monthly Sentinel-2 reflectance (0-1) of the demonstration's classes; month 0: all year; n 0: interpolated.",
        "# Computed by timesenmap.catalogs.demonstration_spectra from real series and published spectra.",
        "# Contains statistics of modified Copernicus Sentinel data. Sources and licences:",
        *(f"# {key}: {text}" for key, text in SOURCES.items()),
    ]
    path.write_text("\n".join(lines) + "\n" + table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the table from the files named on the command line."""
    parser = argparse.ArgumentParser(description="Compute the demonstration's table of spectra.")
    parser.add_argument("series_dir", type=Path, help="folder with train.parquet and lesotho_deafrica_2021.parquet")
    parser.add_argument("spectra_file", type=Path, help="s2_spectra.parquet")
    parser.add_argument("out", type=Path, help="CSV to write")
    options = parser.parse_args(arguments)
    write_table(compute_table(options.series_dir, options.spectra_file), options.out)


if __name__ == "__main__":
    main()
