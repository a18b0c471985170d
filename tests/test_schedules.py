"""Every shipped schedule and job file parses, names what exists, and calls make-map as make-map wants to be called."""

import ast
import importlib.resources
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPO

from timesenmap.pipeline.errors import MapError
from timesenmap.workflows.cluster_spec import ClusterSpec
from timesenmap.workflows.job import Job, resolve_job
from timesenmap.workflows.make_map_command import main

SCHEDULES = Path(str(importlib.resources.files("timesenmap.workflows.schedules")))
JOBS = sorted(Path(str(importlib.resources.files("timesenmap.workflows.jobs"))).glob("*.yaml"))
KUBERNETES = SCHEDULES / "kubernetes"
FILES = (
    "airflow/dag.py", "cron/crontab", "kubernetes/Containerfile", "kubernetes/access.yaml", "kubernetes/cronjob.yaml",
    "kubernetes/volume.yaml", "kubernetes/workers.yaml", "prefect/flow.py", "slurm/make-map.sbatch", "slurm/scrontab",
)  # fmt: skip


def test_they_are_all_installed() -> None:
    """Of a wheel as of a checkout; a file that is not in the list above has no test."""
    found = {
        str(path.relative_to(SCHEDULES))
        for path in SCHEDULES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "__init__.py"
    }
    assert found == set(FILES)
    assert [path.name for path in JOBS] == sorted(path.name for path in (REPO / "workflows" / "jobs").glob("*.yaml"))


@pytest.mark.parametrize("name", FILES)
def test_each_says_what_to_set(name: str) -> None:
    """In a header, before anything else."""
    text = (SCHEDULES / name).read_text()
    header = ast.get_docstring(ast.parse(text)) if name.endswith(".py") else re.match(r"(#.*\n)+", text)[0]
    assert re.search(r"\b[Ss]et\b", header) or "SET" in header, f"{name} does not say what to set"


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_job_files_are_valid(path: Path) -> None:
    job = resolve_job({}, path)
    assert job.cluster == "local"
    written = yaml.safe_load(path.read_text())
    assert set(written) <= set(Job.model_fields)
    broken = {**written, "promps": ["crops"]}
    with pytest.raises(MapError, match="unknown field 'promps'"):
        resolve_job(broken, None)


def resources(*names: str) -> list[dict[str, Any]]:
    return [one for name in names for one in yaml.safe_load_all((KUBERNETES / name).read_text())]


def of_kind(kind: str) -> dict[str, Any]:
    found = [one for one in resources(*(path.name for path in KUBERNETES.glob("*.yaml"))) if one["kind"] == kind]
    assert len(found) == 1
    return found[0]


def pods() -> dict[str, dict[str, Any]]:
    """Pod templates by what they are for."""
    dask = of_kind("DaskCluster")["spec"]
    return {
        "make-map": of_kind("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        "scheduler": dask["scheduler"]["spec"],
        "worker": dask["worker"]["spec"],
        "gpu": of_kind("DaskWorkerGroup")["spec"]["worker"]["spec"],
    }


def test_a_night_on_kubernetes_neither_overlaps_nor_repeats_bad_input() -> None:
    spec = of_kind("CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # or podFailurePolicy is refused
    rule = job["podFailurePolicy"]["rules"][0]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2, 3])
    (container,) = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_pods_mount_what_there_is_where_the_job_writes() -> None:
    claim = of_kind("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for name in ("make-map", "worker", "gpu"):
        pod = pods()[name]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["maps"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert set(mounts) == set(volumes)
        assert mounts["maps"] == "/maps"
    fields = yaml.safe_load(of_kind("ConfigMap")["data"]["job.yaml"])
    assert resolve_job(fields, None).out.is_relative_to("/maps")


def test_all_pods_run_one_image_as_the_user_of_the_recipe() -> None:
    recipe = (KUBERNETES / "Containerfile").read_text()
    user = re.search(r"^USER (\d+):(\d+)$", recipe, flags=re.MULTILINE)
    assert user is not None
    assert f"useradd --uid {user[1]} " in recipe
    tag = re.search(r"-t (\S+) \.", recipe)
    assert {pod["containers"][0]["image"] for pod in pods().values()} == {tag[1]}
    for pod in pods().values():
        context = pod["securityContext"]
        assert context["runAsNonRoot"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (10001, 10001, 10001)
        assert int(user[1]) == 10001


def test_make_map_finds_the_scheduler_and_dask_its_workers() -> None:
    dask = of_kind("DaskCluster")
    name = dask["metadata"]["name"]
    cluster = ClusterSpec.model_validate(yaml.safe_load(of_kind("ConfigMap")["data"]["cluster.yaml"]))
    assert cluster.address == f"tcp://{name}-scheduler:8786"  # the service is called so by the operator
    service = dask["spec"]["scheduler"]["service"]
    assert service["selector"] == {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = {port["name"]: port["containerPort"] for port in pods()["scheduler"]["containers"][0]["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    for kind in ("DaskAutoscaler", "DaskWorkerGroup"):
        assert of_kind(kind)["spec"]["cluster"] == name
    for who in ("worker", "gpu"):
        container = pods()[who]["containers"][0]
        assert "--nthreads 1 " in " ".join(container["args"])
        assert container["resources"]["requests"]["cpu"] == str(cluster.threads)
    gpu = pods()["gpu"]["containers"][0]
    assert "--resources CPU=1" in " ".join(pods()["worker"]["containers"][0]["args"])
    assert "--resources GPU=1" in " ".join(gpu["args"])
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("who", ["scheduler", "worker", "gpu"])
def test_dask_takes_the_arguments_of_its_pods(who: str) -> None:
    from distributed.cli import dask_scheduler, dask_worker

    command, kind, *flags = pods()[who]["containers"][0]["args"]
    assert command == "dask"
    click_command = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[kind]
    click_command.make_context(kind, flags)


def test_access_names_what_it_binds() -> None:
    account, role, binding = resources("access.yaml")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert f"serviceAccountName: {account['metadata']['name']}" in (KUBERNETES / "cronjob.yaml").read_text()


def test_the_recipe_copies_what_there_is() -> None:
    lines = (KUBERNETES / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert {word for word, _ in instructions} <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}
    copied = [part for word, rest in instructions if word == "COPY" for part in rest.split()[:-1]]
    for name in copied:
        assert name.startswith(("--from=", "/opt/")) or (REPO / name).exists(), name
    for room in ("catalogs", "model", "pipeline", "workflows", "pyproject.toml", "constraints.txt", "LICENSE"):
        assert room in copied
    assert instructions[-2][0] == "WORKDIR"
    assert ["USER", "10001:10001"] in instructions


def cron_line(name: str) -> tuple[dict[str, str], str]:
    """Settings and command of the one line of a crontab, taken apart as cron does."""
    lines = [line for line in (SCHEDULES / name).read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    (entry,) = [line for line in lines if not re.match(r"[A-Z_]+=", line)]
    *when, command = entry.split(None, 5)
    for field, (low, high) in zip(when, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7)), strict=True):
        assert field == "*" or low <= int(field) <= high
    assert "%" not in command  # a new line to cron
    return settings, command


def run_from_cron(folder: Path, make_map: Path) -> "subprocess.CompletedProcess[str]":
    """Run the line of the crontab as cron does: by its shell, in the home folder, with next to no environment."""
    settings, command = cron_line("cron/crontab")
    assert set(settings) == {"SHELL", "MAILTO", "MAPS", "MAKE_MAP"}
    settings |= {"MAPS": str(folder), "MAKE_MAP": str(make_map)}
    env = {"HOME": str(folder.parent), "LOGNAME": "maps", "PATH": "/usr/bin:/bin", **settings}
    return subprocess.run(
        [settings["SHELL"], "-c", command], cwd=folder.parent, env=env, check=False, capture_output=True, text=True
    )


def stub(folder: Path, code: int) -> Path:
    """Write a command that says something, writes a summary as asked, and ends with this code."""
    path = folder / "make map"
    path.write_text(
        f"#!/bin/sh\necho log of the run\necho a warning >&2\n"
        f'while [ $# -gt 1 ]; do [ "$1" = --summary ] && echo "the summary" >"$2"; shift; done\nexit {code}\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("code", [0, 1, 2, 3, 143])
def test_cron_mails_failures_and_nothing_else(tmp_path: Path, code: int) -> None:
    maps = tmp_path / "the maps"
    maps.mkdir()
    for _ in range(2):
        done = run_from_cron(maps, stub(tmp_path, code))
    if code in (0, 3):
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    else:
        assert done.returncode == code
        said = f"make-map --job {maps}/job.yaml ended with exit code {code}\nthe summary\n"
        assert (done.stdout, done.stderr) == (said, "")
    assert (maps / "job.log").read_text() == "log of the run\na warning\n" * 2


def test_a_missing_folder_is_mailed(tmp_path: Path) -> None:
    done = run_from_cron(tmp_path / "nowhere", stub(tmp_path, 0))
    assert done.returncode != 0
    assert "nowhere" in done.stderr


def test_the_line_of_cron_runs_make_map_itself(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("aoi: 3,50,4,51\nyear: 2024\nprompts: no-such-set\nout: out\n")
    done = run_from_cron(tmp_path, Path(sys.executable).parent / "make-map")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no-such-set" in done.stdout
    assert not (tmp_path / "out").exists()


def test_scrontab_submits_the_script() -> None:
    _, command = cron_line("slurm/scrontab")
    words = shlex.split(command)
    assert words[0] == "sbatch"
    assert "--dependency=singleton" in words
    assert Path(words[-1]).name == "make-map.sbatch"
    options = re.findall(r"^#SCRON (--[a-z-]+)", (SCHEDULES / "slurm" / "scrontab").read_text(), flags=re.MULTILINE)
    assert set(options) == {"--time", "--mem", "--output", "--open-mode"}


def test_shell_scripts_are_shell() -> None:
    for name in ("slurm/make-map.sbatch",):
        subprocess.run(["bash", "-n", SCHEDULES / name], check=True)


def make_map_calls() -> dict[str, list[str]]:
    """Flags that each file gives to make-map; what stands for a path stays as it is."""
    script = (SCHEDULES / "slurm" / "make-map.sbatch").read_text()
    (line,) = re.findall(r'^"\$BIN/make-map" (.*) &$', script, flags=re.MULTILINE)
    _, cron = cron_line("cron/crontab")
    calls = {
        "slurm": shlex.split(line),
        "cron": re.search(r'"\$MAKE_MAP" (.*?) >>', cron)[1].split(),
        "kubernetes": pods()["make-map"]["containers"][0]["args"],
    }
    for name in ("prefect/flow.py", "airflow/dag.py"):
        for node in ast.walk(ast.parse((SCHEDULES / name).read_text())):
            if isinstance(node, ast.List) and isinstance(node.elts[0], ast.Name) and node.elts[0].id == "MAKE_MAP":
                calls[name] = [part.value if isinstance(part, ast.Constant) else "x" for part in node.elts[1:]]
    return calls


@pytest.mark.parametrize("who", ["slurm", "cron", "kubernetes", "prefect/flow.py", "airflow/dag.py"])
def test_make_map_takes_the_flags_it_is_given(who: str) -> None:
    """A flag that make-map does not know, or that lacks its value, would be refused here."""
    flags = make_map_calls()[who]
    assert {"--job", "--summary"} <= set(flags)
    context = main.make_context("make-map", list(flags))
    assert context.params["job_file"] is not None
    with pytest.raises(Exception, match="No such option"):
        main.make_context("make-map", [*flags, "--sumary", "x"])
