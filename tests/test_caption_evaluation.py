"""The numbers behind a model card: hand-worked scores, forest, free words, hidden months, and whole tiny runs."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from sklearn.metrics import f1_score, precision_score, recall_score

from timesenmap.model.caption_evaluation import (
    CaptionSamples,
    EncodedSamples,
    answer,
    crop_sources,
    land_covers,
    real_samples,
    sides_of,
)
from timesenmap.model.caption_scores import class_scores, compare, kept_where_sure, present_f1, reliability
from timesenmap.model.captions import UNLABELLED, CaptionTable, load_captions
from timesenmap.model.errors import ModelError
from timesenmap.model.forest import fold_rows, forest_predictions
from timesenmap.model.free_wording import (
    FreeWording,
    check_wording,
    load_free_wording,
    nonsense_scores,
    prompt_scores,
    unseen_wordings,
)
from timesenmap.model.held_out import CROPS, FINEST, LAND, PRESENT, held_out_report, questions_of
from timesenmap.model.left_out import left_out_report, read_groups, starter_groups
from timesenmap.model.series import SERIES_COLUMNS, SIMULATED, Split
from timesenmap.model.shown import SHOWN, high_summer_only, one_month_only, variants_of, without_bands
from timesenmap.model.training_config import TrainingConfig, dump_config, resolve_config
from timesenmap.model.training_scores import Question, finest_present
from timesenmap.workflows.evaluate_encoder import main
from timesenmap.workflows.evaluation_page import write_page

NAN = np.nan


def caption(landcover: str | None, phrasing: str, **more: Any) -> dict[str, Any]:
    return {"kind": "land", "landcover": landcover, "phrasings": (phrasing,), "unseen": (f"not {phrasing}",), **more}


TABLE = CaptionTable.model_validate({
    "templates": {"crop": ("{}", "a field of {}"), "trees": ("{}",), "land": ("{}",)},
    "captions": {
        "cropland": caption("cropland", "fields"),
        "maize": caption("cropland", "maize plants", kind="crop", within=("cropland",)),
        "wheat": caption("cropland", "bread wheat", kind="crop", within=("cropland",)),
        "water": caption("water", "a lake"),
        "forest": caption("forest", "woodland"),
    },
    "sources": {
        "north": {"about": "x", "labels": {"M": "maize", "W": "wheat", "L": "water", "C": "cropland"}},
        "south": {"about": "x", "labels": {"M": "maize", "L": "water", "F": "forest", "C": "cropland"}},
        "simulated": {"about": "x", "labels": {"L": "water", "F": "forest"}},
    },
})  # fmt: skip
CROPLAND, MAIZE, WHEAT, WATER, FOREST = range(5)
WORDING = FreeWording(prompts={"corn": "maize", "a reservoir": "water"}, nonsense=("a chess tournament", "a song"))


def samples_of(captions: list[int], sources: list[str] | str = "north", lat: float = 45.0) -> CaptionSamples:
    rows = len(captions)
    frame = pd.DataFrame({"dataset": sources, "lon": np.arange(rows) * 1.0, "lat": lat, "label": "?"})
    frame["sample_id"] = np.arange(rows)
    numbers = np.array(captions)
    landcover = np.where(numbers == UNLABELLED, UNLABELLED, TABLE.landcover[numbers])
    return CaptionSamples(np.full((rows, 12, 10), 0.1, np.float32), numbers, landcover, frame)


# ---- scores


def test_macro_f1_is_over_the_classes_present() -> None:
    # truth 0 0 0 1 2, given 0 0 1 1 3: F1 of class 0 is 4/5, of class 1 is 2/3, of class 2 is 0; class 3 is nobody's.
    truth, given = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 3])
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (truth, given), 1)
    assert present_f1(confusion) == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    assert present_f1(confusion, np.array([True, False, True, True])) == pytest.approx((4 / 5 + 0) / 2)
    assert np.isnan(present_f1(np.zeros((3, 3))))


def test_scores_and_their_difference_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 300, p=[0.6, 0.3, 0.09, 0.01])
    own = np.where(rng.random(300) < 0.7, truth, rng.integers(0, 5, 300))
    forest = np.where(rng.random(300) < 0.9, truth, rng.integers(0, 4, 300))
    assert np.bincount(truth).min() < 5, "one class must be rare"
    scores, reference, difference = compare(truth, own, forest, 5, np.arange(300))

    def oracle(given: np.ndarray, labels: list[int]) -> float:
        return float(f1_score(truth, given, labels=labels, average="macro"))

    assert reference is not None and difference is not None  # noqa: PT018
    assert scores.accuracy.value == pytest.approx((truth == own).mean())
    assert scores.macro_f1.value == pytest.approx(oracle(own, [0, 1, 2, 3]))
    assert scores.macro_f1_frequent.value == pytest.approx(oracle(own, [0, 1, 2]))
    assert reference.macro_f1.value == pytest.approx(oracle(forest, [0, 1, 2, 3]))
    assert difference.value == pytest.approx(oracle(own, [0, 1, 2, 3]) - oracle(forest, [0, 1, 2, 3]))
    assert scores.accuracy.low < scores.accuracy.value < scores.accuracy.high
    # Drawn together, a difference is surer than two numbers drawn apart would make it; and here it is one.
    assert difference.high < 0


def test_every_class_has_recall_precision_and_f1_of_both() -> None:
    truth, own = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 1, 2])
    forest = np.array([0, 1, 1, 1, 0, 3])
    found = class_scores(["a", "b", "c", "d"], truth, own, forest)
    assert [one.name for one in found] == ["a", "b", "d"], "the largest first, classes without rows left out"
    for one, number in zip(found, (0, 1, 3), strict=True):
        for prefix, given in (("", own), ("forest_", forest)):
            options = {"labels": [number], "average": None, "zero_division": 0}
            assert getattr(one, f"{prefix}recall") == pytest.approx(recall_score(truth, given, **options)[0])
            assert getattr(one, f"{prefix}f1") == pytest.approx(f1_score(truth, given, **options)[0])
            if (given == number).any():
                expected = precision_score(truth, given, **options)[0]
                assert getattr(one, f"{prefix}precision") == pytest.approx(expected)
    assert found[2].precision is None, "never given"
    assert [one.predicted for one in found] == [2, 3, 0]


def test_reliability_and_what_is_kept() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.52, 0.52])
    correct = np.array([True, True, True, False, False, True])
    found = reliability(confidence, correct)
    # Two bins: 4 answers at 0.95 of which 3/4 are right, 2 at 0.52 of which half are.
    assert found.error == pytest.approx((4 * 0.2 + 2 * 0.02) / 6)
    full = [one for one in found.bins if one.rows]
    assert [(one.rows, one.accuracy) for one in full] == [(2, 0.5), (4, 0.75)]
    assert all(one.low < 0.96 and one.low <= one.confidence <= one.high for one in full)
    kept = {one.confidence: (one.coverage, one.accuracy) for one in kept_where_sure(confidence, correct)}
    assert kept[0.5] == (1.0, pytest.approx(4 / 6))
    assert kept[0.9] == (pytest.approx(4 / 6), 0.75)


def test_answers_are_the_largest_cosine_with_its_softmax() -> None:
    embeddings = np.eye(3, dtype=np.float32)
    vectors = np.array([[0.6, 0.8, 0], [0.8, 0.6, 0], [0, 0, 1]], np.float32)
    asked = Question(rows=np.array([0, 1]), options=np.array([1, 0]), answer=np.array([0, 1]))
    told = answer(embeddings, vectors, asked, temperature=0.1)
    assert told.predicted.tolist() == [0, 1]
    np.testing.assert_allclose(told.confidence, 1 / (1 + np.exp(-2.0)), rtol=1e-5)


# ---- the forest


def test_folds_hold_every_row_once_and_spread_every_class() -> None:
    truth = np.array([0] * 23 + [1] * 5 + [2] * 3 + [3])
    folds = fold_rows(truth, folds=5, seed=1)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(32))
    counts = np.array([np.bincount(truth[rows], minlength=4) for rows in folds])
    assert (np.ptp(counts, axis=0) <= 1).all(), "as spread as can be"
    assert counts[:, 1].tolist() == [1] * 5
    assert np.ptp(counts.sum(1)) <= 1
    again, other = fold_rows(truth, seed=1), fold_rows(truth, seed=2)
    assert all((a == b).all() for a, b in zip(folds, again, strict=True))
    assert any(a.tolist() != b.tolist() for a, b in zip(folds, other, strict=True))
    with pytest.raises(ModelError, match="5 folds need a class with 5 samples; the largest has 2"):
        fold_rows(np.array([0, 0, 1]))


def test_the_forest_tells_what_can_be_told_and_never_its_own_samples() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0] * 40 + [2] * 30 + [5])
    reflectance = rng.uniform(0.05, 0.1, (71, 12, 3)).astype(np.float32)
    reflectance[truth == 2, 4:6] += 0.3
    reflectance[rng.random(reflectance.shape[:2]) < 0.2] = NAN  # months that are missing
    reflectance[:, 11] = NAN
    told = forest_predictions(reflectance, truth, trees=50)
    seen = np.isfinite(reflectance[:, 4, 1])
    assert (told == truth)[seen & (truth < 5)].mean() > 0.9
    assert told[-1] != 5, "a class of one can only be missed"
    np.testing.assert_array_equal(told, forest_predictions(reflectance, truth, trees=50))
    noise = forest_predictions(reflectance[:, :4], truth, trees=50)
    assert (noise == truth).mean() < 0.75, "samples it was grown on would be told even from noise"


# ---- what is shown


def test_the_month_of_high_summer_is_kept_north_and_south() -> None:
    series = np.full((4, 12, 10), NAN, np.float32)
    series[0, [1, 4, 9]] = 0.1  # February, May, October: May is nearest to July
    series[1, [1, 4, 9]] = 0.1  # in the south: February is nearest to January
    series[2, [9, 3]] = 0.1  # October and April are as near to July: the earlier
    series[3, [11, 2]] = 0.1  # in the south December (1 away, across the year) before March
    shown = high_summer_only(series, np.array([45.0, -30.0, NAN, -5.0]))
    assert [np.flatnonzero(np.isfinite(one).any(1)).tolist() for one in shown.reflectance] == [[4], [1], [3], [11]]
    assert shown.rows.all()


def test_one_month_and_bands() -> None:
    series = np.full((2, 12, 10), 0.2, np.float32)
    series[1, 3] = NAN
    april = one_month_only(series, 3)
    assert april.name == "only April"
    assert april.rows.tolist() == [True, False]
    assert np.isfinite(april.reflectance).any(2).sum() == 1
    six = next(one for one in variants_of(series, np.zeros(2)) if one.name.startswith("six bands"))
    assert np.flatnonzero(np.isfinite(six.reflectance[0, 0])).tolist() == [0, 1, 2, 6, 8, 9]
    less = without_bands("x", series, ("B8A",))
    assert np.flatnonzero(np.isnan(less.reflectance[0, 0])).tolist() == [7]
    assert len(variants_of(series, np.zeros(2))) == SHOWN
    assert np.isfinite(series[0]).all(), "the series themselves stay as they were"


# ---- words


def test_no_shipped_free_wording_occurs_in_training() -> None:
    table, wording = load_captions(), load_free_wording()
    check_wording(wording, table)
    trained = {sentence.casefold() for name in table.names for sentence in table.wordings(name)}
    unseen = {word for words in unseen_wordings(table) for word in words}
    assert not trained & {prompt.casefold() for prompt in (*unseen, *wording.prompts, *wording.nonsense)}
    assert len(wording.prompts) >= 30
    assert {"corn", "a vine-growing slope", "conifers", "a reservoir"} <= set(wording.prompts)


@pytest.mark.parametrize("prompt", ["maize plants", "A field of Maize", "the lake", "fields"])
def test_a_prompt_of_training_is_no_free_wording(prompt: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"'{prompt}' is kept for the test")):
        check_wording(WORDING.model_copy(update={"prompts": {prompt: "maize"}}), TABLE)


def test_a_wording_kept_for_one_caption_must_not_train_another() -> None:
    content = TABLE.model_dump()
    content["captions"]["water"]["unseen"] = ("woodland",)
    with pytest.raises(ModelError, match=r"'woodland'.*trains 'forest'"):
        unseen_wordings(CaptionTable.model_validate(content))


def test_a_prompt_for_no_caption_is_refused() -> None:
    with pytest.raises(ModelError, match="'corn' should find 'meize'"):
        check_wording(FreeWording(prompts={"corn": "meize"}, nonsense=("a song",)), TABLE)


def a_tested(embeddings: np.ndarray, samples: CaptionSamples, temperature: float = 0.1) -> EncodedSamples:
    from types import SimpleNamespace

    encoder: Any = SimpleNamespace(config=SimpleNamespace(temperature=temperature))
    return EncodedSamples(encoder, TABLE, samples, embeddings.astype(np.float32), np.eye(5, 6, dtype=np.float32))


def test_a_users_words_stand_for_one_caption_at_a_time() -> None:
    samples = samples_of([MAIZE, MAIZE, WHEAT, WATER])
    embeddings = np.eye(5, 6)[[MAIZE, MAIZE, WHEAT, WATER]]
    embeddings[0] = [0, 0.6, 0, 0, 0, 0.8]  # half of it lies where only the user's word points
    embeddings[1] = [0, 0.7, 0.714, 0, 0, 0]  # as maize in trained words: nearer to wheat
    finest = Question(np.arange(4), np.array([MAIZE, WHEAT, WATER]), np.array([0, 0, 1, 2]))
    corn, reservoir = np.eye(6)[5], 0.9 * np.eye(6)[WATER] + 0.436 * np.eye(6)[WHEAT]
    vectors = np.stack([corn, reservoir]).astype(np.float32)
    found = {
        one.prompt: one for one in prompt_scores(a_tested(embeddings, samples), {FINEST: finest}, WORDING, vectors)
    }
    # "corn" finds row 0 only; trained words find it, too; row 1 goes to wheat either way.
    assert (found["corn"].recall, found["corn"].precision, found["corn"].rows) == (0.5, 1.0, 2)
    assert found["corn"].f1 == found["corn"].f1_trained == pytest.approx(2 / 3)
    assert (found["a reservoir"].recall, found["a reservoir"].nearest) == (1.0, "water")
    assert found["a reservoir"].question == FINEST


def test_nonsense_wins_what_lies_nearest_to_it() -> None:
    samples = samples_of([WATER, WATER, FOREST, MAIZE])
    embeddings = np.eye(5, 6)[[WATER, WATER, FOREST, CROPLAND]]
    embeddings[1] = [0, 0, 0, 0.6, 0, 0.8]
    land = Question(np.arange(4), np.array([CROPLAND, WATER, FOREST]), np.array([1, 1, 2, 0]))
    vectors = np.stack([np.eye(6)[5], np.eye(6)[MAIZE]]).astype(np.float32)
    chess, song, both = nonsense_scores(a_tested(embeddings, samples), land, WORDING, vectors)
    assert (chess.prompt, chess.won, song.won, song.confidence, both.won) == ("a chess tournament", 0.25, 0, None, 0.25)
    odds = np.exp(np.array([8.0, 6.0, 0, 0]))
    assert chess.confidence == pytest.approx(odds[0] / odds.sum(), rel=1e-5)
    assert chess.confident == 0.25


def test_questions_are_asked_of_the_rows_they_are_about() -> None:
    everything = samples_of([CROPLAND, MAIZE, WHEAT, WATER, FOREST, MAIZE, FOREST], ["north"] * 4 + ["south"] * 3)
    assert crop_sources(TABLE) == ("north",), "a source that names one crop tells none apart"
    tested = everything.take(np.array([0, 1, 3, 4, 5]))
    asked = questions_of(tested, everything, TABLE)
    assert asked[PRESENT].rows.tolist() == [0, 1, 2]
    assert asked[PRESENT].options.tolist() == [CROPLAND, MAIZE, WATER]
    assert asked[CROPS].rows.tolist() == [1, 2]
    assert asked[CROPS].options.tolist() == [MAIZE, WHEAT, WATER], "also what only training has"
    assert asked[FINEST].options.tolist() == [MAIZE, WHEAT, WATER, FOREST]
    assert asked[LAND].rows.tolist() == [0, 1, 2, 3, 4]
    assert asked[LAND].options.tolist() == [CROPLAND, WATER, FOREST]


def test_a_caption_is_finest_where_nobody_has_a_narrower_one() -> None:
    everything = samples_of([CROPLAND, MAIZE, WATER, UNLABELLED])
    assert finest_present(TABLE, everything.caption).tolist() == [MAIZE, WATER]
    assert finest_present(TABLE, everything.caption[[0, 2]]).tolist() == [CROPLAND, WATER]
    assert land_covers(everything.take(np.array([1, 3]))).tolist() == [CROPLAND], "forest is nobody's"


# ---- whole tiny runs


def make_series(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Series of five kinds of land that differ by season and brightness, from three sources, one simulated."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(list("MWLFC"), rows)
    season = {"M": 8, "W": 2, "L": 0, "F": 6, "C": 5}
    values = np.empty((rows, 12, 10), np.float32)
    for row, label in enumerate(labels):
        green = np.exp(-(((np.arange(12) - season[label]) / (30 if label == "F" else 2.0)) ** 2)) * (label != "L") * 0.4
        base = 0.03 if label == "L" else 0.1
        values[row] = base + green[:, None] * np.linspace(0.1, 1.0, 10) + rng.normal(0, 0.01, (12, 10))
    frame = pd.DataFrame(np.maximum(values, 0.001).reshape(rows, -1), columns=list(SERIES_COLUMNS))
    frame["label"] = labels
    draw = rng.random(rows)
    frame["dataset"] = np.where(
        labels == "F", "south", np.where(labels == "W", "north", np.where(draw < 0.5, "north", "south"))
    )
    frame.loc[(draw > 0.9) & np.isin(labels, ["L", "F"]), "dataset"] = SIMULATED
    frame["sample_id"] = np.arange(rows).astype(str)
    frame["lon"], frame["lat"] = rng.uniform(0, 5, rows), rng.uniform(40, 45, rows)
    frame["level"] = "L2A"
    return frame


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    folder = tmp_path_factory.mktemp("run")
    make_series().to_parquet(folder / "series.parquet")
    values = {
        "series": (folder / "series.parquet",), "out": folder / "tiny.safetensors",
        "encoder": {"width": 16, "heads": 2, "depth": 1, "feedforward": 16},
        "epochs": 6, "warmup_epochs": 1, "batch": 64, "learning_rate": 3e-3, "queue": 100, "threads": 1,
        "device": "cpu", "split": {"validation": 0.2, "test": 0.3},
    }  # fmt: skip
    resolved = resolve_config(None, values)
    assert isinstance(resolved, TrainingConfig)
    return resolved


@pytest.fixture(scope="module", autouse=True)
def words(request: pytest.FixtureRequest) -> Any:
    """Fixed random vectors for texts, so that no tower is loaded."""

    def embed(texts: Any, spec: Any) -> np.ndarray:
        vectors = np.stack([np.random.default_rng(list(text.encode())).normal(size=384) for text in texts])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timesenmap.model.training.embed_texts", embed)
        patch.setattr("timesenmap.model.towers.embed_texts", embed)
        patch.setattr("timesenmap.model.held_out.load_captions", lambda: TABLE)
        patch.setattr("timesenmap.model.held_out.load_free_wording", lambda: WORDING)
        patch.setattr("timesenmap.model.left_out.load_captions", lambda: TABLE)
        yield


@pytest.fixture(scope="module")
def trained(config: TrainingConfig, words: None) -> Path:
    from timesenmap.model.training import train

    return train(config, captions=TABLE).out


@pytest.fixture(scope="module")
def command(config: TrainingConfig) -> list[str]:
    """Options that every command on series takes."""
    file = config.out.with_name("run.yaml")
    file.write_text(dump_config(config), "utf-8")
    return ["--config", str(file)]


@pytest.fixture(scope="module")
def held_out_folder(trained: Path, command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timesenmap.model.held_out.forest_predictions", few_trees)
        done = CliRunner().invoke(main, ["held-out", *command, "--encoder", str(trained), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Held-out cells" in done.stdout
    return out


def few_trees(reflectance: np.ndarray, truth: np.ndarray, **options: Any) -> np.ndarray:
    return forest_predictions(reflectance, truth, **{**options, "trees": 20})


def test_held_out_counts_measured_series_of_test_cells_only(held_out_folder: Path, config: TrainingConfig) -> None:
    from timesenmap.model.training_series import load_training_data

    report = json.loads((held_out_folder / "held-out.json").read_text())
    data = load_training_data(config.series, config.split, TABLE)
    test = data.table.frame[data.split.test]
    assert SIMULATED in set(data.table.frame["dataset"]), "there are simulated series, which must not count"
    measured = test[test["dataset"] != SIMULATED]
    assert report["sources"] == measured["dataset"].value_counts().sort_index().to_dict()
    questions = {one["name"]: one for one in report["questions"]}
    assert questions[LAND]["rows"] == len(measured)
    assert questions[FINEST]["rows"] == (measured["label"] != "C").sum()
    assert questions[CROPS]["rows"] == ((measured["label"] != "C") & (measured["dataset"] == "north")).sum()
    assert report["sides"]["test"] == len(measured)
    assert sum(report["sides"].values()) == (data.table.frame["dataset"] != SIMULATED).sum()
    rows = {one["name"]: one["rows"] for one in questions[LAND]["classes"]}
    assert rows == measured["label"].map({"M": 1, "W": 1, "C": 1}).fillna(0).groupby(
        measured["label"].map({"L": "water", "F": "forest"}).fillna("cropland")
    ).size().to_dict()  # fmt: skip


def test_simulated_series_count_on_no_side(config: TrainingConfig) -> None:
    from timesenmap.model.training_series import load_training_data

    data = load_training_data(config.series, config.split, TABLE)
    everywhere = np.ones(len(data.table), bool)
    data = replace(data, split=Split(everywhere, everywhere, everywhere))
    measured = (data.table.frame["dataset"] != SIMULATED).sum()
    assert measured < len(data.table)
    assert len(real_samples(data)) == measured
    assert SIMULATED not in set(real_samples(data).sources)
    assert [int(rows.sum()) for rows in sides_of(data).values()] == [measured] * 3


def test_held_out_scores_are_those_of_an_independent_computation(
    held_out_folder: Path, config: TrainingConfig, trained: Path
) -> None:
    from timesenmap.model.encoder import load_encoder
    from timesenmap.model.towers import embed_texts
    from timesenmap.model.training_series import load_training_data

    data = load_training_data(config.series, config.split, TABLE)
    rows = data.split.test & (data.table.frame["dataset"] != SIMULATED).to_numpy()
    encoder = load_encoder(trained, device="cpu")
    options = [CROPLAND, WATER, FOREST]
    vectors = np.stack([embed_texts(TABLE.wordings(TABLE.names[i]), "").mean(0) for i in options])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = encoder.embed(data.reflectance[rows]) @ vectors.T
    given = np.array(options)[similarity.argmax(1)]
    truth = data.labelled.landcover[rows]
    report = json.loads((held_out_folder / "held-out.json").read_text())
    land = next(one for one in report["questions"] if one["name"] == LAND)
    assert land["scores"]["accuracy"]["value"] == pytest.approx((given == truth).mean())
    expected = f1_score(truth, given, labels=np.unique(truth), average="macro")
    assert land["scores"]["macro_f1"]["value"] == pytest.approx(expected)
    # The forest of the report is grown on the same series and tells these easy ones.
    assert land["forest"]["macro_f1"]["value"] > 0.9
    whole = next(one for one in report["shown"] if one["question"] == LAND and one["shown"] == "all months and bands")
    assert whole["scores"]["macro_f1"]["value"] == pytest.approx(expected)
    july = next(one for one in report["shown"] if one["question"] == LAND and one["shown"] == "only July")
    series = np.full_like(data.reflectance[rows], NAN)
    series[:, 6] = data.reflectance[rows][:, 6]
    given = np.array(options)[(encoder.embed(series) @ vectors.T).argmax(1)]
    assert july["scores"]["accuracy"]["value"] == pytest.approx((given == truth).mean())


def test_the_page_holds_every_table_and_needs_no_other_file(held_out_folder: Path) -> None:
    page = (held_out_folder / "index.html").read_text()
    tables = (held_out_folder / "tables.md").read_text()
    titles = re.findall(r"^### (.*)$", tables, re.M)
    assert len(titles) > 10
    import html

    for title in titles:
        assert html.escape(title, quote=False) in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count('<img src="data:image/png;base64,') == 4
    for line in tables.splitlines():
        assert not line.startswith("|") or line.endswith("|")
    for picture in ("reliability", "classes-land-cover"):
        assert (held_out_folder / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_a_report_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "left-out.json").write_text('{"seed": 1}')
    with pytest.raises(ModelError, match=r"left-out.json' is no report of this version"):
        write_page(tmp_path)


@pytest.fixture(scope="module")
def left_out_once(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("left") / "encoders"
    return folder, left_out_report(config, [["south"]], folder, trees=20)


def test_a_source_left_out_is_tested_as_a_whole_and_never_trained_on(
    left_out_once: Any, config: TrainingConfig
) -> None:
    _, report = left_out_once
    (group,) = report.groups
    (source,) = group.sources
    frame = pd.read_parquet(config.series[0])
    measured = frame[frame["dataset"] == "south"]
    assert source.rows == len(measured)
    assert group.training_rows < (frame["dataset"] != "south").sum()
    assert [(one.among_present.name, one.shown) for one in source.questions] == [
        (LAND, "all months"), (LAND, "one month"),
    ]  # fmt: skip
    whole, month = source.questions
    assert whole.among_present.rows == len(measured)
    assert whole.options == 3
    assert whole.ratio == pytest.approx(
        whole.among_present.scores.macro_f1.value / whole.among_present.forest.macro_f1.value
    )
    assert month.among_present.scores.accuracy.value != whole.among_present.scores.accuracy.value


def test_a_group_that_is_done_is_not_trained_again_another_run_is(
    left_out_once: Any, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = left_out_once

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("training")

    monkeypatch.setattr("timesenmap.model.left_out.train", refuse)
    assert left_out_report(config, [["south"]], folder, trees=20) == first
    with pytest.raises(AssertionError, match="training"):
        left_out_report(config.model_copy(update={"epochs": 7}), [["south"]], folder, trees=20)
    other = CaptionTable.model_validate(TABLE.model_dump() | {"templates": TABLE.templates | {"land": ("the {}",)}})
    with pytest.raises(AssertionError, match="training"):
        left_out_report(config, [["south"]], folder, trees=20, captions=other)
    encoder = next(folder.glob("*.safetensors"))
    content = encoder.read_bytes()
    encoder.write_bytes(content[:-4] + bytes(4))
    try:
        with pytest.raises(AssertionError, match="training"):
            left_out_report(config, [["south"]], folder, trees=20)
    finally:
        encoder.write_bytes(content)


def test_an_encoder_that_may_have_seen_them_is_no_start(config: TrainingConfig, tmp_path: Path) -> None:
    begun = config.model_copy(update={"start": "starter"})
    with pytest.raises(ModelError, match="start 'starter' may have seen what is left out: take start out"):
        left_out_report(begun, [["south"]], tmp_path, trees=20)


def test_left_out_command_with_few_epochs(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timesenmap.model.left_out.forest_predictions", few_trees)
    arguments = ["left-out", *command, "--leave-out", "north", "--epochs", "1", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["epochs"] == 1
    asked = {one["among_present"]["name"] for one in report["groups"][0]["sources"][0]["questions"]}
    assert asked == {LAND, FINEST}, "north tells crops apart"
    page = (tmp_path / "tables.md").read_text()
    assert page.startswith("## Sources left out of training")
    assert "| north | finest captions | one month |" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--leave-out", "nowhere"], "'nowhere' is no dataset or region of the series: datasets are north, south"),
        (["--leave-out", SIMULATED], "'simulated' is no dataset or region"),
        (["--leave-out", "north", "--groups", "x.yaml"], "give one of them"),
        (["--groups", "x.yaml"], "groups 'x.yaml' cannot be read"),
    ],
)
def test_bad_groups_are_named(command: list[str], tmp_path: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["left-out", *command, *arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert message in done.stderr.strip().splitlines()[-1]


def test_groups_of_the_starter_are_sources_of_the_caption_table(tmp_path: Path) -> None:
    groups = starter_groups()
    named = [name for group in groups for name in group]
    assert len(set(named)) == len(named)
    assert set(named) <= set(load_captions().sources)
    (tmp_path / "g.yaml").write_text(yaml.safe_dump({"groups": [["a", "b"], ["c"]]}))
    assert read_groups(tmp_path / "g.yaml") == (("a", "b"), ("c",))
    (tmp_path / "g.yaml").write_text("groups: 3\n")
    with pytest.raises(ModelError, match="write groups: and a list"):
        read_groups(tmp_path / "g.yaml")


def test_nothing_to_test_is_said(config: TrainingConfig, trained: Path) -> None:
    from timesenmap.model.encoder import load_encoder

    split = config.split.model_copy(update={"test": 0.0})
    with pytest.raises(ModelError, match=r"0 measured series .* split.test a larger share"):
        held_out_report(load_encoder(trained, device="cpu"), config.model_copy(update={"split": split}))
