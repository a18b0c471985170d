"""The built-in demonstration: a generated place with a known truth, mapped by the ordinary pipeline."""

import logging
from pathlib import Path

import numpy as np
import rasterio

from timesenmap.catalogs.demonstration import Demonstration, make_demonstration
from timesenmap.model.prompts import load_prompt_set
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.record import RunRecord

log = logging.getLogger("timesenmap.demo")

DEFAULT_OUT = "demo"
PROMPTS = ("land-cover", "crops")
_OWN = ("aoi", "aoi_crs", "catalog", "collection", "items", "year", "start")


def demo_flags(flags: dict[str, object]) -> dict[str, object]:
    """Flags of the job that maps the demonstration; makes its scenes beside ``--out`` unless they stand there.

    Raises
    ------
    MapError
        where a flag contradicts the demonstration.
    """
    for name in _OWN:
        if name in flags:
            msg = f"--{name.replace('_', '-')} {flags[name]}: --demo brings its own area, scenes and year; drop one"
            raise MapError(msg)
    out = Path(str(flags.get("out", DEFAULT_OUT)))
    made = _demonstration(out)
    return {
        "out": str(out),
        "prompts": PROMPTS,
        **flags,
        "aoi": str(made.aoi),
        "catalog": str(made.catalog),
        "year": made.year,
    }


def scenes_of(out: Path) -> Path:
    """Folder of the generated scenes: beside the output folder, as scenes are input."""
    return out.with_name(out.name + "-scenes")


def _demonstration(out: Path) -> Demonstration:
    """Find the demonstration beside `out`, or generate it there: whole or not at all."""
    scenes = scenes_of(out)
    if not scenes.exists():
        log.info("demonstration: generating a place and a year of scenes in %s", scenes)
    return make_demonstration(scenes)


def agreement(out: Path, record: RunRecord) -> list[str]:
    """Compare the land-cover map with the truth the demonstration was made from, as lines to print."""
    made = _demonstration(out)
    lines = [f"demonstration: {made.scenes} scenes of {made.year} in {made.folder}"]
    if not any(one.prompt_set == "land-cover" for one in record.maps):
        return lines
    with rasterio.open(out / "land-cover.tif") as mapped, rasterio.open(made.truth) as truth:
        window = truth.window(*mapped.bounds).round_offsets().round_lengths()
        known = truth.read(1, window=window, boundless=True, fill_value=0)
        found = mapped.read(1)
    unknown = (known > 0) & (found == UNKNOWN.code)
    compared = (known > 0) & (found > 0) & ~unknown
    right = (known == found) & compared
    left_out = f" ({unknown.sum():,} unknown left out)" if unknown.any() else ""
    agreed = 100 * right.sum() / max(1, compared.sum())
    lines.append(f"agreement with the known truth: {agreed:.1f} % of {compared.sum():,} pixels{left_out}")
    for cls in load_prompt_set("land-cover").classes:
        there = compared & (known == cls.code)
        if there.any():
            share = 100 * np.count_nonzero(right & there) / np.count_nonzero(there)
            lines.append(f"  {cls.name:<32}{share:5.1f} % of {np.count_nonzero(there):,}")
    return lines
