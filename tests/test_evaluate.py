"""Zero-shot evaluation: composites, hub correction, labels of a table, and the command."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from timesenmap.model.checkpoint import save_encoder
from timesenmap.model.encoder import load_encoder, new_encoder
from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import labelled_series, zero_shot_report
from timesenmap.model.evaluation_pages import markdown
from timesenmap.model.prompt_files import write_prompt_file
from timesenmap.model.prompts import PromptSet, class_embeddings, load_prompt_set
from timesenmap.model.series import SERIES_COLUMNS, read_series
from timesenmap.model.zero_shot import (
    composited,
    fit_hub_means,
    hub_corrected,
    hub_means_of,
    match_labels,
    probabilities,
)
from timesenmap.workflows.evaluate_encoder import main


def series_with_gaps(rows: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.uniform(0.01, 0.6, size=(rows, 12, 10)).astype(np.float32)
    values[generator.uniform(size=(rows, 12)) < 0.4] = np.nan  # whole months, as clouds do
    values[:, :, 7][generator.uniform(size=(rows, 12)) < 0.2] = np.nan  # and one band alone
    return values


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("encoder") / "fresh.safetensors"
    save_encoder(new_encoder("small", seed=3), path)
    return str(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 series: 33 of four classes (in odd spellings), 4 of other words, 2 empty cells, 1 without observation."""
    values = series_with_gaps(40)
    crops = ["Maize"] * 12 + ["common wheat"] * 10 + ["  RICE "] * 6 + ["alfalfa"] * 5
    crops += ["fallow"] * 3 + ["a wood"] + [None] * 2 + ["Maize"]
    values[39] = np.nan
    frame = pd.DataFrame(values.reshape(40, 120), columns=list(SERIES_COLUMNS))
    frame["dataset"], frame["sample_id"] = "made up", [f"s{i}" for i in range(40)]
    frame["lon"], frame["lat"] = np.arange(40) * 0.5, 50.0
    frame["label"], frame["crop"], frame["level"] = "unknown", crops, "L2A"
    path = tmp_path_factory.mktemp("data") / "series.parquet"
    frame.to_parquet(path)
    return str(path)


CLASSES = ["Maize", "Common wheat", "Cotton", "Rice", "Vineyards", "Lucerne", "Olive groves"]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Seven classes of the shipped set crops with one prompt each: few texts to embed in every run."""
    shipped = {c.name: c for c in load_prompt_set("crops").classes}
    classes = [shipped[name].model_copy(update={"prompts": shipped[name].prompts[1:2]}) for name in CLASSES]
    path = tmp_path_factory.mktemp("prompts") / "few.yaml"
    write_prompt_file(PromptSet(name="few", title="Few crops", classes=tuple(classes)), path)
    return str(path)


@pytest.fixture(scope="module")
def inputs(table: str, checkpoint: str, crops: str) -> dict[str, str]:
    return {"--data": table, "--prompts": crops, "--labels": "crop", "--encoder": checkpoint}


def run(options: dict[str, str], *more: str) -> Any:
    return CliRunner().invoke(main, ["zero-shot", *(word for pair in options.items() for word in pair), *more])


# ---- composites


@pytest.mark.parametrize(("kind", "frames"), [("seasonal", 4), ("annual", 1)])
@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_composites_are_medians_of_what_was_observed(kind: str, frames: int) -> None:
    values = series_with_gaps(50)
    values[0] = np.nan
    found = composited(values, kind)  # type: ignore[arg-type]
    expected = np.stack([np.nanmedian(part, axis=1) for part in np.split(values, frames, axis=1)], axis=1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert np.isnan(found[0]).all()


def test_composites_of_patches_and_of_months() -> None:
    values = np.random.default_rng(0).uniform(size=(3, 12, 10, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(composited(values, "seasonal"), np.median(values.reshape(3, 4, 3, 10, 5, 5), axis=2))
    assert composited(values, "monthly") is values


def test_composites_refuse_other_series_and_words() -> None:
    with pytest.raises(ModelError, match="4 months"):
        composited(np.zeros((2, 4, 10), np.float32), "annual")
    with pytest.raises(ModelError, match=r"'weekly'.*monthly, seasonal, annual"):
        composited(np.zeros((2, 12, 10), np.float32), "weekly")  # type: ignore[arg-type]


# ---- hub correction


def hub_set() -> PromptSet:
    names = ["Kelp", "Sand", "Pier", "Rock"]
    return PromptSet.model_validate(
        {
            "name": "shore",
            "title": "A shore",
            "classes": [
                {"code": i + 1, "name": name, "colour": f"#00000{i}", "prompts": [name.lower()]}
                for i, name in enumerate(names)
            ],
        }
    )


def an_encoder(sha256: str = "a" * 64) -> Any:
    return SimpleNamespace(sha256=sha256, name="fake")


def cosines_with_a_hub(rows: int = 300) -> np.ndarray:
    generator = np.random.default_rng(2)
    return generator.normal([0.0, 0.15, -0.1, 0.05], 0.1, size=(rows, 4)).astype(np.float32)


def test_hub_correction_wins_as_in_the_authors_test_script() -> None:
    cosine = cosines_with_a_hub()
    hub = fit_hub_means(cosine, hub_set(), an_encoder())
    shifted = cosine.astype(np.float64) / 2 + 1
    authors = shifted / (shifted.mean(axis=0, keepdims=True) + 1e-6)
    corrected = hub_corrected(cosine, np.array(hub.means))
    np.testing.assert_array_equal(corrected.argmax(axis=1), authors.argmax(axis=1))
    assert (corrected.argmax(axis=1) != cosine.argmax(axis=1)).mean() > 0.1, "the example must need a correction"
    # On the scale of a cosine: proportional to the authors' score, so that the temperature keeps its meaning.
    ratio = (corrected + 2) / authors
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-6)
    assert corrected.std() == pytest.approx(cosine.std(), rel=0.25)


def test_hub_correction_of_blocks_is_that_of_the_whole() -> None:
    cosine = cosines_with_a_hub()
    means = np.array(fit_hub_means(cosine, hub_set(), an_encoder()).means)
    blocks = [hub_corrected(block, means) for block in np.array_split(cosine, 7)]
    np.testing.assert_array_equal(np.concatenate(blocks), hub_corrected(cosine, means))


def test_equal_means_change_nothing() -> None:
    cosine = cosines_with_a_hub()
    np.testing.assert_allclose(hub_corrected(cosine, np.full(4, 0.21)), cosine, atol=1e-6)


def test_hub_means_travel_with_the_prompt_set_and_are_checked(tmp_path: Path) -> None:
    prompt_set = hub_set()
    assert hub_means_of(prompt_set, an_encoder()) is None
    hub = fit_hub_means(cosines_with_a_hub(), prompt_set, an_encoder())
    fitted = prompt_set.model_copy(update={"hub_means": hub})
    write_prompt_file(fitted, tmp_path / "fitted.yaml")
    read = load_prompt_set(str(tmp_path / "fitted.yaml"))
    assert read == fitted
    assert read.sha256 != prompt_set.sha256
    np.testing.assert_allclose(hub_means_of(read, an_encoder()), cosines_with_a_hub().mean(axis=0), atol=1e-6)
    with pytest.raises(ModelError, match=r"'shore'.*of the encoder aaaaaaaaaaaa.*'fake', is bbbbbbbbbbbb.*again"):
        hub_means_of(read, an_encoder("b" * 64))
    content = yaml.safe_load((tmp_path / "fitted.yaml").read_text())
    content["classes"][0]["prompts"] = ["brown seaweed"]
    with pytest.raises(ModelError, match=r"'shore'.*prompts were changed"):
        hub_means_of(PromptSet.model_validate(content), an_encoder())


def test_hub_means_need_series() -> None:
    with pytest.raises(ModelError, match="no series"):
        fit_hub_means(np.zeros((0, 4), np.float32), hub_set(), an_encoder())


# ---- labels and measures


def test_labels_match_by_name_and_alias() -> None:
    values = pd.Series(["Maize", "maize ", "CORN", "soya  beans", "Fallow", None, np.nan, "Fallow", 3])
    matched = match_labels(values, load_prompt_set("crops"))
    names = [c.name for c in load_prompt_set("crops").classes]
    assert [names[i] if i >= 0 else None for i in matched.index] == ["Maize"] * 3 + ["Soya"] + [None] * 5
    assert matched.others == {"Fallow": 2, "": 2, "3": 1}


def test_probabilities_are_scipys_softmax() -> None:
    from scipy.special import softmax

    scores = cosines_with_a_hub(20)
    found = probabilities(scores, temperature=0.01)
    np.testing.assert_allclose(found, softmax(scores.astype(np.float64) / 0.01, axis=1), rtol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 8, 31, 128, 250])
def test_probabilities_have_the_bits_of_a_sum_along_rows(k: int) -> None:
    scores = np.random.default_rng(k).uniform(-0.3, 0.9, (2000, k)).astype(np.float32)
    logits = scores.astype(np.float64) / 0.07
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(probabilities(scores, temperature=0.07), weights / weights.sum(axis=1, keepdims=True))


def test_report_is_what_scikit_learn_says(table: str, checkpoint: str, crops: str) -> None:
    from sklearn import metrics as oracle

    prompt_set, encoder = load_prompt_set(crops), load_encoder(checkpoint, device="cpu", precision="float32")
    series = labelled_series(read_series(table), prompt_set, labels="crop")
    vectors = class_embeddings(prompt_set, encoder)
    generator = np.random.default_rng(0)
    leaning = vectors[series.truth] + generator.normal(0, 0.45, size=(len(series.truth), vectors.shape[1]))
    cosine = (leaning @ vectors.T).astype(np.float32)
    report = zero_shot_report(series, cosine, prompt_set, encoder, data=table, labels="crop")
    truth, predicted = series.truth, cosine.argmax(axis=1)
    names = np.array([c.name for c in prompt_set.classes])
    assert list(names[truth]) == ["Maize"] * 12 + ["Common wheat"] * 10 + ["Rice"] * 6 + ["Lucerne"] * 5
    assert (report.rows, report.rows_left_out, report.rows_unobserved) == (33, 6, 1)
    assert report.left_out == {"fallow": 3, "": 2, "a wood": 1}
    assert 0.2 < report.top1 < 0.95, "neither hopeless nor perfect, or the test shows little"
    assert report.top1 == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert report.top5 == pytest.approx(oracle.top_k_accuracy_score(truth, cosine, k=5, labels=range(7)))
    assert report.macro_f1 == pytest.approx(oracle.f1_score(truth, predicted, average="macro"))
    recalls = oracle.recall_score(truth, predicted, labels=np.unique(truth), average=None)
    assert report.mean_class_accuracy == pytest.approx(recalls.mean())
    np.testing.assert_array_equal(report.confusion_matrix, oracle.confusion_matrix(truth, predicted, labels=range(7)))
    assert report.chance == 1 / 7
    assert report.majority == pytest.approx(12 / 33)
    interval = report.intervals["top1"]
    assert interval.low < report.top1 < interval.high
    by_name = {c.name: c for c in report.classes}
    assert by_name["Rice"].rows == 6
    assert by_name["Rice"].accuracy == pytest.approx((predicted[truth == truth[22]] == truth[22]).mean())
    assert by_name["Cotton"].accuracy is None


def test_series_in_too_few_places_are_resampled_by_rows_and_said_so(table: str, crops: str) -> None:
    frame = pd.read_parquet(table)
    series = read_series(table)
    series.frame["lon"] = np.arange(40) // 10 * 0.5
    found = labelled_series(series, load_prompt_set(crops), labels="crop")
    assert len(np.unique(found.groups)) == len(found.truth)
    assert found.resampled.startswith("rows (4 cells")
    series.frame["lon"] = frame["lon"] // 1  # two series a cell
    found = labelled_series(series, load_prompt_set(crops), labels="crop")
    assert len(np.unique(found.groups)) == 17
    assert found.resampled == "17 cells of 0.1 degrees"


# ---- the command


def test_json_alone_on_standard_output_is_the_independent_result(inputs: dict[str, str]) -> None:
    done = run(inputs, "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    encoder, prompt_set = load_encoder(inputs["--encoder"]), load_prompt_set(inputs["--prompts"])
    frame = pd.read_parquet(inputs["--data"])
    wanted = {"Maize": "Maize", "common wheat": "Common wheat", "  RICE ": "Rice", "alfalfa": "Lucerne"}
    rows = frame["crop"].isin(wanted) & (frame.index < 39)  # the last one has no observation
    bands = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    values = np.stack(
        [frame.loc[rows, [f"{band}_m{month:02d}" for band in bands]].to_numpy() for month in range(1, 13)], axis=1
    )
    names = [c.name for c in prompt_set.classes]
    truth = np.array([names.index(wanted[label]) for label in frame.loc[rows, "crop"]])
    predicted = (encoder.embed(values) @ class_embeddings(prompt_set, encoder).T).argmax(axis=1)
    assert report["top1"] == pytest.approx((truth == predicted).mean())
    assert report["rows"] == 33
    assert [c["predicted"] for c in report["classes"]] == np.bincount(predicted, minlength=7).tolist()
    assert report["encoder_sha256"] == encoder.sha256
    assert report["prompts_sha256"] == prompt_set.sha256
    assert "variants" not in report


def test_tables_files_and_pictures_of_several_variants(inputs: dict[str, str], tmp_path: Path) -> None:
    from PIL import Image

    out = tmp_path / "new" / "eval"
    done = run(
        inputs | {"--out": str(out)},
        *("--family", "class-name", "--family", "descriptive", "--composites", "monthly", "--composites", "annual"),
    )
    assert done.exit_code == 0, done.stderr
    for words in ("top-1", "mean class", "Maize", "fallow 3", "1 rows", "33 series"):
        assert words in done.stdout
    variants = json.loads((out / "zero-shot-few.json").read_text())["variants"]
    made = [(v["family"], v["composites"]) for v in variants]
    assert made == [(f, c) for c in ("monthly", "annual") for f in ("class-name", "descriptive")]
    assert len({json.dumps(v["confusion_matrix"]) for v in variants}) > 1, "the variants must differ"
    page = (out / "zero-shot-few.md").read_text()
    lines = page.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("| family"))
    assert [line.count("|") for line in lines[header : header + 6]] == [lines[header].count("|")] * 6
    assert f"{100 * variants[0]['top1']:.1f} (" in lines[header + 2]
    for family, kind in made:
        with Image.open(out / f"zero-shot-few-{family}-{kind}.png") as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300


def test_class_names_with_bars_keep_the_markdown_table_whole(table: str, checkpoint: str, crops: str) -> None:
    content = load_prompt_set(crops).model_dump()
    maize = next(c for c in content["classes"] if c["name"] == "Maize")
    maize["name"], maize["aliases"] = "Maize | corn", ["maize"]
    prompt_set, encoder = PromptSet.model_validate(content), load_encoder(checkpoint)
    series = labelled_series(read_series(table), prompt_set, labels="crop")
    cosine = np.zeros((33, 7), np.float32)
    page = markdown([zero_shot_report(series, cosine, prompt_set, encoder, data=table, labels="crop")])
    assert "Maize \\| corn" in page


def test_hub_means_are_fitted_written_applied_and_switched_off(inputs: dict[str, str], tmp_path: Path) -> None:
    fitted = inputs | {"--prompts": str(tmp_path / "mine.yaml")}
    fit = json.loads(run(inputs, "--json", "--fit-hub-means", fitted["--prompts"]).stdout)
    applied = json.loads(run(fitted, "--json").stdout)
    plain = json.loads(run(fitted, "--json", "--no-hub-means").stdout)
    assert fit["hub_correction"]
    assert applied == fit
    assert not plain["hub_correction"]
    assert plain["confusion_matrix"] == json.loads(run(inputs, "--json").stdout)["confusion_matrix"]
    # A fresh encoder gives all series nearly one embedding: without the correction few classes take everything.
    taken = {name: sum(c["predicted"] > 0 for c in report["classes"]) for name, report in (("hub", fit), ("no", plain))}
    assert taken["hub"] > taken["no"]
    other = json.loads(run(fitted, "--json", "--composites", "annual").stdout)
    assert not other["hub_correction"], "means fitted on months are not for years"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "culture"], ["'culture'", "crop", "label"]),
        (["--labels", "label"], ["'label'", "'few'", "'Common wheat'", "'unknown'"]),
        (["--prompts", "crop"], ["'crop'", "did you mean crops"]),
        (["--data", "nowhere.parquet"], ["nowhere.parquet", "not found"]),
        (["--encoder", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--fit-hub-means", "x.txt"], ["x.txt", ".yaml"]),
        (["--fit-hub-means", "x.yaml", "--composites", "annual"], ["hub means", "monthly"]),
        (["--family", "poetic"], ["poetic", "descriptive"]),
        (["--device", "abacus"], ["abacus"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(inputs | {"--out": "eval"} | dict(zip(arguments[::2], arguments[1::2], strict=True)))
    assert done.exit_code == 2
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


def test_out_must_not_be_a_file(inputs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "eval").write_text("")
    done = run(inputs | {"--out": str(tmp_path / "eval")})
    assert done.exit_code == 2
    assert "is a file" in done.stderr


def test_pictures_without_matplotlib_are_refused_before_the_work(
    inputs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timesenmap.model.evaluation_pages.find_spec", lambda name: None)
    done = run(inputs | {"--out": str(tmp_path / "eval")})
    assert done.exit_code == 2
    assert "pip install 'timesenmap[train]'" in done.stderr
    assert not (tmp_path / "eval").exists()
    assert run(inputs, "--json").exit_code == 0, "without pictures nothing of the extra is needed"


def test_real_series_end_to_end(shared_data: Path, checkpoint: str, tmp_path: Path) -> None:
    source = shared_data / "series" / "lesotho_deafrica_2021.parquet"
    frame = pd.read_parquet(source).iloc[::10]
    names = {
        "grassland": "Grassland",
        "forest": "Woodland",
        "annual cropland": "Cropland",
        "shrubland": "Shrubland",
        "wetland": "Wetlands",
        "water": "Water",
        "bare": "Bare land and lichens",
        "built-up": "Artificial land",
    }
    frame["lc"] = frame["landcover"].map(names)
    frame.to_parquet(tmp_path / "lesotho.parquet")
    options = {"--data": str(tmp_path / "lesotho.parquet"), "--prompts": "land-cover", "--labels": "lc"}
    done = run(options | {"--encoder": checkpoint}, "--json", "--composites", "seasonal")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["rows"] == frame["lc"].notna().sum() > 200
    assert {c["name"]: c["rows"] for c in report["classes"]} == {
        name: int((frame["lc"] == name).sum()) for name in names.values()
    }
