"""Killed a hundred times, with embeddings kept: the same bytes."""

from pathlib import Path

import pytest
from killing import few_words, kill_again_and_again

from timesenmap.catalogs.demonstration import Demonstration

pytestmark = pytest.mark.integration


def test_a_hundred_kills_change_no_byte(place: Demonstration, tmp_path: Path) -> None:
    flags = [
        "--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", few_words(tmp_path),
        "--probabilities", "--margin", "--keep-embeddings", "--max-cloud-cover", 0, "--tile-size", 48,
    ]  # fmt: skip
    hit = kill_again_and_again(flags, tmp_path, kills=100, seed=100)
    assert hit.total() >= 100
    assert {"cube", "labels", "maps", "description"} <= set(hit)
