"""The ledger as somebody else reads it: all rows of one moment, while a run writes in it or after.

Nothing is written, made or locked for longer than the rows take to read. Columns that ledgers of earlier versions lack
are None.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How long to wait for a writer that is just putting a tile on disk.
_PATIENCE_SECONDS = 10.0

_COLUMNS = {
    "stage": ("name", "signature", "tile_size", "complete"),
    "tile": ("stage", "key", "state", "attempts", "seconds", "bytes", "profile", "error", "finished", "worker"),
    "file": ("name", "signature", "seconds", "bytes"),
    "note": ("key", "value"),
}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class LedgerView:
    """All of a ledger but checksums and counts: rows by column name, as `timesenmap.pipeline.ledger` defines them."""

    stages: tuple[Row, ...]
    tiles: tuple[Row, ...]
    files: tuple[Row, ...]
    notes: Mapping[str, str]


def view_ledger(path: Path) -> LedgerView:
    """Read a ledger that another process may be writing in.

    Raises
    ------
    FileNotFoundError
        There is none.
    sqlite3.Error
        It is no ledger, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        return _view(path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    # Its writer was killed in the middle of a row: SQLite takes that back, which only writing can.
    with _copied(path) as copy, closing(sqlite3.connect(copy)) as db:
        db.execute("SELECT 1 FROM sqlite_master").fetchall()
        return _view(copy)


def _view(path: Path) -> LedgerView:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS)) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")  # all tables at one moment
        rows = {table: _rows(db, table, columns) for table, columns in _COLUMNS.items()}
    notes = {str(row["key"]): str(row["value"]) for row in rows["note"]}
    return LedgerView(rows["stage"], rows["tile"], rows["file"], notes)


def _rows(db: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> tuple[Row, ...]:
    there = {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}
    chosen = ", ".join(column if column in there else f"NULL AS {column}" for column in columns)
    return tuple(map(dict, db.execute(f"SELECT {chosen} FROM {table} ORDER BY rowid"))) if there else ()  # noqa: S608


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        for file in (path, path.with_name(path.name + "-journal")):
            if file.is_file():
                shutil.copyfile(file, Path(folder) / file.name)
        yield Path(folder) / path.name
