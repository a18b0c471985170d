"""Metrics for Prometheus: read back by its own client's parser and compared with what the run recorded."""

import functools
import json
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import work
from timesenmap.pipeline.errors import LockedError, MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.profile import PHASES
from timesenmap.workflows import make_map_command as command
from timesenmap.workflows.metrics import Family, metrics_in, text

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(path: Path, out: Path) -> Samples:
    """Samples by name and labels, less those that all have; names, types and help texts are checked."""
    found: Samples = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        assert family.type in ("gauge", "counter"), family.name
        assert family.documentation
        for sample in family.samples:
            labels = dict(sample.labels)
            assert (labels.pop("run"), labels.pop("out")) == (out.name, str(out))
            assert sample.name.startswith("timesenmap_")
            assert sample.name.endswith("_total") is (family.type == "counter")
            key = (sample.name.removeprefix("timesenmap_"), tuple(sorted(labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def state(found: Samples) -> str:
    states = {dict(labels)["state"]: value for (name, labels), value in found.items() if name == "run_state"}
    assert sorted(states.values()) == [0, 0, 0, 0, 1]
    return max(states, key=lambda one: states[one])


def run(*args: object) -> Result:
    return CliRunner().invoke(command.main, [str(arg) for arg in args])


def test_a_run_that_fails_and_one_that_completes_it(
    place: Demonstration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at while tiles are done, after the failure, and after success."""
    out, path, composite = tmp_path / "out", tmp_path / "metrics" / "map.prom", work.composite_tile
    during: list[Samples] = []

    def watched(scenes: object, grid: object, one: Tile, *args: object, **options: object) -> object:
        if one.key == "r0001c0001" and not during:
            written = path.stat().st_ino
            until = time.monotonic() + 60  # the file is replaced, not written in place
            while path.stat().st_ino == written and time.monotonic() < until:
                time.sleep(0.01)
            during.append(samples(path, out))
            raise MemoryError("no room")
        return composite(scenes, grid, one, *args, **options)

    monkeypatch.setattr(work, "composite_tile", watched)
    monkeypatch.setattr(command, "metrics_in", functools.partial(metrics_in, seconds=0.05))
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]
    flags += ["--tile-size", 64, "--out", out, "--metrics", path]
    began = time.time()
    assert run(*flags).exit_code == 1
    cube = (("stage", "cube"),)
    assert state(during[0]) == "running"
    assert (during[0]["tiles_planned", cube], during[0]["tiles_done", cube]) == (4, 3)
    assert began < during[0]["start_timestamp_seconds", ()] < time.time()
    assert ("end_timestamp_seconds", ()) not in during[0]

    failed = samples(path, out)
    assert (state(failed), failed["exit_code", ()]) == ("failed", 1)
    assert (failed["tiles_done", cube], failed["tiles_failed", cube]) == (3, 1)
    assert failed["tiles_done", (("stage", "labels:land-cover"),)] == 3
    assert failed["map_files_done", ()] == 0
    assert ("last_success_timestamp_seconds", ()) not in failed
    assert not any(thread.name == "metrics" for thread in threading.enumerate())

    assert run(*flags).exit_code == 0
    done, record = samples(path, out), json.loads((out / "run.json").read_text())
    assert (state(done), done["exit_code", ()]) == ("finished", 0)
    assert done["last_success_timestamp_seconds", ()] == done["end_timestamp_seconds", ()]
    height, width = record["grid"]["shape"]
    assert done["pixels_planned", cube] == done["pixels_done", cube] == height * width
    assert done["tiles_failed", cube] == 0
    assert (done["map_files_planned", ()], done["map_files_done", ()]) == (3, 3)
    profile = record["profile"]
    assert done["read_bytes_total", ()] == profile["bytes_read"]
    assert done["written_bytes_total", ()] == profile["bytes_written"]
    for phase in PHASES:
        expected = profile["seconds"].get(phase, 0.0)
        assert done["phase_seconds_total", (("phase", phase),)] == pytest.approx(expected, abs=0.001)
    assert list(path.parent.iterdir()) == [path]

    # A run that has not come to its tiles says nothing of those of the run before, but when that succeeded.
    bad = run(*[flag if flag != "land-cover" else "no-such-set" for flag in flags])
    assert bad.exit_code == 2
    after = samples(path, out)
    assert (state(after), after["exit_code", ()]) == ("failed", 2)
    assert after["last_success_timestamp_seconds", ()] == pytest.approx(
        done["last_success_timestamp_seconds", ()], abs=5
    )
    assert {name for name, _ in after} == {
        "start_timestamp_seconds",
        "end_timestamp_seconds",
        "exit_code",
        "last_success_timestamp_seconds",
        "run_state",
    }


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [(KeyboardInterrupt, "stopped", 130), (ZeroDivisionError, "failed", 1), (LockedError, "locked", 3)],
)
def test_written_however_it_ends_and_before_there_is_a_folder(
    tmp_path: Path, error: type[BaseException], expected: str, code: int
) -> None:
    path, out = tmp_path / "map.prom", tmp_path / "out"

    def fail() -> None:
        with metrics_in(path, out):
            found = samples(path, out)
            assert state(found) == "running"
            assert ("exit_code", ()) not in found
            raise error

    with pytest.raises(error):
        fail()
    found = samples(path, out)
    assert (state(found), found["exit_code", ()]) == (expected, code)
    assert not out.exists()


def test_the_last_success_of_a_job_outlives_its_folders(tmp_path: Path) -> None:
    """Each month a folder of its own, the same job and file: what fails in December says when November succeeded."""
    path = tmp_path / "map.prom"
    with metrics_in(path, tmp_path / "november", name="region"):
        pass
    success = ("timesenmap_last_success_timestamp_seconds", {"run": "region", "out": str(tmp_path / "november")})
    families = text_string_to_metric_families(path.read_text())
    (first,) = [one for family in families for one in family.samples if one.name == success[0]]
    assert first.labels == success[1]
    for _ in range(2):
        with pytest.raises(OSError, match="torn"), metrics_in(path, tmp_path / "december", name="region"):
            raise OSError("torn")
    families = text_string_to_metric_families(path.read_text())
    (later,) = [one for family in families for one in family.samples if one.name == success[0]]
    assert later.value == first.value


def test_a_file_that_cannot_be_written_is_named_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(MapError, match=r"--metrics .*map\.prom: cannot be written \(.*\); name a file elsewhere"),
        metrics_in(tmp_path / "file" / "map.prom", tmp_path / "out"),
    ):
        raise AssertionError("the run began")


def test_a_disk_that_fills_up_later_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    with metrics_in(folder / "map.prom", tmp_path / "out", seconds=0.01):
        (folder / "map.prom").unlink()
        folder.rmdir()
        folder.touch()  # a file where the folder was: no writing there
        time.sleep(0.1)
    assert folder.is_file()


def test_labels_of_any_kind_survive(tmp_path: Path) -> None:
    odd = {"run": 'a "b"\\n c', "out": "/x/ü\n{y}=,\\"}
    written = text([Family("tiles_done", "gauge", "Tiles.", {(("stage", 'l:"q"'),): 1.5})], odd)
    (family,) = text_string_to_metric_families(written)
    (sample,) = family.samples
    assert sample.labels == {**odd, "stage": 'l:"q"'}
    assert sample.value == 1.5
