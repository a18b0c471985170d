"""Jobs that run every night, the harder way: killed fifty times while a cube is brought up to date; on a cluster."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from killing import few_words, kill_again_and_again, what_must_be_the_same
from rolling_fixture import rolling_items

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.pipeline.record import RunRecord
from timesenmap.workflows.make_map_command import main

pytestmark = pytest.mark.integration


def ok(*args: object) -> None:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nightly")


@pytest.fixture(scope="module")
def flags(place: Demonstration, folder: Path) -> list[object]:
    words = few_words(folder)
    return ["--aoi", place.aoi, "--catalog", place.catalog, "--prompts", words, "--start", "latest", "--tile-size", 48]


@pytest.fixture(scope="module")
def january(flags: list[object], place: Demonstration, folder: Path) -> Path:
    items = rolling_items(place, folder / "items.json")
    ok(*flags, "--items", items, "--today", f"{place.year + 1}-01-05", "--out", folder / "maps" / "{start}")
    return folder / "maps" / f"{place.year}-01"


def test_fifty_kills_while_months_are_made_again_change_no_byte(
    flags: list[object], place: Demonstration, january: Path, folder: Path, tmp_path: Path
) -> None:
    """With embeddings and another run to take from: more scenes came in for three months."""
    more = dict.fromkeys([f"{place.year}-{month:02d}" for month in (2, 7, 12)], 4)
    items = rolling_items(place, folder / "more.json", more=more)
    same = [*flags, "--items", items, "--today", f"{place.year + 1}-01-05", "--reuse", january, "--keep-embeddings"]
    hit = kill_again_and_again(same, tmp_path, kills=50, seed=50, begun=january)
    assert hit.total() >= 50
    assert hit["cube"] >= 10


def test_workers_in_processes_take_months_over_too(
    flags: list[object], place: Demonstration, january: Path, folder: Path, tmp_path: Path
) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(yaml.safe_dump({"type": "local", "workers": 2, "threads": 1, "memory": "1 GiB"}))
    february = [*flags, "--items", folder / "items.json", "--today", f"{place.year + 1}-02-05"]
    ok(*february, "--out", tmp_path / "alone")
    ok(*february, "--out", january.parent / "{start}", "--cluster", cluster)
    out = january.parent / f"{place.year}-02"
    assert what_must_be_the_same(out) == what_must_be_the_same(tmp_path / "alone")
    months = RunRecord.read(out / "run.json").months
    assert months is not None
    assert months.made == (f"{place.year + 1}-01",)
    assert {(one.source, one.tiles) for one in months.taken} == {(str(january), 4)}
