"""Stopped by SIGTERM, as schedulers do: a clean end with its own exit code, and the same bytes when run again."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from killing import few_words, forks, what_must_be_the_same

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.workflows.commands import with_exit_codes


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_sigterm_stops_make_map_which_goes_on_when_run_again(place: Demonstration, tmp_path: Path) -> None:
    flags = [
        "--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", few_words(tmp_path),
        "--max-cloud-cover", 0, "--tile-size", 48,
    ]  # fmt: skip
    with forks() as server:
        assert server.start([*flags, "--out", tmp_path / "alone"], tmp_path / "alone.log").end() == 0
        out, log = tmp_path / "stopped", tmp_path / "stopped.log"
        for stage in ("cube", "labels"):
            run = server.start([*flags, "--out", out], log)
            run.wait_for(stage)
            os.kill(run.pid, signal.SIGTERM)
            os.kill(run.pid, signal.SIGTERM)  # more than one come, and only the first counts
            assert run.end() == 143, log.read_text()
            last = log.read_text().splitlines()[-1]
            assert last == "stopped: what was finished is kept; run the same command again to go on"
        assert not (out / "run.json").exists()
        assert server.start([*flags, "--out", out], log).end() == 0, log.read_text()
    assert what_must_be_the_same(out) == what_must_be_the_same(tmp_path / "alone")


def test_ctrl_c_and_sigterm_have_codes_of_their_own() -> None:
    assert [_code(signal.SIGINT), _code(signal.SIGTERM)] == [130, 143]


def test_sigterm_has_its_old_meaning_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    _code(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def _code(number: int) -> int:
    @with_exit_codes
    def waits() -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    # What runs in the background of a shell without job control begins with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as end:
            waits()
    finally:
        signal.signal(signal.SIGINT, before)
    return int(end.value.code)
