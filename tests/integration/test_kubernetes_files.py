"""The shipped Kubernetes files against the official schemas, offline. There is no cluster here: nothing is applied.

Schemas: Kubernetes 1.37 as kubernetes-validate carries them, and the definitions of the Dask operator.
"""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import REPO

pytestmark = pytest.mark.integration

FILES = sorted((REPO / "workflows" / "schedules" / "kubernetes").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Path:
    folder = Path(os.environ.get("TIMESENMAP_KUBERNETES_VALIDATOR", REPO / ".venv-kubernetes-validator")).absolute()
    if not (folder / ".installed").exists():
        pytest.skip(f"no validator installed in {folder}: run tests/integration/install-kubernetes-validator")
    return folder


def validate(validator: Path, *files: Path) -> "subprocess.CompletedProcess[str]":
    script = Path(__file__).with_name("validate_kubernetes.py")
    command = [validator / "bin" / "python", script, validator / "definitions", *files]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def test_every_shipped_resource_is_valid(validator: Path) -> None:
    done = validate(validator, *FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "ConfigMap/make-map: ok",
        "CronJob/make-map: ok",
        "DaskAutoscaler/timesenmap: ok",
        "DaskCluster/timesenmap: ok",
        "DaskWorkerGroup/timesenmap-gpu: ok",
        "PersistentVolumeClaim/maps: ok",
        "Role/make-map: ok",
        "RoleBinding/make-map: ok",
        "ServiceAccount/make-map: ok",
    ]


@pytest.mark.parametrize(
    ("file", "was", "typo"),
    [
        ("cronjob.yaml", "concurrencyPolicy: Forbid", "concurencyPolicy: Forbid"),
        ("cronjob.yaml", "backoffLimit: 2", "backoffLimit: two"),
        ("cronjob.yaml", '  schedule: "0 2 * * *"\n', ""),
        ("cronjob.yaml", "onExitCodes:", "onExitCode:"),
        ("cronjob.yaml", "mountPath: /maps", "path: /maps"),
        ("cronjob.yaml", "apiVersion: batch/v1", "apiVersion: batch/v1beta1"),
        ("volume.yaml", "accessModes: [ReadWriteMany]", "accessModes: ReadWriteMany"),
        ("access.yaml", "verbs: [get, list, watch]", "verbs: get"),
        ("access.yaml", "roleRef:", "role:"),
        ("workers.yaml", "replicas: 1", "replicas: one"),
        ("workers.yaml", "          args: [dask, scheduler", "          arg: [dask, scheduler"),
        ("workers.yaml", "persistentVolumeClaim: {claimName: maps}", "persistentVolumeClaim: {claim: maps}"),
        ("workers.yaml", "  cluster: timesenmap\n  minimum: 1", "  minimum: 1"),
        ("workers.yaml", "  cluster: timesenmap\n  worker:", "  name: timesenmap\n  worker:"),
        ("workers.yaml", "kind: DaskAutoscaler", "kind: DaskAutoScaler"),
    ],
)
def test_a_typo_is_found(validator: Path, tmp_path: Path, file: str, was: str, typo: str) -> None:
    text = (FILES[0].parent / file).read_text()
    assert was in text
    broken = tmp_path / file
    broken.write_text(text.replace(was, typo))
    done = validate(validator, broken)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if not line.endswith(": ok")]) >= 1
