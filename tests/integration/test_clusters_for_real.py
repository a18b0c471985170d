"""The same maps from any cluster, whatever happens to it: workers killed, the network cut, the disk full."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from dask_hosts import (
    cluster,
    make_map,
    make_map_command,
    scheduler,
    two_hosts,
    wait_for_tiles,
    worker,
    workers_of_tiles,
)
from killing import what_must_be_the_same
from servers import REPO, ended
from slurm import slurm

from timesenmap.catalogs.demonstration import Demonstration, make_demonstration

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def job(place: Demonstration) -> list[object]:
    """Flags of a map of 36 tiles, without --out."""
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]
    return [*flags, "--tile-size", 16]


@pytest.fixture(scope="module")
def alone(job: list[object], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What must be the same, of a run without a cluster."""
    folder = tmp_path_factory.mktemp("alone")
    make_map(*job, "--out", folder / "out", folder=folder)
    return what_must_be_the_same(folder / "out")


@pytest.fixture(scope="module")
def belgium_2018(belgium: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], dict[str, object]]:
    """Flags of belgium-2018 in tiles of 16, and what must be the same of a run without a cluster."""
    flags = ["--aoi", "501360,5629040,502000,5629680", "--aoi-crs", "EPSG:32631", "--start", "2017-12"]
    flags += ["--catalog", belgium, "--prompts", "land-cover", "--tile-size", 16]
    folder = tmp_path_factory.mktemp("belgium")
    make_map(*flags, "--out", folder / "out", folder=folder)
    return flags, what_must_be_the_same(folder / "out")


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], dict[str, object]]:
    """Flags of the demonstration in tiles of 128, and what must be the same of a run without a cluster."""
    folder = tmp_path_factory.mktemp("demo")
    made = make_demonstration(folder / "scenes")
    flags = ["--aoi", made.aoi, "--catalog", made.catalog, "--year", made.year, "--tile-size", 128]
    flags += ["--prompts", "land-cover", "--prompts", "crops"]
    make_map(*flags, "--out", folder / "out", folder=folder)
    return flags, what_must_be_the_same(folder / "out")


@pytest.mark.parametrize("which", ["belgium_2018", "demonstration"])
def test_the_same_checksums_from_processes_and_from_a_scheduler_with_two_workers(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    flags, expected = request.getfixturevalue(which)
    two = tmp_path / "two.yaml"
    two.write_text("type: local\nworkers: 2\nthreads: 1\n")
    make_map(*flags, "--cluster", two, "--out", tmp_path / "processes", folder=tmp_path)
    assert what_must_be_the_same(tmp_path / "processes") == expected
    with cluster(tmp_path) as address:
        make_map(*flags, "--cluster", address, "--out", tmp_path / "tcp", folder=tmp_path)
    assert what_must_be_the_same(tmp_path / "tcp") == expected
    assert len(set(workers_of_tiles(tmp_path / "tcp").values())) == 2


@pytest.mark.parametrize("which", ["belgium_2018", "demonstration"])
def test_the_same_checksums_from_workers_that_are_slurm_jobs(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    flags, expected = request.getfixturevalue(which)
    fields = yaml.safe_load((REPO / "workflows" / "clusters" / "slurm.yaml").read_text())
    fields |= {"workers": 2, "threads": 1, "memory": "2 GiB", "patience": 120}
    fields["options"] = {"walltime": "00:30:00", "log_directory": str(tmp_path), "interface": "lo"}
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(fields))
    with slurm() as queue:
        said = make_map(
            *flags, "--cluster", tmp_path / "slurm.yaml", "--out", tmp_path / "out", folder=tmp_path, env=queue.env
        )
        workers = [job for job in queue.jobs() if job["JobName"] == "dask-worker"]
    assert len(workers) == 2, said
    assert what_must_be_the_same(tmp_path / "out") == expected


def test_scenes_are_read_by_workers_without_a_gpu_and_tiles_encoded_by_those_that_declare_one(
    job: list[object], alone: dict[str, object], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with (
        scheduler(tmp_path) as address,
        worker(address, tmp_path, "reads", options=["--resources", "CPU=1"]),
        worker(address, tmp_path, "encodes", options=["--resources", "GPU=1"]),
    ):
        make_map(*job, "--out", out, "--cluster", address, folder=tmp_path)
    readers = set(workers_of_tiles(out).values())
    encoders = set(workers_of_tiles(out, "labels:land-cover").values())
    assert len(readers) == len(encoders) == 1
    assert readers != encoders
    assert what_must_be_the_same(out) == alone


@contextmanager
def running(job: list[object], out: Path, address: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run make-map in the background."""
    command = make_map_command(*job, "--out", out, "--cluster", address)
    with log.open("wb") as said, ended(subprocess.Popen(command, stdout=said, stderr=said)) as run:
        yield run


def test_a_worker_killed_in_the_middle(job: list[object], alone: dict[str, object], tmp_path: Path) -> None:
    """A scheduler and two workers without nannies; one is killed and does not come back: the other does it all."""
    out, log = tmp_path / "out", tmp_path / "log"
    with (
        scheduler(tmp_path) as address,
        worker(address, tmp_path, "stays", nanny=False),
        worker(address, tmp_path, "dies", nanny=False) as pid,
        running(job, out, address, log) as run,
    ):
        wait_for_tiles(out, 8, run, log)
        os.kill(pid, signal.SIGKILL)
        assert run.wait(300) == 0, log.read_text()
    assert what_must_be_the_same(out) == alone
    assert len(set(workers_of_tiles(out).values())) == 2


def test_the_scheduler_killed_in_the_middle(job: list[object], alone: dict[str, object], tmp_path: Path) -> None:
    """A named failure, and the same command on another cluster goes on to the same maps."""
    out, log = tmp_path / "out", tmp_path / "log"
    with cluster(tmp_path) as address, running(job, out, address, log) as run:
        wait_for_tiles(out, 8, run, log)
        (pid,) = subprocess.run(
            ["pgrep", "-f", f"dask_scheduler.*{address}"], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(pid), signal.SIGKILL)
        assert run.wait(300) == 1, log.read_text()
    assert f"failed: the scheduler {address} is gone: what is done is kept" in (said := log.read_text()), said
    with cluster(tmp_path) as address:
        make_map(*job, "--out", out, "--cluster", address, folder=tmp_path)
    assert what_must_be_the_same(out) == alone


def test_the_network_cut_for_half_a_minute(job: list[object], alone: dict[str, object], tmp_path: Path) -> None:
    """Two hosts; the one that does half of the tiles is not heard of for 30 s."""
    out, log = tmp_path / "out", tmp_path / "log"
    with two_hosts() as hosts, scheduler(tmp_path, hosts.left) as address, worker(
        address, tmp_path, "near", hosts.left
    ), worker(address, tmp_path, "far", hosts.right):  # fmt: skip
        command = hosts.left.command(*make_map_command(*job, "--out", out, "--cluster", address))
        with log.open("wb") as said, ended(subprocess.Popen(command, stdout=said, stderr=said)) as run:
            wait_for_tiles(out, 6, run, log)
            hosts.cut()
            time.sleep(30)
            hosts.mend()
            assert run.wait(300) == 0, log.read_text()
    assert what_must_be_the_same(out) == alone
    assert {address.rpartition(":")[0] for address in workers_of_tiles(out).values()} >= {"tcp://10.77.0.1"}


def test_a_full_disk_of_the_workers_is_a_named_failure(
    job: list[object], alone: dict[str, object], tmp_path: Path
) -> None:
    """The output folder is a file system of 1 MB; with room again the same command completes."""
    out, log = tmp_path / "out", tmp_path / "log"
    out.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        with cluster(tmp_path) as address:
            said = make_map(*job, "--out", out, "--cluster", address, folder=tmp_path, code=1)
            log.write_text(said)
            assert "No space left on device" in said or "is full" in said
            subprocess.run(["mount", "-o", "remount,size=200m", out], check=True)
            said = make_map(*job, "--out", out, "--cluster", address, folder=tmp_path)
        assert what_must_be_the_same(out) == alone
    finally:
        subprocess.run(["umount", "--lazy", out], check=True)
