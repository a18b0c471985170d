"""What the tests of the Prefect flow and of the Airflow DAG share: their environments, and a command that fails."""

import os
import sys
from pathlib import Path

import pytest
from conftest import REPO

CALL = "--job job.yaml --cluster local --summary job.summary.json"


def python_of(name: str) -> Path:
    """Python of the environment of Prefect or Airflow."""
    folder = Path(os.environ.get(f"TIMESENMAP_{name.upper()}", REPO / f".venv-{name}")).absolute()
    if not (folder / ".installed").exists():
        pytest.skip(f"no {name} installed in {folder}: run tests/integration/install-orchestrators")
    return folder / "bin" / "python"


def set_lines(text: str, lines: dict[str, str]) -> str:
    """Set the lines marked SET of a file, as its header says: name to what stands behind it."""
    for name, value in lines.items():
        (was,) = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
        text = text.replace(was, f"{name} = {value}")
    return text


def ends_with(folder: Path, *codes: int) -> Path:
    """Write a command that ends with these exit codes, one call after the other, and notes what it was called with."""
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


def calls_of(folder: Path) -> list[str]:
    """What the command was called with, so far."""
    return (folder / "calls").read_text().splitlines()
