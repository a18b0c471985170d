"""Where the stores of a run lie: folders of a disk, or prefixes of an object storage, by one interface.

A store is made, then begun in the ledger, then filled tile by tile, each recorded after it was written. What is not
begun is removed and made again, what is not recorded is written again. So nothing has to be renamed, which object
storage cannot do.
"""

import os
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.storage import LocalStore

from timesenmap.pipeline import objects
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import Tile
from timesenmap.pipeline.whole import write_whole

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


def is_url(location: str) -> bool:
    """Whether a location is an address and not a path."""
    return _URL.match(location) is not None


@dataclass(frozen=True)
class Store:
    """A Zarr store, or a folder of several: its location and nothing else, so that it can travel to any worker.

    Attributes
    ----------
    location : absolute path, or URL (``s3://bucket/prefix``); keys come from the environment of whoever opens it
    """

    location: str

    @classmethod
    def at(cls, location: "StoreLike") -> "Store":
        """Store at a path or URL."""
        if isinstance(location, Store):
            return location
        text = os.fspath(location)
        if is_url(text):
            return cls(text if text.endswith("://") else text.rstrip("/"))
        return cls(str(Path(text).absolute()))

    def __str__(self) -> str:
        return self.location

    def __truediv__(self, name: str) -> "Store":
        return Store(f"{self.location}/{name}")

    @property
    def name(self) -> str:
        """Last part of the location."""
        return self.location.rpartition("/")[2]

    @property
    def is_remote(self) -> bool:
        """Whether it lies in an object storage."""
        return is_url(self.location)

    def exists(self) -> bool:
        """Whether something lies there."""
        return bool(self.size("zarr.json")) if self.is_remote else Path(self.location).exists()

    def require(self) -> None:
        """Raise FileNotFoundError where there is no store, or one that is being removed."""
        if not self.size("zarr.json"):
            raise FileNotFoundError(f"{self}: there is no store")

    def holds_anything(self) -> bool:
        """Whether something lies there, a store or a folder of several."""
        return objects.holds_anything(self.location) if self.is_remote else Path(self.location).exists()

    def remove(self) -> None:
        """Remove all that lies there, root metadata first: what a removal cut short leaves is no store to anybody."""
        if self.is_remote:
            objects.remove(self.location, first="zarr.json")
            return
        path = Path(self.location)
        (path / "zarr.json").unlink(missing_ok=True)
        if path.exists():
            shutil.rmtree(path)

    def read(self, key: str) -> bytes | None:
        """Bytes of a small object in it; None where there is none."""
        if self.is_remote:
            return objects.read(self.location, key)
        path = Path(self.location) / key
        return path.read_bytes() if path.is_file() else None

    def write_new(self, key: str, content: bytes) -> bool:
        """Write a small object into it, whole, unless there is one; whether it was written."""
        if self.is_remote:
            return objects.write_new(self.location, key, content)
        path = Path(self.location) / key
        part = write_whole(path.with_name(f"{key}.{uuid.uuid4().hex}"), content)
        try:
            path.hardlink_to(part)
        except FileExistsError:
            return False
        except OSError:  # a disk without hard links: the last one succeeds
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return True

    def delete(self, key: str) -> None:
        """Delete one object in it, if there is one."""
        if self.is_remote:
            objects.delete(self.location, key)
        else:
            (Path(self.location) / key).unlink(missing_ok=True)

    def size(self, key: str) -> int:
        """Bytes of one object in it; 0 where there is none."""
        if self.is_remote:
            return objects.size(self.location, key)
        path = Path(self.location) / key
        return path.stat().st_size if path.exists() else 0

    def group(self, mode: Literal["r", "r+", "w-"] = "r") -> zarr.Group:
        """Open it as a Zarr group, or make it (``w-``)."""
        return zarr.open_group(self.to_zarr(), mode=mode, zarr_format=3)

    def array(self, name: str, mode: Literal["r", "r+"] = "r") -> zarr.Array[Any]:
        """Open one of its arrays; on object storage that is one request."""
        return zarr.open_array(self.to_zarr(), path=name, mode=mode, zarr_format=3)

    def to_zarr(self) -> Any:
        """Zarr's own store object, which does not travel as safely."""
        if not self.is_remote:
            return LocalStore(self.location)
        return objects.Objects(objects.client(self.location), url=self.location)


StoreLike = Store | str | os.PathLike[str]
"""A store, or the path or URL of one."""


def check_store(store: Store) -> None:
    """Refuse a place where nothing can be written, read and deleted; leaves nothing.

    Raises
    ------
    MapError
        Names the place, why not, and what to do.
    """
    if store.is_remote:
        objects.check(store.location)
        return
    path = Path(store.location)
    if re.match(r"[a-z0-9]+:/", os.path.relpath(path)):
        raise MapError(f"--work {os.path.relpath(path)}: is neither a path nor an address; write s3://BUCKET/FOLDER")
    above = next(folder for folder in (path, *path.parents) if folder.exists())
    if not above.is_dir():
        raise MapError(f"--work {path}: {above} is a file; name a folder")
    try:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=above) as folder:
            (Path(folder) / "object").write_bytes(b"make-map looks whether it may write here")
    except OSError as error:
        raise MapError(
            f"--work {path}: nothing can be written in {above} ({error.strerror}); name a folder of yours"
        ) from error


def stored_bytes(store: StoreLike, tile: Tile, *names: str) -> int:
    """Size of a tile as it lies in arrays of a store whose chunks (or shards) are one tile each.

    Chunks of nothing but the fill value are not written and count nothing.
    """
    store, total = Store.at(store), 0
    for name in names:
        array = store.array(name)
        edges = array.shards or array.chunks
        first = {"y": tile.y0, "x": tile.x0, "tile_y": tile.row, "tile_x": tile.col}
        dimensions = getattr(array.metadata, "dimension_names", None) or ()
        index = tuple(first.get(str(axis), 0) // edge for axis, edge in zip(dimensions, edges, strict=True))
        total += store.size(f"{name}/{array.metadata.encode_chunk_key(index)}")
    return total
