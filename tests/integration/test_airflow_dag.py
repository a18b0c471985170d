"""The shipped Airflow DAG, run by a real Airflow with a database of its own on this machine."""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import REPO
from orchestrators import CALL, calls_of, ends_with, python_of, set_lines

pytestmark = pytest.mark.integration

DAG = REPO / "workflows" / "schedules" / "airflow" / "dag.py"

# Runs the DAG once; prints the states of the run and of its task, and how often that was tried.
RUN = """
import sys
sys.path.insert(0, "dags")
from dag import nightly
run = nightly().test()
(task,) = run.get_task_instances()
print("ENDED", run.state.value, task.state.value if hasattr(task.state, "value") else task.state, task.try_number)
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Python of Airflow, and the environment in which it finds its database and the folder of DAGs."""
    python = python_of("airflow")
    home = tmp_path_factory.mktemp("airflow")
    env = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
    }
    (home / "dags").mkdir()
    done = subprocess.run(
        [python.parent / "airflow", "db", "migrate"], env=env, check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return python, env


@pytest.mark.parametrize(
    ("codes", "states", "tries"),
    [
        ((1, 0), ["success", "success"], 2),
        ((1, 1, 1, 1), ["failed", "failed"], 4),
        ((2,), ["failed", "failed"], 1),
        ((3,), ["success", "skipped"], 1),
    ],
)
def test_exit_codes_become_states(airflow, tmp_path: Path, codes, states, tries) -> None:
    python, env = airflow
    lines = {
        "MAKE_MAP": f'"{ends_with(tmp_path, *codes)}"',
        "FOLDER": f'"{tmp_path}"',
        "TRY_AGAIN_AFTER": "timedelta(seconds=0.1)",
    }
    (Path(env["AIRFLOW_HOME"]) / "dags" / "dag.py").write_text(set_lines(DAG.read_text(), lines))
    done = subprocess.run(
        [python, "-c", RUN], cwd=env["AIRFLOW_HOME"], env=env, check=False, capture_output=True, text=True, timeout=240
    )
    said = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("ENDED ")]
    assert said == [[*states, str(tries)]], done.stdout[-3000:] + done.stderr[-3000:]
    assert calls_of(tmp_path) == [CALL] * tries
    assert f"make-map ended with exit code {codes[-1]}: the last line" in done.stdout + done.stderr or codes[-1] == 0
