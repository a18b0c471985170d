"""The catalogue of a run before stac-validator, with the official schemas as they were recorded from their server.

The schemas of STAC itself come with pystac, those of the extensions classification 2.0.0, file 2.1.0, processing 1.1.0
and projection 2.0.0 with the source packages of pystac's extensions (install-stac-validator). No package holds that of
raster 2.0.0: it alone is not checked here.
"""

import copy
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pystac
import pytest
import yaml
from outputs_fixture import HOSTILE, make_run

from timesenmap.pipeline.describe import describe_run

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("TIMESENMAP_STAC_VALIDATOR", ROOT / ".venv-stac-validator")).absolute()
EXTENSIONS = "https://stac-extensions.github.io"
PROJJSON = "https://proj.org/schemas"
NOT_TO_BE_HAD = f"{EXTENSIONS}/raster/v2.0.0/schema.json"


def recorded_schemas() -> dict[str, str]:
    """Schema by address, from what the server answered in the recorded tests."""
    schemas: dict[str, str] = {}
    for package in sorted((FOLDER / "recorded").glob("*.tar.gz")):
        with tarfile.open(package) as archive:
            for member in archive.getmembers():
                if "/cassettes/" not in member.name or not member.isfile():
                    continue
                for exchange in yaml.safe_load(archive.extractfile(member))["interactions"]:
                    address = exchange["request"]["uri"]
                    known = address.startswith((EXTENSIONS, PROJJSON))
                    if known and exchange["response"]["status"]["code"] == 200:
                        schemas.setdefault(address, exchange["response"]["body"]["string"])
    return schemas


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """File with the place of every schema on this machine: what is not in it would be asked of the network."""
    if not (FOLDER / ".installed").exists():
        pytest.skip(f"no validator in {FOLDER}: run tests/integration/install-stac-validator")
    folder = tmp_path_factory.mktemp("schemas")
    places = {}
    for i, (address, text) in enumerate(sorted(recorded_schemas().items())):
        assert json.loads(text)["$id"].rstrip("#") == address, address
        (folder / f"{i}.json").write_text(text)
        places[address] = str(folder / f"{i}.json")
    own = Path(pystac.validation.__file__).parent / "jsonschemas"
    for path in [*(own / "stac-spec" / "v1.1.0").iterdir(), *(own / "geojson").iterdir()]:
        # Each says its folder; references between them are relative to it (the file name in one is misspelt).
        address = json.loads(path.read_text())["$id"].rpartition("/")[0]
        places[f"{address}/{path.name}"] = str(path)
    (folder / "places.json").write_text(json.dumps(places))
    return folder / "places.json"


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    made = make_run(
        tmp_path_factory.mktemp("run") / "out", height=120, width=150, odd_name=HOSTILE, unknown_below=0.6, margin=True
    )
    (made.out / "work").mkdir()
    (made.out / "work" / "items.parquet").write_bytes(b"PAR1")  # the catalogue leads to it
    describe_run(made.out, made.record)
    made.record.write(made.out / "run.json")
    paths = [made.out / "catalog.json", *sorted((made.out / "stac").rglob("*.json"))]
    return {path.stem: json.loads(path.read_text()) for path in paths}


def verdict(document, schemas, tmp_path):
    """What stac-validator says of a document and its extensions, but for the one that cannot be had."""
    checked = copy.deepcopy(document)
    if NOT_TO_BE_HAD in checked.get("stac_extensions", []):
        checked["stac_extensions"].remove(NOT_TO_BE_HAD)
    (tmp_path / "document.json").write_text(json.dumps(checked))
    done = subprocess.run(
        [FOLDER / "bin" / "stac-valid", "validate", "--schema-config", schemas, tmp_path / "document.json"],
        check=False,
        capture_output=True,
        text=True,
        # Nobody listens there: a schema that is not on this machine fails the test at once.
        env=os.environ | {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
    )
    # The verdict stands between its greetings.
    (said,) = json.loads(done.stdout[done.stdout.index("[") : done.stdout.rindex("]") + 1])
    assert said["valid_stac"] is (done.returncode == 0), done.stderr
    return said


def test_every_document_is_valid_with_its_extensions(documents, schemas, tmp_path):
    assert set(documents) == {"catalog", "collection", "land-cover", "crops", "observations"}
    for name, document in documents.items():
        said = verdict(document, schemas, tmp_path)
        assert said["valid_stac"], (name, said)
    used = {extension for document in documents.values() for extension in document.get("stac_extensions", [])}
    assert used == {
        NOT_TO_BE_HAD,
        f"{EXTENSIONS}/classification/v2.0.0/schema.json",
        f"{EXTENSIONS}/file/v2.1.0/schema.json",
        f"{EXTENSIONS}/processing/v1.1.0/schema.json",
        f"{EXTENSIONS}/projection/v2.0.0/schema.json",
    }


def _without_value(item):
    del item["assets"]["classes"]["classification:classes"][1]["value"]


@pytest.mark.parametrize(
    ("extension", "spoil"),
    [
        ("core", lambda item: item["properties"].pop("datetime")),
        ("classification", _without_value),
        ("file", lambda item: item["assets"]["classes"].update({"file:size": "large"})),
        ("processing", lambda item: item["properties"].update({"processing:lineage": 7})),
        ("projection", lambda item: item["assets"]["classes"].update({"proj:shape": [1]})),
    ],
)
def test_every_schema_refuses_what_it_should(documents, schemas, tmp_path, extension, spoil):
    item = copy.deepcopy(documents["land-cover"])
    spoil(item)
    said = verdict(item, schemas, tmp_path)
    assert not said["valid_stac"]
    assert said["error_type"] == "JSONSchemaValidationError", (extension, said)
