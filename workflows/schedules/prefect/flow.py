"""make-map every night as a Prefect 3 flow.

Copy this file, set the lines marked SET, then `python flow.py` serves the schedule until it is stopped: it needs a
Prefect server that PREFECT_API_URL names (`prefect server start`), without which nothing is scheduled. `python flow.py
now` runs the flow once, with or without. make-map is called as a command, and may be installed in an environment of
its own.

Exit code 1 (failed) is tried again, and goes on where it was; 2 (bad input) fails at once; 3 (another run of this job
is at work, nothing was done) ends the flow as "Skipped". Let an automation alert on failed flows: the message of the
state has make-map's last line.
"""

import subprocess
import sys
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.states import Completed, State

# SET: the command, the folder it runs in (paths in the job are relative to it), the job, who does the work, and when.
MAKE_MAP = "/path/to/environment/bin/make-map"
FOLDER = Path("/path/to/maps")
JOB = "job.yaml"
CLUSTER = "local"
SCHEDULE = "0 2 * * *"
TRY_AGAIN_AFTER = [600, 3600, 10800]  # seconds


class FailedError(RuntimeError):
    """make-map failed, and may do better when it is run again."""


class BadInputError(RuntimeError):
    """make-map was asked for what cannot be done; running it again does not help."""


def failed(_task: object, _run: object, state: State) -> bool:
    """Whether to try again."""
    return isinstance(state.result(raise_on_failure=False), FailedError)


@task(retries=len(TRY_AGAIN_AFTER), retry_delay_seconds=TRY_AGAIN_AFTER, retry_condition_fn=failed)
def make_map(job: str) -> tuple[int, str]:
    """Run make-map; returns its exit code and how it ended in words."""
    log = get_run_logger()
    command = [MAKE_MAP, "--job", job, "--cluster", CLUSTER, "--summary", f"{Path(job).with_suffix('')}.summary.json"]
    line = ""
    with subprocess.Popen(command, cwd=FOLDER, stdout=-1, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout:
            log.info(line.rstrip())
    code = running.returncode
    words = f"make-map ended with exit code {code}: {line.strip()}"
    if code in (0, 3):
        return code, words
    raise BadInputError(words) if code == 2 else FailedError(words)


@flow(name="make-map")
def nightly(job: str = JOB) -> State:
    """Bring the maps of a job up to date."""
    code, words = make_map(job)
    return Completed(name="Skipped" if code == 3 else "Completed", message=words)


if __name__ == "__main__":
    if sys.argv[1:] == ["now"]:
        nightly()
    else:
        nightly.serve(name="nightly", cron=SCHEDULE, limit=1)
