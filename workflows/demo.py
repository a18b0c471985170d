"""The built-in demonstration: a generated place with a known truth, mapped by the ordinary pipeline."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import rasterio

from timesenmap.catalogs.demonstration import make_demonstration
from timesenmap.model.prompts import load_prompt_set
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.record import RunRecord

log = logging.getLogger("timesenmap.demo")

DEFAULT_OUT = "demo"
PROMPTS = ("land-cover", "crops")
_OWN = ("aoi", "aoi_crs", "catalog", "collection", "year", "start")


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
    scenes = scenes_of(out)
    made = scenes / "demonstration.json"
    if not made.is_file():
        _generate(scenes)
    about = json.loads(made.read_text(encoding="utf-8"))
    return {
        "out": str(out),
        "prompts": PROMPTS,
        **flags,
        "aoi": str(scenes / about["aoi"]),
        "catalog": str(scenes / about["catalog"]),
        "year": about["year"],
    }


def scenes_of(out: Path) -> Path:
    """Folder of the generated scenes: beside the output folder, as scenes are input."""
    return out.with_name(out.name + "-scenes")


def _generate(scenes: Path) -> None:
    """Make the demonstration whole or not at all."""
    part = scenes.with_name(scenes.name + ".part")
    if scenes.exists():
        raise MapError(f"--demo: {scenes} exists and holds no demonstration; name another --out")
    shutil.rmtree(part, ignore_errors=True)
    log.info("demonstration: generating a place and a year of scenes in %s", scenes)
    made = make_demonstration(part)
    about = {
        "aoi": str(made.aoi.relative_to(part)),
        "catalog": str(made.catalog.relative_to(part)),
        "truth": str(made.truth.relative_to(part)),
        "year": made.year,
        "scenes": made.scenes,
    }
    (part / "demonstration.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    part.rename(scenes)


def agreement(out: Path, record: RunRecord) -> list[str]:
    """Compare the land-cover map with the truth the demonstration was made from, as lines to print."""
    scenes = scenes_of(out)
    about = json.loads((scenes / "demonstration.json").read_text(encoding="utf-8"))
    lines = [f"demonstration: {about['scenes']} scenes of {about['year']} in {scenes}"]
    if not any(made.prompt_set == "land-cover" for made in record.maps):
        return lines
    with rasterio.open(out / "land-cover.tif") as mapped, rasterio.open(scenes / about["truth"]) as truth:
        window = truth.window(*mapped.bounds).round_offsets().round_lengths()
        known = truth.read(1, window=window, boundless=True, fill_value=0)
        found = mapped.read(1)
    compared = (known > 0) & (found > 0)
    right = (known == found) & compared
    lines.append(
        f"agreement with the known truth: {100 * right.sum() / compared.sum():.1f} % of {compared.sum():,} pixels"
    )
    for cls in load_prompt_set("land-cover").classes:
        there = compared & (known == cls.code)
        if there.any():
            share = 100 * np.count_nonzero(right & there) / np.count_nonzero(there)
            lines.append(f"  {cls.name:<32}{share:5.1f} % of {np.count_nonzero(there):,}")
    return lines
