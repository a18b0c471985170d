"""Servers on 127.0.0.1 for the integration tests: started in a temporary folder, ended by their process ids."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
_PATIENCE = 60.0  # seconds until a server that does not answer is given up; usually one or two


def programs() -> Path:
    """Folder of the programs of the servers' own environment."""
    folder = Path(os.environ.get("TIMESENMAP_SERVERS", REPO / ".venv-servers")).absolute() / "bin"
    if not (folder / "uvicorn").exists():
        pytest.skip(f"no servers installed in {folder}: run tests/integration/install-servers")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@contextmanager
def ended(started: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """End a process, which was started for this, with the block: asked at first, then made to."""
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(20)


@contextmanager
def process(command: Sequence[str | Path], *, log: Path, env: dict[str, str], ready: str) -> Iterator[None]:
    """Run a server until the block ends; it is ready when the address `ready` answers."""
    with log.open("wb") as out:
        server = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out, env=env, cwd=log.parent)
    with ended(server):
        _wait(ready, server, log)
        yield


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{server.args} did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.1)


@contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """A PostgreSQL cluster of its own; yields the environment variables that lead to an empty database in it."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not folders or not list(Path("/usr/share/postgresql").glob("*/extension/postgis.control")):
        pytest.skip("PostgreSQL with PostGIS is not installed (Debian: postgresql-15-postgis-3)")
    binaries = folders[-1]
    # Not pytest's folder: PostgreSQL refuses to run as root, and another user may not look in there.
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(home, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*as_user, str(binaries / program), *arguments], check=False, capture_output=True, text=True, cwd=home
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}{_log(home)}"

    port = free_port()
    data = str(home / "data")
    try:
        run("initdb", "--auth=trust", "--username=stac", "--encoding=UTF8", "--no-sync", data)
        # No fsync: the data live as long as the test. Unix sockets in the same folder, TCP on 127.0.0.1 only.
        options = f"-k {home} -c listen_addresses=127.0.0.1 -p {port} -F"
        run("pg_ctl", "-D", data, "-l", str(home / "log"), "-o", options, "-w", "start")
        try:
            run("createdb", "--host=127.0.0.1", f"--port={port}", "--username=stac", "stac")
            yield {
                "PGHOST": "127.0.0.1",
                "PGPORT": str(port),
                "PGUSER": "stac",
                "PGPASSWORD": "none",
                "PGDATABASE": "stac",
            }
        finally:
            pid = int((home / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGINT)  # "fast shutdown"
            _until_gone(pid)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _log(home: Path) -> str:
    log = home / "log"
    return log.read_text()[-3000:] if log.exists() else ""


def _until_gone(pid: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


@contextmanager
def stac_api(folder: Path, collections: Sequence[str], items: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Serve items by stac-fastapi over pgstac; yields the address of the API's landing page."""
    bin_folder = programs()
    with postgres() as database:
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), **database}
        _load(bin_folder, env, folder, collections, items)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        application = "stac_fastapi.pgstac.app:create_app"
        command = [bin_folder / "uvicorn", application, "--factory", "--host", "127.0.0.1", "--port", str(port)]
        with process(command, log=folder / "stac-api.log", env=env, ready=f"{url}/_mgmt/ping"):
            yield url


def _load(
    bin_folder: Path, env: dict[str, str], folder: Path, collections: Sequence[str], items: Sequence[dict[str, Any]]
) -> None:
    described = [
        {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": name,
            "description": name,
            "license": "other",
            "links": [],
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        }
        for name in collections
    ]
    steps: list[list[str]] = [["migrate"]]
    for table, entries in (("collections", described), ("items", items)):
        file = folder / f"{table}.ndjson"
        file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        steps.append(["load", table, str(file), "--method", "insert"])
    for step in steps:
        done = subprocess.run(
            [bin_folder / "pypgstac", *step], check=False, capture_output=True, text=True, env=env, cwd=folder
        )
        assert done.returncode == 0, f"pypgstac {step}: {done.stdout}{done.stderr}"


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """An empty S3 store that checks signatures; yields host:port."""
    bin_folder = programs()
    port = free_port()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "INITIAL_NO_AUTH_ACTION_COUNT": "6"}
    command = [bin_folder / "moto_server", "-H", "127.0.0.1", "-p", str(port)]
    with process(command, log=folder / "s3.log", env=env, ready=f"http://127.0.0.1:{port}/moto-api/"):
        yield f"127.0.0.1:{port}"
