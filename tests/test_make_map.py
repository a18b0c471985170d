"""make-map from end to end, on a small generated place and on real scenes."""

import dataclasses
import datetime as dt
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import shapely
import yaml
from click.testing import CliRunner, Result
from rio_cogeo import cog_validate

from timesenmap.catalogs import find_scenes
from timesenmap.catalogs.demonstration import Demonstration
from timesenmap.model import new_encoder
from timesenmap.model.checkpoint import save_encoder
from timesenmap.model.prompts import load_prompt_set
from timesenmap.pipeline import work
from timesenmap.pipeline.answer_kinds import MARGINS, PROBABILITIES, AnswerKind, write_answer
from timesenmap.pipeline.cube import open_cube
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.legend import UNKNOWN
from timesenmap.pipeline.record import RunRecord
from timesenmap.workflows import make_map_command as command


def run(*args: object) -> Result:
    return CliRunner().invoke(command.main, [str(arg) for arg in args])


@pytest.fixture(scope="session")
def job(place: Demonstration) -> list[object]:
    """Flags of a small map, without --out."""
    return ["--aoi", place.aoi, "--catalog", place.catalog, "--year", place.year, "--prompts", "land-cover"]


@pytest.fixture(scope="session")
def made(job: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of one finished run over tiles of 32 pixels."""
    out = tmp_path_factory.mktemp("made") / "out"
    result = run(*job, "--tile-size", 32, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def maps_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.tif"))}


def test_leaves_what_the_design_promises(made: Path) -> None:
    names = {path.name for path in made.iterdir()}
    assert names >= {
        "land-cover.tif",
        "land-cover.tif.aux.xml",
        "land-cover.qml",
        "land-cover.confidence.tif",
        "observations.tif",
        "map.qgz",
        "preview.png",
        "index.html",
        "catalog.json",
        "job.yaml",
        "run.json",
        "work",
    }
    assert not list(made.rglob("*.part"))


def test_maps_are_valid_cogs_on_the_grid(made: Path) -> None:
    record = RunRecord.read(made / "run.json")
    for name in ("land-cover.tif", "land-cover.confidence.tif", "observations.tif"):
        valid, errors, warnings = cog_validate(made / name, strict=True, quiet=True)
        assert valid, (errors, warnings)
        with rasterio.open(made / name) as raster:
            assert raster.crs.to_string() == record.grid.crs
            assert raster.shape == record.grid.shape
            assert tuple(raster.transform)[:6] == record.grid.transform
            assert all(edge % 10 == 0 for edge in raster.bounds)


def test_record_counts_what_the_maps_hold(made: Path) -> None:
    record = RunRecord.read(made / "run.json")
    with rasterio.open(made / "land-cover.tif") as raster:
        classes = raster.read(1)
    with rasterio.open(made / "land-cover.confidence.tif") as raster:
        confidence = raster.read(1)
    with rasterio.open(made / "observations.tif") as raster:
        months = raster.read(1)
    (map_record,) = record.maps
    for cls in map_record.classes:
        assert cls.pixels == (classes == cls.code).sum()
        if cls.pixels:
            assert cls.mean_confidence == pytest.approx(confidence[classes == cls.code].mean(), abs=0.051)
    assert map_record.no_data_pixels == (months == 0).sum()
    assert list(map_record.confidence_histogram) == np.bincount(confidence[confidence < 255], minlength=101).tolist()
    histogram = np.bincount(months[months < 255], minlength=13)
    assert list(record.observations.clear_months_histogram) == histogram.tolist()
    assert np.array_equal(classes == 0, (months == 0) | (months == 255))


def test_job_beside_the_maps_makes_them_again(made: Path, tmp_path: Path) -> None:
    result = run("--job", made / "job.yaml", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert maps_of(tmp_path / "again") == maps_of(made)


@pytest.mark.parametrize("tile_size", [48, 1024])
def test_another_tile_size_gives_the_same_bytes(job: list[object], made: Path, tmp_path: Path, tile_size: int) -> None:
    result = run(*job, "--tile-size", tile_size, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert maps_of(tmp_path / "out") == maps_of(made)


def never(*args: object, **options: object) -> None:
    raise AssertionError("this stands already")


def test_second_run_redoes_only_what_changed(
    job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    before = maps_of(out)
    written = (out / "land-cover.tif").stat().st_mtime_ns

    monkeypatch.setattr(work, "composite_tile", never)
    monkeypatch.setattr("timesenmap.workflows.make_map.create_cube", never)
    assert run(*job, "--tile-size", 32, "--out", out).exit_code == 0
    assert maps_of(out) == before
    assert (out / "land-cover.tif").stat().st_mtime_ns == written
    result = run(*job, "--prompts", "crops", "--tile-size", 32, "--out", out)
    assert result.exit_code == 0, result.output
    assert maps_of(out).items() >= before.items()
    assert (out / "crops.tif").is_file()


def test_kept_embeddings_answer_new_prompts_without_encoding(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*job, "--keep-embeddings", "--tile-size", 64]
    assert run(*flags, "--out", tmp_path / "out").exit_code == 0
    fresh = run(*flags, "--prompts", "crops", "--out", tmp_path / "fresh")
    assert fresh.exit_code == 0, fresh.output
    monkeypatch.setattr("timesenmap.pipeline.label.embed_block", None)
    result = run(*flags, "--prompts", "crops", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert maps_of(tmp_path / "out") == maps_of(tmp_path / "fresh")


def only(kind: AnswerKind) -> Callable[..., object]:
    """What writes answers, of this kind alone."""

    def write(asked: AnswerKind, *args: object) -> object:
        assert asked == kind
        return write_answer(asked, *args)

    return write


def values_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


def test_unknown_below_redoes_the_labels_alone(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class map loses what is unsure; confidence, cube and embeddings stay as they are; 0 brings all back."""
    out, tags = tmp_path / "out", "UNKNOWN_BELOW"
    flags = [*job, "--keep-embeddings", "--out"]
    assert run(*flags, out).exit_code == 0
    plain, before = values_of(out / "land-cover.tif"), maps_of(out)
    assert RunRecord.read(out / "run.json").maps[0].unknown is None
    with monkeypatch.context() as patch:
        patch.setattr(work, "composite_tile", None)
        patch.setattr("timesenmap.pipeline.label.embed_block", None)
        result = run(*flags, out, "--unknown-below", 0.6)
        assert result.exit_code == 0, result.output
        after = maps_of(out)
        classes, confidence = values_of(out / "land-cover.tif"), values_of(out / "land-cover.confidence.tif")
        unknown = classes == 255
        assert 0.05 < unknown.mean() < 0.95
        assert np.array_equal(classes[~unknown], plain[~unknown])
        assert not np.isin(plain[unknown], (0, 255)).any()
        assert confidence[unknown].max() <= 60 <= confidence[~unknown].min()
        assert {name for name in after if after[name] != before[name]} == {"land-cover.tif"}
        (made,) = RunRecord.read(out / "run.json").maps
        assert made.unknown_below == 0.6
        assert made.unknown.pixels == unknown.sum()
        assert made.unknown.mean_confidence == pytest.approx(confidence[unknown].mean(), abs=0.051)
        assert sum(cls.pixels for cls in made.legend) == (confidence <= 100).sum()
        hectares = f"{unknown.sum() / 100:,.1f} ha"
        (line,) = [line for line in result.output.splitlines() if line.startswith("  unknown (below 60%)")]
        assert hectares in line
        with rasterio.open(out / "land-cover.tif") as raster:
            assert raster.tags()[tags] == "0.6"
            assert raster.colormap(1)[255] == (0x7C, 0x7C, 0x7C, 255)
        assert "<Category>unknown</Category>" in (out / "land-cover.tif.aux.xml").read_text()
        assert 'label="unknown"' in (out / "land-cover.qml").read_text()
        assert run(*flags, out, "--unknown-below", 0).exit_code == 0
        assert maps_of(out) == before
    for name in ("land-cover.qml", "land-cover.tif.aux.xml"):
        assert "unknown" not in (out / name).read_text()
    fresh = run(*flags, tmp_path / "fresh", "--tile-size", 32, "--unknown-below", 0.6)
    assert fresh.exit_code == 0, fresh.output
    assert maps_of(tmp_path / "fresh") == after


def test_probabilities_on_demand(
    job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A band a class, the highest of them the confidence; cube and labels are not done again for them."""
    out, name = tmp_path / "out", "land-cover.probability.tif"
    shutil.copytree(made, out)
    with monkeypatch.context() as patch:
        patch.setattr(work, "composite_tile", never)
        patch.setattr(work, "write_answer", only(PROBABILITIES))
        result = run(*job, "--tile-size", 32, "--probabilities", "--out", out)
    assert result.exit_code == 0, result.output
    classes, confidence = values_of(out / "land-cover.tif"), values_of(out / "land-cover.confidence.tif")
    prompts = load_prompt_set("land-cover")
    with rasterio.open(out / name) as raster:
        probability = raster.read()
        assert raster.descriptions == tuple(cls.name for cls in prompts.classes)
    seen = classes > 0
    assert np.array_equal(probability.max(axis=0), confidence)
    assert (probability[:, ~seen] == 255).all()
    assert np.abs(probability[:, seen].sum(axis=0, dtype=int) - 100).max() <= 4
    band = np.searchsorted([cls.code for cls in prompts.classes], classes[seen])
    assert np.array_equal(np.take_along_axis(probability[:, seen], band[None], axis=0)[0], confidence[seen])

    assert RunRecord.read(out / "run.json").maps[0].probability_map == name
    item = json.loads((out / "stac/items/land-cover.json").read_text())
    assert [band["description"] for band in item["assets"]["probability"]["bands"]][6].endswith("Water (7)")
    assert f'href="{name}"' in (out / "index.html").read_text()
    with zipfile.ZipFile(out / "map.qgz") as project:
        (layer,) = re.findall(rf'<layer-tree-layer [^>]*source="./{name}"[^>]*>', project.read("map.qgs").decode())
    assert 'checked="Qt::Unchecked"' in layer

    written = (out / name).stat().st_mtime_ns
    assert run(*job, "--tile-size", 32, "--probabilities", "--unknown-below", 0.6, "--out", out).exit_code == 0
    assert (out / name).stat().st_mtime_ns == written
    fresh = run(*job, "--tile-size", 64, "--probabilities", "--out", tmp_path / "fresh")
    assert fresh.exit_code == 0, fresh.output
    assert (tmp_path / "fresh" / name).read_bytes() == (out / name).read_bytes()
    assert maps_of(tmp_path / "fresh").items() >= maps_of(made).items()


def test_margin_on_demand(job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What separates the best from the second best; cube, labels and probabilities are not done again for it."""
    out, name = tmp_path / "out", "land-cover.margin.tif"
    shutil.copytree(made, out)
    asked = [*job, "--tile-size", 32, "--probabilities"]
    assert run(*asked, "--out", out).exit_code == 0
    before = maps_of(out)
    with monkeypatch.context() as patch:
        patch.setattr(work, "composite_tile", never)
        patch.setattr(work, "write_answer", only(MARGINS))
        result = run(*asked, "--margin", "--out", out)
    assert result.exit_code == 0, result.output
    after = maps_of(out)
    assert after.keys() - before.keys() == {name}
    assert after.items() >= before.items()
    margin, seen = values_of(out / name), values_of(out / "land-cover.tif") > 0
    with rasterio.open(out / "land-cover.probability.tif") as raster:
        top = np.sort(raster.read()[:, seen].astype(int), axis=0)
    assert np.abs(margin[seen] - (top[-1] - top[-2])).max() <= 1  # these two were rounded before
    assert (margin[~seen] == 255).all()
    assert 0 < margin[seen].min() + 1 < margin[seen].max() <= 100

    (record,) = RunRecord.read(out / "run.json").maps
    assert (record.margin_map, record.probability_map) == (name, "land-cover.probability.tif")
    assert record.margin_histogram == tuple(np.bincount(margin[seen], minlength=101).tolist())
    item = json.loads((out / "stac/items/land-cover.json").read_text())
    (band,) = item["assets"]["margin"]["bands"]
    assert (band["name"], band["unit"], band["nodata"]) == ("margin", "%", 255)
    page = (out / "index.html").read_text()
    assert f'href="{name}"' in page
    assert 'id="margin-0"' in page
    with zipfile.ZipFile(out / "map.qgz") as project:
        assert f'source="./{name}"' in project.read("map.qgs").decode()

    written = (out / name).stat().st_mtime_ns
    assert run(*asked, "--margin", "--unknown-below", 0.6, "--out", out).exit_code == 0
    assert (out / name).stat().st_mtime_ns == written
    assert (values_of(out / "land-cover.tif") == 255).any()
    assert (values_of(out / name)[seen] <= 100).all()
    fresh = run(*job, "--tile-size", 64, "--margin", "--out", tmp_path / "fresh")
    assert fresh.exit_code == 0, fresh.output
    assert (tmp_path / "fresh" / name).read_bytes() == after[name]
    assert RunRecord.read(tmp_path / "fresh" / "run.json").maps[0].probability_map is None


def test_stopped_run_goes_on_where_it_stopped(
    job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile is written but the run ends before it is recorded: it is done again, the bytes are the same."""
    composite, calls = work.composite_tile, []

    def stop_at_the_fourth(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return composite(*args, **options)

    flags = [*job, "--tile-size", 32, "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(work, "composite_tile", stop_at_the_fourth)
        result = run(*flags)
        assert result.exit_code == 130
        assert "run the same command again" in result.output
    assert not (tmp_path / "out" / "run.json").exists()
    result = run(*flags)
    assert result.exit_code == 0, result.output
    assert maps_of(tmp_path / "out") == maps_of(made)


def test_a_poisoned_tile_does_not_stop_the_others(
    job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1, the tile and its error named, no map; the others are mapped, and --retry-failed does just this one."""
    composite, write_answer, broken, composited = work.composite_tile, work.write_answer, "r0001c0001", []

    def poisoned(scenes: object, grid: object, tile: Tile, *args: object, **options: object) -> object:
        composited.append(tile.key)
        if tile.key == broken and len(composited) < 10:
            raise MemoryError("no room for 12 scenes")
        return composite(scenes, grid, tile, *args, **options)

    out = tmp_path / "out"
    flags = [*job, "--tile-size", 32, "--out", out]
    monkeypatch.setattr(work, "composite_tile", poisoned)
    result = run(*flags)
    assert result.exit_code == 1, result.output
    failed = next(line for line in result.stderr.splitlines() if line.startswith("failed: "))
    assert "1 of 9 tiles are not done" in failed
    assert f"cube {broken}: no room for 12 scenes" in failed
    assert not maps_of(out)
    assert not (out / "run.json").exists()
    ledger = Ledger(out / "work" / "ledger.sqlite")
    assert ledger.failed("cube") == {broken: "MemoryError: no room for 12 scenes"}
    assert len(ledger.done("labels:land-cover")) == 8

    labelled = []
    monkeypatch.setattr(work, "write_answer", lambda *args: labelled.append(args[2].key) or write_answer(*args))
    result = run(*flags, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert composited[9:] == labelled == [broken]
    assert maps_of(out) == maps_of(made)

    profile = RunRecord.read(out / "run.json").profile
    assert profile.pixels == 92 * 92
    assert min(profile.seconds[phase] for phase in ("decoding", "resampling", "compositing", "encoding", "writing")) > 0
    tiles = [path for path in (out / "work").glob("**/c/*/**/*") if path.is_file()]
    assert profile.bytes_written == sum(path.stat().st_size for path in [*tiles, *out.glob("*.tif")])
    assert profile.pixels_per_second == pytest.approx(92 * 92 / sum(profile.seconds.values()), rel=0.01)
    assert next(line for line in result.output.splitlines() if "pixels/s" in line).startswith(profile.bound)
    assert profile.bound[1:] in (out / "index.html").read_text()  # there a sentence begins with it

    result = run(*flags, "--retry-failed")
    assert result.exit_code == 2, result.output
    assert f"no tile failed in --out {out}" in result.stderr


def test_changed_inputs_redo_only_what_depends_on_them(
    job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another encoder: the labels, not the cube. Other scenes: everything."""
    out, flags = tmp_path / "out", [*job, "--tile-size", 32]
    shutil.copytree(made, out)
    save_encoder(new_encoder("small"), tmp_path / "other.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(work, "composite_tile", never)
        result = run(*flags, "--encoder", tmp_path / "other.safetensors", "--out", out)
    assert result.exit_code == 0, result.output
    changed = {name for name, content in maps_of(out).items() if content != maps_of(made)[name]}
    assert changed == {"land-cover.tif", "land-cover.confidence.tif"}

    result = run(*flags, "--max-cloud-cover", 1, "--out", out)
    assert result.exit_code == 0, result.output
    fresh = run(*flags, "--max-cloud-cover", 1, "--out", tmp_path / "fresh")
    assert fresh.exit_code == 0, fresh.output
    assert maps_of(out) == maps_of(tmp_path / "fresh")
    assert maps_of(out)["observations.tif"] != maps_of(made)["observations.tif"]


def test_own_prompts_need_no_training(job: list[object], tmp_path: Path) -> None:
    mine = {
        "name": "mine",
        "title": "Where to picnic",
        "classes": [
            {"code": 10, "name": "shade", "colour": "#226622", "prompts": ["a shady old forest"]},
            {"code": 20, "name": "swim", "colour": "#2244cc", "prompts": ["a lake to swim in"]},
            {"code": 30, "name": "neither", "colour": "#ddcc88", "prompts": ["a ploughed field", "a maize field"]},
        ],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(mine))
    flags = [path if flag == "land-cover" else flag for flag in job]
    result = run(*flags, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "out" / "mine.tif") as raster:
        assert set(np.unique(raster.read(1))) <= {0, 10, 20, 30}
        assert raster.colormap(1)[20] == (0x22, 0x44, 0xCC, 255)


def test_each_prompt_set_may_have_a_threshold_of_its_own(job: list[object], tmp_path: Path) -> None:
    """The set's own holds where the job gives none; a flag wins; one that no confidence can be below is said."""
    mine = load_prompt_set("land-cover").model_dump(mode="json", exclude_defaults=True) | {"unknown_below": 0.9}
    mine |= {"name": "mine"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(mine))
    flags = [*job, "--prompts", path, "--out", tmp_path / "out"]
    assert run(*flags).exit_code == 0
    shipped, own = RunRecord.read(tmp_path / "out" / "run.json").maps
    assert (shipped.unknown, own.unknown_below) == (None, 0.9)
    assert own.unknown is not None
    assert own.unknown.pixels == (values_of(tmp_path / "out" / "mine.tif") == 255).sum() > 0
    result = run(*flags, "--unknown-below", 0.125)
    assert result.exit_code == 0, result.output
    assert {made.unknown_below for made in RunRecord.read(tmp_path / "out" / "run.json").maps} == {0.125}
    assert result.output.count("nothing can be unknown below 12.5%, the best of 8 classes has more") == 2


def test_a_class_called_unknown_is_refused_where_pixels_may_be(job: list[object], tmp_path: Path) -> None:
    mine = load_prompt_set("land-cover").model_dump(mode="json", exclude_defaults=True)
    mine["classes"][6]["name"] = "Unknown"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(mine))
    flags = [path if flag == "land-cover" else flag for flag in job]
    result = run(*flags, "--unknown-below", 0.6, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "prompt set 'land-cover': class 7 is called 'Unknown'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_dry_run_and_show_config_write_nothing(job: list[object], tmp_path: Path) -> None:
    result = run(*job, "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    for word in ("scenes", "by month", "months without a scene", "missing passes", "credentials", "to read", "time"):
        assert word in result.output
    result = run(*job, "--out", tmp_path / "out", "--show-config")
    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.stdout)["prompts"] == ["land-cover"]
    assert not any(tmp_path.iterdir())


def _without(flags: list[object], name: str) -> list[object]:
    at = flags.index(name)
    return [*flags[:at], *flags[at + 2 :]]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("--aoi", "no-such.geojson", "no-such.geojson"),
        ("--aoi", "5,6,7", "5,6,7"),
        ("--aoi", "-60.1,-10.1,-60.0,-10.0", "no scene from"),
        ("--prompts", "land-covr", "land-covr"),
        ("--year", "2016", "no scene from 2016-01-01"),
        ("--encoder", "no-such", "no-such"),
        ("--catalog", "no-such-service", "no-such-service"),
        ("--crs", "EPSG:4326", "--crs"),
        ("--tile-size", "50", "--tile-size"),
        ("--unknown-below", "60", "--unknown-below '60'"),
        ("--aoi-crs", "EPSG:99999", "99999"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(
    job: list[object], tmp_path: Path, name: str, value: str, says: str
) -> None:
    flags = _without(job, name) if name in job else job
    result = run(*flags, name, value, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not any(tmp_path.iterdir())


def test_foreign_checkpoint_is_refused(job: list[object], tmp_path: Path) -> None:
    swapped = ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
    save_encoder(new_encoder("small", bands=swapped), tmp_path / "swapped.safetensors")
    result = run(*job, "--encoder", tmp_path / "swapped.safetensors", "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "its bands are B04 B03 B02" in result.stderr
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "swapped.safetensors").read_bytes()[:5000])
    result = run(*job, "--encoder", tmp_path / "torn.safetensors", "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "torn.safetensors" in result.stderr
    assert not (tmp_path / "out").exists()


def test_words_that_cannot_be_embedded_are_found_before_the_cube_is_made(job: list[object], tmp_path: Path) -> None:
    """Hub means fitted with another encoder: hours of compositing must not come before the refusal."""
    shipped = load_prompt_set("land-cover")
    means = {
        "encoder_sha256": "0" * 64,
        "wording_sha256": shipped.wording_sha256,
        "rows": 10,
        "means": [0.1] * len(shipped.classes),
    }
    path = tmp_path / "hubs.yaml"
    path.write_text(yaml.safe_dump(shipped.model_dump(mode="json", exclude_defaults=True) | {"hub_means": means}))
    flags = [path if flag == "land-cover" else flag for flag in job]
    result = run(*flags, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "hub_means" in result.stderr
    assert not (tmp_path / "out").exists()


def test_output_of_another_job_is_refused(job: list[object], made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    result = run(*job, "--resolution", 20, "--out", made)
    assert result.exit_code == 2, result.output
    assert "holds the maps of another job" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()} == before


def test_unreadable_scene_fails_and_names_it(place: Demonstration, job: list[object], tmp_path: Path) -> None:
    """Never a silent hole: exit 1, the item and asset named, and the same command goes on once it is mended."""
    scenes = tmp_path / "scenes"
    shutil.copytree(place.catalog.parent, scenes)
    item = next(iter(pystac.Catalog.from_file(str(scenes / place.catalog.name)).get_items(recursive=True)))
    asset = Path(item.assets["B04"].get_absolute_href() or "")
    whole = asset.read_bytes()
    asset.write_bytes(whole[: len(whole) // 2])
    flags = [*_without(job, "--catalog"), "--catalog", scenes / place.catalog.name, "--out", tmp_path / "out"]
    result = run(*flags)
    assert result.exit_code == 1, result.output
    failed = next(line for line in result.stderr.splitlines() if line.startswith("failed: "))
    assert item.id in failed
    assert "B04" in failed
    assert not (tmp_path / "out" / "land-cover.tif").exists()
    asset.write_bytes(whole)
    result = run(*flags)
    assert result.exit_code == 0, result.output


def test_demo_refuses_another_area(tmp_path: Path) -> None:
    result = run("--demo", "--aoi", "1,2,3,4", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--demo brings its own" in result.stderr


# Real scenes -----------------------------------------------------------------------------------------------------

BELGIUM_BOUNDS = "501360,5629040,502000,5629680"


@pytest.fixture(scope="session")
def belgium_out(belgium: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("belgium") / "out"
    result = run(*_belgium_flags(belgium), "--out", out)
    assert result.exit_code == 0, result.output
    return out


def _belgium_flags(belgium: Path) -> list[object]:
    return [
        "--aoi", BELGIUM_BOUNDS, "--aoi-crs", "EPSG:32631", "--start", "2017-12", "--catalog", belgium,
        "--prompts", "land-cover", "--prompts", "crops",
    ]  # fmt: skip


def test_belgium_july_ndvi_equals_plain_rasterio_and_numpy(belgium: Path, belgium_out: Path) -> None:
    red, nir = [], []
    for path in sorted(belgium.parent.glob("S2_201807*")):
        bands = {name: rasterio.open(path / f"{name}.tif").read(1) for name in ("B04", "B08", "SCL")}
        scl = bands["SCL"].repeat(2, axis=0).repeat(2, axis=1)
        clear = ~np.isin(scl, [0, 1, 3, 8, 9, 10])
        red.append(np.where(clear & (bands["B04"] > 0), bands["B04"].astype(float), np.nan))
        nir.append(np.where(clear & (bands["B08"] > 0), bands["B08"].astype(float), np.nan))
    assert len(red) >= 6
    wanted_red, wanted_nir = np.rint(np.nanmedian(red, axis=0)), np.rint(np.nanmedian(nir, axis=0))
    cube = open_cube(belgium_out / "work" / "cube.zarr")
    july = cube.reflectance.sel(month="2018-07-01").astype("float64").load()
    b04, b08 = july.sel(band="B04").values, july.sel(band="B08").values
    assert np.array_equal((b08 - b04) / (b08 + b04), (wanted_nir - wanted_red) / (wanted_nir + wanted_red))


def test_belgium_maps_lie_on_the_ten_metre_grid(belgium_out: Path) -> None:
    for prompts, unknown in (("land-cover", set()), ("crops", {UNKNOWN.code})):
        codes = {cls.code for cls in load_prompt_set(prompts).classes}
        with rasterio.open(belgium_out / f"{prompts}.tif") as raster:
            assert tuple(raster.bounds) == tuple(map(float, BELGIUM_BOUNDS.split(",")))
            assert raster.shape == (64, 64)
            assert raster.crs.to_epsg() == 32631
            assert set(np.unique(raster.read(1))) <= codes | unknown


def test_belgium_maps_say_what_they_are(belgium_out: Path) -> None:
    record = RunRecord.read(belgium_out / "run.json")
    shared = {
        "PERIOD": "2017-12-01/2018-12-01",
        "SCENES": "98",
        "MASKER": "scl",
        "CATALOGUE": record.catalogue,
        "ATTRIBUTION": "Contains modified Copernicus Sentinel data 2017-2018",
    }
    with rasterio.open(belgium_out / "observations.tif") as raster:
        title = {"TITLE": "Months with a clear observation, 2017-12 to 2018-11"}
        assert raster.tags().items() >= (shared | title).items()
    for made in record.maps:
        own = {
            "TITLE": f"{made.title}, 2017-12 to 2018-11",
            "ENCODER": f"{record.encoder.name} sha256:{record.encoder.sha256}",
            "PROMPTS": f"{made.prompt_set} sha256:{made.prompts_sha256}",
        }
        for name in (made.class_map, made.confidence_map):
            with rasterio.open(belgium_out / name) as raster:
                assert raster.tags().items() >= (shared | own).items()


def test_belgium_record_says_what_was_used(belgium_out: Path) -> None:
    record = json.loads((belgium_out / "run.json").read_text())
    assert len(record["scenes"]) == 98
    assert record["scenes"][0]["baseline"].startswith("02.")
    assert record["scenes"][0]["radiometry"]["B04"].startswith("scale 0.0001 offset 0: ")
    assert record["observations"]["months"][0] == "2017-12"
    assert all(share > 0 for share in record["observations"]["clear_share_by_month"])


# Repeating a run -------------------------------------------------------------------------------------------------


def test_catalogue_of_a_run_stands_for_its_scenes(made: Path, job: list[object], tmp_path: Path) -> None:
    catalogue = pystac.Catalog.from_file(str(made / "catalog.json"))
    (link,) = catalogue.get_links("derived_from")
    assert (made / link.href).samefile(made / "work" / "items.parquet")
    for item in catalogue.get_items(recursive=True):
        (link,) = item.get_links("derived_from")
        assert (Path(item.self_href).parent / link.href).samefile(made / "work" / "items.parquet")
    for number, named in enumerate((made / "catalog.json", made)):
        again = run(*_without(job, "--catalog"), "--catalog", named, "--out", tmp_path / str(number))
        assert again.exit_code == 0, again.output
        assert maps_of(tmp_path / str(number)) == maps_of(made)
        scenes = [scene.id for scene in RunRecord.read(tmp_path / str(number) / "run.json").scenes]
        assert scenes == [scene.id for scene in RunRecord.read(made / "run.json").scenes]


def test_catalogue_of_maps_without_their_scenes_is_refused(made: Path, job: list[object], tmp_path: Path) -> None:
    shutil.copy(made / "catalog.json", tmp_path)
    shutil.copytree(made / "stac", tmp_path / "stac")
    result = run(*_without(job, "--catalog"), "--catalog", tmp_path / "catalog.json", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "is a catalogue of maps, and the scenes they were made of (./work/items.parquet) are not beside it" in (
        result.output
    )
    assert not (tmp_path / "out").exists()


def test_saved_items_repeat_a_run_without_the_catalogue(
    job: list[object], made: Path, place: Demonstration, tmp_path: Path
) -> None:
    """Exactly the same scenes, years later: the pictures are still there, the catalogue is not."""
    scenes = tmp_path / "scenes"
    shutil.copytree(place.catalog.parent, scenes)
    flags = [*_without(job, "--catalog"), "--tile-size", 64]
    first = run(*flags, "--catalog", scenes / place.catalog.name, "--out", tmp_path / "first")
    assert first.exit_code == 0, first.output
    for path in scenes.rglob("*.json"):
        path.unlink()
    saved = tmp_path / "first" / "work" / "items.parquet"
    again = run(*flags, "--items", saved, "--out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert maps_of(tmp_path / "again") == maps_of(tmp_path / "first")
    assert (tmp_path / "again" / "work" / "items.parquet").read_bytes() == saved.read_bytes()
    records = [RunRecord.read(tmp_path / out / "run.json") for out in ("first", "again")]
    for name in ("scenes", "refused", "catalogue", "attribution", "observations", "maps"):
        assert getattr(records[0], name) == getattr(records[1], name)
    # Over the first folder itself there is nothing left to do.
    written = (tmp_path / "first" / "land-cover.tif").stat().st_mtime_ns
    over = run("--job", tmp_path / "again" / "job.yaml", "--out", tmp_path / "first")
    assert over.exit_code == 0, over.output
    assert (tmp_path / "first" / "land-cover.tif").stat().st_mtime_ns == written


def passes_missing(text: str) -> int:
    return sum(int(number) for number in re.findall(r"(\d+) of \d+ missing", text))


def test_what_the_catalogue_lacks_is_said(job: list[object], made: Path, place: Demonstration, tmp_path: Path) -> None:
    """A month and two more passes are taken out of the catalogue: dry run and record name them."""
    scenes = RunRecord.read(made / "run.json").scenes
    complete = run(*job, "--out", tmp_path / "out", "--dry-run")
    before = passes_missing(complete.output)  # the generated place loses some, too
    april = [scene.id for scene in scenes if scene.datetime.month == 4]
    july = [scene for scene in scenes if scene.datetime.month == 7][1:3]
    lost = {*april, *(scene.id for scene in july)}
    assert april
    saved = find_scenes(
        None, items=made / "work" / "items.parquet", area=shapely.box(-180, -90, 180, 90), start=dt.date(2000, 1, 1),
        end=dt.date(2100, 1, 1),
    )  # fmt: skip
    fewer = dataclasses.replace(saved, scenes=tuple(scene for scene in saved.scenes if scene.id not in lost))
    fewer.save(tmp_path / "fewer.parquet")
    flags = [*_without(job, "--catalog"), "--items", tmp_path / "fewer.parquet", "--out", tmp_path / "out"]
    dry = run(*flags, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert f"months without a scene  {place.year}-04" in dry.output
    assert passes_missing(dry.output) == before + len(lost)
    assert "not judged" in run(*flags, "--dry-run", "--max-cloud-cover", 50).output
    result = run(*flags)
    assert result.exit_code == 0, result.output
    warnings = RunRecord.read(tmp_path / "out" / "run.json").warnings
    assert f"no scene in {place.year}-04: masked, not filled" in warnings
    (passes,) = [warning for warning in warnings if warning.startswith("passes expected")]
    assert passes_missing(passes) == before + len(lost)


def test_missing_credentials_are_named_before_anything_is_written(
    job: list[object], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY-OF-SOMEBODY")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    profile = yaml.safe_load((Path(command.__file__).parents[1] / "catalogs" / "profiles" / "cdse.yaml").read_text())
    keys = {name: [name] for name in profile["assets"]}
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(profile | {"name": "own", "assets": keys}))
    flags = [*_without(job, "--catalog"), "--catalog", own, "--items", made / "work" / "items.parquet"]
    result = run(*flags, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "AWS_SECRET_ACCESS_KEY is not set" in line
    assert "AWS_ACCESS_KEY_ID" not in line.replace("AWS_SECRET_ACCESS_KEY", "")
    assert "https://eodata-s3keysmanager.dataspace.copernicus.eu" in line
    assert not (tmp_path / "out").exists()
    dry = run(*flags, "--out", tmp_path / "out", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "missing: set AWS_SECRET_ACCESS_KEY before the run" in dry.output
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET-OF-SOMEBODY")
    result = run(*flags, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"OF-SOMEBODY" not in path.read_bytes()
    assert "OF-SOMEBODY" not in result.output


def test_belgium_unknown_is_what_has_little_confidence(belgium: Path, belgium_out: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(belgium_out, out)
    result = run(*_belgium_flags(belgium), "--unknown-below", 0.5, "--out", out)
    assert result.exit_code == 0, result.output
    for prompts in ("land-cover", "crops"):
        plain, classes = (values_of(folder / f"{prompts}.tif") for folder in (belgium_out, out))
        confidence = values_of(out / f"{prompts}.confidence.tif")
        assert (classes == 255).any()
        assert confidence[classes == 255].max() <= 50
        assert confidence[(classes > 0) & (classes < 255)].min() >= 50
        assert np.array_equal(np.where(classes == 255, plain, classes), plain)
        assert np.array_equal(confidence, values_of(belgium_out / f"{prompts}.confidence.tif"))
