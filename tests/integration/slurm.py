"""A SLURM cluster of one node, this machine: started in a temporary folder, ended by its process ids.

Without systemd, cgroups and a database: munged with a key of its own, slurmctld and slurmd with a configuration of
their own, on free ports. `scontrol show job` is the record of a job while the cluster lives.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import ended, free_port

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
_PATIENCE = 60.0  # seconds until a daemon that does not answer is given up; usually two

# As small as it gets. Requeued jobs wait for cred_expire, so that their old credentials are void.
_CONFIGURATION = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={home}/munge.socket,cred_expire=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=20
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 State=UNKNOWN
PartitionName=trial Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES:4
"""


@dataclass(frozen=True)
class Slurm:
    """A running cluster: the environment in which its commands find it."""

    env: dict[str, str]
    home: Path

    def command(self, *arguments: str | Path) -> str:
        """Run one of SLURM's commands; returns what it prints."""
        done = subprocess.run(
            [str(part) for part in arguments], check=False, capture_output=True, text=True, env=self.env, timeout=60
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: Path, *options: str) -> str:
        """Submit a batch script; returns the id of the job."""
        return self.command("sbatch", "--parsable", *options, script).strip()

    def job(self, number: str) -> dict[str, str]:
        """What is on record of a job: JobState, ExitCode ("code:signal"), Restarts, ..."""
        return _fields(self.command("scontrol", "--oneliner", "show", "job", number))

    def jobs(self) -> list[dict[str, str]]:
        """What is on record of all jobs."""
        return [_fields(line) for line in self.command("scontrol", "--oneliner", "show", "job").splitlines()]

    def wait(self, number: str, *, states: tuple[str, ...] = (), seconds: float = 300) -> dict[str, str]:
        """Wait until a job is in one of the states, by default until it has ended; returns its record."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY")
        deadline = time.monotonic() + seconds
        while True:
            job = self.job(number)
            if job["JobState"] in (states or ended):
                return job
            assert time.monotonic() < deadline, f"job {number} is still {job}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """Return the last lines of the daemons' logs."""
        return "".join(f"{path.name}:\n{path.read_text()[-2000:]}\n" for path in sorted(self.home.glob("*.log")))


def _fields(line: str) -> dict[str, str]:
    return dict(field.split("=", 1) for field in line.split() if "=" in field)


@contextmanager
def slurm(*, cpus: int = 4) -> Iterator[Slurm]:
    """Start the cluster; jobs that are left when the block ends are cancelled.

    `cpus` are what SLURM shares out; they need not be as many as the machine has.
    """
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"SLURM is not installed: no {', '.join(missing)} (Debian: slurm-wlm, munge)")
    if os.getuid() != 0:
        pytest.skip("slurmd starts jobs for users, so that it must be root")
    home = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, because a socket's path may not be longer than 107 bytes
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (home / name).mkdir(mode=0o755)
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    configuration = home / "slurm.conf"
    ports = {"controller_port": free_port(), "node_port": free_port()}
    configuration.write_text(_CONFIGURATION.format(home=home, host=host, cpus=cpus, **ports))
    cluster = Slurm(os.environ | {"SLURM_CONF": str(configuration), "PATH": path}, home)
    munged = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={home}/munge.socket",
        f"--pid-file={home}/munged.pid", f"--seed-file={home}/munge.seed", f"--log-file={home}/munged.log",
    ]  # fmt: skip
    try:
        with ExitStack() as daemons:
            daemons.enter_context(_daemon(cluster, munged))
            _until((home / "munge.socket").exists, cluster, "munged")
            daemons.enter_context(_daemon(cluster, ["slurmctld", "-D", "-c", "-f", str(configuration)]))
            daemons.enter_context(_daemon(cluster, ["slurmd", "-D", "-c", "-N", host, "-f", str(configuration)]))
            _until(lambda: _state(cluster) == "idle", cluster, "the node")
            try:
                yield cluster
            finally:
                _cancel_all(cluster)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _daemon(cluster: Slurm, command: list[str]) -> Iterator[None]:
    with (cluster.home / f"{command[0]}.out").open("wb") as out:
        daemon = subprocess.Popen(command, stdout=out, stderr=out, env=cluster.env, cwd=cluster.home)
    with ended(daemon):
        yield


def _state(cluster: Slurm) -> str:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%t"], check=False, capture_output=True, text=True, env=cluster.env, timeout=60
    )
    return done.stdout.strip()


def _until(ready, cluster: Slurm, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not come up:\n{cluster.logs()}{_outputs(cluster)}"
        time.sleep(0.1)


def _outputs(cluster: Slurm) -> str:
    return "".join(f"{path.name}: {path.read_text()[-1000:]}\n" for path in sorted(cluster.home.glob("*.out")))


def _cancel_all(cluster: Slurm) -> None:
    """End what still runs, and wait for it: a job left behind would outlive its cluster."""
    cluster.command("scancel", "--user=root")
    deadline = time.monotonic() + _PATIENCE
    while cluster.command("squeue", "--noheader") and time.monotonic() < deadline:
        time.sleep(0.2)
