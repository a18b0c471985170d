"""Photos of LUCAS points: finding, decoding, looking up and pooling them."""

import numpy as np
import pytest
from PIL import Image

from timesenmap.model.errors import ModelError
from timesenmap.model.photos import PhotoEmbeddings, find_photos, one_of, pooled, read_photo
from timesenmap.model.sen4map import BadSampleError
from timesenmap.model.shards import Manifest, Shard


def picture(path, colour=(10, 120, 30), size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_photos_are_found_by_their_names_in_any_folder(tmp_path):
    west = picture(tmp_path / "NL" / "406" / "NL_40683280W.jpg")
    north = picture(tmp_path / "EL_54482012N.JPG")
    again = picture(tmp_path / "other" / "NL_40683280W.png")
    misnamed = [picture(tmp_path / name) for name in ("NL_40683280.jpg", "NL40683280W.jpg", "nl_40683280W.jpg")]
    (tmp_path / "readme.txt").write_text("no picture")
    found = find_photos(tmp_path)
    assert found.paths == {"EL_54482012N": north, "NL_40683280W": west}
    assert list(found.paths) == sorted(found.paths)
    assert set(found.misnamed) == set(misnamed)
    assert found.repeated == (again,)


def test_folders_without_photos_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not found"):
        find_photos(tmp_path / "none")
    picture(tmp_path / "holiday.jpg")
    with pytest.raises(ModelError, match=r"none of 1 pictures is named like NL_40683280W\.jpg"):
        find_photos(tmp_path)


def test_damaged_photos_are_named(tmp_path):
    whole = tmp_path / "NL_40683280W.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)).save(whole)
    cut = tmp_path / "NL_40683280E.jpg"
    cut.write_bytes(whole.read_bytes()[:3000])
    empty = tmp_path / "NL_40683280S.jpg"
    empty.touch()
    for path in (cut, empty):
        with pytest.raises(BadSampleError, match=path.name) as caught:
            read_photo(path)
        assert caught.value.reason == "corrupt photo"


def test_photos_come_upright_and_in_colour(tmp_path):
    path = tmp_path / "NL_40683280W.jpg"
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:15, :, 0] = 255  # the camera's upper half is red
    exif = Image.Exif()
    exif[274] = 6  # held on its side: to be turned by 90 degrees clockwise
    Image.fromarray(pixels).save(path, exif=exif, quality=95)
    upright = np.asarray(read_photo(path))
    assert upright.shape == (40, 30, 3)
    assert (upright[:, 18:, 0] > 200).all()
    assert (upright[:, :12, 0] < 60).all()
    grey = tmp_path / "NL_40683280E.png"
    Image.new("L", (8, 8), 77).save(grey)
    assert (np.asarray(read_photo(grey)) == (77, 77, 77)).all()


def prepared(folder, keys, vectors, *, tower="open_clip:a/b", shards=2):
    header = {"kind": "photos", "shards": shards, "tower": tower, "dim": vectors.shape[1]}
    manifest = Manifest.resume_or_start(folder, header)
    for number, part in enumerate(np.array_split(np.arange(len(keys)), shards)):
        columns = {"key": [keys[i] for i in part]}
        manifest.add(number, Shard({"embedding": vectors[part].astype(np.float16)}, columns))
    return folder


def test_embeddings_are_looked_up_by_point_and_direction(tmp_path):
    rng = np.random.default_rng(1)
    keys = ["NL_40683280E", "NL_40683280W", "BG_55082360N", "BG_55082360S", "BG_55082360E"]
    vectors = rng.normal(size=(5, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    photos = PhotoEmbeddings([prepared(tmp_path / "p", keys, vectors)])
    rows = photos.find(["NL", "BG", "NL"], ["40683280", "55082360", "11111111"])
    np.testing.assert_array_equal(rows, [[-1, 0, -1, 1], [2, 4, 3, -1], [-1, -1, -1, -1]])  # N, E, S, W
    read = photos.read(rows)
    assert read.shape == (3, 4, 16)
    for place, direction in zip(*np.nonzero(rows >= 0), strict=True):
        assert read[place, direction] @ vectors[rows[place, direction]] > 1 - 1e-5
    np.testing.assert_allclose(np.linalg.norm(read[rows >= 0], axis=1), 1, rtol=1e-6)
    assert not read[rows < 0].any()


def test_photos_of_two_towers_do_not_mix(tmp_path):
    vectors = np.eye(4)
    one = prepared(tmp_path / "one", ["NL_40683280E", "NL_40683280W"], vectors[:2])
    two = prepared(tmp_path / "two", ["NL_40683280N", "NL_40683280S"], vectors[:2], tower="open_clip:c/d")
    with pytest.raises(ModelError, match="different towers"):
        PhotoEmbeddings([one, two])


def test_pooling_is_the_unit_mean_of_the_photos_there_are():
    rng = np.random.default_rng(2)
    photos = rng.normal(size=(50, 4, 8)).astype(np.float32)
    present = rng.random((50, 4)) < 0.6
    present[:, 2] |= ~present.any(1)
    for mean, four, there in zip(pooled(photos, present), photos, present, strict=True):
        expected = four[there].mean(0)
        np.testing.assert_allclose(mean, expected / np.linalg.norm(expected), rtol=1e-5, atol=1e-6)


def test_one_random_photo_is_any_of_those_present():
    present = np.tile([True, False, True, True], (3000, 1))
    drawn = np.bincount(one_of(present, np.random.default_rng(0)), minlength=4)
    assert drawn[1] == 0
    assert (np.abs(drawn[[0, 2, 3]] / 3000 - 1 / 3) < 5 * np.sqrt(2 / 9 / 3000)).all()
