"""Killed at any moment and run again: the same bytes. A hundred kills are in the integration suite."""

import sys
from pathlib import Path

import pytest
from killing import few_words, kill_again_and_again

from timesenmap.catalogs.demonstration import Demonstration


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_twenty_kills_change_no_byte(place: Demonstration, tmp_path: Path) -> None:
    flags = [
        "--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", few_words(tmp_path),
        "--probabilities", "--margin", "--max-cloud-cover", 0, "--tile-size", 48,
    ]  # fmt: skip
    hit = kill_again_and_again(flags, tmp_path, kills=20, seed=20)
    assert hit.total() >= 20
    assert {"cube", "labels", "maps", "description"} <= set(hit)
