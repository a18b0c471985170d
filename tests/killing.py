"""make-map in processes of its own that are killed (SIGKILL) at random moments, stage by stage.

Importing everything takes longer than a small map. So one process imports it once, starts no thread, and forks a
process for every run: what runs there, and dies, is the command as it is.
"""

import gc
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import yaml

# As the command's log names them; what comes after the maps has no line of its own.
STAGES = ("prepare", "prompts", "cube", "labels", "maps", "description")

# What one output folder goes through before it is left to finish.
_AIMS = ("cube", "cube", "labels", "maps", "description")

# Seconds between two looks at a run's log.
_GLANCE = 0.003


@dataclass(frozen=True)
class Run:
    """A process of make-map: its id, its log, and how it is waited for."""

    pid: int
    log: Path
    server: "subprocess.Popen[str]"

    def stage(self) -> str:
        """Stage it is in, or in which it ended."""
        text = self.log.read_text() if self.log.exists() else ""
        return STAGES[sum(f"INFO {stage}: done" in text for stage in STAGES[:-1])]

    def wait_for(self, stage: str) -> None:
        """Wait until it is in a stage, or further, or has ended."""
        while STAGES.index(self.stage()) < STAGES.index(stage) and self.is_running():
            time.sleep(_GLANCE)

    def is_running(self) -> bool:
        """Whether it has not ended, by itself or killed."""
        return "State:\tZ" not in Path(f"/proc/{self.pid}/status").read_text()

    def end(self) -> int:
        """Wait for its end: exit code, or minus the signal that killed it."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())


class Forks:
    """Starts runs, one at a time."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def start(self, flags: Sequence[object], log: Path) -> Run:
        """Start make-map with these flags; it writes to `log`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([str(log), *map(str, flags)]) + "\n")
        self._server.stdin.flush()
        return Run(int(self._server.stdout.readline()), log, self._server)


@contextmanager
def forks() -> Iterator[Forks]:
    """Start the process that others are forked from."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    server = subprocess.Popen([sys.executable, __file__], stdin=-1, stdout=-1, text=True, env=env)
    try:
        yield Forks(server)
    finally:
        server.communicate()


def few_words(folder: Path) -> Path:
    """Write a prompt set of three words, which takes a moment to embed."""
    names = {"field": "#ddcc88", "wood": "#226622", "lake": "#2244cc"}
    classes = [
        {"code": code, "name": name, "colour": colour, "prompts": [f"a {name}"]}
        for code, (name, colour) in enumerate(names.items(), start=1)
    ]
    path = folder / "prompts.yaml"
    path.write_text(yaml.safe_dump({"name": "few", "title": "Few words", "templates": [], "classes": classes}))
    return path


def kill_again_and_again(
    flags: Sequence[object],
    folder: Path,
    *,
    kills: int,
    seed: int,
    begun: Path | None = None,
    work: str | None = None,
) -> Counter[str]:
    """Kill runs, go on in the same folder until it is finished, and compare with a run that was left alone.

    The stores of the killed runs lie under `work`, where that is given; those of the other in its own folder.

    In every folder runs are killed in the cube (twice), the labels, the maps and the description, each at a moment
    drawn from as long as the stage took undisturbed; then one is left to finish. Folders follow until there were
    enough kills and some in each of these stages. With `begun`, each folder begins as a copy of that one, which an
    earlier run of other scenes left, and must end with the same files in it as one that was new.

    Returns
    -------
    Kills by the stage that they hit.
    """
    draw = random.Random(seed)
    hit: Counter[str] = Counter()
    with forks() as server:
        alone = folder / "alone"
        seconds = _durations(server.start([*flags, "--out", alone], folder / "alone.log"))
        expected = what_must_be_the_same(alone)
        for number in count():
            out = folder / f"killed-{number}"
            where = ["--out", out] if work is None else ["--out", out, "--work", f"{work}/{out.name}"]
            if begun is not None:
                shutil.copytree(begun, out)
            for attempt, aim in enumerate(_AIMS):
                run = server.start([*flags, *where], folder / f"{out.name}-{attempt}.log")
                run.wait_for(aim)
                time.sleep(draw.random() * seconds[aim])
                os.kill(run.pid, signal.SIGKILL)
                landed, code = run.stage(), run.end()
                assert code in (0, -signal.SIGKILL), run.log.read_text()
                hit[landed] += code != 0
            log = folder / f"{out.name}-finished.log"
            assert server.start([*flags, *where], log).end() == 0, log.read_text()
            assert what_must_be_the_same(out) == expected, f"{out} differs from {alone}"
            assert work or _files_in(out) == _files_in(alone)
            if hit.total() >= kills and set(_AIMS) <= set(hit):
                return hit
            assert number < kills, f"the kills do not hit every stage: {hit}"
    raise AssertionError


def _files_in(out: Path) -> set[Path]:
    return {path.relative_to(out) for path in out.rglob("*")}


def _durations(run: Run) -> dict[str, float]:
    """Seconds of each stage of an undisturbed run."""
    seconds, stage, since = {}, STAGES[0], time.monotonic()
    while run.is_running():
        if (now := run.stage()) != stage:
            seconds[stage], stage, since = time.monotonic() - since, now, time.monotonic()
        time.sleep(_GLANCE)
    seconds[stage] = time.monotonic() - since
    assert run.end() == 0, run.log.read_text()
    return seconds | {stage: 0.0 for stage in STAGES if stage not in seconds}


def what_must_be_the_same(out: Path) -> dict[str, object]:
    """Hashes of all maps and what lies beside them, of every tile, and what the record counts."""
    same: dict[str, object] = {}
    for path in sorted(out.iterdir()):
        if path.name.endswith((".tif", ".aux.xml", ".qml", ".png")):
            same[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    record = json.loads((out / "run.json").read_text())
    same |= {name: record[name] for name in ("maps", "observations", "scenes")}
    db = sqlite3.connect(out / "work" / "ledger.sqlite")
    same["tiles"] = db.execute("SELECT stage, key, state, checksum, counts, bytes FROM tile ORDER BY 1, 2").fetchall()
    db.close()
    return same


def _serve() -> None:
    """Fork a process for each line of standard input; say its id and, when asked, how it ended."""
    from timesenmap.model.torchvision_cpu import ensure_torchvision
    from timesenmap.workflows.make_map_command import main

    ensure_torchvision()
    from transformers import BertModel  # noqa: F401 - what the text tower imports

    gc.freeze()
    for line in sys.stdin:
        log, *flags = json.loads(line)
        pid = os.fork()
        if pid == 0:
            where = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(where, 1)
            os.dup2(where, 2)
            try:
                main(flags)
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))  # without taking down all that was imported, which takes seconds
        print(pid, flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
