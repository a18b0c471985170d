"""Scenes of a generated place over more than a year: those of its year, and again a year later under other names."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from timesenmap.catalogs.demonstration import Demonstration

# The clearest of each month: enough for a composite, and quick.
_PER_MONTH = 2

Feature = dict[str, Any]


def rolling_items(
    place: Demonstration,
    path: Path,
    *,
    months: int = 14,
    keep: Callable[[Feature], bool] = lambda _: True,
    more: Mapping[str, int] | None = None,
) -> Path:
    """Write an item collection of the first months (of 24, from January of the place's year on).

    Of each the two clearest scenes, or as many as `more` says of a month ("YYYY-MM"), that `keep` lets pass.
    """
    by_month: dict[str, list[Feature]] = {}
    for file in sorted(place.folder.glob("scenes/*/*.json")):
        feature = json.loads(file.read_text())
        for asset in feature["assets"].values():
            asset["href"] = str((file.parent / asset["href"]).resolve())
        feature["links"] = []
        for year in (place.year, place.year + 1):
            when = feature["properties"]["datetime"].replace(str(place.year), str(year), 1)
            name = feature["id"].replace(f"_{place.year}", f"_{year}", 1)
            later = feature | {"id": name, "properties": feature["properties"] | {"datetime": when}}
            by_month.setdefault(when[:7], []).append(later)
    chosen = [
        feature
        for month in sorted(by_month)[:months]
        for feature in sorted(by_month[month], key=lambda one: one["properties"]["eo:cloud_cover"])[
            : (more or {}).get(month, _PER_MONTH)
        ]
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [one for one in chosen if keep(one)]}))
    return path
