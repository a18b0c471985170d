"""The output folder of a run: whose it is, who may write in it, and what in it is still valid."""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.ledger import Ledger
from timesenmap.pipeline.stores import Store
from timesenmap.pipeline.whole import write_whole


def signature(**parts: object) -> str:
    """Hash of everything a result depends on (JSON values); equal parts give equal signatures on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Workspace:
    """An output folder that this process holds alone."""

    out: Path
    ledger: Ledger

    @property
    def work(self) -> Path:
        """Folder of the ledger and of what else this process alone reads and writes."""
        return self.out / "work"

    @property
    def stores(self) -> Store:
        """Where the stores lie that make a second run cheap."""
        return Store.at(self.work)

    @property
    def cube(self) -> Store:
        """Store of the cube."""
        return self.stores / "cube.zarr"

    @property
    def items(self) -> Path:
        """The scenes that were searched, to run again on exactly the same."""
        return self.work / "items.parquet"

    @property
    def embeddings(self) -> Store:
        """Store of the embeddings, present with ``--keep-embeddings``."""
        return self.stores / "embeddings.zarr"

    def labels(self, prompt_set: str) -> Store:
        """Store of class and confidence of one prompt set, before they become COGs."""
        return self.stores / "labels" / f"{prompt_set}.zarr"

    def probabilities(self, prompt_set: str) -> Store:
        """Store of the probability of every class of one prompt set, present with ``--probabilities``."""
        return self.stores / "probabilities" / f"{prompt_set}.zarr"

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file, whole or not at all."""
        write_whole(self.out / name, text)

    def write_file(self, name: str, valid: str, write: Callable[[Path], None]) -> str:
        """Write an output file unless it stands already with the same signature; returns its sha256.

        `write` must write whole or not at all. A file that was deleted or altered since is written again.
        """
        path = self.out / name
        known = self.ledger.file_signature(name)
        if known is not None and known[0] == valid and path.is_file() and sha256_of(path) == known[1]:
            return known[1]
        started = time.monotonic()
        write(path)
        checksum = sha256_of(path)
        seconds, size = time.monotonic() - started, path.stat().st_size
        self.ledger.keep_file(name, valid, checksum, seconds=seconds, size=size)
        return checksum


def check_folder(out: Path, place: Mapping[str, object]) -> None:
    """Refuse a folder that is not ours to write in; nothing is created.

    `place` says what the maps of the folder are maps of (AOI, grid, period): another prompt set, encoder or
    catalogue may come to the same folder, another place or year may not.
    """
    if out.exists() and not out.is_dir():
        msg = f"--out {out}: is a file; name a folder"
        raise MapError(msg)
    if not out.is_dir() or not _names_in(out):
        return
    ledger_path = out / "work" / "ledger.sqlite"
    if not ledger_path.is_file():
        if _names_in(out) == {"work"} and _names_in(out / "work") <= {"lock"}:
            return  # of a run that was killed before it had a ledger
        msg = f"--out {out}: holds files that make-map did not write; name a new or empty folder"
        raise MapError(msg)
    written = Ledger(ledger_path).note("place")
    if written is None:
        return
    before = json.loads(written)
    now = json.loads(json.dumps(place, default=str))
    changed = sorted(key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
    if changed:
        was = "; ".join(f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in changed)
        msg = f"--out {out}: holds the maps of another job ({was}); name another folder"
        raise MapError(msg)


def require_failed(out: Path) -> None:
    """Refuse to retry in a folder where no tile failed; nothing is created."""
    ledger_path = out / "work" / "ledger.sqlite"
    if not ledger_path.is_file() or not Ledger(ledger_path).any_failed():
        raise MapError(f"--retry-failed: no tile failed in --out {out}; run the command without it")


def _names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def open_workspace(out: Path, place: Mapping[str, object]) -> Iterator[Workspace]:
    """Hold the output folder for one run: checked, locked, with its ledger.

    Raises MapError where the folder is another job's, or where another run is writing in it.
    """
    check_folder(out, place)
    (out / "work").mkdir(parents=True, exist_ok=True)
    with (out / "work" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            msg = f"--out {out}: another run is writing there; wait for it or name another folder"
            raise MapError(msg) from error
        ledger = Ledger(out / "work" / "ledger.sqlite")
        ledger.keep_note("place", json.dumps(place, default=str))
        yield Workspace(out, ledger)
