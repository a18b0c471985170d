"""Ground photos of LUCAS points: a folder of them, and their frozen embeddings.

A photo is named by country, point and direction: ``NL_40683280W.jpg``. Any of a point's four may be missing.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.errors import ModelError
from timesenmap.model.lucas import DIRECTIONS, parse_photo_key, photo_keys
from timesenmap.model.sen4map import BadSampleError
from timesenmap.model.shards import PreparedRows

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class PhotoFolder:
    """The photos found in a folder.

    Attributes
    ----------
    paths
        Key (``NL_40683280W``) -> file, in the order of the keys.
    misnamed
        Picture files whose names are no keys.
    repeated
        Files whose key an earlier file (in the order of paths) already has.
    """

    paths: dict[str, Path]
    misnamed: tuple[Path, ...]
    repeated: tuple[Path, ...]


def find_photos(folder: str | Path) -> PhotoFolder:
    """Find the photos in a folder and the folders below it.

    Raises
    ------
    ModelError
        No such folder, or no photo in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ModelError(f"photo folder '{root}': not found")
    pictures = sorted(path for path in _files(root) if path.suffix.lower() in SUFFIXES)
    found: dict[str, Path] = {}
    misnamed, repeated = [], []
    for path in pictures:
        key = path.stem
        if parse_photo_key(key) is None:
            misnamed.append(path)
        elif key in found:
            repeated.append(path)
        else:
            found[key] = path
    if not found:
        raise ModelError(
            f"photo folder '{root}': none of {len(pictures)} pictures is named like NL_40683280W.jpg "
            "(country, point number, direction)"
        )
    return PhotoFolder(dict(sorted(found.items())), tuple(misnamed), tuple(repeated))


def read_photo(path: Path) -> "Image":
    """Decode a photo, upright, as RGB; BadSampleError where it is damaged."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - imported where pictures are read

    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as error:  # on damaged bytes decoders raise whatever they stumble over
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadSampleError("corrupt photo", f"photo '{path.name}' cannot be decoded ({cause})") from error


class PhotoEmbeddings:
    """Frozen embeddings of photos, looked up by point.

    Parameters
    ----------
    folders
        Prepared by ``prepare-training photos``, all with the same tower.
    """

    def __init__(self, folders: Iterable[str | Path]) -> None:
        self.rows = PreparedRows(folders, kind="photos")
        towers = {header["tower"] for header in self.rows.headers}
        if len(towers) > 1:
            raise ModelError(f"photos were embedded with different towers: {', '.join(sorted(towers))}")
        self.tower: str = towers.pop()
        self._row_of = {key: row for row, key in enumerate(self.rows.frame["key"])}

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self.rows.shape("embedding")[0]

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, countries: Sequence[str], numbers: Sequence[str]) -> NDArray[np.int64]:
        """Rows of the photos of points: int64 (n, 4), directions in the order of DIRECTIONS, -1 = missing."""
        keys = photo_keys(list(countries), list(numbers))
        found = [self._row_of.get(key, -1) for key in keys.ravel()]
        return np.array(found, np.int64).reshape(-1, len(DIRECTIONS))

    def read(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Embeddings of rows of any shape (...): float32 (..., d) of unit length, zero where the row is -1."""
        out = np.zeros((rows.size, self.dim), np.float32)
        there = rows.ravel() >= 0
        stored: NDArray[Any] = self.rows.read("embedding", rows.ravel()[there]).astype(np.float32)
        out[there] = stored / np.linalg.norm(stored, axis=1, keepdims=True)  # stored in half precision
        return out.reshape(*rows.shape, self.dim)


def pooled(photos: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean of the photos there are, of unit length: the paper's target.

    Parameters
    ----------
    photos
        (n, p, d) unit vectors.
    present
        (n, p) which of them are there; at least one a row.
    """
    mean = np.einsum("npd,np->nd", photos, present.astype(np.float32))
    return cast("NDArray[np.float32]", mean / np.linalg.norm(mean, axis=1, keepdims=True))


def one_of(present: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Position of one photo, drawn among those present (n, p), of each row: int64 (n,)."""
    return np.asarray(np.where(present, rng.random(present.shape), -1.0).argmax(1), np.int64)


def _files(root: Path) -> Iterable[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names)
