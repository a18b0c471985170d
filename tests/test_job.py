"""Jobs from files and flags: flags win, unknown fields are refused, the resolved job gives itself again."""

from pathlib import Path

import pytest
import yaml

from timesenmap.pipeline.errors import MapError
from timesenmap.workflows.job import Job, resolve_job

FLAGS: dict[str, object] = {"aoi": "3,50,4,51", "prompts": ("land-cover",), "year": "2024", "out": "out"}


def _file(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_flags_alone() -> None:
    job = resolve_job(FLAGS, None)
    assert (job.year, job.catalog, job.encoder, job.tile_size) == (2024, "earth-search-c1", "starter", 1024)
    assert (job.masker, job.set_aside) == ("scl", None)  # what the masker suggests


def test_saved_items_need_no_catalogue(tmp_path: Path) -> None:
    assert resolve_job(FLAGS | {"items": "items.parquet"}, None).catalog is None
    assert resolve_job(FLAGS | {"items": "items.parquet", "catalog": "cdse"}, None).catalog == "cdse"
    job = resolve_job(FLAGS | {"items": "items.parquet"}, None)
    assert resolve_job({}, _file(tmp_path, job.to_yaml())) == job


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "aoi: fields.geojson\nprompts: [crops]\nyear: 2023\nout: there\nresolution: 20\n")
    job = resolve_job({"out": "here", "prompts": ("land-cover", "crops")}, path)
    assert (str(job.out), job.prompts, job.year, job.resolution) == ("here", ("land-cover", "crops"), 2023, 20)


def test_start_on_the_command_line_replaces_the_files_year(tmp_path: Path) -> None:
    path = _file(tmp_path, "aoi: a.geojson\nprompts: crops\nyear: 2023\nout: there\n")
    job = resolve_job({"start": "2017-12"}, path)
    assert (job.year, job.start) == (None, "2017-12")


def test_the_resolved_job_gives_itself_again(tmp_path: Path) -> None:
    job = resolve_job(FLAGS | {"keep_embeddings": True, "set_aside": "0,1,9"}, None)
    assert resolve_job({}, _file(tmp_path, job.to_yaml())) == job
    assert yaml.safe_load(job.to_yaml())["set_aside"] == [0, 1, 9]


def test_yaml_as_people_write_it(tmp_path: Path) -> None:
    path = _file(tmp_path, "aoi: [3.0, 50.0, 4.0, 51.0]\nprompts: crops\nyear: 2023\nout: there\n")
    job = resolve_job({}, path)
    assert (job.aoi, job.prompts) == ("3.0,50.0,4.0,51.0", ("crops",))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"aoi": None}, "--aoi"),
        ({"year": None}, "either year or start"),
        ({"start": "2024-01"}, "either year or start"),
        ({"year": "next"}, "--year 'next'"),
        ({"year": "1999"}, "--year '1999'"),
        ({"tile_size": "100"}, "--tile-size '100': 100 is not a multiple of 16"),
        ({"tile_size": "2048"}, "2048 is not a multiple of 16 from 16 to 1024"),
        ({"resolution": "-10"}, "--resolution '-10'"),
        ({"unknown_below": "60"}, r"--unknown-below '60': .* give probability, 0 to 1 \(0.6 is 60 % confidence\)"),
        ({"unknown_below": "-0.1"}, "--unknown-below '-0.1'"),
        ({"unknown_below": "nan"}, "--unknown-below 'nan'"),
        ({"unknown_below": "half"}, "--unknown-below 'half'"),
        ({"set_aside": "3,12"}, "12 is not an SCL class"),
        ({"prompts": ()}, "--prompts"),
        ({"out": None}, "--out"),
    ],
)
def test_wrong_values_name_the_flag_and_the_value(flags: dict[str, object], says: str) -> None:
    with pytest.raises(MapError, match=says):
        resolve_job({name: value for name, value in (FLAGS | flags).items() if value is not None}, None)


def test_missing_field_says_what_it_takes() -> None:
    with pytest.raises(MapError, match="--aoi is missing; give area of interest"):
        resolve_job({name: value for name, value in FLAGS.items() if name != "aoi"}, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("aoi: a\ntilesize: 3\n", "unknown field 'tilesize'; the fields are aoi,"),
        ("- a\n- b\n", "holds list, not fields"),
        ("aoi: [3, 4\n", "is not YAML"),
        ("", "holds NoneType"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(MapError, match=says) as error:
        resolve_job({"prompts": ("crops",), "year": 2024, "out": "o"}, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file() -> None:
    with pytest.raises(MapError, match=r"--job nowhere.yaml: cannot be read"):
        resolve_job({}, Path("nowhere.yaml"))


def test_every_field_is_described() -> None:
    assert [name for name, field in Job.model_fields.items() if not field.description] == []
