"""Which masker a run uses is a setting: names, classes it can tell, other packages, the record."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from outputs_fixture import make_run

from timesenmap.catalogs.demonstration import Demonstration, make_demonstration
from timesenmap.pipeline import maskers
from timesenmap.pipeline.cube import open_cube
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.mask_blocks import BlockMasker
from timesenmap.pipeline.maskers import SCENE_CLASSIFICATION, classes_set_aside, in_words, load_masker
from timesenmap.pipeline.record import RunRecord
from timesenmap.pipeline.report import render_report
from timesenmap.workflows import make_map_command as command
from timesenmap.workflows.job import resolve_job


def stand_in(**options) -> BlockMasker:
    options = {"name": "fake", "bands": ("B03", "B11"), "block": 16, "margin": 3, **options}
    about = {"library": "fake 1.2"}
    return BlockMasker(**{"classify": np.zeros, "tells": frozenset({3, 9}), "about": about, **options})


def test_each_masker_suggests_what_to_set_aside():
    assert classes_set_aside(SCENE_CLASSIFICATION, None) == (0, 1, 3, 8, 9, 10)
    assert classes_set_aside(stand_in(), None) == (0, 3, 9)
    assert classes_set_aside(SCENE_CLASSIFICATION, [11, 9]) == (9, 11)
    assert classes_set_aside(stand_in(), (0, 9)) == (0, 9)
    assert classes_set_aside(stand_in(), ()) == ()


@pytest.mark.parametrize(
    ("asked", "named"), [((0, 8, 9), "8 (cloud, medium"), ((7,), "7 (uncl"), ((9, 11), "11 (snow")]
)
def test_classes_that_a_masker_cannot_tell_are_refused(asked, named):
    with pytest.raises(MapError) as raised:
        classes_set_aside(stand_in(), asked)
    assert f"masker fake does not tell {named}" in str(raised.value)
    assert "it tells 0 (no data), 3 (cloud shadow), 9 (cloud, high probability)" in str(raised.value)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(MapError, match="--masker fmask: unknown; known are scl, csmask"):
        load_masker("fmask")
    assert load_masker("scl") is SCENE_CLASSIFICATION


@pytest.mark.parametrize("absent", ["onnxruntime", "ukis_csmask"])
def test_a_missing_extra_is_named_with_its_remedy(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)  # as if it were not installed
    with pytest.raises(MapError, match=r"--masker csmask: .*pip install 'timesenmap\[csmask\]'"):
        maskers.load_block_masker.__wrapped__("csmask")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Another package, which offers maskers."""

    def install(code: str, name: str = "dark") -> None:
        folder = tmp_path / "site"
        meta = folder / "darkmask-0.3.dist-info"
        meta.mkdir(parents=True)
        (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: darkmask\nVersion: 0.3\n")
        (meta / "entry_points.txt").write_text(f"[timesenmap.maskers]\n{name} = darkmask:make\n")
        (folder / "darkmask.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "darkmask", raising=False)
        maskers.load_block_masker.cache_clear()

    yield install
    maskers.load_block_masker.cache_clear()


DARK = """
import numpy as np
from timesenmap.pipeline.mask_blocks import CLEAR, BlockMasker

def classify(reflectance):
    return np.where(reflectance[0] < 0.2, 3, CLEAR).astype(np.uint8)

def make():
    return BlockMasker("dark", ("B08",), classify, frozenset({3}), about={"library": "darkmask 0.3"})
"""


def test_other_packages_offer_maskers_by_entry_points(package):
    package(DARK)
    masker = load_masker("dark")
    assert "dark" in maskers.masker_names()
    assert masker is load_masker("dark")
    assert in_words(masker.identity) == "dark (darkmask 0.3)"


def test_an_entry_point_must_give_a_masker_of_its_name(package):
    package(DARK, name="bright")
    with pytest.raises(MapError, match="--masker bright: darkmask:make gives no BlockMasker of that name"):
        load_masker("bright")


def test_everything_that_decides_is_in_the_identity():
    masker = stand_in()
    for change in (
        {"block": 32},
        {"margin": 2},
        {"metres": 20.0},
        {"bands": ("B02",)},
        {"about": {"library": "fake 2"}},
    ):
        assert dataclasses.replace(masker, **change).identity != masker.identity
    assert SCENE_CLASSIFICATION.identity == {"name": "scl"}


def test_the_report_says_who_told_clouds(tmp_path):
    made = make_run(tmp_path)
    fields = made.record.model_dump(mode="json")
    del fields["masker"]  # as in records of before
    older = RunRecord.model_validate(fields)
    assert "Clouds as told by scl." in render_report(made.out, older)
    other = older.model_copy(update={"masker": stand_in().identity, "set_aside": (0, 3, 9)})
    assert "Clouds as told by fake (fake 1.2)." in render_report(made.out, other)


# From end to end -----------------------------------------------------------------------------------------------


def run(*args: object) -> Result:
    return CliRunner().invoke(command.main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    return make_demonstration(tmp_path_factory.mktemp("place"), size=96)


@pytest.fixture
def flags(place: Demonstration) -> list[object]:
    return ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]


def seen_by(out: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    with rasterio.open(out / "observations.tif") as raster:
        return open_cube(out / "work" / "cube.zarr")["clear"].values, raster.read(1), raster.tags()


def test_a_map_with_another_masker(package, flags, tmp_path):
    package(DARK)
    out = tmp_path / "out"
    done = run(*flags, "--out", out)
    assert done.exit_code == 0, done.output
    clear, months, tags = seen_by(out)
    assert tags["MASKER"] == "scl"

    done = run(*flags, "--out", out, "--masker", "dark", "--tile-size", 48)  # the same folder: the cube is made anew
    assert done.exit_code == 0, done.output
    other_clear, other_months, tags = seen_by(out)
    assert tags["MASKER"] == "dark (darkmask 0.3)"
    assert (other_clear != clear).any()
    assert (other_months != months).any()
    np.testing.assert_array_equal(other_months, np.where(other_months == 255, 255, (other_clear > 0).sum(axis=0)))
    record = json.loads((out / "run.json").read_text())
    assert record["masker"] == load_masker("dark").identity
    assert record["set_aside"] == [0, 3]
    assert record["job"]["masker"] == "dark"
    assert "Clouds as told by dark (darkmask 0.3)" in (out / "index.html").read_text()
    described = [json.loads(path.read_text()) for path in (out / "stac").rglob("*.json")]
    lineages = [made["properties"]["processing:lineage"] for made in described if made["type"] == "Feature"]
    assert len(lineages) == 2
    assert all("classes 0, 3 set aside, as told by dark (darkmask 0.3)" in lineage for lineage in lineages)

    whole = tmp_path / "whole"  # one tile
    assert run("--job", out / "job.yaml", "--tile-size", 1024, "--out", whole).exit_code == 0
    assert (whole / "land-cover.tif").read_bytes() == (out / "land-cover.tif").read_bytes()
    assert (whole / "observations.tif").read_bytes() == (out / "observations.tif").read_bytes()


def test_the_dry_run_says_who_tells_clouds(package, flags, tmp_path):
    package(DARK)
    plain = run(*flags, "--out", tmp_path / "out", "--dry-run").output
    assert "told by scl; set aside 0 (no data), 1 (saturated or defective), 3 (cloud shadow), 8 (cloud" in plain
    dry = run(*flags, "--out", tmp_path / "out", "--dry-run", "--masker", "dark", "--cloud-dilation", 30)
    assert "told by dark (darkmask 0.3); set aside 0 (no data), 3 (cloud shadow); widened by 30 m" in dry.output
    (scenes,) = re.findall(r"^scenes +(\d+) from", dry.output, re.MULTILINE)
    assert f"; {scenes} blocks or more" in dry.output  # the place is smaller than a block


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--masker", "fmask"], "--masker fmask: unknown; known are scl, csmask"),
        (["--masker", "dark", "--set-aside", "0,3,11"], "masker dark does not tell 11 (snow or ice)"),
        (["--masker", "csmask"], "pip install 'timesenmap[csmask]'"),
    ],
)
def test_mistakes_stop_before_anything_is_read(package, monkeypatch, tmp_path, more, says):
    package(DARK)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    maskers.load_block_masker.cache_clear()
    nowhere = [
        "--aoi",
        tmp_path / "no-such.geojson",
        "--year",
        2020,
        "--prompts",
        "land-cover",
        "--out",
        tmp_path / "out",
    ]
    result = run(*nowhere, *more)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not (tmp_path / "out").exists()


def test_the_setting_in_job_files(tmp_path):
    flags = {"aoi": "3,50,3.1,50.1", "prompts": ("land-cover",), "year": 2020, "out": tmp_path / "out"}
    assert resolve_job(flags, None).masker == "scl"
    job = resolve_job(flags | {"masker": "csmask"}, None)
    assert (job.masker, job.set_aside) == ("csmask", None)
    file = tmp_path / "job.yaml"
    file.write_text(job.to_yaml())
    assert resolve_job({}, file) == job
