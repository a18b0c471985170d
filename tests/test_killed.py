"""Killed at any moment and run again: the same bytes. A hundred kills are in the integration suite."""

from pathlib import Path

import yaml
from killing import kill_again_and_again

from timesenmap.catalogs.demonstration import Demonstration


def test_twenty_kills_change_no_byte(place: Demonstration, tmp_path: Path) -> None:
    names = {"field": "#ddcc88", "wood": "#226622", "lake": "#2244cc"}
    classes = [
        {"code": code, "name": name, "colour": colour, "prompts": [f"a {name}"]}
        for code, (name, colour) in enumerate(names.items(), start=1)
    ]
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump({"name": "few", "title": "Few words", "templates": [], "classes": classes}))
    flags = [
        "--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", prompts,
        "--probabilities", "--max-cloud-cover", 0, "--tile-size", 48,
    ]  # fmt: skip
    hit = kill_again_and_again(flags, tmp_path, kills=20, seed=20)
    assert hit.total() >= 20
    assert {"cube", "labels", "maps", "description"} <= set(hit)
