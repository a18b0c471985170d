"""Scenicness: how beautiful people find a place, told from its year of Sentinel-2 by words alone.

Ratings are votes of 1 to 10 for photos of Great Britain (ScenicOrNot, ODbL). The paper takes points within 100 m of
rated photos and correlates their ratings with scores of late prompt ensembling (Jain et al. 2026, ISPRS J.
236:99-119; the ensembling: Levering et al. 2024, PLOS ONE 19(9) e0307083): every prompt, or pair of prompts, is
answered on its own, and the answers are averaged; early ensembling would average before the softmax.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from timesenmap.model.errors import ModelError
from timesenmap.model.metrics import bootstrap_intervals

Ensembling = Literal["late", "early"]

WITHIN: Final = 100.0
"""Metres between a point and a rated photo (paper)."""

LOWEST, HIGHEST = 1, 10
"""Votes."""

_Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class ScenicPrompts(BaseModel):
    """Two opposing lists of sentences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenic: tuple[_Sentence, ...] = Field(description="what a place people like looks like", min_length=1)
    plain: tuple[_Sentence, ...] = Field(description="what a place people dislike looks like", min_length=1)


@dataclass(frozen=True)
class Ratings:
    """Rated places.

    Attributes
    ----------
    lon, lat
        (n,) degrees, EPSG:4326.
    rating, votes
        (n,) mean vote, and number of votes.
    left_out
        Votes and places left out, by reason.
    """

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    rating: NDArray[np.float64]
    votes: NDArray[np.int64]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Correlation:
    """Pearson's r with its 95 % bootstrap interval."""

    r: float
    low: float
    high: float
    rows: int


def load_scenic_prompts(path: str | Path | None = None) -> ScenicPrompts:
    """Read opposing prompts from a YAML file with ``scenic`` and ``plain``; default: the project's own."""
    name = "the project's scenic prompts" if path is None else f"scenic prompts '{path}'"
    try:
        source = files("timesenmap.model") / "scenic_prompts.yaml" if path is None else Path(path)
        return ScenicPrompts.model_validate(yaml.safe_load(source.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{name} cannot be read ({str(error).splitlines()[0]})") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "content"
        raise ModelError(
            f"{name}: {place}: {fault['msg']}; it holds two lists of sentences, scenic and plain"
        ) from error


def read_ratings(votes: str | Path, places: str | Path, *, least: int = 3) -> Ratings:
    """Mean rating of each place of the published ScenicOrNot tables.

    Parameters
    ----------
    votes
        CSV with a vote a row: ``place`` and ``rating`` (1-10).
    places
        CSV with a place a row: ``id``, ``lat`` and ``lon``.
    least
        Votes a place needs.

    Raises
    ------
    ModelError
        Unreadable file, missing columns, or no place left.
    """
    cast_votes = _read_csv(votes, ("place", "rating"))
    where = _read_csv(places, ("id", "lat", "lon")).drop_duplicates("id").set_index("id")
    rating = pd.to_numeric(cast_votes["rating"], errors="coerce")
    valid = rating.between(LOWEST, HIGHEST) & cast_votes["place"].notna()
    means = rating[valid].groupby(cast_votes["place"][valid]).agg(["mean", "size"])
    placed = where.apply(pd.to_numeric, errors="coerce").reindex(means.index)
    somewhere = placed["lat"].between(-90, 90) & placed["lon"].between(-180, 180)
    enough = means["size"] >= least
    kept = (somewhere & enough).to_numpy()
    if not kept.any():
        raise ModelError(f"no place of '{places}' has {least} votes in '{votes}': do the two tables belong together?")
    return Ratings(
        lon=placed["lon"].to_numpy(np.float64)[kept],
        lat=placed["lat"].to_numpy(np.float64)[kept],
        rating=means["mean"].to_numpy(np.float64)[kept],
        votes=means["size"].to_numpy(np.int64)[kept],
        left_out={
            "votes that are no rating of 1 to 10": int((~valid).sum()),
            "places without coordinates": int((~somewhere).sum()),
            f"places with fewer than {least} votes": int((somewhere & ~enough).sum()),
        },
    )


def rate_points(
    lon: NDArray[np.float64], lat: NDArray[np.float64], ratings: Ratings, *, metres: float = WITHIN
) -> NDArray[np.float64]:
    """Rating of points: the mean of the rated places within ``metres``, each counting alike; NaN where there is none.

    Distances are geodesic (WGS 84).

    Parameters
    ----------
    lon, lat
        (n,) degrees, EPSG:4326.

    Returns
    -------
    array
        float64 (n,).
    """
    import shapely  # noqa: PLC0415 - only here
    from pyproj import Geod  # noqa: PLC0415

    geod = Geod(ellps="WGS84")
    tall = metres / 110_000.0  # a degree of latitude is at least 110.5 km
    wide = np.minimum(tall / np.maximum(np.cos(np.deg2rad(np.abs(lat) + tall)), 1e-6), 360.0)
    tree = shapely.STRtree([shapely.Point(*place) for place in zip(ratings.lon, ratings.lat, strict=True)])
    point, place = tree.query(shapely.box(lon - wide, lat - tall, lon + wide, lat + tall))
    _, _, distance = geod.inv(lon[point], lat[point], ratings.lon[place], ratings.lat[place])
    near = np.asarray(distance) <= metres
    count = np.bincount(point[near], minlength=len(lon))
    total = np.bincount(point[near], weights=ratings.rating[place[near]], minlength=len(lon))
    rating: NDArray[np.float64] = np.divide(total, count, out=np.full(len(lon), np.nan), where=count > 0)
    return rating


def scenic_scores(
    embeddings: NDArray[np.float32],
    scenic: NDArray[np.float32],
    plain: NDArray[np.float32],
    *,
    temperature: float,
    ensembling: Ensembling = "late",
) -> NDArray[np.float64]:
    """Scenicness of places on the scale of the votes, 1 to 10.

    Parameters
    ----------
    embeddings
        (n, d) unit vectors of the places.
    scenic, plain
        (p, d) and (q, d) unit vectors of the opposing sentences.
    temperature
        Of the softmax over two opposing sentences.
    ensembling
        ``late``: the probability of the scenic sentence in each of the p * q opposing pairs, averaged.
        ``early``: the probability between the two lists' mean vectors.

    Returns
    -------
    array
        float64 (n,).
    """
    places = embeddings.astype(np.float64)
    if ensembling == "early":
        scenic, plain = (_unit_mean(vectors) for vectors in (scenic, plain))
    liked, disliked = (places @ vectors.T.astype(np.float64) for vectors in (scenic, plain))
    total: NDArray[np.float64] = np.zeros(len(places))
    for against in disliked.T:  # softmax of two = logistic of their difference
        total += _logistic((liked - against[:, None]) / temperature).mean(1)
    share: NDArray[np.float64] = total / disliked.shape[1]
    return LOWEST + (HIGHEST - LOWEST) * share


def pearson(x: npt.ArrayLike, y: npt.ArrayLike, *, draws: int = 1000, seed: int = 0) -> Correlation:
    """Pearson's r of (n,) and (n,), with a percentile bootstrap interval over the rows.

    Raises
    ------
    ModelError
        Fewer than three rows, or one of the two does not vary.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        raise ModelError(f"correlation of {len(a)} rows: it needs three or more, and both must vary")
    r = _weighted_r(a, b, np.ones(len(a)))
    ends = bootstrap_intervals(lambda weights: [_weighted_r(a, b, weights)], np.arange(len(a)), draws=draws, seed=seed)
    return Correlation(r=r, low=float(ends[0, 0]), high=float(ends[0, 1]), rows=len(a))


def _weighted_r(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Pearson's r of rows counted ``weights`` times; NaN where one of the two does not vary."""
    dx, dy = x - np.average(x, weights=weights), y - np.average(y, weights=weights)
    spread = np.sqrt((weights @ dx**2) * (weights @ dy**2))
    return float(weights @ (dx * dy) / spread) if spread > 0 else float("nan")


def _unit_mean(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = vectors.mean(0, keepdims=True)
    return cast("NDArray[np.float32]", mean / np.linalg.norm(mean))


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # does not overflow


def _read_csv(path: str | Path, columns: Sequence[str]) -> Any:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"table '{path}' cannot be read ({str(error).splitlines()[0]})") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ModelError(
            f"table '{path}' has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}"
        )
    return frame[list(columns)]
