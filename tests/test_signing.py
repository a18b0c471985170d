"""Addresses are signed at the moment they are read: against a token service and a storage on this machine."""

import dataclasses
import datetime as dt
import itertools
import json
import logging
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import rasterio
from affine import Affine
from in_thread import in_thread
from odc.geo.geobox import GeoBox
from scene_fixture import make_scene

from timesenmap.catalogs import BackOff, CatalogError, ServiceError, load_profile
from timesenmap.catalogs import signing as module
from timesenmap.catalogs.signing import SasSigner, unsigned
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.load import load_scenes
from timesenmap.pipeline.read import AssetSource, read_asset

FAST = BackOff(attempts=3, factor=0.01, longest=0.05, timeout=5.0)
GRID = GeoBox((16, 16), Affine(10, 0, 600000, 0, -10, 5600040), "EPSG:32631")
BLOB = "http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/31/U/DS/B04.tif"

NUMBERS = itertools.count()


def tiff() -> bytes:
    with rasterio.MemoryFile() as file:
        with file.open(
            driver="GTiff", width=16, height=16, count=1, dtype="uint16", crs="EPSG:32631", transform=GRID.affine
        ) as raster:
            raster.write(np.arange(1, 257, dtype=np.uint16).reshape(16, 16), 1)
        return bytes(file.read())


class Azure(ThreadingHTTPServer):
    """Token service and blob storage in one: GDAL comes to it as to a proxy, so that addresses stay the real ones.

    Its clock is the test's; a signature is good until the clock passes its expiry or it is revoked.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.now = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
        self.lifetime = 45 * 60.0
        self.given: dict[str, dt.datetime] = {}
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.read: list[str] = []
        self.refusals = 0
        self.statuses: list[int] = []
        self.garbage = False
        self.refusal = ""
        self.content = tiff()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def token(self) -> bytes:
        expiry = self.now + dt.timedelta(seconds=self.lifetime)
        signature = f"SECRET{next(NUMBERS)}"  # never one that GDAL has seen in another test
        self.given[signature] = expiry
        said = expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
        return json.dumps(
            {"msft:expiry": said, "token": f"se={said.replace(':', '%3A')}&sp=rl&sig={signature}"}
        ).encode()


class Answer(BaseHTTPRequestHandler):
    server: Azure

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.server.now.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.hostname is None:
            self.server.asked.append(parts.path)
            self.server.authorizations.append(self.headers.get("Authorization", ""))
            if self.server.refusal:
                return self.answer(403, self.server.refusal.encode())
            status = self.server.statuses.pop(0) if self.server.statuses else 200
            return self.answer(status, b"{}" if self.server.garbage else self.server.token())
        signature = parse_qs(parts.query).get("sig", [""])[0]
        if self.server.given.get(signature, self.server.now) <= self.server.now:
            self.server.refusals += 1
            return self.answer(403, b"<Error><Code>AuthenticationFailed</Code></Error>")
        self.server.read.append(signature)
        return self.answer(200, self.server.content)

    def answer(self, status: int, body: bytes) -> None:
        asked = self.headers.get("Range")
        if status == 200 and asked:
            first, last = asked.removeprefix("bytes=").split("-")
            part = body[int(first) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}")
            body = part
        else:
            self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with in_thread(Azure()) as server:
        started = server.now
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/api/sas/v1/token")
        monkeypatch.setattr(module, "_monotonic", lambda: 1000.0 + (server.now - started).total_seconds())
        monkeypatch.setitem(module.SIGNERS, "planetary-computer", SasSigner(FAST))
        yield server


def read(azure: Azure, name: str = "B04.tif") -> np.ndarray:
    source = AssetSource("S2X", "B04", BLOB.replace("B04.tif", name), "planetary-computer")
    return read_asset(source, GRID, method="nearest", gdal={"GDAL_HTTP_PROXY": azure.url, "GDAL_HTTP_MAX_RETRY": "0"})


def test_an_asset_is_read_with_a_signature_and_a_token_serves_its_container(azure):
    for name in ("a.tif", "b.tif", "c.tif"):
        assert read(azure, name).tolist() == np.arange(1, 257).reshape(16, 16).tolist()
    assert azure.asked == ["/api/sas/v1/token/sentinel2l2a01/sentinel2-l2"]
    assert set(azure.read) == set(azure.given)
    assert azure.refusals == 0


def test_tokens_are_renewed_in_a_run_that_outlives_them(azure):
    """Three hours, an asset a minute, tokens of 45 minutes: nothing is refused on the way."""
    for minute in range(180):
        assert read(azure, f"{minute}.tif")[0, 0] == 1
        azure.now += dt.timedelta(minutes=1)
    assert azure.refusals == 0
    assert len(azure.asked) == 5  # renewed five minutes before they end


def test_short_tokens_are_renewed_too(azure):
    azure.lifetime = 6.0
    for second in range(20):
        assert read(azure, f"{second}.tif")[0, 0] == 1
        azure.now += dt.timedelta(seconds=1)
    assert azure.refusals == 0


def test_a_wrong_clock_of_this_machine_does_not_matter(azure):
    # The server's year is 2026 at noon, this machine's clock is whatever it is: the answer's date is compared.
    azure.now = dt.datetime(1999, 1, 1, tzinfo=dt.UTC)
    assert read(azure, "old.tif")[0, 0] == 1
    assert read(azure, "old2.tif")[0, 0] == 1
    assert len(azure.asked) == 1


def test_a_token_that_is_refused_before_its_time_is_replaced(azure):
    assert read(azure, "a.tif")[0, 0] == 1
    (first,) = azure.given
    azure.given[first] = azure.now - dt.timedelta(days=1)  # PlanetaryComputer issue 463
    assert read(azure, "b.tif")[0, 0] == 1
    assert len(azure.given) == 2
    assert set(azure.read) == set(azure.given)


def test_a_storage_that_refuses_every_token_is_an_error_without_the_token(azure, caplog):
    azure.lifetime = -60.0
    with caplog.at_level(logging.DEBUG), pytest.raises(SceneReadError) as caught:
        read(azure)
    message = str(caught.value)
    for part in ("item S2X", "asset B04", BLOB, "403", "credentials are right and not expired"):
        assert part in message
    assert len(azure.given) == 2  # one more try, not for ever
    assert "SECRET" not in message + caplog.text
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), SceneReadError)


def test_the_token_service_may_be_busy(azure):
    azure.statuses = [429, 503, 500]
    assert read(azure)[0, 0] == 1
    assert len(azure.asked) == 4


@pytest.mark.parametrize(
    ("statuses", "garbage", "error", "says"),
    [
        ([503] * 9, False, ServiceError, "no token to read with"),
        ([404], False, CatalogError, r"status 404.*items are of the Planetary Computer"),
        ([], True, ServiceError, "its answer is no token"),
    ],
)
def test_no_token_to_be_had(azure, statuses, garbage, error, says):
    azure.statuses, azure.garbage = list(statuses), garbage
    with pytest.raises(error, match=says):
        module.SIGNERS["planetary-computer"].sign(BLOB)
    azure.statuses = list(statuses)
    with pytest.raises(SceneReadError, match=r"item S2X, asset B04 .*token"):
        read(azure)


def test_threads_ask_once(azure):
    with ThreadPoolExecutor(16) as pool:
        signed = list(pool.map(module.SIGNERS["planetary-computer"].sign, [BLOB] * 64))
    assert len(set(signed)) == 1
    assert len(azure.asked) == 1


def test_only_storage_addresses_are_signed(azure):
    signer = SasSigner(FAST)
    for href in (
        "https://example.org/B04.tif",
        "https://ai4edatasetspublicassets.blob.core.windows.net/assets/thumbnail.png",
        "s3://bucket/key",
        "/data/B04.tif",
    ):
        assert signer.sign(href) == href
    assert azure.asked == []
    other = BLOB.replace("sentinel2-l2/", "other/") + "?snapshot=1"
    assert signer.sign(other).startswith(other + "&se=")
    assert azure.asked == ["/api/sas/v1/token/sentinel2l2a01/other"]


def test_what_travels_to_workers_holds_no_token(azure):
    read(azure)
    source = AssetSource("S2X", "B04", BLOB, "planetary-computer", (16, 16))
    packed = pickle.dumps(source)
    assert b"SECRET" not in packed
    assert len(packed) < 400
    assert AssetSource.from_address(source.address) == source


@pytest.mark.parametrize("reader", ["stackstac", "odc"])
def test_a_cube_is_read_from_signed_scenes(azure, tmp_path, reader):
    """From the item to the pixels: the graph that travels holds addresses without a token."""
    scene = make_scene(tmp_path, size=16)
    for key, asset in scene.item.assets.items():
        asset.href = BLOB.replace("B04", f"{reader}-{key}")
    signed = dataclasses.replace(scene, signing="planetary-computer")
    settings = {"GDAL_HTTP_PROXY": azure.url, "GDAL_HTTP_MAX_RETRY": "0"}
    dn, scl = load_scenes([signed], GRID, reader=reader, gdal=settings)
    packed = pickle.dumps((dn, scl))
    values = dn.compute().values
    assert values.shape == (1, 10, 16, 16)
    assert (values == np.arange(1, 257).reshape(16, 16)).all()
    assert len(azure.asked) == 1
    assert b"SECRET" not in packed + pickle.dumps((dn, scl))


def test_keys_of_a_storage_are_sent_and_not_told(azure, monkeypatch, caplog):
    """cdse: path-style addresses at the profile's endpoint, signed with the keys of the environment; refused here."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY-OF-SOMEBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET-OF-SOMEBODY")
    azure.refusal = (
        "<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist in our records."
        "</Message><AWSAccessKeyId>KEY-OF-SOMEBODY</AWSAccessKeyId></Error>"
    )
    here = {"AWS_S3_ENDPOINT": azure.url.removeprefix("http://"), "AWS_HTTPS": "NO", "GDAL_HTTP_MAX_RETRY": "0"}
    source = AssetSource("S2X", "B04_10m", "s3://eodata/Sentinel-2/B04.jp2")
    with caplog.at_level(logging.DEBUG), pytest.raises(SceneReadError) as caught:
        read_asset(source, GRID, method="nearest", gdal={**load_profile("cdse").gdal, **here})
    assert azure.asked[0] == "/eodata/Sentinel-2/B04.jp2"
    assert azure.authorizations[0].startswith("AWS4-HMAC-SHA256 Credential=KEY-OF-SOMEBODY/")
    message = str(caught.value)
    for part in ("item S2X", "asset B04_10m", "access was refused", "credentials are right and not expired"):
        assert part in message
    assert "SOMEBODY" not in message + caplog.text


@pytest.mark.parametrize(
    ("href", "bare"),
    [
        (f"{BLOB}?se=2024&sp=rl&sig=S%3D", BLOB),
        ("https://b.s3.amazonaws.com/k.tif?X-Amz-Signature=S&X-Amz-Date=1", "https://b.s3.amazonaws.com/k.tif"),
        ("https://example.org/k.tif?version=2", "https://example.org/k.tif?version=2"),
        ("/data/odd?sig=name.tif", "/data/odd?sig=name.tif"),
        ("s3://bucket/odd?sig=1", "s3://bucket/odd?sig=1"),
    ],
)
def test_signatures_are_taken_off(href, bare):
    assert unsigned(href) == bare


def test_another_file_than_the_item_describes_is_not_read(tmp_path: Path):
    path = tmp_path / "B05.tif"
    path.write_bytes(tiff())
    source = AssetSource("S2X", "rededge1", str(path), shape=(5490, 5490))
    with pytest.raises(SceneReadError, match=r"item S2X, asset rededge1 .*it has 16 x 16 pixels, its item says 5490"):
        read_asset(source, GRID, method="bilinear")
