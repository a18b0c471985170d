"""The shipped SLURM files on a real SLURM of one node: the same maps, exit codes on record, stopped and requeued."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import REPO
from killing import few_words, what_must_be_the_same
from slurm import Slurm, slurm

from timesenmap.catalogs.demonstration import Demonstration

pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason="SLURM runs on Linux")]

SCRIPT = REPO / "workflows" / "schedules" / "slurm" / "make-map.sbatch"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cluster():
    with slurm() as running:
        yield running


@pytest.fixture(scope="module")
def fields(place: Demonstration, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return the fields of a job of four tiles, without the folder it writes to."""
    return {
        "aoi": str(place.aoi),
        "catalog": str(place.catalog),
        "year": place.year,
        "prompts": [str(few_words(tmp_path_factory.mktemp("prompts")))],
        "max_cloud_cover": 0,
        "tile_size": 48,
    }


@pytest.fixture(scope="module")
def alone(fields: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Return what must be the same, of the job run by hand."""
    folder = tmp_path_factory.mktemp("alone")
    job = write_job(folder, fields)
    done = subprocess.run([BIN / "make-map", "--job", job], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return what_must_be_the_same(folder / "out")


def write_job(folder: Path, fields: dict[str, object]) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({**fields, "out": "out"}))
    return path


def edited(folder: Path, **settings: str) -> Path:
    """Copy the shipped script and set lines in its blocks marked SET, as its header says; no other line may change."""
    settings = {"BIN": str(BIN), "chdir": str(folder), "cpus-per-task": "2", "mem": "3G", "time": "00:20:00"} | settings
    lines, to_set = [], False
    for line in SCRIPT.read_text().splitlines():
        if line.startswith("# "):
            to_set = line.startswith("# SET:") or (to_set and not line.startswith(("# Leave", "# What")))
        found = re.match(r"#?(#SBATCH --)([a-z-]+)=|()([A-Z]+)=", line) if to_set else None
        name = found and (found[2] or found[4])
        if found and name in settings:
            lines.append(f"{found[1] or ''}{name}={settings.pop(name)}")
        else:
            lines.append(line)
    assert not settings, f"{SCRIPT.name} does not let one set {settings}"
    copy = folder / "make-map.sbatch"
    copy.write_text("\n".join(lines) + "\n")
    return copy


def log_of(folder: Path) -> str:
    path = folder / "make-map.log"
    return path.read_text() if path.exists() else ""


def summary_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / "job.summary.json").read_text())


def until_it_composites(folder: Path, runs: int = 1) -> None:
    deadline = time.monotonic() + 200
    while log_of(folder).count("INFO prompts: done") < runs:
        assert time.monotonic() < deadline, log_of(folder)
        time.sleep(0.02)


def test_the_shipped_script_makes_the_maps_of_a_run_by_hand(cluster: Slurm, fields, alone, tmp_path: Path) -> None:
    write_job(tmp_path, fields)
    job = cluster.wait(cluster.submit(edited(tmp_path, partition="trial")))
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log_of(tmp_path)
    assert what_must_be_the_same(tmp_path / "out") == alone
    assert (summary_of(tmp_path)["state"], summary_of(tmp_path)["exit_code"]) == ("done", 0)


def test_a_job_of_bad_input_is_on_record_as_failed_with_2(cluster: Slurm, fields, tmp_path: Path) -> None:
    write_job(tmp_path, {**fields, "prompts": ["no-such-set"]})
    job = cluster.wait(cluster.submit(edited(tmp_path)))
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("FAILED", "2:0", "0")
    assert "no-such-set" in log_of(tmp_path)
    assert (summary_of(tmp_path)["state"], summary_of(tmp_path)["exit_code"]) == ("bad input", 2)
    assert "no-such-set" in summary_of(tmp_path)["message"]
    assert not (tmp_path / "out").exists()


def test_stopped_before_the_time_limit_it_requeues_itself_and_ends_in_the_same_bytes(
    cluster: Slurm, fields, alone, tmp_path: Path
) -> None:
    write_job(tmp_path, fields)
    number = cluster.submit(edited(tmp_path))
    until_it_composites(tmp_path)
    cluster.command("scancel", "--batch", "--signal=USR1", number)  # what --signal=B:USR1@300 sends
    cluster.wait(number, states=("PENDING",))
    assert not (tmp_path / "out" / "run.json").exists()
    assert (summary_of(tmp_path)["state"], summary_of(tmp_path)["exit_code"]) == ("stopped", 143)
    assert "stopped: what was finished is kept" in log_of(tmp_path)
    job = cluster.wait(number, states=("COMPLETED", "FAILED", "CANCELLED"))
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1"), log_of(tmp_path)
    assert log_of(tmp_path).count("INFO prompts: done") == 2  # one log, over both
    assert what_must_be_the_same(tmp_path / "out") == alone


def test_a_second_night_meanwhile_does_nothing(cluster: Slurm, fields, tmp_path: Path) -> None:
    """A job of months, a folder for each period: the lock is that of the job, over jobs of SLURM."""
    text = yaml.safe_load((REPO / "workflows" / "jobs" / "belgium-every-month.yaml").read_text())
    month = f"{fields['year']}-01"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**text, **fields, "year": None, "start": month}))
    script = edited(tmp_path)
    first = cluster.submit(script)
    out = tmp_path / "maps" / "belgium" / f"{fields['year']}-12"
    deadline = time.monotonic() + 200
    while not (out / "work" / "ledger.sqlite").exists():
        assert time.monotonic() < deadline, log_of(tmp_path)
        time.sleep(0.02)
    cluster.command("scancel", "--full", "--signal=STOP", first)  # it stands still, or might be done too soon
    second = cluster.wait(cluster.submit(script, "--output=second.log"))
    cluster.command("scancel", "--full", "--signal=CONT", first)
    assert (second["JobState"], second["ExitCode"]) == ("FAILED", "3:0")
    assert "another run is at work there" in (tmp_path / "second.log").read_text()
    job = cluster.wait(first)
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log_of(tmp_path)
    assert list(out.parent.glob("[0-9]*")) == [out]


def test_cancelled_by_hand_it_stays_so_and_goes_on_when_submitted_again(
    cluster: Slurm, fields, alone, tmp_path: Path
) -> None:
    write_job(tmp_path, fields)
    script = edited(tmp_path)
    number = cluster.submit(script)
    until_it_composites(tmp_path)
    cluster.command("scancel", "--full", number)
    assert cluster.wait(number)["JobState"] == "CANCELLED"
    deadline = time.monotonic() + 60
    while "stopped: what was finished is kept" not in log_of(tmp_path):
        assert time.monotonic() < deadline, log_of(tmp_path)
        time.sleep(0.1)
    time.sleep(1)
    assert cluster.job(number)["JobState"] == "CANCELLED"
    job = cluster.wait(cluster.submit(script))
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log_of(tmp_path)
    assert what_must_be_the_same(tmp_path / "out") == alone


def test_workers_that_are_jobs_make_the_same_maps(cluster: Slurm, fields, alone, tmp_path: Path) -> None:
    """The shipped script and workflows/clusters/slurm.yaml: a job that has its workers as further jobs."""
    write_job(tmp_path, fields)
    asked = yaml.safe_load((REPO / "workflows" / "clusters" / "slurm.yaml").read_text())
    asked |= {"workers": {"minimum": 0, "maximum": 2}, "threads": 1, "memory": "2 GiB", "patience": 120}
    asked["options"] |= {"queue": "trial", "account": None, "walltime": "00:10:00", "worker_extra_args": []}
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(asked))
    number = cluster.submit(edited(tmp_path, CLUSTER="slurm.yaml", **{"cpus-per-task": "1", "mem": "2G"}))
    job = cluster.wait(number)
    assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log_of(tmp_path)
    workers = [one for one in cluster.jobs() if one["JobName"] == "dask-worker"]
    assert workers, "no worker was a job"
    assert {cluster.wait(one["JobId"])["JobState"] for one in workers} <= {"CANCELLED", "COMPLETED"}
    assert what_must_be_the_same(tmp_path / "out") == alone
