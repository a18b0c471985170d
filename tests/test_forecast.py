"""What a plan takes, against arithmetic done by hand and the figures of docs/scale.md."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from click.testing import CliRunner

from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.model import EncoderConfig, new_encoder
from timesenmap.model.config import SIZES
from timesenmap.workflows import forecast as module
from timesenmap.workflows.cluster_spec import ClusterSpec
from timesenmap.workflows.forecast import Rates, Spread, Takes, flop_of_a_pixel, reckon, spread_of, timed
from timesenmap.workflows.job import Job
from timesenmap.workflows.make_map import prepare
from timesenmap.workflows.make_map_command import main
from timesenmap.workflows.plan import Plan
from timesenmap.workflows.progress import Stages


@pytest.fixture(scope="module")
def plan(place: Demonstration, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    job = Job(
        aoi=str(place.aoi),
        catalog=str(place.catalog),
        year=place.year,
        prompts=("land-cover",),
        tile_size=48,
        out=tmp_path_factory.mktemp("plan") / "out",
    )
    return prepare(job, Stages(bars=False))


def without(plan: Plan, month: int) -> Plan:
    scenes = tuple(scene for scene in plan.search.scenes if scene.datetime.month != month)
    assert 0 < len(scenes) < len(plan.search.scenes)
    return dataclasses.replace(plan, search=dataclasses.replace(plan.search, scenes=scenes))


def test_operations_are_those_of_the_design() -> None:
    """ "0.207 GFLOP a pixel", paper size, twelve months; less where months are missing."""
    paper = EncoderConfig(name="paper", **SIZES["paper"])
    assert flop_of_a_pixel(paper, 12) == pytest.approx(0.207e9, rel=0.02)
    assert flop_of_a_pixel(paper, 6) / flop_of_a_pixel(paper, 12) == pytest.approx(7 / 13)


def test_bytes_files_and_seconds_by_hand(plan: Plan) -> None:
    """11.25 bytes for each pixel of 10 m that a scene covers, by counting points of the area; files by their share."""
    takes = reckon(plan, Rates(encoder=1000.0), gpus=0)
    pixels, scenes = plan.pixels, len(plan.search.scenes)
    west, south, east, north = plan.aoi.geometry.bounds
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(west, east, 300), np.linspace(south, north, 300)))
    inside = shapely.contains_xy(plan.aoi.geometry, x, y)
    covered = sum(shapely.contains_xy(scene.footprint, x[inside], y[inside]).mean() for scene in plan.search.scenes)
    assert 0.5 * scenes < covered < scenes  # some passes end within the area
    read = pixels * covered * 11.25
    assert takes.read == pytest.approx(read, rel=0.01)
    assert takes.store == pixels * 252
    assert takes.files == scenes * 11 * 4
    assert takes.wait_seconds == 0.0
    assert takes.core_seconds == {
        "starting": 10.0,
        "reading and compositing": pytest.approx(read / 40e6 + covered * 11 * 4 * 0.003, rel=0.01),
        "encoding": pixels / 1000,
    }
    assert takes.core_hours == pytest.approx(sum(takes.core_seconds.values()) / 3600)


def test_gpu_workers_are_reckoned_where_this_machine_has_none(plan: Plan) -> None:
    takes = reckon(without(plan, 4), Rates(encoder=1000.0), gpus=2)
    assert "encoding" not in takes.core_seconds
    assert takes.gpu_seconds == pytest.approx(plan.pixels * flop_of_a_pixel(plan.config, 11) / 100e12)


def test_a_gpu_here_was_timed(plan: Plan) -> None:
    on_gpu = dataclasses.replace(plan, encoder=dataclasses.replace(plan.encoder, device="cuda"))
    takes = reckon(on_gpu, Rates(encoder=50.0), gpus=1)
    assert takes.gpu_seconds == plan.pixels / 50
    assert "encoding" not in takes.core_seconds


def test_time_spreads_over_cores_but_the_start_does_not() -> None:
    takes = Takes(0, 0, 0, {"starting": 10.0, "encoding": 800.0}, gpu_seconds=60.0, wait_seconds=3200.0)
    assert takes.seconds(Spread(8, 2, 3, "")) == pytest.approx(10 + 800 / 8 + 60 / 3 + 3200 / (2 * 16))
    assert takes.seconds(Spread(None, 1, 0, "")) is None


def test_what_a_cluster_spreads_over() -> None:
    slurm = ClusterSpec(type="slurm", workers={"minimum": 2, "maximum": 10}, threads=4, memory="8 GiB")
    assert spread_of(slurm, device="cpu") == Spread(40, 10, 0, "10 workers of 4 threads")
    assert spread_of(slurm.model_copy(update={"gpu": True}), device="cpu").gpus == 10
    assert spread_of(ClusterSpec(type="scheduler", address="tcp://h:1"), device="cpu").cores is None
    assert spread_of(ClusterSpec(type="local"), device="cuda").gpus == 1


def test_the_encoder_is_timed_without_the_months_that_have_no_scene(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, asked = new_encoder("small"), []

    class Spy:
        def embed(self, series: np.ndarray) -> np.ndarray:
            asked.append(np.isnan(series))
            return encoder.embed(series)

    monkeypatch.setattr(module, "encoder_of", lambda ref: Spy())
    rate = timed(without(plan, 4)).encoder
    missing = asked[-1]
    assert missing.shape == (2048, 12, 10)
    assert missing[:, 3].all()
    assert not np.delete(missing, 3, axis=1).any()
    assert rate > 0


def rows(plan_flags: list[object]) -> dict[str, str]:
    result = CliRunner().invoke(main, [*map(str, plan_flags), "--dry-run"])
    assert result.exit_code == 0, result.output
    return {line[:24].strip(): line[24:] for line in result.stdout.splitlines()}


def test_prices_and_hours_in_the_dry_run(place: Demonstration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "timed", lambda plan: Rates(encoder=plan.pixels / 3_600_000))  # a thousand core hours
    flags = ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "crops"]
    flags += ["--out", tmp_path / "out"]
    said = rows(flags)
    assert said["work"].startswith("1,000 core hours: encoding 100%, ")
    assert said["cost"].startswith("about 45.00 at 0.045 a core hour (USD, an assumption: ")
    said = rows([*flags, "--core-hour-price", 0.1])
    assert said["cost"] == "about 100.00 at 0.1 a core hour (in the money you gave it in)"
    (tmp_path / "slurm.yaml").write_text("{type: slurm, workers: 50, threads: 10, memory: 8 GiB, gpu: false}")
    said = rows([*flags, "--cluster", tmp_path / "slurm.yaml"])
    assert re.match(r"about 2\.0 h on 50 workers of 10 threads", said["time"])
    assert not (tmp_path / "out").exists()
