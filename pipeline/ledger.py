"""The ledger: which tiles of which stage are done, so that a killed run goes on where it stopped.

One SQLite file in the work folder. A *stage* (the cube, the labels of one prompt set) has a signature, the hash
of everything its result depends on; a tile is recorded only after it was written whole, or with its error where it
failed. When the signature changes, the rows of that stage are forgotten and the stage starts anew.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS stage (name TEXT PRIMARY KEY, signature TEXT NOT NULL, tile_size INTEGER NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS tile (
    stage TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    seconds REAL, bytes INTEGER, checksum TEXT, counts TEXT, profile TEXT, error TEXT, finished REAL,
    worker TEXT, PRIMARY KEY (stage, key));
CREATE TABLE IF NOT EXISTS file (name TEXT PRIMARY KEY, signature TEXT NOT NULL, sha256 TEXT NOT NULL,
    seconds REAL, bytes INTEGER);
CREATE TABLE IF NOT EXISTS taken (stage TEXT, key TEXT, source TEXT, months TEXT NOT NULL,
    PRIMARY KEY (stage, key, source));
CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

# Of folders that an earlier version made.
_ADDED = {
    "tile": ("bytes INTEGER", "profile TEXT", "worker TEXT"),
    "file": ("seconds REAL", "bytes INTEGER"),
}


@dataclass(frozen=True)
class TileResult:
    """What a finished tile leaves behind.

    Attributes
    ----------
    checksum : sha256 of its arrays' bytes, hexadecimal
    counts : counts that sum over tiles
    bytes : size of what was written, as it lies on disk
    taken : what was not made but taken over: from where, and the positions of the months
    """

    checksum: str
    counts: Mapping[str, list[int]]
    bytes: int = 0
    taken: Mapping[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """What work took: wall seconds in all and by phase (`timesenmap.pipeline.profile`), bytes read and written."""

    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_written: int = 0

    def share(self, parts: int) -> "Spent":
        """Give one of several equal parts, for stages that shared the work."""
        phases = {phase: seconds / parts for phase, seconds in self.phases.items()}
        return Spent(self.seconds / parts, phases, self.bytes_read // parts, self.bytes_written // parts)


@dataclass(frozen=True)
class StageState:
    """How far a stage is: the tile size its store was made for, and whether every tile is done."""

    tile_size: int
    complete: bool


class Ledger:
    """SQLite ledger of one output folder; safe to open while another process reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._connect() as db:
            db.executescript(_SCHEMA)
            for table, columns in _ADDED.items():
                there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
                for column in columns:
                    if column.split()[0] not in there:
                        db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=60)
        try:
            with db:
                yield db
        finally:
            db.close()

    def note(self, key: str) -> str | None:
        """Read a note kept for the folder, e.g. the place and period its maps are of."""
        with self._connect() as db:
            row = db.execute("SELECT value FROM note WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def keep_note(self, key: str, value: str) -> None:
        """Keep or replace a note."""
        with self._connect() as db:
            db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (key, value))

    def stage(self, stage: str, signature: str) -> "StageState | None":
        """State of a stage that was begun with this signature, or None."""
        with self._connect() as db:
            row = db.execute(
                "SELECT tile_size, complete FROM stage WHERE name = ? AND signature = ?", (stage, signature)
            ).fetchone()
        return None if row is None else StageState(int(row[0]), bool(row[1]))

    def is_begun(self, stage: str) -> bool:
        """Whether the store of a stage stands, for whatever inputs."""
        with self._connect() as db:
            return db.execute("SELECT 1 FROM stage WHERE name = ?", (stage,)).fetchone() is not None

    def complete(self, stage: str) -> None:
        """Record that all tiles of a stage are done."""
        with self._connect() as db:
            db.execute("UPDATE stage SET complete = 1 WHERE name = ?", (stage,))

    def forget(self, stage: str) -> None:
        """Forget a stage; called before its store is removed, so that a kill in between loses nothing."""
        with self._connect() as db:
            db.execute("DELETE FROM stage WHERE name = ?", (stage,))
            db.execute("DELETE FROM tile WHERE stage = ?", (stage,))
            db.execute("DELETE FROM taken WHERE stage = ?", (stage,))

    def forget_all(self) -> bool:
        """Forget all stages, where their stores are no longer those recorded; whether there were any."""
        with self._connect() as db:
            db.execute("DELETE FROM tile")
            return db.execute("DELETE FROM stage").rowcount > 0

    def begin(self, stage: str, signature: str, tile_size: int) -> None:
        """Record that the store of a stage stands, ready for its tiles, none of which is done."""
        with self._connect() as db:
            db.execute("DELETE FROM tile WHERE stage = ?", (stage,))
            db.execute("DELETE FROM taken WHERE stage = ?", (stage,))
            db.execute(
                "INSERT OR REPLACE INTO stage (name, signature, tile_size) VALUES (?, ?, ?)",
                (stage, signature, tile_size),
            )

    def done(self, stage: str) -> set[str]:
        """Keys of the finished tiles of a stage."""
        with self._connect() as db:
            rows = db.execute("SELECT key FROM tile WHERE stage = ? AND state = 'done'", (stage,))
            return {str(key) for (key,) in rows}

    def done_throughout(self, stages: Collection[str], keys: Collection[str]) -> set[str]:
        """Those of some tiles that are done in all of some stages; in a complete one all are, of any tile size."""
        done = set(keys)
        for stage in stages:
            with self._connect() as db:
                complete = db.execute("SELECT 1 FROM stage WHERE name = ? AND complete", (stage,)).fetchone()
            done &= done if complete else self.done(stage)
        return done

    def finish(self, stage: str, key: str, result: TileResult, spent: Spent, *, worker: str = "") -> int:
        """Record a tile that was written whole, and by whom; returns how often it was attempted."""
        with self._connect() as db:
            db.execute("DELETE FROM taken WHERE stage = ? AND key = ?", (stage, key))
            rows = [(stage, key, source, json.dumps(list(months))) for source, months in result.taken.items()]
            db.executemany("INSERT INTO taken VALUES (?, ?, ?, ?)", rows)
        profile = json.dumps({"phases": dict(spent.phases), "bytes_read": spent.bytes_read})
        counts = json.dumps(dict(result.counts))
        return self._record(
            stage, key, "done", spent.seconds, result.bytes, result.checksum, counts, profile, None, worker
        )

    def fail(self, stage: str, key: str, error: str, seconds: float, *, worker: str = "") -> int:
        """Record a tile that failed, and why; returns how often it was attempted."""
        return self._record(stage, key, "failed", seconds, None, None, None, None, error, worker)

    def _record(self, stage: str, key: str, state: str, seconds: float, *rest: object) -> int:
        with self._connect() as db:
            db.execute(
                "INSERT INTO tile (stage, key, state, attempts, seconds, bytes, checksum, counts, profile, error, "
                "worker, finished) VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (stage, key) DO UPDATE SET "
                "state = excluded.state, attempts = attempts + 1, seconds = excluded.seconds, bytes = excluded.bytes, "
                "checksum = excluded.checksum, counts = excluded.counts, profile = excluded.profile, "
                "error = excluded.error, worker = excluded.worker, finished = excluded.finished",
                (stage, key, state, seconds, *rest, time.time()),
            )
            row = db.execute("SELECT attempts FROM tile WHERE stage = ? AND key = ?", (stage, key)).fetchone()
        return int(row[0])

    def failed(self, stage: str) -> dict[str, str]:
        """Keys of the tiles of a stage that failed when they were last tried, and why."""
        with self._connect() as db:
            return dict(db.execute("SELECT key, error FROM tile WHERE stage = ? AND state = 'failed'", (stage,)))

    def any_failed(self) -> set[str]:
        """Keys of the tiles that failed in some stage when they were last tried."""
        with self._connect() as db:
            return {str(key) for (key,) in db.execute("SELECT DISTINCT key FROM tile WHERE state = 'failed'")}

    def spent(self, stages: Collection[str], files: Collection[str]) -> Spent:
        """Sum of what the finished tiles of some stages, and some output files, took, in whichever run."""
        seconds, read, written = 0.0, 0, 0
        phases: dict[str, float] = {}
        with self._connect() as db:
            for stage, took, size, profile in db.execute(
                "SELECT stage, seconds, bytes, profile FROM tile WHERE state = 'done'"
            ):
                if stage in stages:
                    parts, more = profile_of(profile, took)
                    for phase, part in parts.items():
                        phases[phase] = phases.get(phase, 0.0) + part
                    seconds, read, written = seconds + took, read + more, written + (size or 0)
            for name, took, size in db.execute("SELECT name, seconds, bytes FROM file"):
                if name in files and took is not None:
                    phases["writing"] = phases.get("writing", 0.0) + took
                    seconds, written = seconds + took, written + size
        return Spent(seconds, phases, read, written)

    def totals(self, stage: str) -> dict[str, list[int]]:
        """Sum of the counts of all finished tiles of a stage, element by element."""
        with self._connect() as db:
            rows = db.execute("SELECT counts FROM tile WHERE stage = ? AND state = 'done'", (stage,)).fetchall()
        return _summed(json.loads(counts) for (counts,) in rows)

    def taken(self, stage: str) -> dict[str, dict[int, int]]:
        """What was taken over: from where, which months by their positions, and in how many finished tiles."""
        found: dict[str, dict[int, int]] = {}
        with self._connect() as db:
            for source, months in db.execute(
                "SELECT source, months FROM taken JOIN tile USING (stage, key) WHERE stage = ? AND state = 'done' "
                "ORDER BY source",
                (stage,),
            ):
                tiles = found.setdefault(source, {})
                for month in json.loads(months):
                    tiles[month] = tiles.get(month, 0) + 1
        return found

    def checksums(self, stage: str) -> dict[str, str]:
        """Checksum of every finished tile of a stage."""
        with self._connect() as db:
            return dict(
                db.execute("SELECT key, checksum FROM tile WHERE stage = ? AND state = 'done'", (stage,)).fetchall()
            )

    def file_signature(self, name: str) -> tuple[str, str] | None:
        """(signature, sha256) of an output file as it was last written, or None."""
        with self._connect() as db:
            row = db.execute("SELECT signature, sha256 FROM file WHERE name = ?", (name,)).fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    def keep_file(self, name: str, signature: str, sha256: str, *, seconds: float, size: int) -> None:
        """Record an output file that was written whole, what that took and its size in bytes."""
        with self._connect() as db:
            db.execute(
                "INSERT OR REPLACE INTO file (name, signature, sha256, seconds, bytes) VALUES (?, ?, ?, ?, ?)",
                (name, signature, sha256, seconds, size),
            )


def profile_of(profile: str | None, seconds: float) -> tuple[dict[str, float], int]:
    """Seconds by phase, and bytes read, of a tile as its row has them; of an earlier version all seconds are *rest*."""
    known = json.loads(profile) if profile else {}
    return known.get("phases", {"rest": seconds}), int(known.get("bytes_read", 0))


def _summed(counts: Iterable[dict[str, list[int]]]) -> dict[str, list[int]]:
    total: dict[str, list[int]] = {}
    for tile in counts:
        for name, values in tile.items():
            so_far = total.get(name)
            total[name] = values if so_far is None else [a + b for a, b in zip(so_far, values, strict=True)]
    return total
