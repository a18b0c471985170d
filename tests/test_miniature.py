"""The paper in small, run whole, and the commands that measure its encoders again from what it left on disk."""

import csv
import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from sklearn.metrics import confusion_matrix

from timesenmap.model.ablation import compare, variants
from timesenmap.model.encoder import load_encoder, new_encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.miniature import SIZES, run_miniature, training_config
from timesenmap.model.miniature_pictures import SIZE, draw_view
from timesenmap.model.miniature_places import KINDS, draw_places, simulate_series
from timesenmap.model.miniature_tower import _compatible
from timesenmap.model.place_evaluation import one_month_left, read_places, told
from timesenmap.model.shards import PreparedRows
from timesenmap.model.training_config import dump_config
from timesenmap.model.training_photos import train_photos
from timesenmap.workflows.evaluate_encoder import main as evaluate
from timesenmap.workflows.miniature import main as miniature
from timesenmap.workflows.prepare_training import main as prepare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder and report of the small miniature."""
    folder = tmp_path_factory.mktemp("mini") / "out"
    done = CliRunner().invoke(miniature, ["--size", "quick", "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def accuracy(report, variant="as configured", frames="12 months"):
    rows = report["zero_shot"]["rows"]
    return next(r["top1"] for r in rows if (r["variant"], r["frames"]) == (variant, frames))


def test_the_method_works_on_places_never_seen(run):
    folder, report = run
    assert report["chance"] == 1 / len(KINDS)
    for variant in ("as configured", "no temporal masking"):
        assert accuracy(report, variant)["low"] > 4 * report["chance"]
        assert accuracy(report, variant)["low"] > accuracy(report, variant, "1 year")["value"]
    assert report["photos"]["mean of four photos"]["low"] > 4 * report["chance"]
    by_name = {(row["question"], row["right"]): row for row in report["retrieval"]}
    found = by_name["series -> mean of the photos", "same place"]
    assert found["recall"][2]["low"] > found["chance"][2]
    assert found["gallery"] == SIZES["quick"].test
    assert json.loads((folder / "miniature.json").read_text()) == report
    page = (folder / "miniature.md").read_text()
    assert f"{100 * accuracy(report)['value']:.1f} (" in page
    assert load_encoder(folder / "encoder.safetensors").sha256 == report["zero_shot"]["encoders"]["as configured"]


def call(*arguments):
    done = CliRunner().invoke(evaluate, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_zero_shot_on_prepared_crops_finds_the_same(run):
    folder, report = run
    common = ("--data", folder / "test" / "crops", "--prompts", folder / "prompts.yaml", "--labels", "lc1")
    found = json.loads(call("zero-shot", *common, "--encoder", folder / "encoder.safetensors", "--json"))
    assert found["top1"] == accuracy(report)["value"]
    assert found["rows"] == SIZES["quick"].test


def test_retrieval_command_finds_the_same(run, tmp_path):
    folder, report = run
    common = ("--data", folder / "test" / "crops", "--encoder", folder / "encoder.safetensors")
    photos = ("--photos", folder / "test" / "embedded")
    found = json.loads(call("retrieval", *common, *photos, "--json"))
    places = [row for row in report["retrieval"] if row["right"] == "same place"]
    assert [row for row in found["rows"] if row["right"] == "same place"] == places
    assert {row["right"] for row in found["rows"]} > {"same land cover", "same land use", "same land cover and use"}
    cover = next(r for r in found["rows"] if r["right"] == "same land cover" and r["question"] == "series -> photos")
    assert cover["recall"][0]["value"] > cover["chance"][0]
    (country,) = found["texts"]
    assert (country["what"], country["names"], country["left_out"]) == ("country", 28, 0)
    assert [entry["name"] for entry in country["classes"]] == ["Germany"]
    assert country["precision"][0] == 1
    text = call("retrieval", *common, "--places", 50, "--out", tmp_path)
    assert 'Places by "a photo taken in {}."' in text
    assert json.loads((tmp_path / "retrieval.json").read_text())["places"] == 50
    assert "| Germany | 50 |" in (tmp_path / "retrieval.md").read_text()


def test_photos_are_prepared_by_the_command_as_by_the_library(run, tmp_path):
    folder, _ = run
    arguments = [
        "photos", folder / "test" / "photos", "--points", folder / "test" / "crops", "--out", tmp_path / "again",
        "--tower", f"open_clip:local-dir:{folder / 'tower'}", "--device", "cpu", "--threads", "2", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(prepare, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    assert (counts["rows"], counts["skipped"]) == (4 * SIZES["quick"].test, {})
    first, again = (PreparedRows([path], kind="photos") for path in (folder / "test" / "embedded", tmp_path / "again"))
    assert first.frame["key"].tolist() == again.frame["key"].tolist()
    rows = np.arange(len(first))
    np.testing.assert_array_equal(first.read("embedding", rows), again.read("embedding", rows))


@pytest.mark.parametrize("named", [True, False])
def test_training_validates_on_held_out_cells_or_named_places(run, tmp_path, named):
    """The best epoch's weights are kept, the temperature is calibrated, and both are of the places held out."""
    folder, _ = run
    config = training_config(folder, f"open_clip:local-dir:{folder / 'tower'}", SIZES["quick"], seed=0)
    values = config.model_dump() | {
        "out": tmp_path / "validated.safetensors", "epochs": 6, "learning_rate": 5e-3, "validation_labels": "lc1",
        "validation_prompts": str(folder / "prompts.yaml"), "split": {"validation": 0.25, "test": 0},
        "validation": (folder / "test" / "crops",) if named else (), "validation_rows": 100,
    }  # fmt: skip
    result = train_photos(type(config).model_validate(values))
    counts, scores = result.report["counts"], result.report["validation"]
    assert counts["validation"] == scores["rows"] == 100
    assert (counts["train"] == SIZES["quick"].train) == named
    with (tmp_path / "validated.training" / "logs" / "version_0" / "metrics.csv").open() as file:
        logged = [float(row["validation/captions"]) for row in csv.DictReader(file) if row["validation/captions"]]
    assert len(logged) == 6
    assert scores["accuracy"] == pytest.approx(max(logged), abs=0.02)
    encoder = load_encoder(tmp_path / "validated.safetensors")
    assert encoder.config.temperature == result.report["temperature"] != config.temperature


def test_encoders_of_different_towers_are_not_compared(run):
    folder, _ = run
    encoders = {"a": load_encoder(folder / "encoder.safetensors"), "b": new_encoder("small")}
    with pytest.raises(ModelError, match="encoders of different text towers"):
        compare(encoders, data=folder / "test" / "crops", prompts=str(folder / "prompts.yaml"), labels="lc1")


def test_ablation_command_goes_on_with_finished_runs(run):
    folder, report = run
    config = training_config(folder, f"open_clip:local-dir:{folder / 'tower'}", SIZES["quick"], seed=0)
    assert list(variants(config, ("masking", "pooling", "spectral"))) == [
        "as configured", "no temporal masking", "one random photo", "attention over the photos", "spectral dropout",
    ]  # fmt: skip
    file = folder / "run.yaml"
    file.write_text(dump_config(config))
    before = (folder / "encoder.safetensors").read_bytes()
    found = json.loads(
        call("ablation", "--config", file, "--vary", "masking", "--data", folder / "test" / "crops", "--prompts",
             folder / "prompts.yaml", "--labels", "lc1", "--json")
    )  # fmt: skip
    assert found["rows"] == report["zero_shot"]["rows"]
    assert (folder / "encoder.safetensors").read_bytes() == before


def test_scenicness_command_follows_the_votes(run, tmp_path):
    """People here like lakes and dislike towns, and all but those are in between."""
    folder, _ = run
    kinds = {kind.lc1: kind.name for kind in KINDS}
    encoder = load_encoder(folder / "encoder.safetensors")
    places = read_places(folder / "test" / "crops", encoder).frame
    liked = {"lake": 9, "town": 2}
    with (tmp_path / "places.csv").open("w") as where, (tmp_path / "votes.csv").open("w") as votes:
        for table, header in ((where, "id,lat,lon"), (votes, "place,rating")):
            table.write(header + "\n")
        for i, place in enumerate(places.itertuples()):
            csv.writer(where).writerow([i, place.lat + 0.0005, place.lon])  # some 55 m away
            for vote in (-1, 0, 1):
                csv.writer(votes).writerow([i, liked.get(kinds[place.lc1], 5) + vote])
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(yaml.safe_dump({"scenic": ["a lake", "open water"], "plain": ["a town", "houses and a street"]}))
    arguments = (
        "--votes", tmp_path / "votes.csv", "--places", tmp_path / "places.csv", "--prompts", prompts,
        "--encoder", folder / "encoder.safetensors",
    )  # fmt: skip
    crops = ("scenicness", "--data", folder / "test" / "crops")
    found = json.loads(call(*crops, *arguments, "--ensembling", "late", "--ensembling", "early", "--json"))
    assert found["places"] == SIZES["quick"].test
    assert [row["ensembling"] for row in found["rows"]] == ["late", "early"]
    assert all(row["r"]["low"] > 0.2 for row in found["rows"])
    table = tmp_path / "series.parquet"
    assert CliRunner().invoke(prepare, ["table", str(folder / "test" / "crops"), "--out", str(table)]).exit_code == 0
    from_table = json.loads(call("scenicness", "--data", table, *arguments, "--json"))
    assert from_table["rows"] == found["rows"][:1]
    far = CliRunner().invoke(evaluate, [str(argument) for argument in (*crops, *arguments, "--within", 10)])
    assert far.exit_code == 2
    assert "lies within 10 m of a rated one" in far.stderr


def test_commands_say_what_does_not_fit(run, tmp_path):
    folder, _ = run
    mini = ("--encoder", folder / "encoder.safetensors")
    other = tmp_path / "captions.yaml"
    other.write_text("series: [a.parquet]\nout: b.safetensors\n")
    crops, embedded = folder / "test" / "crops", folder / "test" / "embedded"
    told_apart = ("zero-shot", "--data", crops, *mini, "--prompts")
    for arguments, words in (
        (("retrieval", "--data", tmp_path / "none", *mini), "is no folder of prepared crops"),
        (("retrieval", "--data", embedded, *mini), "holds photos, not crops"),
        (("retrieval", "--data", crops, "--photos", embedded), "trained for"),
        (("ablation", "--config", other, "--data", crops), "ablations need targets: photos"),
        ((*told_apart, "crops", "--labels", "colour"), "choose landcover"),
        ((*told_apart, "habitats", "--labels", "lc1"), "no place of"),
    ):
        done = CliRunner().invoke(evaluate, [str(argument) for argument in arguments])
        assert done.exit_code == 2, (arguments, done.output)
        assert words in done.stderr.splitlines()[-1]
    with pytest.raises(ModelError, match="is not empty"):
        run_miniature(folder, stage=None)
    with pytest.raises(ModelError, match="choose one of full, quick"):
        run_miniature(tmp_path / "new", size="huge", stage=None)


def test_simulated_ground_is_covered_once():
    for place in draw_places(200, np.random.default_rng(0)):
        shares = np.stack(list(place.shares().values()))
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-12)


def test_simulated_series_look_like_land():
    rng = np.random.default_rng(1)
    places = draw_places(800, rng)
    series = simulate_series(places, rng)
    assert series.shape == (800, 12, 10)
    assert np.nanmin(series) > 0
    assert np.nanmax(series) < 1.6
    missing = np.isnan(series).all(2)
    np.testing.assert_array_equal(missing, np.isnan(series).any(2))
    assert 0.05 < missing[:, 4:8].mean() < missing[:, [0, 1, 10, 11]].mean() < 0.35
    assert not missing.all(1).any()
    ndvi = (series[..., 6] - series[..., 2]) / (series[..., 6] + series[..., 2])
    kind = np.array([KINDS[place.kind].name for place in places])
    by_month = {name: np.nanmean(ndvi[kind == name], axis=0) for name in set(kind)}
    assert by_month["wheat"].argmax() in (3, 4)
    assert by_month["maize"].argmax() in (6, 7)
    assert by_month["lake"].max() < 0
    assert by_month["broadleaved forest"][6] > by_month["broadleaved forest"][1] + 0.2
    assert np.ptp(by_month["coniferous forest"]) < 0.1


def test_pictures_follow_their_place():
    rng = np.random.default_rng(2)
    colours = {}
    for place in draw_places(320, rng):
        ground = np.asarray(draw_view(place, rng, blocked=0.0), float)[SIZE // 2 :]
        colours.setdefault(KINDS[place.kind].name, []).append(ground.mean((0, 1)))
    mean = {name: np.mean(values, axis=0) for name, values in colours.items()}
    red, green, blue = (np.array([mean[n][c] for n in ("lake", "meadow", "dry grassland")]) for c in range(3))
    assert blue[0] > red[0] + 20  # a lake is blue
    assert green[1] > max(red[1], blue[1])  # a meadow is green
    assert red[2] > blue[2] + 50  # dry grass is yellow
    place = draw_places(3, np.random.default_rng(4))[0]
    again = [np.asarray(draw_view(place, np.random.default_rng(5))) for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_captions_that_may_both_be_true_are_no_negatives():
    kinds = np.array([0, 0, 0, 0, 1])
    remarks = [None, ("month", "in May"), ("month", "in June"), ("soil", "on red ground"), ("month", "in May")]
    found = _compatible(kinds, remarks)
    assert found[:4, :4].sum() == 16 - 2  # all but May against June
    assert not found[1, 2]
    assert found[4].tolist() == [False] * 4 + [True]


def test_one_month_left_is_an_observed_one():
    rng = np.random.default_rng(0)
    years = rng.random((500, 12, 10)).astype(np.float32)
    years[rng.random((500, 12)) < 0.5] = np.nan
    years[:, 5] = 0.5
    left = one_month_left(years, rng)
    kept = ~np.isnan(left).all(2)
    np.testing.assert_array_equal(kept.sum(1), 1)
    np.testing.assert_array_equal(left[kept], years[kept])
    assert len(np.unique(np.nonzero(kept)[1])) == 12
    patches = np.repeat(years[..., None, None], 5, axis=3).repeat(5, axis=4)
    assert (~np.isnan(one_month_left(patches, rng)).all((2, 3, 4))).sum() == 500


def test_told_equals_scikit_learn():
    rng = np.random.default_rng(3)
    vectors = np.eye(4, 6, dtype=np.float32)
    truth = rng.integers(0, 3, 200)  # no place of the fourth class
    embeddings = (vectors[truth] + rng.normal(0, 0.6, (200, 6))).astype(np.float32)
    found = told(embeddings, vectors, truth, np.arange(200), draws=200)
    matrix = confusion_matrix(truth, (embeddings @ vectors.T).argmax(1), labels=range(4))
    assert found.top1.value == pytest.approx(np.trace(matrix) / 200)
    assert found.mean_class.value == pytest.approx(np.mean([matrix[i, i] / matrix[i].sum() for i in range(3)]))
    assert found.top1.low < found.top1.value < found.top1.high
