"""What is said about progress, on a terminal and in a log."""

import logging

import pytest

from timesenmap.workflows import progress
from timesenmap.workflows.progress import Stages


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("timesenmap"), "propagate", True)
    caplog.set_level(logging.INFO, logger="timesenmap")
    return caplog


def test_log_says_rate_and_time_left(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    with Stages(bars=False).stage("cube", 1000, "px") as advance:
        clock.now += 40
        advance(400)
        clock.now += 60
        advance(600)
    assert said.messages == ["cube: 40 % (10 px/s, 60 s left)", "cube: done, 1 kpx in 100.0 s"]


def test_what_an_earlier_run_did_makes_nothing_look_fast(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    with Stages(bars=False).stage("cube", 1000, "px") as advance:
        advance(900, before=True)
        clock.now += 50
        advance(50)
        clock.now += 50
        advance(50)
    assert said.messages[0] == "cube: 95 % (1 px/s, 50 s left)"


def test_quick_stages_say_one_line(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    with Stages(bars=False).stage("maps", 5, "file") as advance:
        for _ in range(5):
            clock.now += 0.1
            advance(1)
    assert said.messages == ["maps: done, 5 file in 0.5 s"]


def test_a_stage_that_lacks_tiles_is_not_called_done(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    with Stages(bars=False).stage("cube", 1000, "px") as advance:
        advance(900)
    assert said.messages == ["cube: not all done, 900 px in 0.0 s"]


def test_failed_tiles_are_counted_and_not_waited_for(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    """Of 1000 pixels 400 are done in 40 s, 200 failed, 400 are left: 40 s."""
    stages = Stages(bars=False)
    with stages.stage("cube", 1000, "px") as advance:
        clock.now += 40
        stages.failed(100)
        stages.failed(100)
        advance(400)
        clock.now += 40
        advance(400)
    with stages.stage("labels", 1000, "px") as advance:
        advance(1000)
    assert said.messages == [
        "cube: 40 % (10 px/s, 40 s left, 2 failed)",
        "cube: 80 % (10 px/s, 0 s left, 2 failed)",
        "cube: not all done, 800 px in 80.0 s, 2 failed",
        "labels: done, 1 kpx in 0.0 s",
    ]


def test_seconds_are_remembered_also_when_a_stage_fails(clock: Clock) -> None:
    stages = Stages(bars=False)

    def fail() -> None:
        with stages.stage("cube", 10, "px"):
            clock.now += 7
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert stages.seconds == {"cube": 7.0}


def test_bars_on_a_terminal(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Stages(bars=True).stage("labels", 1000, "px") as advance:
        clock.now += 2
        advance(1000)
    shown = capsys.readouterr().err
    assert "labels" in shown
    assert "100%" in shown
    assert "500 px/s, 0 s left" in shown


def test_bars_count_failed_tiles(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    stages = Stages(bars=True)
    with stages.stage("cube", 1000, "px") as advance:
        clock.now += 2
        advance(500)
        stages.failed(500)
    assert "250 px/s, 0 s left, 1 failed" in capsys.readouterr().err
