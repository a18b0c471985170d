"""Prepared data on disk: numbered shards in a folder, and a manifest that says what they are of.

A shard is a ``.safetensors`` file: arrays whose first axis is the rows, and text columns in its metadata. It is
written whole or not at all, and only then named in ``manifest.json``; what a killed run had finished is kept.
Reading maps the arrays into memory, so that any number of loader workers share one copy of the pages they touch.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import save

from timesenmap.model.errors import ModelError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Remark:
    """A sample that was skipped, or kept with something left out: its name, why (counted), and in detail."""

    name: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Shard:
    """Rows in memory on their way to disk.

    Attributes
    ----------
    arrays
        Name -> (rows, ...).
    columns
        Name -> text of each row.
    skipped, remarks
        Samples that became no row, and rows with something left out.
    """

    arrays: Mapping[str, NDArray[Any]]
    columns: Mapping[str, Sequence[str]]
    skipped: tuple[Remark, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class Counts:
    """What a folder holds, and what became of the rest."""

    rows: int
    shards: int
    skipped: dict[str, int]
    remarks: dict[str, int]
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Manifest:
    """What the shards of a folder are of, which are finished, and what was skipped.

    Parameters
    ----------
    folder
        Where the shards are.
    header
        What they are of: plain values; two runs with the same header make the same shards.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder = folder
        self.header = dict(header)
        self.finished: dict[int, dict[str, Any]] = {}

    @classmethod
    def resume_or_start(cls, folder: Path, header: Mapping[str, Any]) -> "Manifest":
        """Manifest of a new folder, or of one an earlier run with the same header left."""
        manifest = cls(folder, json.loads(json.dumps(header)))
        if (folder / MANIFEST).exists():
            earlier = cls.read(folder)
            differing = sorted(
                name
                for name in {*manifest.header, *earlier.header}
                if manifest.header.get(name) != earlier.header.get(name)
            )
            if differing:
                raise ModelError(
                    f"folder '{folder}' was prepared with other {', '.join(differing)}: name another folder, or "
                    "remove it to start anew"
                )
            return earlier
        folder.mkdir(parents=True, exist_ok=True)
        manifest._write()
        return manifest

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest of a folder; ModelError where it holds none."""
        file = folder / MANIFEST
        if not file.is_file():
            raise ModelError(f"folder '{folder}' holds no prepared data ({MANIFEST} is missing): run prepare-training")
        try:
            content = json.loads(file.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ModelError(f"'{file}' has format {content['format']}, not {FORMAT}: prepare the data again")
            manifest = cls(folder, content["header"])
            manifest.finished = {int(number): entry for number, entry in content["shards"].items()}
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"'{file}' is no manifest of prepared data: prepare the data again") from error
        return manifest

    def path(self, number: int) -> Path:
        """File of a shard."""
        return self.folder / f"{self.header['kind']}-{number:05d}.safetensors"

    def add(self, number: int, shard: Shard) -> None:
        """Write a shard and record it."""
        # One entry only: safetensors writes several in random order, and equal shards must have equal bytes.
        metadata = {"columns": json.dumps({name: list(texts) for name, texts in shard.columns.items()})}
        content = save({name: np.ascontiguousarray(array) for name, array in shard.arrays.items()}, metadata)
        _replace(self.path(number), content)
        self.finished[number] = {
            "file": self.path(number).name,
            "rows": shard.rows,
            "sha256": hashlib.sha256(content).hexdigest(),
            "skipped": [asdict(remark) for remark in shard.skipped],
            "remarks": [asdict(remark) for remark in shard.remarks],
        }
        self._write()

    def counts(self, *, examples: int = 3) -> Counts:
        """Sum over the finished shards, with the first few details of each reason."""
        kinds: dict[str, Counter[str]] = {"skipped": Counter(), "remarks": Counter()}
        shown: dict[str, list[str]] = {}
        for _, entry in sorted(self.finished.items()):
            for kind, counter in kinds.items():
                for remark in entry[kind]:
                    counter[remark["reason"]] += 1
                    details = shown.setdefault(remark["reason"], [])
                    if len(details) < examples:
                        details.append(remark["detail"])
        return Counts(
            rows=sum(entry["rows"] for entry in self.finished.values()),
            shards=len(self.finished),
            skipped=dict(kinds["skipped"].most_common()),
            remarks=dict(kinds["remarks"].most_common()),
            examples={reason: tuple(details) for reason, details in shown.items()},
        )

    def _write(self) -> None:
        content = {
            "format": FORMAT,
            "header": self.header,
            "shards": {str(number): entry for number, entry in sorted(self.finished.items())},
        }
        _replace(self.folder / MANIFEST, json.dumps(content, indent=1).encode())


class PreparedRows:
    """Rows of one or more prepared folders, read where and when they are asked for.

    It travels to loader workers as paths; every process maps the files it touches itself.

    Parameters
    ----------
    folders
        Prepared by ``prepare-training``, finished, all of the same kind.
    kind
        What they must hold: ``crops`` or ``photos``.
    """

    def __init__(self, folders: Iterable[str | Path], *, kind: str) -> None:
        self.paths: list[Path] = []
        self.headers: list[dict[str, Any]] = []
        starts = [0]
        frames = []
        for folder in folders:
            manifest = Manifest.read(Path(folder))
            if manifest.header.get("kind") != kind:
                raise ModelError(f"folder '{folder}' holds {manifest.header.get('kind')}, not {kind}")
            wanted = int(manifest.header["shards"])
            if len(manifest.finished) != wanted:
                raise ModelError(
                    f"folder '{folder}' is unfinished ({len(manifest.finished)} of {wanted} shards): "
                    "run the same prepare-training command again"
                )
            self.headers.append(manifest.header)
            for number, entry in sorted(manifest.finished.items()):
                path = manifest.path(number)
                columns = _read_columns(path)
                if entry["rows"]:
                    frames.append(pd.DataFrame(columns, dtype=object))
                    starts.append(starts[-1] + entry["rows"])
                    self.paths.append(path)
        if not frames:
            raise ModelError(f"no row of {kind} was prepared: see what was skipped in {MANIFEST}")
        self.starts = np.array(starts)
        self.frame = pd.concat(frames, ignore_index=True)
        self._mapped: dict[tuple[int, str], NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of an array."""
        return cast("tuple[int, ...]", self._array(0, name).shape[1:])

    def read(self, name: str, rows: NDArray[np.integer]) -> NDArray[Any]:
        """Rows (n,) of an array, in the order asked: (n, ...), in memory."""
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        out = np.empty((len(rows), *self.shape(name)), self._array(0, name).dtype)
        for shard in np.unique(shards):
            chosen = shards == shard
            out[chosen] = self._array(int(shard), name)[rows[chosen] - self.starts[shard]]
        return out

    def _array(self, shard: int, name: str) -> NDArray[Any]:
        key = (shard, name)
        if key not in self._mapped:
            self._mapped[key] = _mapped_array(self.paths[shard], name)
        return self._mapped[key]


_TYPES: Final = {"U8": "u1", "U16": "<u2", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Header of a safetensors file and where its data begin (https://github.com/huggingface/safetensors#format)."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return cast("dict[str, Any]", json.loads(file.read(length))), 8 + length
    except (OSError, ValueError) as error:
        raise ModelError(f"shard '{path}' is missing or damaged: remove its folder and prepare it again") from error


def _read_columns(path: Path) -> dict[str, list[str]]:
    header, _ = _header(path)
    return cast("dict[str, list[str]]", json.loads(header["__metadata__"]["columns"]))


def _mapped_array(path: Path, name: str) -> NDArray[Any]:
    header, start = _header(path)
    if name not in header:
        raise ModelError(f"shard '{path}' has no '{name}', but {', '.join(k for k in header if k != '__metadata__')}")
    entry = header[name]
    begin, end = entry["data_offsets"]
    if path.stat().st_size < start + end:
        raise ModelError(f"shard '{path}' is truncated: remove its folder and prepare it again")
    return np.memmap(path, _TYPES[entry["dtype"]], "r", offset=start + begin, shape=tuple(entry["shape"]))


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole: whoever looks sees the old one or the new one."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
