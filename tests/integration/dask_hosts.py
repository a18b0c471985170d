"""A Dask scheduler and its workers as processes, on this host or on two that are network namespaces."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import ended, free_port

_PATIENCE = 60.0


@dataclass(frozen=True)
class Host:
    """Where processes run: a network namespace, or this host where it has no name; and its address."""

    address: str
    namespace: str = ""

    def command(self, *parts: object) -> list[str]:
        """The command that runs something there, by the interpreter of the tests."""
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        return [*inside, *map(str, parts)]

    def start(self, *parts: object, log: Path) -> "subprocess.Popen[bytes]":
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as out:
            return subprocess.Popen(self.command(*parts), stdout=out, stderr=out, env=env, start_new_session=True)


THIS = Host("127.0.0.1")


@contextmanager
def scheduler(folder: Path, host: Host = THIS) -> Iterator[str]:
    """Run a scheduler; yields its address."""
    address = f"tcp://{host.address}:{free_port()}"
    log = folder / "scheduler.log"
    command = ["-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--host", address]
    with ended(host.start(sys.executable, *command, log=log)):
        _await(log, "Scheduler at:")
        yield address


@contextmanager
def worker(
    address: str, folder: Path, name: str, host: Host = THIS, *, nanny: bool = True, options: Sequence[str] = ()
) -> Iterator[int]:
    """Run a worker; yields the process id of its interpreter, which does the tiles where there is no nanny."""
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", 1, "--name", name]
    command += ["--no-dashboard", "--host", host.address, "--death-timeout", 120, *options]
    command += [] if nanny else ["--no-nanny"]
    with ended(host.start(*command, log=log)) as process:
        _await(log, "Registered to:")
        yield process.pid


def _await(log: Path, words: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while words not in (log.read_text() if log.exists() else ""):
        if time.monotonic() > deadline:
            raise AssertionError(f"{log.name} never said {words!r}:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[str]:
    """Run a scheduler and workers on this host; yields the scheduler's address."""
    with ExitStack() as held:
        address = held.enter_context(scheduler(folder))
        for number in range(workers):
            held.enter_context(worker(address, folder, f"worker-{number}"))
        yield address


@dataclass(frozen=True)
class TwoHosts:
    """Two network namespaces joined by a cable."""

    left: Host
    right: Host
    cable: str

    def cut(self) -> None:
        """Pull the cable."""
        _ip("-n", self.right.namespace, "link", "set", self.cable, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("-n", self.right.namespace, "link", "set", self.cable, "up")


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Make two network namespaces that see each other."""
    if os.getuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2 (Debian: iproute2)")
    tag = uuid.uuid4().hex[:6]
    left, right = Host("10.77.0.1", f"tsm-{tag}-a"), Host("10.77.0.2", f"tsm-{tag}-b")
    if _ip("netns", "add", left.namespace, check=False):
        pytest.skip("this machine does not allow network namespaces")
    try:
        _ip("netns", "add", right.namespace)
        _ip("link", "add", f"a{tag}", "type", "veth", "peer", "name", f"b{tag}")
        for host, cable in ((left, f"a{tag}"), (right, f"b{tag}")):
            _ip("link", "set", cable, "netns", host.namespace)
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", cable)
            _ip("-n", host.namespace, "link", "set", cable, "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
        yield TwoHosts(left, right, f"b{tag}")
    finally:
        for host in (left, right):
            _ip("netns", "del", host.namespace, check=False)


def _ip(*arguments: str, check: bool = True) -> int:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
    return done.returncode


def make_map_command(*flags: object) -> list[str]:
    """The command line of make-map."""
    return [sys.executable, "-c", "from timesenmap.workflows.make_map_command import main; main()", *map(str, flags)]


def make_map(*flags: object, folder: Path, code: int = 0, env: Mapping[str, str] = os.environ) -> str:
    """Run make-map to its end; returns what it said."""
    done = subprocess.run(
        make_map_command(*flags),
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**env, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == code, f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def workers_of_tiles(out: Path, stage: str = "cube") -> dict[str, str]:
    """Who did each tile of a stage."""
    with sqlite3.connect(out / "work" / "ledger.sqlite") as db:
        return dict(db.execute("SELECT key, worker FROM tile WHERE stage = ?", (stage,)))


def tiles_done(out: Path) -> int:
    """How many tiles the ledger has, of all stages, while the run goes on."""
    ledger = out / "work" / "ledger.sqlite"
    if not ledger.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM tile WHERE state = 'done'").fetchone()[0])
    except sqlite3.Error:
        return 0


def wait_for_tiles(out: Path, number: int, run: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a run has so many tiles."""
    deadline = time.monotonic() + 300
    while tiles_done(out) < number:
        assert run.poll() is None, f"the run ended before {number} tiles:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"no {number} tiles after 300 s:\n{log.read_text()}"
        time.sleep(0.02)
