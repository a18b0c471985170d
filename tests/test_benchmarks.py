"""The runner of the benchmarks: what its numbers mean, and that one topic can be measured anew alone."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner over a folder with two small topics."""
    if not BENCHMARKS.exists():
        pytest.skip("benchmarks/ is not part of an installed package")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("lines", "run", "bench_fast", "bench_small"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("run", BENCHMARKS / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    head = "from lines import Line\ndef lines(repeats):\n    return [Line"
    (tmp_path / "bench_fast.py").write_text(f"{head}('sums', 'sums/s', 300.0 + repeats, 'by hand', 100.0)]\n")
    (tmp_path / "bench_small.py").write_text(
        f"{head}('peak', 'MiB', 50.0, 'all at once', 400.0, less_is_better=True)]\n"
    )
    return module


def test_all_topics_then_one_anew(runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.main(["--repeats", "3"])
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [stored[topic]["lines"][0]["ratio"] for topic in ("fast", "small")] == [3.03, 8.0]
    page = (tmp_path / "results.md").read_text()
    assert "| sums | 303 sums/s | by hand | 100 sums/s | 3.03 |" in page
    assert "| peak | 50 MiB | all at once | 400 MiB | 8.00 |" in page
    capsys.readouterr()
    runner.main(["fast", "--repeats", "20"])
    again = json.loads((tmp_path / "results.json").read_text())
    assert again["small"] == stored["small"]
    assert (again["fast"]["lines"][0]["ours"], again["fast"]["repeats"]) == (320.0, 20)
    assert "small" not in capsys.readouterr().out


def test_an_unknown_topic_is_refused(runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        runner.main(["fats"])
    assert "no such topic: fats; choose of fast, small" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_functions_are_timed_in_turn(runner: ModuleType) -> None:
    from lines import seconds_of  # type: ignore[import-not-found]

    calls: list[str] = []
    found = seconds_of([lambda: calls.append("a"), lambda: calls.append("b")], 3)
    assert calls == ["a", "b"] * 4  # the first round does not count
    assert len(found) == 2
    assert min(found) >= 0
