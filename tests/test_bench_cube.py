"""The benchmark of cubes: all contenders make the same medians, and its lines come out."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from timesenmap.catalogs.bands import BANDS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TEN_METRES = [BANDS.index(band) for band in ("B02", "B03", "B04", "B08")]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not BENCHMARKS.exists():
        pytest.skip("benchmarks/ is not part of an installed package")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("lines", "bench_cube", "cube_scenes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import bench_cube

    return bench_cube


@pytest.fixture
def year(bench: ModuleType):
    return bench.Year(scenes=9, tile=64, side=160, corner=(32, 48))


def test_all_contenders_make_the_same_medians(bench: ModuleType, year, tmp_path: Path) -> None:
    """Of 10 m bands: those of 20 m are repeated by the floor, and rounded otherwise by the libraries."""
    scenes = bench.make_year(tmp_path, year, clouds=True)
    ours = bench.ours(scenes, year.grid)[:, TEN_METRES]
    assert (ours > 0).mean() > 0.1
    np.testing.assert_array_equal(bench.floor(scenes, year.grid)[:, TEN_METRES], ours)
    months = sorted({scene.datetime.month - 1 for scene in scenes})
    for contender in ("stackstac", "odc"):
        theirs = bench.CONTENDERS[contender](scenes, year.grid)[:, TEN_METRES]
        expected = np.where(np.isnan(theirs), 0, np.clip(np.rint(theirs), 1, 65535))
        np.testing.assert_array_equal(ours[months], expected)


def test_the_lines_come_out(bench: ModuleType, year, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SMALL", year)
    monkeypatch.delenv("TIMESENMAP_BENCH_FULL", raising=False)

    def counted(contender: str, folder: Path, _: object) -> dict[str, float]:
        assert len(json.loads((folder / "items.json").read_text())) == 9
        return {"seconds": 2.0 if contender == "ours" else 6.0, "processor": 1.0, "peak": 512.0}

    monkeypatch.setattr(bench, "_measured", counted)
    lines = bench.lines(1)
    by_name = {(line.what, line.reference): line.ratio for line in lines}
    assert len(by_name) == len(lines)
    assert by_name["cube, 9 scenes, 64 x 64", "stackstac, groupby median"] == 3.0
    assert by_name["cube, 9 scenes, 64 x 64, peak", "limit of a worker"] == 3.0
    assert by_name["cube, 9 scenes, 64 x 64, graph", "limit of a tile and year"] > 5
