"""The encoder over blocks of a cube: calendar months, missing data, patches, stored embeddings."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from timesenmap.model import Encoder, EncoderConfig, new_encoder
from timesenmap.model.checkpoint import save_encoder
from timesenmap.pipeline.encode import (
    EncoderRef,
    _factors,
    check_encoder,
    dequantise,
    distinct,
    embed_block,
    encoder_of,
    quantise,
)
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.label import CubeWindow, embed_tile, label_tile
from timesenmap.pipeline.question import Question
from timesenmap.pipeline.stores import Store


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return new_encoder("small", seed=1, device="cpu", precision="float32")


def _cube(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Reflectance with gaps: (12, 10, y, x) uint16; whole months missing here and there, one pixel never seen."""
    rng = np.random.default_rng(seed)
    cube = rng.integers(1, 6000, (12, 10, *shape), np.uint16)
    cube[rng.random((12, 1, *shape)).repeat(10, axis=1) < 0.3] = 0
    cube[:, :, 3, 5] = 0
    return cube


def _embed(cube: np.ndarray, encoder: Encoder, *, first_month: int = 1, halo: int = 0) -> np.ndarray:
    """Embeddings (y, x, d) of a block."""
    vectors, kinds = embed_block(cube, encoder, first_month=first_month, halo=halo)
    return vectors[kinds]


def test_against_the_encoder_itself(encoder: Encoder) -> None:
    """Pixel by pixel through embed, without any of the block's shapes and orders."""
    cube = _cube((20, 24))
    found = _embed(cube, encoder)
    assert found.shape == (20, 24, encoder.dim)
    for y, x in ((0, 0), (19, 23), (7, 11)):
        series = cube[:, :, y, x].astype(np.float32)
        series = np.where(series == 0, np.nan, series / np.float32(10_000))
        assert np.array_equal(found[y, x], encoder.embed(series[None])[0])


def test_unseen_pixel_is_zero(encoder: Encoder) -> None:
    found = _embed(_cube((8, 8)), encoder)
    assert not found[3, 5].any()
    assert np.allclose(np.linalg.norm(found[0], axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("patch", [1, 5])
def test_equal_series_are_embedded_once_with_the_same_bits(patch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = new_encoder("small", seed=2, device="cpu", precision="float32", patch=patch, depth=2)
    halo = patch // 2
    cube = _cube((24 + 2 * halo, 20 + 2 * halo))
    cube[:, :, :, 12:] = cube[:, :, :1, 12:13]  # one series all over the right of the block
    cube[:, :, -9:] = 0  # and nothing below
    asked: list[int] = []
    batch = type(encoder).embed_observed

    def counted(self: Encoder, take: object, present: np.ndarray) -> np.ndarray:
        asked.append(len(present))
        return batch(self, take, present)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(type(encoder), "embed_observed", counted)
        found = _embed(cube, encoder, halo=halo)
    windows = np.lib.stride_tricks.sliding_window_view(cube, (patch, patch), axis=(2, 3)).transpose(2, 3, 0, 1, 4, 5)
    series = windows.reshape(-1, 12, 10, patch, patch).astype(np.float32)
    assert asked == [len(np.unique(series.reshape(len(series), -1), axis=0))]
    assert asked[0] < 0.7 * len(series)
    expected = encoder.embed(np.where(series == 0, np.nan, series / np.float32(10_000)))
    assert np.array_equal(found.reshape(-1, encoder.dim), expected)


def test_distinct_rows() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3, (500, 4), np.uint16)  # many are equal
    first, kinds = distinct(rows)
    assert np.array_equal(rows[first][kinds], rows)
    assert len(first) == len(np.unique(rows, axis=0))


def test_rows_of_the_same_sum_are_still_told_apart() -> None:
    a, b, *_ = _factors(3)
    rows = np.array([[b, 0, 0], [0, 0, 1], [0, a, 0], [b, 0, 0], [0, a, 0]], np.uint64)
    assert len(np.unique(rows @ _factors(3))) == 2  # a times b, twice
    first, kinds = distinct(rows)
    assert np.array_equal(rows[first][kinds], rows)
    assert kinds[0] == kinds[3]


def test_a_year_from_december_is_the_same_year(encoder: Encoder) -> None:
    """December to November rolled from January to December: each month keeps its calendar position."""
    january_first = _cube((8, 8))
    december_first = np.roll(january_first, 1, axis=0)
    assert np.array_equal(
        _embed(december_first, encoder, first_month=12), _embed(january_first, encoder, first_month=1)
    )
    assert not np.array_equal(
        _embed(december_first, encoder, first_month=1), _embed(january_first, encoder, first_month=1)
    )


def test_patches_see_their_neighbours(tmp_path: Path) -> None:
    encoder = new_encoder("small", seed=2, device="cpu", precision="float32", patch=5)
    cube = _cube((16, 16))
    store = zarr.open_group(tmp_path / "cube.zarr", mode="w")
    store.create_array("reflectance", data=cube)
    window = CubeWindow(Store.at(tmp_path / "cube.zarr"), first_month=1, halo=2)
    found = _embed(window.open().read(4, 12, 0, 10), encoder, halo=2)
    series = np.pad(cube, ((0, 0), (0, 0), (2, 2), (2, 2)))[:, :, 6:11, 3:8].astype(np.float32)  # around y=6, x=3
    series = np.where(series == 0, np.nan, series / np.float32(10_000))
    assert np.array_equal(found[6 - 4, 3], encoder.embed(series[None])[0])


def test_foreign_encoders_are_refused() -> None:
    swapped = ("B04", "B03", "B02", *EncoderConfig.model_fields["bands"].default[3:])
    with pytest.raises(MapError, match="its bands are B04 B03 B02"):
        check_encoder(new_encoder("small", bands=swapped))
    with pytest.raises(MapError, match="takes 4 months, the cube has 12"):
        check_encoder(new_encoder("small", months=4))
    check_encoder(new_encoder("small"))


def test_reference_is_small_and_loads_once(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path)
    ref = EncoderRef(str(path), encoder.sha256, "cpu", "float32")
    assert len(pickle.dumps(ref)) < 1000
    assert encoder_of(ref) is encoder_of(pickle.loads(pickle.dumps(ref)))
    with pytest.raises(MapError, match="give every worker the same file"):
        encoder_of(EncoderRef(str(path), "0" * 64, "cpu", "float32"))


def test_stored_embeddings_keep_the_cosine(encoder: Encoder) -> None:
    embedded = _embed(_cube((16, 16)), encoder)
    stored, scale = quantise(embedded)
    assert stored.dtype == np.int8
    again = dequantise(stored, scale)
    cosine = (embedded * again).sum(axis=-1)
    seen = embedded.any(axis=-1)
    assert cosine[seen].min() > 1 - 0.005
    assert not again[~seen].any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_labels_do_not_depend_on_how_the_area_was_cut(tmp_path: Path, precision: str) -> None:
    """The contract: the same bits whatever the tile. Tiles of odd sizes, through the store and through Dask."""
    encoder = new_encoder("small", seed=3, device="cpu", precision=precision)
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path)
    ref = EncoderRef(str(path), encoder.sha256, "cpu", precision)
    store = zarr.open_group(tmp_path / "cube.zarr", mode="w")
    store.create_array("reflectance", data=_cube((300, 70)))
    window = CubeWindow(Store.at(tmp_path / "cube.zarr"), first_month=12, halo=0)
    # An untrained encoder puts all pixels close together: nine of them are the classes, told apart sharply.
    classes = _embed(_cube((8, 9), seed=9), encoder, first_month=12)[0]
    question = Question("made-up", classes, tuple(range(1, 10)), 0.001)

    def labels(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        return label_tile(Tile(0, 0, y0, y1, x0, x1), window, ref, [question])[0]

    whole = labels(0, 300, 0, 70)
    assert whole.shape == (2, 300, 70)
    assert len(np.unique(whole[0])) > 3
    for y0, y1, x0, x1 in ((0, 37, 0, 70), (37, 38, 5, 6), (251, 300, 13, 64)):
        assert np.array_equal(labels(y0, y1, x0, x1), whole[:, y0:y1, x0:x1])


def test_embedded_tile_is_the_quantised_block(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(encoder, path)
    cube = _cube((40, 30))
    zarr.open_group(tmp_path / "cube.zarr", mode="w").create_array("reflectance", data=cube)
    ref = EncoderRef(str(path), encoder.sha256, "cpu", "float32")
    window = CubeWindow(Store.at(tmp_path / "cube.zarr"), first_month=1, halo=0)
    embedding, scale = embed_tile(Tile(0, 0, 8, 24, 0, 30), window, ref, dim=encoder.dim)
    wanted, wanted_scale = quantise(_embed(cube[:, :, 8:24], encoder))
    assert np.array_equal(embedding, wanted)
    assert np.array_equal(scale, wanted_scale)
