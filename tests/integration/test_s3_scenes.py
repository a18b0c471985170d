"""Scenes in an S3 store that checks who asks, read as CDSE's are: s3:// addresses, keys from the environment."""

import base64
import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio import Affine
from scene_fixture import make_scene
from servers import programs, s3_server

from timesenmap.catalogs.profiles import load_profile
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period

pytestmark = pytest.mark.integration
GRID = GeoBox((48, 48), Affine(10, 0, 600080, 0, -10, 5599960), "EPSG:32631")

# Run with the servers' own Python. Making two users takes the six calls that the server allows to anybody; the first of
# them then makes a bucket and puts the files there.
PREPARE = """
import json, pathlib, sys
import boto3
address, folder, bucket = sys.argv[1:]
options = {"endpoint_url": f"http://{address}", "region_name": "us-east-1"}
iam = boto3.client("iam", **options, aws_access_key_id="setup", aws_secret_access_key="setup")
keys = {}
for user, action in (("reader", "s3:*"), ("stranger", "sqs:*")):
    iam.create_user(UserName=user)
    allowed = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": action, "Resource": "*"}}
    iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(allowed))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    keys[user] = [key["AccessKeyId"], key["SecretAccessKey"]]
reader = dict(zip(("aws_access_key_id", "aws_secret_access_key"), keys["reader"]))
s3 = boto3.client("s3", **options, **reader)
s3.create_bucket(Bucket=bucket)
for path in pathlib.Path(folder).rglob("*.tif"):
    for prefix in ("", "again/", "third/"):
        s3.put_object(Bucket=bucket, Key=prefix + str(path.relative_to(folder)), Body=path.read_bytes())
print(json.dumps(keys))
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("products")
    return folder, [
        make_scene(folder, name=f"S2_{day:02d}", when=f"2020-07-{day:02d}T10:00:00Z", seed=day) for day in (2, 12)
    ]


@pytest.fixture(scope="module")
def store(scenes, tmp_path_factory):
    """GDAL settings of the cdse profile for this store, and the keys of its users."""
    folder, _ = scenes
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        command = [programs() / "python", "-c", PREPARE, address, folder, "eodata"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        gdal = load_profile("cdse").gdal | {"AWS_S3_ENDPOINT": address, "AWS_HTTPS": "NO"}
        yield gdal | {"GDAL_HTTP_RETRY_DELAY": "0.01"}, json.loads(done.stdout)


def in_store(scenes, prefix=""):
    folder, made = scenes
    for scene in made:
        item = scene.item.clone()
        for asset in item.assets.values():
            asset.href = f"s3://eodata/{prefix}{Path(asset.href).relative_to(folder)}"
        yield dataclasses.replace(scene, item=item)


def july(scenes, gdal):
    (tile,) = tiles(GRID, 1024)
    return [block[6] for block in composite_tile(list(scenes), GRID, tile, Period.of(year=2020), gdal=gdal)]


def use(monkeypatch, key: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


def test_scenes_in_the_store_are_those_on_disk(scenes, store, monkeypatch):
    gdal, keys = store
    use(monkeypatch, *keys["reader"])
    for one, other in zip(july(in_store(scenes), gdal), july(scenes[1], None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_keys_of_a_named_profile(scenes, store, monkeypatch, tmp_path):
    gdal, keys = store
    cdse = load_profile("cdse")
    for name in (*cdse.credentials, "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    lines = [
        f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        for name, (key, secret) in (("default", keys["stranger"]), ("cdse", keys["reader"]))
    ]
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("\n".join(lines))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cdse.missing_credentials() == cdse.credentials  # a default profile is not meant for this service
    monkeypatch.setenv("AWS_PROFILE", "cdse")
    assert cdse.missing_credentials() == ()
    for one, other in zip(july(in_store(scenes, "third/"), gdal), july(scenes[1], None), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("who", ["stranger", "nobody", "wrong secret"])
def test_refused_keys_are_not_printed(scenes, store, monkeypatch, who):
    gdal, keys = store
    secret = base64.b64encode(hashlib.sha256(who.encode()).digest()).decode()[:40]
    key, secret = {
        "stranger": keys["stranger"],
        "nobody": ("AKIANOBODY0000000000", secret),
        "wrong secret": (keys["reader"][0], secret),
    }[who]
    use(monkeypatch, key, secret)
    with pytest.raises(SceneReadError, match=r"item S2_\d\d, asset \w+ at s3:") as raised:
        july(in_store(scenes, "again/"), gdal)  # addresses of which GDAL keeps nothing read with the right keys
    assert "access was refused" in str(raised.value)
    assert key not in str(raised.value)
    assert secret not in str(raised.value)


def test_a_missing_object_is_named(scenes, store, monkeypatch):
    gdal, keys = store
    use(monkeypatch, *keys["reader"])
    first, second = in_store(scenes)
    first.item.assets["B8A"].href = "s3://eodata/S2_02/B8B.tif"
    with pytest.raises(SceneReadError, match=r"item S2_02, asset B8A at s3://eodata/S2_02/B8B.tif: cannot be read"):
        july([first, second], gdal)
