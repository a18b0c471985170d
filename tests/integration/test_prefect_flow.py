"""The shipped Prefect flow, run by a real Prefect with a server of its own on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPO
from killing import few_words, what_must_be_the_same

from timesenmap.catalogs.demonstration import Demonstration

pytestmark = pytest.mark.integration

FLOW = REPO / "workflows" / "schedules" / "prefect" / "flow.py"

# Prints how the flow ended, and how often its task was tried.
ASK = """
from prefect.client.orchestration import get_client
from flow import nightly
state = nightly(return_state=True)
with get_client(sync_client=True) as client:
    runs = client.read_task_runs()
print("ENDED", state.type.value, state.name, max(run.run_count for run in runs), state.message)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    folder = Path(os.environ.get("TIMESENMAP_PREFECT", REPO / ".venv-prefect")).absolute()
    if not (folder / ".installed").exists():
        pytest.skip(f"no Prefect installed in {folder}: run tests/integration/install-prefect")
    return folder / "bin" / "python"


def run_flow(python: Path, folder: Path, make_map: Path) -> list[str]:
    """Run the flow once, its lines set as the header says; returns type and name of its state, tries, message."""
    text = FLOW.read_text()
    for was, now in (
        ('MAKE_MAP = "/path/to/environment/bin/make-map"', f'MAKE_MAP = "{make_map}"'),
        ('FOLDER = Path("/path/to/maps")', f'FOLDER = Path("{folder}")'),
        ("TRY_AGAIN_AFTER = [600, 3600, 10800]", "TRY_AGAIN_AFTER = [0.1, 0.1, 0.1]"),
    ):
        assert text.count(was) == 1
        text = text.replace(was, now)
    (folder / "flow.py").write_text(text)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(
        [python, "-c", ASK], cwd=folder, env=env, check=False, capture_output=True, text=True, timeout=240
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    assert said, done.stdout + done.stderr
    return said[0].split(maxsplit=4)[1:]


def ends_with(folder: Path, *codes: int) -> Path:
    """Write a command that ends with these exit codes, one call after the other, and says what it was called with."""
    command = folder / "make-map"
    command.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, sys\n"
        "calls = pathlib.Path('calls')\n"
        "number = len(calls.read_text().splitlines()) if calls.exists() else 0\n"
        "print(' '.join(sys.argv[1:]), file=calls.open('a'))\n"
        "print('the last line', file=sys.stderr)\n"
        f"sys.exit({list(codes)}[number])\n"
    )
    command.chmod(0o755)
    return command


def test_the_flow_makes_the_maps_of_a_run_by_hand(python: Path, place: Demonstration, tmp_path: Path) -> None:
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
    assert run_flow(python, tmp_path, make_map)[:3] == ["COMPLETED", "Completed", "1"]
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
def test_exit_codes_become_states(
    python: Path, tmp_path: Path, codes: tuple[int, ...], state: list[str], tries: int
) -> None:
    ended = run_flow(python, tmp_path, ends_with(tmp_path, *codes))
    assert ended[:3] == [*state, str(tries)]
    if codes[-1]:
        assert f"make-map ended with exit code {codes[-1]}: the last line" in ended[3]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["--job job.yaml --cluster local --summary job.summary.json"] * tries
