"""An HTTP server of files, with byte ranges, on 127.0.0.1, that can be told to fail; for tests."""

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from in_thread import in_thread

FAULTS = ("500", "503", "429", "reset", "empty", "truncated", "short", "garbage", "wrong total", "stall")
"""What can go wrong with one request: a status; the connection reset before or right after the headers; a body that
breaks off; a body shorter than the range asked for, said to be so; a page instead of the bytes, with the status of a
good answer; a Content-Range whose total is that of another file; a body that stops coming."""

Plan = Callable[[str, int], str | None]


def healthy(path: str, number: int) -> None:
    return None


def sometimes(seed: int, *, failing: float, truncated: float) -> Plan:
    """Let a share of the requests fail and another be cut short; the same ones whatever order threads ask in."""

    def plan(path: str, number: int) -> str | None:
        drawn = np.random.default_rng([seed, number, *path.encode()]).random(2)
        if drawn[0] < truncated:
            return "truncated"
        if drawn[0] < truncated + failing:
            return ("500", "429", "reset", "503")[int(drawn[1] * 4)]
        return None

    return plan


class FlakyServer(ThreadingHTTPServer):
    """Serves a folder; `plan` names the fault of the n-th request for a path, or None; `sent` are bytes of bodies."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, plan: Plan = healthy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.plan = folder, plan
        self.asked: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.sent = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault_of(self, command: str, path: str) -> str | None:
        """Fault of this request; HEAD requests are numbered apart, and have no body that could be broken."""
        with self.lock:
            number = self.asked[f"{command} {path}"]
            self.asked[f"{command} {path}"] += 1
            fault = self.plan(path, number)
            if command == "HEAD" and fault not in ("500", "503", "429", "reset"):
                return None
            if fault:
                self.faults[fault] += 1
        return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up on a fault is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FlakyServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        fault = self.server.fault_of(self.command, path)
        if fault in ("500", "503", "429"):
            self._answer(int(fault), b"busy", {})
            return
        if fault == "reset":
            self._reset()
            return
        file = self.server.folder / path.lstrip("/")
        if not file.is_file():
            self._answer(404, b"no such file", {})
            return
        whole = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first, last = (int(asked[1]), int(asked[2] or len(whole) - 1)) if asked else (0, len(whole) - 1)
        if first >= len(whole):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(whole)}"})
            return
        body = whole[first : last + 1]
        total = len(whole) if fault != "wrong total" else len(whole) // 2 + 1
        fields = {"Accept-Ranges": "bytes"}
        if asked:
            fields["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{total}"
        if fault == "short":
            body = body[: len(body) // 2]
        elif fault == "garbage":
            body = (b"<html>out of order</html>" * (len(body) // 25 + 1))[: len(body)]
        self._answer(206 if asked else 200, body, fields, fault)

    def _answer(self, status: int, body: bytes, fields: dict[str, str], fault: str | None = None) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with self.server.lock:
            self.server.sent += len(body)
        if fault == "empty":
            self._reset()
        elif fault in ("truncated", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                self.server.ended.wait(60)  # until the test is over: the client has to give up
            self.close_connection = True
        else:
            self.wfile.write(body)

    def _reset(self) -> None:
        """Close so that the other side gets RST, as from a proxy that died."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


@contextmanager
def serving(folder: Path, plan: Plan = healthy) -> Iterator[FlakyServer]:
    with in_thread(FlakyServer(folder, plan)) as server:
        try:
            yield server
        finally:
            server.ended.set()
