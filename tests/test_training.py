"""Training: configuration, batches, and whole tiny runs that are killed and resumed."""

import csv
import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner
from sklearn.metrics import recall_score
from training_fixture import TABLE, files, make_config, make_series, pairs_of, train, weights_of, words

from timesenmap.model.architecture import TimeSenCLIP
from timesenmap.model.captions import Labelled, load_captions
from timesenmap.model.checkpoint import read_module
from timesenmap.model.errors import ModelError
from timesenmap.model.series import SERIES_COLUMNS, SIMULATED, SeriesTable
from timesenmap.model.training_config import HidingConfig, NoiseConfig, dump_config, resolve_config
from timesenmap.model.training_data import (
    CaptionPairs,
    EpochBatches,
    PairBatch,
    fill_gaps,
    surface_series,
    with_noise,
)
from timesenmap.workflows.train_encoder import main

__all__ = ["files", "train", "words"]  # fixtures

QUIET = NoiseConfig(brightness=0, colour=0, month=0, value=0)


# ---- configuration


def test_flags_win_over_the_file_and_what_is_written_reads_back(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("series: [a.parquet]\nout: x.safetensors\nepochs: 50\nseed: 3\nsplit: {seed: 9}\n")
    config = resolve_config(file, {"epochs": 20, "seed": None})
    assert (config.epochs, config.seed, config.split.seed, config.queue) == (20, 3, 9, 2048)
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config))
    assert resolve_config(again, {}) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "epoch: Extra inputs"),
        ({"hiding": {"moths": 0.5}}, "hiding.moths: Extra inputs"),
        ({"targets": "capions"}, "targets 'capions' are unknown: choose one of captions, photos"),
        ({"out": "x.pt"}, "must end in .safetensors"),
        ({"series": []}, "series"),
        ({"batch": "many"}, "batch"),
        ({"size": "paper", "hiding": {"bands": 0.2}}, "which bands are present"),
        ({"epochs": 2, "warmup_epochs": 2}, "warmup_epochs 2.0 leave nothing"),
        ({"encoder": {"wdith": 3}}, "wdith"),
        ({"temperature": 0.001}, "temperature"),
        ({"epochs": 0}, "epochs 0 train nothing: they need a start, and a teacher with a weight"),
        ({"epochs": 0, "start": "starter"}, "epochs 0 train nothing"),
        ({"teacher": {"weight": 1, "mix": 2}}, "teacher.mix: Input should be less than or equal to 1"),
    ],
)
def test_a_slip_in_the_configuration_is_named(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        make_config(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_configuration_are_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        resolve_config(tmp_path / "none.yaml", {})
    file = tmp_path / "list.yaml"
    file.write_text("- a\n")
    with pytest.raises(ModelError, match="holds no fields"):
        resolve_config(file, {})


def test_the_configuration_of_the_shipped_encoder_is_valid():
    path = Path(sys.modules["timesenmap.model"].__path__[0]) / "weights" / "starter.yaml"
    config = resolve_config(path, {"series": ["x.parquet"]})
    assert config.size == "small"
    west, south, east, north = config.split.exclude[0]
    bounds = (3.0193, 50.8130, 3.0284, 50.8189)  # of belgium-2018
    assert west < bounds[0]
    assert south < bounds[1]
    assert east > bounds[2]
    assert north > bounds[3]


# ---- batches


class CountingPairs:
    """Pairs whose series say which place they are."""

    spared = None
    distractors = None

    def __init__(self, weights):
        self.weights = np.asarray(weights, np.float64)

    def batch(self, rows, rng):
        return PairBatch(torch.from_numpy(rows), torch.from_numpy(rng.random(len(rows))), torch.from_numpy(rows))


def test_an_epoch_draws_places_by_weight_and_ends_with_a_short_batch():
    pairs = CountingPairs([1, 2, 3, 0, 4])
    batches = EpochBatches(pairs, samples=1003, batch=100, seed=1, epoch=0)
    drawn = [batches[number] for number in range(len(batches))]
    assert [len(batch.group) for batch in drawn] == [100] * 10 + [3]
    counts = np.bincount(torch.cat([batch.group for batch in drawn]).numpy(), minlength=5)
    np.testing.assert_allclose(counts, 1003 * np.array([0.1, 0.2, 0.3, 0, 0.4]), atol=1)
    with pytest.raises(IndexError):
        batches[11]


def test_batches_depend_on_seed_epoch_and_number_only():
    pairs = CountingPairs(np.ones(50))

    def draw(**options):
        batches = EpochBatches(pairs, **({"samples": 50, "batch": 20, "seed": 1, "epoch": 2} | options))
        return [tuple(batches[number].targets.tolist()) for number in (2, 0)]

    assert draw() == draw()
    assert len({*draw(), *draw(seed=2), *draw(epoch=3)}) == 6


def test_targets_are_sentences_true_of_the_series(tmp_path):
    config = make_config(tmp_path, landcover_share=0.4)
    pairs = pairs_of(make_series(), config)
    rows = np.repeat(np.flatnonzero(pairs.labelled.caption == TABLE.numbers["maize"])[:1], 3000)
    batch = pairs.batch(rows, np.random.default_rng(0))
    wordings = {"maize": ("maize", "maize plants"), "cropland": ("cropland", "fields")}
    seen = Counter()
    for target, group in zip(batch.targets.numpy(), batch.group.numpy(), strict=True):
        name = TABLE.names[group]
        number = TABLE.numbers[name]
        which = [int(np.array_equal(target, sentence)) for sentence in pairs.sentences[number]]
        assert sum(which) == 1
        seen[wordings[name][which.index(1)]] += 1
    assert set(seen) == {"maize", "maize plants", "cropland", "fields"}
    assert abs((seen["cropland"] + seen["fields"]) / 3000 - 0.4) < 0.04
    assert abs(seen["maize"] - seen["maize plants"]) < 200


def test_nothing_changes_a_series_when_nothing_is_asked(tmp_path):
    config = make_config(tmp_path, noise=QUIET.model_dump(), hiding={})
    pairs = pairs_of(make_series(), config)
    rows = np.arange(20)
    batch = pairs.batch(rows, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.reflectance.numpy(), pairs.reflectance[:20])
    assert batch.reflectance.dtype == torch.float32


def test_balance_moves_from_as_they_come_to_all_alike(tmp_path):
    frame = make_series()
    for balance in (0.0, 0.5, 1.0):
        pairs = pairs_of(frame, make_config(tmp_path, balance=balance))
        totals = pd.Series(pairs.weights).groupby(pairs.labelled.caption).sum()
        counts = pd.Series(pairs.labelled.caption).value_counts().sort_index()
        np.testing.assert_allclose(totals, counts.astype(float) ** (1 - balance))


def test_simulated_series_get_their_share_and_lend_no_gaps(tmp_path):
    frame = make_series()
    made = frame["label"].isin(["F", "W"]).to_numpy() & (np.arange(len(frame)) % 2 == 0)
    frame.loc[made, "dataset"] = SIMULATED
    frame.loc[made, "B02_m01"] = np.nan
    for share in (0.0, 0.2, 0.6):
        pairs = pairs_of(frame, make_config(tmp_path, simulated_share=share))
        assert pairs.weights[made].sum() / pairs.weights.sum() == pytest.approx(share)
        # The balance within each part is as without the other.
        alone = pairs_of(frame[~made], make_config(tmp_path))
        np.testing.assert_allclose(
            pairs.weights[~made] / pairs.weights[~made].sum(), alone.weights / alone.weights.sum()
        )
    borrowing = make_config(tmp_path, noise=QUIET.model_dump(), hiding={"borrowed": 1.0})
    batch = pairs_of(frame, borrowing).batch(np.flatnonzero(~made), np.random.default_rng(0))
    assert torch.isfinite(batch.reflectance).all()


def test_what_is_no_land_speaks_against_every_series(tmp_path):
    from timesenmap.model.training import import_fit, training_module

    import_fit()
    config = make_config(tmp_path, noise=QUIET.model_dump(), hiding={"temporal": 0.0}, queue=0, temperature=1.0)
    table = TABLE.model_copy(update={"distractors": (("a song", "a dream"), ("a soup",))})
    plain = pairs_of(make_series(), config)
    pairs = CaptionPairs(plain.reflectance, plain.labelled, plain.sources, table, plain.embed, config)
    assert plain.distractors is None
    assert pairs.distractors.shape == (3, 8)
    torch.manual_seed(0)
    network = TimeSenCLIP(config.encoder_config.model_copy(update={"embedding": 8}), dropout=0.0)
    rows = np.arange(40)
    losses, columns = [], []
    for source in (plain, pairs):
        module = training_module(
            config,
            network,
            source,
            held_out=plain.reflectance[:0],
            labelled=Labelled(plain.labelled.caption[:0], plain.labelled.landcover[:0], {}),
            vectors=np.eye(5, 8, dtype=np.float32),
            finest=np.arange(5),
        )
        module.log = lambda *_args, **_options: None
        module.trainer = SimpleNamespace(world_size=1, global_rank=0, current_epoch=0)
        batch = source.batch(rows, np.random.default_rng(0))
        losses.append(module.training_step(batch, 0).item())
        columns.append(len(module.distractors))
    assert columns == [0, 3]
    with torch.no_grad():
        anchors = network(batch.reflectance)
        scale = 1 / config.temperature
        logits = scale * anchors @ torch.cat([batch.targets, torch.from_numpy(pairs.distractors)]).T
        spared = torch.from_numpy(pairs.spared)[batch.group][:, batch.group]
        spared.fill_diagonal_(False)
        logits[:, : len(rows)][spared] = -math.inf
        expected = torch.nn.functional.cross_entropy(logits, torch.arange(len(rows)))
    assert losses[1] == pytest.approx(float(expected), rel=1e-5)
    assert losses[1] > losses[0]


def test_gaps_are_interpolated_between_neighbours_only():
    rng = np.random.default_rng(0)
    mixing = rng.random((3, 10))
    whole = (rng.random((300, 12, 3)) @ mixing / 3).astype(np.float32)  # bands that follow from any four others
    holed = whole.copy()
    holed[0, 4] = np.nan  # a month within
    holed[1, 0] = np.nan  # the first month
    holed[2, 0] = np.nan  # the first month of land that does not change
    holed[3:40, :, 7] = np.nan  # a band
    filled = fill_gaps(holed, np.arange(300) == 2)
    np.testing.assert_allclose(filled[0, 4], (whole[0, 3] + whole[0, 5]) / 2, rtol=1e-5)
    assert np.isnan(filled[1, 0]).all()
    np.testing.assert_array_equal(filled[2, 0], whole[2, 1])
    np.testing.assert_allclose(filled[3:40, :, 7], whole[3:40, :, 7], atol=1e-4)
    given = np.isfinite(holed)
    np.testing.assert_array_equal(filled[given], holed[given])


def test_noise_has_the_asked_size():
    series = np.full((4000, 12, 10), 0.3, np.float32)
    series[0, 3, 2] = np.nan
    rng = np.random.default_rng(0)
    for name, axes in (("brightness", (1, 2)), ("colour", (1,)), ("month", (2,))):
        varied = with_noise(series, NoiseConfig(**{**QUIET.model_dump(), name: 0.1}), rng)
        logs = np.log(varied / series)[1:]
        assert logs.std() == pytest.approx(0.1, rel=0.1)
        assert np.abs(logs - logs.mean(axes, keepdims=True)).max() < 1e-5, f"{name} is one factor over axes {axes}"
    varied = with_noise(series, NoiseConfig(**{**QUIET.model_dump(), "value": 0.02}), rng)
    assert np.nanstd(varied - series) == pytest.approx(0.02, rel=0.05)
    assert np.isnan(varied[0, 3, 2])


def test_only_top_of_atmosphere_series_are_corrected():
    series = np.full((2, 12, 10), 0.12, np.float32)
    table = SeriesTable(series, pd.DataFrame({"level": ["L2A", "L1C"], "lat": [45.0, 45.0]}))
    surface = surface_series(table)
    np.testing.assert_array_equal(surface[0], series[0])
    assert (surface[1, :, 0] < 0.11).all()
    with pytest.raises(ModelError, match="level 'L3'"):
        surface_series(SeriesTable(series, pd.DataFrame({"level": ["L2A", "L3"], "lat": [45.0, 45.0]})))


# ---- whole runs


def test_a_run_learns_and_leaves_encoder_logs_and_report(files, train):
    encoder = {"width": 32, "heads": 2, "depth": 2, "feedforward": 32}
    config = make_config(files, encoder=encoder, epochs=5, samples=768, batch=32, landcover_share=0.5, hiding={})
    result = train(config)
    assert result.report["captions"]["accuracy"] > 0.8
    assert result.report["landcover"]["macro_f1"] > 0.8
    module, sha256 = read_module(result.out)
    assert sha256 == result.sha256
    assert module.config.temperature == pytest.approx(result.report["temperature"])
    assert module.config.temperature != 0.07
    assert "series.parquet" in module.config.training_data
    folder = config.folder
    assert json.loads((folder / "report.json").read_text())["encoder"]["sha256"] == sha256
    counts = result.report["counts"]
    assert counts["train"] + counts["validation"] + counts["test"] == counts["read"] == 400
    rows = list(csv.DictReader((folder / "logs" / "version_0" / "metrics.csv").open()))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert any(row["validation/score"] for row in rows)


class KilledError(RuntimeError):
    """Stands for the end of the process: nothing of ours catches it."""


@pytest.mark.parametrize(
    "changes",
    [
        {"split": {"validation": 0.0, "test": 0.2}},
        {"learn_temperature": True},
        {"learn_temperature": True, "average": 0.9},
        {"teacher": {"weight": 2.0, "epochs": 3, "lessons": 300, "batch": 32, "trees": 5}},
    ],
)
def test_a_killed_and_resumed_run_ends_with_the_same_weights(files, train, monkeypatch, changes):
    alone = train(make_config(files, out=files / "alone.safetensors", **changes))
    killed = make_config(files, out=files / "killed.safetensors", **changes)
    whole = EpochBatches.__getitem__
    in_time = iter([False, True] if "teacher" in changes else [True])  # a taught run dies in its lessons

    def dies(self, number):
        if self.epoch == 2 and number == 1 and next(in_time):
            raise KilledError
        return whole(self, number)

    monkeypatch.setattr(EpochBatches, "__getitem__", dies)
    with pytest.raises(KilledError):
        train(killed)
    assert not killed.out.exists()
    monkeypatch.setattr(EpochBatches, "__getitem__", whole)
    resumed = train(killed, resume=True)
    expected, found = weights_of(alone.out), weights_of(resumed.out)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    assert resumed.epochs == alone.epochs
    other = train(make_config(files, out=files / "other.safetensors", seed=1, **changes))
    assert not torch.equal(weights_of(other.out)["embedding.weight"], expected["embedding.weight"])


def test_a_run_goes_on_from_an_encoder_of_its_kind(files, train):
    first = train(make_config(files, out=files / "first.safetensors"))
    further = {"start": str(first.out), "learning_rate": 1e-12, "learn_temperature": True}
    result = train(make_config(files, out=files / "second.safetensors", seed=1, **further))
    expected, found = weights_of(first.out), weights_of(result.out)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)
    assert result.report["start"] == first.sha256
    assert first.sha256[:12] in read_module(result.out)[0].config.created_by
    with pytest.raises(ModelError, match="another kind of encoder than the run's: its clamp is True, not False; set"):
        train(make_config(files, out=files / "third.safetensors", start=str(first.out), encoder={
            "width": 16, "heads": 2, "depth": 1, "feedforward": 16, "clamp": False}))  # fmt: skip
    with pytest.raises(ModelError, match=r"encoder 'nowhere\.safetensors' not found"):
        train(make_config(files, out=files / "third.safetensors", start="nowhere.safetensors"))


def test_no_epochs_are_for_the_lessons_of_a_start(files, train):
    first = train(make_config(files, out=files / "first.safetensors"))
    teacher = {"weight": 2.0, "epochs": 2, "lessons": 300, "batch": 32, "trees": 5}
    taught = make_config(files, out=files / "taught.safetensors", start=str(first.out), epochs=0, teacher=teacher)
    result = train(taught)
    assert (result.epochs, result.report["taught_epochs"]) == ((0, 0), 2)
    before, after = weights_of(first.out), weights_of(result.out)
    assert any((after[name] - before[name]).abs().max() > 1e-3 for name in before)


def test_averaged_weights_are_the_moving_average_of_every_step(files, train, monkeypatch):
    from timesenmap.model.training_module import TrainingModule

    steps = []
    whole = TrainingModule.on_train_batch_end

    def watched(self, *arguments):
        whole(self, *arguments)
        steps.append({name: value.detach().clone() for name, value in self.encoder.state_dict().items()})

    monkeypatch.setattr(TrainingModule, "on_train_batch_end", watched)
    split = {"validation": 0.0, "test": 0.2}
    result = train(make_config(files, average=0.8, split=split, queue=0))
    expected = steps[0]
    for latest in steps[1:]:
        expected = {name: 0.8 * value + 0.2 * latest[name] for name, value in expected.items()}
    kept = weights_of(result.out)
    assert len(steps) > 4
    for name, value in expected.items():
        np.testing.assert_allclose(kept[name], value, atol=1e-5)
    assert any((kept[name] - steps[-1][name]).abs().max() > 1e-4 for name in kept)


def test_a_run_folder_is_not_taken_over(files, train):
    config = make_config(files, epochs=2)
    train(config)
    with pytest.raises(ModelError, match="holds another run"):
        train(config)
    with pytest.raises(ModelError, match="other values of learning_rate"):
        train(config.model_copy(update={"learning_rate": 0.5}), resume=True)
    make_series(seed=5).to_parquet(files / "series.parquet")
    with pytest.raises(ModelError, match="other data"):
        train(config, resume=True)


def test_early_stopping_keeps_the_best_epoch(files, train):
    # A learning rate of next to nothing: the first epoch is as good as any later one.
    result = train(make_config(files, epochs=30, patience=2, learning_rate=1e-12))
    assert result.epochs == (3, 1)
    last = torch.load(files / "tiny.training" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2, "the last epoch can be resumed from, not only the best"


def test_rows_can_be_excluded_or_left_out_as_a_source(files, train):
    from timesenmap.model.training_series import load_training_data

    config = make_config(files, split={"leave_out": ["south"], "exclude": [[0, 40, 2.5, 45]]})
    data = load_training_data(config.series, config.split, TABLE)
    raw = pd.read_parquet(files / "series.parquet")
    assert data.counts["in an excluded box"] == int((raw["lon"] <= 2.5).sum())
    assert (data.table.frame["lon"] > 2.5).all()
    south = (data.table.frame["dataset"] == "south").to_numpy()
    assert south.any()
    assert data.split.test[south].all()
    assert not (data.split.train[south] | data.split.validation[south]).any()
    with pytest.raises(ModelError, match="leave_out 'west'"):
        load_training_data(config.series, config.split.model_copy(update={"leave_out": ("west",)}), TABLE)
    nowhere = config.split.model_copy(update={"exclude": ((-180.0, -90.0, 180.0, 90.0),)})
    with pytest.raises(ModelError, match="no series is left"):
        load_training_data(config.series, nowhere, TABLE)


def test_simulated_series_train_only_wherever_they_lie(files):
    from timesenmap.model.training_series import load_training_data

    frame = make_series()
    made = frame["label"].isin(["F", "W"]).to_numpy()
    frame.loc[made, "dataset"] = SIMULATED
    frame.to_parquet(files / "series.parquet")
    for changes in ({}, {"leave_out": ["north"]}):
        config = make_config(files, split={"validation": 0.2, "test": 0.2, **changes})
        data = load_training_data(config.series, config.split, TABLE)
        simulated = (data.table.frame["dataset"] == SIMULATED).to_numpy()
        assert data.split.train[simulated].all()
        assert not (data.split.validation | data.split.test)[simulated].any()
        assert data.split.test[~simulated].any()


def test_dropped_and_empty_rows_are_counted(files):
    from timesenmap.model.training_series import load_training_data

    frame = make_series(50)
    frame.loc[3, list(SERIES_COLUMNS)] = np.nan
    frame.loc[:, "dataset"] = "north"
    frame["label"] = "M"
    frame.loc[[7, 8], "label"] = "?"
    frame.to_parquet(files / "series.parquet")
    config = make_config(files)
    counts = load_training_data(config.series, config.split, TABLE).counts
    assert counts["dropped: north: ?: unknown"] == 2
    assert counts["without any observation"] == 1
    assert counts["train"] + counts["validation"] + counts["test"] == 47


def test_training_without_lightning_says_what_to_install(files, train, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "timesenmap.model.training_fit", raising=False)
    monkeypatch.delitem(sys.modules, "timesenmap.model.training_module", raising=False)
    with pytest.raises(ModelError, match=r"pip install 'timesenmap\[train\]'"):
        train(make_config(files))


# ---- the shipped encoder


def test_the_model_card_is_of_the_shipped_encoder():
    folder = Path(sys.modules["timesenmap.model"].__path__[0]) / "weights"
    content = (folder / "starter.safetensors").read_bytes()
    assert len(content) < 8_000_000
    assert hashlib.sha256(content).hexdigest() in (folder / "MODEL_CARD.md").read_text("utf-8")
    config = read_module("starter")[0].config
    assert (config.name, config.text_tower) == ("starter", "sentence-transformers:all-MiniLM-L6-v2")


def test_the_shipped_encoder_names_held_out_land(shared_data):
    """A part of what the model card says, with the shipped prompts, not the training captions."""
    from timesenmap.model import load_encoder
    from timesenmap.model.prompts import class_embeddings, load_prompt_set
    from timesenmap.model.training_series import load_training_data

    config = resolve_config(
        Path(sys.modules["timesenmap.model"].__path__[0]) / "weights" / "starter.yaml",
        {"series": sorted((shared_data / "series").glob("*.parquet"))},
    )
    captions = load_captions()
    data = load_training_data(config.series, config.split, captions)
    reflectance, labelled = data.side(data.split.test)
    classes = {
        "annual cropland": "Cropland", "grassland": "Grassland", "forest": "Woodland", "water": "Water",
        "broadleaved forest": "Woodland", "bare": "Bare land and lichens", "shrubland": "Shrubland",
    }  # fmt: skip
    truth = np.array([classes.get(captions.names[number], "") if number >= 0 else "" for number in labelled.landcover])
    rows = np.concatenate([np.flatnonzero(truth == name)[:80] for name in sorted(set(classes.values()))])
    encoder = load_encoder("starter", device="cpu")
    prompts = load_prompt_set("land-cover")
    scores = encoder.embed(reflectance[rows]) @ class_embeddings(prompts, encoder).T
    named = np.array([c.name for c in prompts.classes])[scores.argmax(1)]
    assert recall_score(truth[rows], named, average="macro", labels=np.unique(truth[rows])) > 0.6


# ---- command


def test_the_command_trains_and_prints_the_held_out_numbers(files, words, monkeypatch):
    monkeypatch.setattr("timesenmap.model.training.load_captions", lambda: TABLE)
    config = make_config(files, epochs=2)
    file = files / "run.yaml"
    file.write_text(dump_config(config))
    result = CliRunner().invoke(main, ["--config", str(file), "--seed", "7", "--out", str(files / "cli.safetensors")])
    assert result.exit_code == 0, result.output
    assert "held-out cells, land cover: accuracy" in result.output
    assert read_module(files / "cli.safetensors")[0].config.created_by.endswith("seed 7")
    assert yaml.safe_load((files / "cli.training" / "config.yaml").read_text())["seed"] == 7


def test_the_command_shows_its_configuration_and_refuses_slips(files):
    shown = CliRunner().invoke(
        main, ["--series", "a.parquet", "--out", "x.safetensors", "--epochs", "33", "--show-config"]
    )
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.output)["epochs"] == 33
    file = files / "typo.yaml"
    file.write_text("series: [a.parquet]\nout: x.safetensors\nlearning_rat: 1\n")
    refused = CliRunner().invoke(main, ["--config", str(file)])
    assert refused.exit_code == 2
    assert "learning_rat" in refused.output
    missing = CliRunner().invoke(main, ["--series", str(files / "none.parquet"), "--out", str(files / "x.safetensors")])
    assert missing.exit_code == 2
    assert "not found" in missing.output
    assert not (files / "x.training").exists()


def test_hiding_defaults_to_the_papers_masking_alone():
    assert HidingConfig().model_dump() == {
        "temporal": 0.5, "spectral": 0.0, "months": 0.0, "bands": 0.0, "borrowed": 0.0, "filled": 0.0,
    }  # fmt: skip
