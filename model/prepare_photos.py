"""Preparation of training data: ground photos into frozen embeddings, resumable, shard by shard."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from timesenmap.model.lucas import photo_keys
from timesenmap.model.photos import PhotoFolder, read_photo
from timesenmap.model.prepare import Advance, digest, ignore
from timesenmap.model.sen4map import BadSampleError
from timesenmap.model.shards import Counts, Manifest, PreparedRows, Remark, Shard

if TYPE_CHECKING:
    from torch import Tensor

    from timesenmap.model.towers import ImageTower

PHOTOS_A_SHARD: Final = 4096
PHOTOS_A_BATCH: Final = 64

_T = TypeVar("_T")
_R = TypeVar("_R")


def prepare_photos(
    photos: PhotoFolder,
    out: Path,
    tower: "ImageTower",
    *,
    keys: Sequence[str] | None = None,
    threads: int = 4,
    strict: bool = False,
    photos_a_shard: int = PHOTOS_A_SHARD,
    batch: int = PHOTOS_A_BATCH,
    started: Callable[[int], Advance] | None = None,
) -> Counts:
    """Embed photos with a frozen image tower into shards.

    Parameters
    ----------
    photos
        What :func:`~timesenmap.model.photos.find_photos` found.
    out
        Folder of the shards; an interrupted preparation goes on where it was.
    tower
        On the device it shall run on.
    keys
        Photos wanted (those of prepared crops, see :func:`wanted_keys`); one that is not there is skipped as
        missing. Default: all there are.
    threads
        Decode and resize photos beside the tower (Pillow releases the interpreter's lock).
    strict, started
        As in :func:`~timesenmap.model.prepare.prepare_crops`.
    """
    wanted = sorted(photos.paths if keys is None else keys)
    units = [wanted[i : i + photos_a_shard] for i in range(0, len(wanted), photos_a_shard)]
    header = {
        "kind": "photos",
        "shards": len(units),
        "tower": tower.spec,
        "dim": tower.dim,
        "photos": digest(wanted),
        "photos a shard": photos_a_shard,
    }
    manifest = Manifest.resume_or_start(out, header)
    todo = [number for number in range(len(units)) if number not in manifest.finished]
    advance = started(sum(len(units[number]) for number in todo)) if started else ignore
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for number in todo:
            shard = _embed_photos(units[number], photos, tower, pool, strict=strict, batch=batch, advance=advance)
            manifest.add(number, shard)
    counts = manifest.counts()
    left = {"picture not named like a photo": photos.misnamed, "picture of a name used before": photos.repeated}
    return replace(
        counts,
        remarks={**counts.remarks, **{reason: len(paths) for reason, paths in left.items() if paths}},
        examples={**counts.examples, **{reason: tuple(map(str, paths[:3])) for reason, paths in left.items() if paths}},
    )


def wanted_keys(crops: PreparedRows) -> list[str]:
    """Names of all photos the points of prepared crops could have."""
    return photo_keys(crops.frame["country"].tolist(), crops.frame["number"].tolist()).ravel().tolist()


def _embed_photos(
    keys: Sequence[str],
    photos: PhotoFolder,
    tower: "ImageTower",
    pool: ThreadPoolExecutor,
    *,
    strict: bool,
    batch: int,
    advance: Advance,
) -> Shard:
    import torch  # noqa: PLC0415 - seconds; crops need none of it

    missing = [
        Remark(key, "missing photo", f"photo {key} is not in the folder") for key in keys if key not in photos.paths
    ]
    if missing and strict:
        raise BadSampleError("missing photo", f"{missing[0].detail}; leave --strict out to go on without it")
    advance(len(missing))
    there = [key for key in keys if key in photos.paths]
    decode = partial(_decode, photos=photos, tower=tower)
    kept: list[str] = []
    parts: list[NDArray[np.float16]] = []
    skipped = list(missing)
    decoded = zip(there, _ahead(pool, decode, there, ahead=2 * batch), strict=True)
    while group := list(islice(decoded, batch)):
        good = []
        for key, found in group:
            if isinstance(found, BadSampleError):
                if strict:
                    raise found
                skipped.append(Remark(key, found.reason, str(found)))
            else:
                kept.append(key)
                good.append(found)
        if good:
            parts.append(tower.embed(torch.stack(good)).astype(np.float16))
        advance(len(group))
    embedded = np.concatenate(parts) if parts else np.empty((0, tower.dim), np.float16)
    return Shard({"embedding": embedded}, {"key": kept}, tuple(skipped))


def _decode(key: str, *, photos: PhotoFolder, tower: "ImageTower") -> "Tensor | BadSampleError":
    try:
        return tower.preprocess(read_photo(photos.paths[key]))
    except BadSampleError as error:
        return error


def _ahead(pool: ThreadPoolExecutor, work: Callable[[_T], _R], items: Sequence[_T], *, ahead: int) -> Iterator[_R]:
    """Results in order, with at most ``ahead`` items under way: a whole shard of photos would not fit in memory."""
    waiting: list[Future[_R]] = [pool.submit(work, item) for item in items[:ahead]]
    for item in [*items[ahead:], *([None] * ahead)]:
        if not waiting:
            return
        first = waiting.pop(0)
        if item is not None:
            waiting.append(pool.submit(work, item))
        yield first.result()
