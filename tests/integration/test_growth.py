"""Peak memory of make-map: four times the area does not take more."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.integration

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_growth")


def test_four_times_the_area_takes_no_more_memory_and_as_many_tasks_a_tile(growth: ModuleType) -> None:
    """Maps of 2 x 2 and of 4 x 4 tiles of 256 pixels, each made by make-map in fresh processes."""
    found = growth.measure((512, 1024), 1)
    assert found[1024]["peak_mib"] < 1.1 * found[512]["peak_mib"]
    assert found[1024]["tasks"] <= 4 * found[512]["tasks"]
