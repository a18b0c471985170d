"""A lock that others can look at: held or free, across processes, and never taken by looking."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from timesenmap.pipeline.locks import hold, is_held

HOLDER = (
    "import sys; from timesenmap.pipeline.locks import hold; "
    "file = open(sys.argv[1], 'a'); print(hold(file), flush=True); sys.stdin.read()"
)


@contextmanager
def another_process(path: Path) -> Iterator[tuple["subprocess.Popen[str]", bool]]:
    """Start a process that tries to hold the file until it is told to end; and whether it could."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip() == "True"
        finally:
            process.kill()


def test_held_by_another_process_until_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_process(path) as (process, could):
        assert could
        assert is_held(path)
        with path.open("a") as file:
            assert not hold(file)
        process.kill()
        process.wait()
        assert not is_held(path)
    with path.open("a") as file:
        assert hold(file)


def test_looking_takes_nothing(tmp_path: Path) -> None:
    """However often and long someone looks, with the file open: a process that starts meanwhile gets the lock."""
    path = tmp_path / "lock"
    assert is_held(path) is False
    assert not path.exists()
    path.write_text("old")
    with path.open("rb"):
        for _ in range(100):
            assert is_held(path) is False
        with another_process(path) as (_, could):
            assert could
            for _ in range(100):
                assert is_held(path)
    assert path.read_text() == "old"


def test_held_in_the_same_process_too(tmp_path: Path) -> None:
    """Looking opens and closes the file, which must not let go of what this process holds."""
    path = tmp_path / "lock"
    with path.open("a") as first, path.open("a") as second:
        assert hold(first)
        assert is_held(path)
        assert not hold(second)
        assert is_held(path)
    assert not is_held(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_looked_at_is_not_called_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(mode=0)
    assert is_held(path) is None
