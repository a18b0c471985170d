"""make-map every night as an Airflow 3 DAG.

Copy this file into the folder of DAGs and set the lines marked SET. It needs Airflow and its standard provider:
make-map is called as a command, and may be installed in an environment of its own.

Exit code 1 (failed) is tried again, and goes on where it was; 2 (bad input) fails at once; 3 (another run of this job
is at work, nothing was done) skips the task. Let a callback or a notifier alert on failed tasks.
"""

from datetime import datetime, timedelta
from pathlib import Path

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import dag, task

# SET: the command, the folder it runs in (paths in the job are relative to it), the job, who does the work, and when.
MAKE_MAP = "/path/to/environment/bin/make-map"
FOLDER = "/path/to/maps"
JOB = "job.yaml"
CLUSTER = "local"
SCHEDULE = "0 2 * * *"
TRY_AGAIN_AFTER = timedelta(minutes=10)  # and after twice as long the next time, three times in all


@dag(dag_id="make-map", schedule=SCHEDULE, start_date=datetime(2024, 1, 1), catchup=False, max_active_runs=1)
def nightly() -> None:
    """Bring the maps of a job up to date."""

    @task(retries=3, retry_delay=TRY_AGAIN_AFTER, retry_exponential_backoff=True)
    def make_map() -> str:
        summary = f"{Path(JOB).with_suffix('')}.summary.json"
        command = [MAKE_MAP, "--job", JOB, "--cluster", CLUSTER, "--summary", summary]
        ended = SubprocessHook().run_command(command, cwd=FOLDER)
        words = f"make-map ended with exit code {ended.exit_code}: {ended.output}"
        if ended.exit_code == 2:
            raise AirflowFailException(words)
        if ended.exit_code == 3:
            raise AirflowSkipException(words)
        if ended.exit_code != 0:
            raise AirflowException(words)
        return words

    make_map()


nightly()
