"""The shipped Prefect flow, run by a real Prefect with a server of its own on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPO
from killing import few_words, what_must_be_the_same
from orchestrators import CALL, calls_of, ends_with, python_of, set_lines

from timesenmap.catalogs.demonstration import Demonstration

pytestmark = pytest.mark.integration

FLOW = REPO / "workflows" / "schedules" / "prefect" / "flow.py"

# Prints how the flow ended, and how often its task was tried.
RUN = """
from prefect.client.orchestration import get_client
from flow import nightly
state = nightly(return_state=True)
with get_client(sync_client=True) as client:
    runs = client.read_task_runs()
print("ENDED", state.type.value, state.name, max(run.run_count for run in runs), state.message)
"""


def run_flow(folder: Path, make_map: Path) -> list[str]:
    """Run the flow once, its lines set as the header says; returns type and name of its state, tries, message."""
    python = python_of("prefect")
    lines = {"MAKE_MAP": f'"{make_map}"', "FOLDER": f'Path("{folder}")', "TRY_AGAIN_AFTER": "[0.1, 0.1, 0.1]"}
    (folder / "flow.py").write_text(set_lines(FLOW.read_text(), lines))
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # of a busy machine
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(
        [python, "-c", RUN], cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=240
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    assert said, done.stdout + done.stderr
    return said[0].split(maxsplit=4)[1:]


def test_the_flow_makes_the_maps_of_a_run_by_hand(place: Demonstration, tmp_path: Path) -> None:
    fields = {
        "aoi": str(place.aoi),
        "catalog": str(place.catalog),
        "year": place.year,
        "prompts": [str(few_words(tmp_path))],
        "max_cloud_cover": 0,
    }
    make_map = Path(sys.executable).parent / "make-map"
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(fields | {"out": "alone"}))
    subprocess.run([make_map, "--job", "alone.yaml"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(fields | {"out": "out"}))
    assert run_flow(tmp_path, make_map)[:3] == ["COMPLETED", "Completed", "1"]
    assert what_must_be_the_same(tmp_path / "out") == what_must_be_the_same(tmp_path / "alone")


@pytest.mark.parametrize(
    ("codes", "state", "tries"),
    [
        ((1, 1, 0), ["COMPLETED", "Completed"], 3),
        ((1, 1, 1, 1), ["FAILED", "Failed"], 4),
        ((2,), ["FAILED", "Failed"], 1),
        ((3,), ["COMPLETED", "Skipped"], 1),
    ],
)
def test_exit_codes_become_states(tmp_path: Path, codes: tuple[int, ...], state: list[str], tries: int) -> None:
    ended = run_flow(tmp_path, ends_with(tmp_path, *codes))
    assert ended[:3] == [*state, str(tries)]
    assert f"make-map ended with exit code {codes[-1]}: the last line" in ended[3]
    assert calls_of(tmp_path) == [CALL] * tries
