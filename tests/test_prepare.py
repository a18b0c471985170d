"""Preparation: crops and photo embeddings in shards, resumed, counted, read by many workers."""

import json
import pickle
import shutil

import h5py
import numpy as np
import pytest
import sen4map_files as made
import torch
from click.testing import CliRunner
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from timesenmap.model.errors import ModelError
from timesenmap.model.evaluation import labelled_series
from timesenmap.model.lucas import DIRECTIONS
from timesenmap.model.photos import PhotoEmbeddings, find_photos
from timesenmap.model.prepare import prepare_crops, series_of
from timesenmap.model.prepare_photos import prepare_photos, wanted_keys
from timesenmap.model.prompts import load_prompt_set
from timesenmap.model.sen4map import BadSampleError
from timesenmap.model.series import read_series
from timesenmap.model.shards import Manifest, PreparedRows
from timesenmap.model.towers import ImageTower
from timesenmap.workflows.prepare_training import main

NUMBERS = [f"4068{3280 + i}" for i in range(11)]


@pytest.fixture
def source(tmp_path):
    """Eleven good points, one with nine bands, one with a label of no nomenclature."""
    path = tmp_path / "points.h5"
    images = made.crops_file(path, NUMBERS)
    with h5py.File(path, "a") as file:
        made.write_crop(file, "Lucas_Point_40683299", np.full((12, 9, 1, 1), 500.0))
        images["40683298"] = np.full((12, 10, 1, 1), 700.0)
        made.write_crop(file, "Lucas_Point_40683298", images["40683298"], lc1="X99")
    return path, images


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_crops_hold_every_good_point_and_count_the_others(tmp_path, source):
    path, images = source
    counts = prepare_crops([path], tmp_path / "crops", points_a_shard=4)
    assert (counts.rows, counts.shards) == (12, 4)
    assert counts.skipped == {"bands": 1}
    assert counts.remarks == {"label outside the scheme, left empty": 1}
    assert "Lucas_Point_40683299: image has 9 bands" in counts.examples["bands"][0]
    crops = PreparedRows([tmp_path / "crops"], kind="crops")
    assert sorted(crops.frame["number"]) == sorted(images)
    read = crops.read("image", np.arange(12))
    for number, image in zip(crops.frame["number"], read, strict=True):
        np.testing.assert_array_equal(image, images[number])
    assert crops.frame.set_index("number").loc["40683298", "lc1"] == ""
    assert set(crops.frame.set_index("number").drop("40683298")["lc1"]) == {"E20"}


def test_strict_stops_at_the_first_bad_sample_by_name(tmp_path, source):
    path, _ = source
    with pytest.raises(BadSampleError, match=r"Lucas_Point_40683298: lc1 'X99' is in no nomenclature"):
        prepare_crops([path], tmp_path / "crops", strict=True)
    with h5py.File(path, "a") as file:
        del file["Lucas_Point_40683298"]
    with pytest.raises(BadSampleError, match="Lucas_Point_40683299: image has 9 bands"):
        prepare_crops([path], tmp_path / "other", strict=True)


def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path, source):
    path, _ = source
    prepare_crops([path], tmp_path / "whole", points_a_shard=4)

    def interrupt(total):
        assert total == 13

        def advance(amount):
            raise KeyboardInterrupt

        return advance

    with pytest.raises(KeyboardInterrupt):
        prepare_crops([path], tmp_path / "cut", points_a_shard=4, started=interrupt)
    assert len(Manifest.read(tmp_path / "cut").finished) == 1
    with pytest.raises(ModelError, match=r"unfinished \(1 of 4 shards\).*again"):
        PreparedRows([tmp_path / "cut"], kind="crops")
    (tmp_path / "cut" / "crops-00001.safetensors.part").write_bytes(b"half a shard")
    first = (tmp_path / "cut" / "crops-00000.safetensors").stat().st_mtime_ns
    totals = []
    prepare_crops([path], tmp_path / "cut", points_a_shard=4, started=lambda n: totals.append(n) or (lambda _: None))
    assert totals == [9]
    assert (tmp_path / "cut" / "crops-00000.safetensors").stat().st_mtime_ns == first
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_several_processes_make_the_same_shards(tmp_path, source):
    path, _ = source
    prepare_crops([path], tmp_path / "one", points_a_shard=4)
    prepare_crops([path], tmp_path / "two", points_a_shard=4, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_settings_or_sources_do_not_mix_in_one_folder(tmp_path, source):
    path, _ = source
    prepare_crops([path], tmp_path / "crops")
    with pytest.raises(ModelError, match="other gaps: name another folder"):
        prepare_crops([path], tmp_path / "crops", gaps="year")
    with h5py.File(path, "a") as file:
        del file["Lucas_Point_40683299"]
    with pytest.raises(ModelError, match="other points"):
        prepare_crops([path], tmp_path / "crops")


def test_a_point_of_two_files_is_taken_from_the_first(tmp_path):
    first = made.crops_file(tmp_path / "a.h5", NUMBERS[:3], seed=1)
    made.crops_file(tmp_path / "b.h5", NUMBERS[2:4], seed=2)
    counts = prepare_crops([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "crops")
    assert counts.rows == 4
    crops = PreparedRows([tmp_path / "crops"], kind="crops")
    assert counts.remarks == {"point of an earlier file, too": 1}
    assert counts.examples["point of an earlier file, too"] == (f"b.h5, Lucas_Point_{NUMBERS[2]}",)
    np.testing.assert_array_equal(crops.read("image", np.array([2]))[0], first[NUMBERS[2]])


def test_damaged_shards_and_manifests_are_refused(tmp_path, source):
    path, _ = source
    prepare_crops([path], tmp_path / "crops", points_a_shard=4)
    with pytest.raises(ModelError, match="holds crops, not photos"):
        PreparedRows([tmp_path / "crops"], kind="photos")
    with pytest.raises(ModelError, match="manifest"):
        PreparedRows([tmp_path], kind="crops")
    shard = tmp_path / "crops" / "crops-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-50])
    crops = PreparedRows([tmp_path / "crops"], kind="crops")
    with pytest.raises(ModelError, match=r"crops-00002\.safetensors' is truncated"):
        crops.read("image", np.arange(12))
    shard.unlink()
    with pytest.raises(ModelError, match=r"crops-00002\.safetensors' is missing"):
        PreparedRows([tmp_path / "crops"], kind="crops")
    (tmp_path / "crops" / "manifest.json").write_text("{}")
    with pytest.raises(ModelError, match="no manifest"):
        PreparedRows([tmp_path / "crops"], kind="crops")


class Rows(Dataset):
    def __init__(self, crops):
        self.crops = crops

    def __len__(self):
        return len(self.crops)

    def __getitem__(self, row):
        return row, self.crops.read("image", np.array([row]))[0].astype(np.int64)


def test_shuffled_rows_are_read_by_worker_processes(tmp_path, source):
    path, _ = source
    prepare_crops([path], tmp_path / "crops", points_a_shard=4)
    crops = PreparedRows([tmp_path / "crops"], kind="crops")
    expected = crops.read("image", np.arange(12))  # mapped here first, then again in each worker
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(Rows(crops), batch_size=5, shuffle=True, generator=generator, num_workers=2)
    order = []
    for rows, images in loader:
        order += rows.tolist()
        np.testing.assert_array_equal(images.numpy(), expected[rows.numpy()])
    assert sorted(order) == list(range(12))
    assert order != sorted(order)
    travelling = pickle.dumps(crops)  # as to spawned workers: paths, no pixels
    np.testing.assert_array_equal(pickle.loads(travelling).read("image", np.arange(12)), expected)


class MeanColour(torch.nn.Module):
    def encode_image(self, photos):
        return photos.mean((2, 3)) + 0.01


def as_tensor(photo):
    return torch.from_numpy(np.asarray(photo.resize((8, 8)), np.float32) / 255).permute(2, 0, 1)


def tower(spec="open_clip:mean/colour"):
    return ImageTower(spec, 3, "cpu", as_tensor, MeanColour())


@pytest.fixture
def photo_folder(tmp_path):
    """Photos of three points: all four of the first, two of the second, none of the third; one damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    colours = {}
    for number, directions in ((NUMBERS[0], "NESW"), (NUMBERS[1], "NS")):
        for direction in directions:
            key = f"NL_{number}{direction}"
            colours[key] = rng.integers(0, 256, 3)
            Image.new("RGB", (32, 24), tuple(int(c) for c in colours[key])).save(folder / f"{key}.png")
    Image.new("RGB", (8, 8)).save(folder / "dog.png")
    damaged = f"NL_{NUMBERS[0]}S"
    (folder / f"{damaged}.png").write_bytes(b"\x89PNG no more")
    del colours[damaged]
    return folder, colours, damaged


def test_photos_are_embedded_and_the_missing_and_damaged_counted(tmp_path, photo_folder):
    folder, colours, damaged = photo_folder
    made.crops_file(tmp_path / "a.h5", NUMBERS[:3])
    prepare_crops([tmp_path / "a.h5"], tmp_path / "crops")
    keys = wanted_keys(PreparedRows([tmp_path / "crops"], kind="crops"))
    assert keys == [f"NL_{number}{direction}" for number in NUMBERS[:3] for direction in DIRECTIONS]
    done = []
    counts = prepare_photos(
        find_photos(folder), tmp_path / "emb", tower(), keys=keys, photos_a_shard=5, batch=2,
        started=lambda total: done.append(-total) or done.append,
    )  # fmt: skip
    assert counts.rows == 5
    assert counts.skipped == {"missing photo": 6, "corrupt photo": 1}
    assert damaged in counts.examples["corrupt photo"][0]
    assert counts.remarks == {"picture not named like a photo": 1}
    assert sum(done) == 0  # every photo wanted was counted once
    photos = PhotoEmbeddings([tmp_path / "emb"])
    assert photos.tower == "open_clip:mean/colour"
    rows = photos.find(["NL"] * 3, NUMBERS[:3])
    np.testing.assert_array_equal(rows >= 0, [[1, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
    for (place, direction), vector in zip(np.argwhere(rows >= 0), photos.read(rows[rows >= 0]), strict=True):
        colour = colours[f"NL_{NUMBERS[place]}{DIRECTIONS[direction]}"] / 255 + 0.01
        np.testing.assert_allclose(vector, colour / np.linalg.norm(colour), atol=1e-3)


def test_photos_resume_and_refuse_another_tower(tmp_path, photo_folder):
    folder, _, damaged = photo_folder
    found = find_photos(folder)
    prepare_photos(found, tmp_path / "whole", tower(), photos_a_shard=2)

    def interrupt(total):
        left = [3]

        def advance(amount):
            left[0] -= amount
            if left[0] < 0:
                raise KeyboardInterrupt

        return advance

    with pytest.raises(KeyboardInterrupt):
        prepare_photos(found, tmp_path / "cut", tower(), photos_a_shard=2, started=interrupt)
    assert 0 < len(Manifest.read(tmp_path / "cut").finished) < 3
    prepare_photos(found, tmp_path / "cut", tower(), photos_a_shard=2, threads=1)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    with pytest.raises(ModelError, match="other tower"):
        prepare_photos(found, tmp_path / "cut", tower("open_clip:other/one"), photos_a_shard=2)
    with pytest.raises(BadSampleError, match=damaged):
        prepare_photos(found, tmp_path / "strict", tower(), strict=True)
    with pytest.raises(BadSampleError, match="NL_99999999N is not in the folder"):
        prepare_photos(found, tmp_path / "strict2", tower(), keys=["NL_99999999N"], strict=True)


def test_crops_become_a_table_that_evaluation_reads(tmp_path, source):
    path, images = source
    prepare_crops([path], tmp_path / "crops", points_a_shard=4)
    frame = series_of(PreparedRows([tmp_path / "crops"], kind="crops"))
    frame.to_parquet(tmp_path / "series.parquet")
    table = read_series(tmp_path / "series.parquet")
    for number, series in zip(table.frame["sample_id"], table.reflectance, strict=True):
        np.testing.assert_allclose(series, images[number][..., 0, 0] / 10_000, rtol=1e-6)
    known = labelled_series(table, load_prompt_set("land-cover"), labels="landcover")
    assert len(known.truth) == 11
    assert known.others == {"": 1}
    known = labelled_series(table, load_prompt_set("land-use"), labels="landuse")
    assert len(known.truth) == 12


def test_command_prepares_crops_and_tables(tmp_path, source):
    path, _ = source
    run = CliRunner().invoke(main, ["crops", str(path), "--out", str(tmp_path / "c"), "--json", "--workers", "1"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["rows"] == 12
    run = CliRunner().invoke(main, ["crops", str(path), "--out", str(tmp_path / "c")])
    assert "Lucas_Point_40683299" in run.stdout
    run = CliRunner().invoke(main, ["table", str(tmp_path / "c"), "--out", str(tmp_path / "t.parquet")])
    assert run.exit_code == 0, run.output
    assert len(read_series(tmp_path / "t.parquet")) == 12


def test_command_says_what_is_wrong_in_one_line(tmp_path, source):
    path, _ = source
    cut = tmp_path / "cut.h5"
    shutil.copy(path, cut)
    cut.write_bytes(cut.read_bytes()[:-1000])
    out = str(tmp_path / "c")
    for arguments, words in (
        (["crops", str(cut), "--out", out], "truncated"),
        (["crops", str(path), "--out", out, "--strict"], "Lucas_Point_40683298"),
        (["photos", str(tmp_path / "none"), "--out", out], "not found"),
        (["table", str(tmp_path / "none"), "--out", str(tmp_path / "t.parquet")], "manifest"),
        (["table", out, "--out", str(tmp_path / "t.csv")], "must end in .parquet"),
    ):
        run = CliRunner().invoke(main, arguments)
        assert run.exit_code == 2, (arguments, run.output)
        assert words in run.stderr.splitlines()[-1]
