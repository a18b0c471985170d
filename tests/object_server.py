"""An object storage on 127.0.0.1 that speaks as much S3 as a run needs, counts requests and can be told to fail.

It does not look at signatures: that is done by the server of the integration tests.
"""

import re
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from in_thread import in_thread

Plan = Callable[[str, str, int], int | None]
"""Method, key and number of the request for that key -> status to fail with, or None."""


CUT = 0
"""Status of an answer that begins well and breaks off in the middle."""


class ObjectServer(ThreadingHTTPServer):
    """One bucket called ``bucket``; `objects` are its objects by key, `asked` counts requests by method."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.asked: Counter[str] = Counter()
        self.numbers: Counter[str] = Counter()
        self.failed: Counter[int] = Counter()
        self.plan: Plan = lambda method, key, number: None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ObjectServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        with server.lock:
            server.asked[self.command] += 1
            number = server.numbers[f"{self.command} {key}"]
            server.numbers[f"{self.command} {key}"] += 1
            status = server.plan(self.command, key, number)
            if status == CUT:
                server.failed[CUT] += 1
                self._answer(200, server.objects[key], cut=True)
            elif status is not None:
                server.failed[status] += 1
                self._answer(status, b"<Error><Code>AsPlanned</Code></Error>")
            elif bucket != "bucket":
                self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            else:
                getattr(self, f"_{self.command.lower()}")(key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _answer(self, status: int, body: bytes = b"", *, cut: bool = False, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(body)

    def _get(self, key: str, query: dict[str, str], _: bytes) -> None:
        if "list-type" in query:
            self._list(query)
            return
        content = self.server.objects.get(key)
        if content is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        about = {"ETag": _etag(content), "Last_Modified": "Tue, 01 Jan 2030 00:00:00 GMT"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None or self.command == "HEAD":
            self._answer(200, content, **about)
            return
        first = int(asked[1]) if asked[1] else max(0, len(content) - int(asked[2]))
        last = min(int(asked[2]), len(content) - 1) if asked[1] and asked[2] else len(content) - 1
        about["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        self._answer(206, content[first : last + 1], **about)

    _head = _get

    def _list(self, query: dict[str, str]) -> None:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = [key for key in sorted(self.server.objects) if key.startswith(prefix) and key > after]
        shown, inner = [], set()
        for key in keys[:1000]:
            if query.get("delimiter") and "/" in key[len(prefix) :]:
                inner.add(prefix + key[len(prefix) :].partition("/")[0] + "/")
            else:
                shown.append(key)
        more = len(keys) > 1000
        token = f"<NextContinuationToken>{escape(keys[999])}</NextContinuationToken>" if more else ""
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2030-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>x</ETag><Size>{len(self.server.objects[key])}</Size></Contents>"
            for key in shown
        )
        folders = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(inner))
        inside = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}{folders}"
        self._answer(200, f"<ListBucketResult>{inside}</ListBucketResult>".encode())

    def _put(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploadId" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
        elif self.headers.get("If-None-Match") == "*" and key in self.server.objects:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        else:
            self.server.objects[key] = body
        self._answer(200, ETag=_etag(body))

    def _post(self, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            name = str(len(self.server.uploads))
            self.server.uploads[name] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
        elif "uploadId" in query:
            upload = self.server.uploads.pop(query["uploadId"])
            self.server.objects[key] = b"".join(upload[number] for number in sorted(upload))
            text = "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
        else:
            gone = [one.text or "" for one in ET.fromstring(body).iter() if one.tag.rpartition("}")[2] == "Key"]
            for one in gone:
                self.server.objects.pop(one, None)
            deleted = "".join(f"<Deleted><Key>{escape(one)}</Key></Deleted>" for one in gone)
            text = f"<DeleteResult>{deleted}</DeleteResult>"
        self._answer(200, text.encode())

    def _delete(self, key: str, query: dict[str, str], _: bytes) -> None:
        self.server.objects.pop(key, None)
        self._answer(204)


def _etag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'


@contextmanager
def object_server(environment: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """Serve an empty bucket; the environment leads to it while the block runs."""
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIAANYBODY000000000")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "any-secret-will-do")
    environment.delenv("AWS_PROFILE", raising=False)
    with in_thread(ObjectServer()) as server:
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
