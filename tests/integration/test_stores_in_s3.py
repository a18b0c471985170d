"""Stores of a run in an S3 server that checks who asks: the same maps, killed or cut off, and refusals by name."""

import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from in_thread import in_thread
from killing import few_words, forks, kill_again_and_again, what_must_be_the_same
from servers import programs, s3_server

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline import open_cube

pytestmark = pytest.mark.integration

# Run with the servers' own Python. Making the first user takes calls that the server allows to anybody; that one makes
# the others and a bucket.
PREPARE = """
import json, sys
import boto3
options = {"endpoint_url": f"http://{sys.argv[1]}", "region_name": "us-east-1"}
own = {"aws_access_key_id": "setup", "aws_secret_access_key": "setup"}
keys = {}
for user, actions in json.loads(sys.argv[2]).items():
    iam = boto3.client("iam", **options, **own)
    iam.create_user(UserName=user)
    allowed = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": actions, "Resource": "*"}}
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(allowed))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    keys[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
    own = dict(zip(own, keys["owner"]))
boto3.client("s3", **options, **own).create_bucket(Bucket="maps")
print(json.dumps(keys))
"""
Server = tuple[str, dict[str, list[str]]]

USERS = {
    "owner": ["s3:*", "iam:*"],
    "reader": ["s3:GetObject", "s3:ListBucket"],
    "keeper": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Address of the server, and the keys of its users."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        command = [programs() / "python", "-c", PREPARE, address, json.dumps(USERS)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        yield address, json.loads(done.stdout)


@pytest.fixture
def owner(store: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment is that of the owner; address of the server."""
    address, keys = store
    use(monkeypatch, address, *keys["owner"])
    return address


def use(monkeypatch: pytest.MonkeyPatch, address: str, key: str, secret: str) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


@pytest.fixture(scope="module")
def flags(place: Demonstration, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    words = few_words(tmp_path_factory.mktemp("words"))
    return [
        "--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", words,
        "--max-cloud-cover", 0, "--tile-size", 48,
    ]  # fmt: skip


def make_map(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("make-map")), *map(str, flags)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def here(flags: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its stores in its own folder."""
    out = tmp_path_factory.mktemp("here") / "out"
    done = make_map(*flags, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_killed_again_and_again_with_its_stores_in_s3(flags: list[object], owner: str, tmp_path: Path) -> None:
    """The bytes of runs killed at random moments are those of a run with its stores on a disk, left alone."""
    hit = kill_again_and_again(flags, tmp_path, kills=12, seed=8, work="s3://maps/killed")
    assert {"cube", "labels", "maps", "description"} <= set(hit)


def test_workers_that_share_nothing_but_the_bucket(flags: list[object], owner: str, here: Path, tmp_path: Path) -> None:
    """Two worker processes write tiles; Python reads the cube where it lies."""
    (tmp_path / "two.yaml").write_text("type: local\nworkers: 2\nthreads: 1\n")
    out = tmp_path / "out"
    done = make_map(*flags, "--out", out, "--work", "s3://maps/two", "--cluster", tmp_path / "two.yaml")
    assert done.returncode == 0, done.stderr
    assert what_must_be_the_same(out) == what_must_be_the_same(here)
    assert open_cube(out)["clear"].equals(open_cube(here)["clear"])


REFUSED = {
    "reader": "writing an object failed: access is refused to these keys (403 Forbidden, AccessDenied); give keys that",
    "keeper": "deleting an object failed: access is refused to these keys (AccessDenied); give keys that may write",
    "wrong secret": "writing an object failed: the secret key is wrong (403 Forbidden, SignatureDoesNotMatch); correct",
    "nobody": "writing an object failed: the service does not know this access key (403 Forbidden, InvalidAccessKeyId)",
    "owner": "writing an object failed: there is no such bucket (404 Not Found, NoSuchBucket); make it, or correct the",
}


@pytest.mark.parametrize("who", REFUSED)
def test_what_is_refused_is_named_before_any_tile(
    who: str, flags: list[object], store: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = "s3://no-such-maps/refused" if who == "owner" else "s3://maps/refused"
    address, keys = store
    secret = "no-secret-of-anybody-0123456789012345678"
    wrong = {"wrong secret": [keys["owner"][0], secret], "nobody": ["AKIANOBODY0000000000", secret]}
    use(monkeypatch, address, *(wrong | keys)[who])
    done = make_map(*flags, "--out", tmp_path / "out", "--work", work)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: --work {work}: {REFUSED[who]}")
    assert not (tmp_path / "out").exists()
    said = done.stdout + done.stderr
    assert os.environ["AWS_ACCESS_KEY_ID"] not in said
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in said


class Way(socketserver.ThreadingTCPServer):
    """The way to a server; while it is `cut`, connections break and none is made."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        host, _, port = address.partition(":")
        self.target = (host, int(port))
        self.cut = threading.Event()
        self.carried = self.broken = 0


class _Connection(socketserver.BaseRequestHandler):
    server: Way

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection(self.server.target) as there:
            back = threading.Thread(target=self._carry, args=(there, self.request), daemon=True)
            back.start()
            self._carry(self.request, there)
            back.join()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        source.settimeout(0.05)
        with suppress(OSError):
            while True:
                if self.server.cut.is_set():
                    self.server.broken += 1
                    break
                with suppress(TimeoutError):
                    content = source.recv(65536)
                    if not content:
                        break
                    target.sendall(content)
                    self.server.carried += len(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_way_that_is_cut_for_a_while_changes_nothing(
    flags: list[object], owner: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut twice for four seconds, in the cube and in the labels; what was being sent is sent again."""
    with in_thread(Way(owner)) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{way.server_address[1]}")
        out, log = tmp_path / "out", tmp_path / "log"
        with forks() as server:
            run = server.start([*flags, "--out", out, "--work", "s3://maps/cut"], log)
            for stage in ("cube", "labels"):
                run.wait_for(stage)
                way.cut.set()
                time.sleep(4)
                way.cut.clear()
            assert run.end() == 0, log.read_text()
        assert way.broken > 0
    assert what_must_be_the_same(out) == what_must_be_the_same(here)
