"""How a run of make-map ended, for programs: one JSON file, written whole at the end whatever happened."""

import datetime as dt
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from timesenmap.pipeline.period import Period
from timesenmap.pipeline.record import MonthsRecord, RunRecord
from timesenmap.pipeline.whole import write_whole
from timesenmap.pipeline.workspace import Workspace
from timesenmap.workflows.commands import Ending, ending_of
from timesenmap.workflows.job import Job
from timesenmap.workflows.plan import Plan
from timesenmap.workflows.progress import Stages
from timesenmap.workflows.reuse import months_of

log = logging.getLogger(__name__)

_NAMED = 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PeriodPart(_Part):
    """First and last month, YYYY-MM."""

    start: str
    end: str


class TilesPart(_Part):
    """Tiles that are done in every stage, by this run or before it; that failed in some stage; and all."""

    done: int
    failed: int
    total: int


class FailedTile(_Part):
    """A tile that failed when it was last tried."""

    stage: str
    tile: str
    error: str


class MapFile(_Part):
    """A map as it was written."""

    file: str
    sha256: str


class Summary(_Part):
    """How a run ended. What it did not come to know is null or empty."""

    state: Literal["done", "failed", "bad input", "locked", "stopped"]
    exit_code: int = Field(description="of the command: 0 done, 1 failed, 2 bad input, 3 locked, 130 or 143 stopped")
    message: str = Field(description="the last line on standard error; empty when done")
    started: dt.datetime = Field(description="UTC")
    finished: dt.datetime = Field(description="UTC")
    job: str | None = Field(description="job file, as given to --job")
    out: str | None = Field(description="output folder, its placeholders filled in")
    period: PeriodPart | None = Field(description="first and last month")
    tiles: TilesPart | None = Field(description="null where no tile was begun")
    failed_tiles: tuple[FailedTile, ...] = Field(description=f"the first {_NAMED}")
    pixels: int | None = Field(description="pixels of all tiles")
    seconds: dict[str, float] = Field(description="wall seconds of this run by stage")
    months_made: tuple[str, ...] = Field(description="months of the cube, YYYY-MM, that were made in some tile")
    months_taken_over: tuple[str, ...] = Field(description="months taken, in every tile, from a cube that held them")
    maps: tuple[MapFile, ...] = Field(description="files of the maps in `out`, with their sha256; none unless done")
    warnings: tuple[str, ...] = Field(description="what to know of the maps, and what could not be tidied up")
    versions: dict[str, str] = Field(description="of timesenmap, and when done of all that made the maps")


@dataclass
class Account:
    """What a run has come to know; its parts are put here as they become known.

    Attributes
    ----------
    stages : times the stages
    job : settled: its months and folder named
    plan : once it is checked
    workspace : once this run holds it
    record : once the maps are made
    warnings : what does not make the run fail
    """

    stages: Stages
    job: Job | None = None
    plan: Plan | None = None
    workspace: Workspace | None = None
    record: RunRecord | None = None
    warnings: list[str] = field(default_factory=list)
    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def summary(self, ending: Ending, job_file: Path | None) -> Summary:
        """Sum up."""
        months, labels = self._months()
        return Summary(
            state=ending.state,
            exit_code=ending.exit_code,
            message=ending.message,
            started=self.started,
            finished=dt.datetime.now(dt.UTC),
            job=None if job_file is None else str(job_file),
            out=None if self.job is None else str(self.job.out),
            period=self._period(),
            tiles=self._tiles(),
            failed_tiles=self._failed()[:_NAMED],
            pixels=None if self.plan is None else self.plan.pixels,
            seconds=dict(self.stages.seconds),
            months_made=months.made,
            months_taken_over=tuple(label for label in labels if label not in months.made),
            maps=self._maps(),
            warnings=(*(self.record.warnings if self.record else ()), *self.warnings),
            versions=self.record.versions if self.record else {"timesenmap": version("timesenmap")},
        )

    def _period(self) -> PeriodPart | None:
        if self.job is None:
            return None
        try:
            months = Period.of(self.job.year, self.job.start).labels
        except ValueError:
            return None
        return PeriodPart(start=months[0], end=months[-1])

    def _months(self) -> tuple[MonthsRecord, tuple[str, ...]]:
        """Which months were made, and all of them; none before there is a tile."""
        if self.plan is None or self.workspace is None or not self.workspace.ledger.done("cube"):
            return MonthsRecord(made=(), taken=()), ()
        return months_of(self.workspace.ledger, self.plan.period), self.plan.period.labels

    def _failed(self) -> tuple[FailedTile, ...]:
        if self.plan is None or self.workspace is None:
            return ()
        return tuple(
            FailedTile(stage=stage, tile=key, error=error)
            for stage in sorted(self.plan.stage_names)
            for key, error in sorted(self.workspace.ledger.failed(stage).items())
        )

    def _tiles(self) -> TilesPart | None:
        if self.plan is None or self.workspace is None:
            return None
        keys = {tile.key for tile in self.plan.tiles}
        return TilesPart(
            done=len(self.workspace.ledger.done_throughout(self.plan.stage_names, keys)),
            failed=len({one.tile for one in self._failed()}),
            total=len(keys),
        )

    def _maps(self) -> tuple[MapFile, ...]:
        if self.record is None or self.plan is None or self.workspace is None:
            return ()
        known = ((name, self.workspace.ledger.file_signature(name)) for name in sorted(self.plan.map_files))
        return tuple(MapFile(file=name, sha256=written[1]) for name, written in known if written)


@contextmanager
def kept(summary: Path | None, job_file: Path | None, stages: Stages) -> Iterator[Account]:
    """Keep the account of a run and write its summary, whole, however it ends; errors go on as they are."""
    account = Account(stages)
    try:
        yield account
    except BaseException as error:
        if summary is not None:
            try:
                _write(summary, account.summary(ending_of(error), job_file))
            except (OSError, sqlite3.Error) as problem:  # a full disk, as a rule: what ended the run is said first
                log.warning("--summary %s: could not be written (%s)", summary, problem)
        raise
    if summary is not None:
        _write(summary, account.summary(Ending("done", 0), job_file))


def _write(path: Path, summary: Summary) -> None:
    write_whole(path, json.dumps(summary.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
