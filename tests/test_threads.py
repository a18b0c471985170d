"""The encoders' pool: one thread inside torch for each, everybody else's setting untouched."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from timesenmap.model.threads import run_batches


def test_every_start_is_done_once_on_one_thread_each() -> None:
    before = torch.get_num_threads()
    seen: dict[int, int] = {}
    run_batches(lambda start: seen.__setitem__(start, torch.get_num_threads()), range(0, 500, 7))
    assert sorted(seen) == list(range(0, 500, 7))
    assert set(seen.values()) == {1}
    assert torch.get_num_threads() == before
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [before]


def test_an_error_in_a_batch_reaches_the_caller_and_the_pool_lives_on() -> None:
    def fail(start: int) -> None:
        if start == 3:
            raise ValueError("batch 3")

    with pytest.raises(ValueError, match="batch 3"):
        run_batches(fail, range(6))
    done: list[int] = []
    run_batches(done.append, range(6))
    assert sorted(done) == list(range(6))


def test_a_forked_child_gets_a_pool_of_its_own(tmp_path: Path) -> None:
    code = """
import os
from timesenmap.model.threads import run_batches
done = []
run_batches(done.append, range(3))
child = os.fork()
if child == 0:
    run_batches(done.append, range(3))
    os._exit(0 if sorted(done) == [0, 0, 1, 1, 2, 2] else 1)
_, status = os.waitpid(child, 0)
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path, env=dict(os.environ))


def test_importing_the_room_does_not_import_torch(tmp_path: Path) -> None:
    # --help, --show-config and --dry-run need names and errors only; torch takes seconds.
    code = "import sys, timesenmap.model; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
