"""make-map status: how a run stands, from its output folder, while it is under way or after."""

import dataclasses
import datetime as dt
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from timesenmap.pipeline.status import RunStatus, StageStatus, TileStatus, read_status
from timesenmap.workflows.commands import with_exit_codes
from timesenmap.workflows.progress import byte_size, duration, si

# Of the failed tiles, how many are shown without --all.
_SHOWN = 20

_HEADER = ("stage", "done", "of", "share", "failed", "tiles/min", "px/min", "left", "read", "written")
_STYLES = {"running": "green", "finished": "green", "failed": "bold red", "stopped": "yellow", "unfinished": "yellow"}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help=f"show every failed tile, not only {_SHOWN}")
@click.option("--json", "as_json", is_flag=True, help="print JSON, for programs; with --watch one object a line")
@click.option(
    "--watch", type=click.FloatRange(min=0.1), metavar="SECONDS", help="look again and again until the run ends"
)
@with_exit_codes
def status(*, out: Path, everything: bool, as_json: bool, watch: float | None) -> None:
    """Say how the run in the output folder OUT stands.

    Tiles done, failed and left in each stage, how fast it goes, which tiles failed and why. Only the ledger and the
    lock are read, while the run is under way or after; the run does not notice.
    """
    console, shown = Console(), None if everything else _SHOWN
    if as_json:
        for now in _looks(out, watch):
            click.echo(json.dumps(for_programs(now), indent=None if watch else 2, ensure_ascii=False))
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for now in _looks(out, watch):
                live.update(panel(now, shown=shown), refresh=True)
    else:
        for now in _looks(out, watch):
            click.echo("\n".join(lines(now, shown=shown)) + ("\n" if watch else ""))


def _looks(out: Path, watch: float | None) -> Iterator[RunStatus]:
    while True:
        now = read_status(out)
        yield now
        if watch is None or now.state != "running":
            return
        time.sleep(watch)


def for_programs(run: RunStatus) -> dict[str, object]:
    """How a run stands, as JSON values: names as in `RunStatus`, times in UTC (ISO 8601)."""
    known = dataclasses.asdict(run)
    job = known.pop("announced")
    return {
        **known,
        **{name: _iso(known[name]) for name in ("moment", "started", "ended", "succeeded")},
        "out": str(run.out),
        "job": job and {name: job[name] for name in ("area", "period", "prompts")},
    }


def lines(run: RunStatus, *, shown: int | None = _SHOWN) -> list[str]:
    """How a run stands, as lines of text: of the failed tiles the first `shown`."""
    rows = [_HEADER, *map(_cells, run.stages)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [*_head(run), *table, *_after(run, shown)]


def panel(run: RunStatus, *, shown: int | None = _SHOWN) -> Group:
    """How a run stands, for a terminal."""
    first, *head = _head(run)
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for number, name in enumerate(_HEADER):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for stage in run.stages:
        style = "red" if stage.failed else "dim" if not stage.done else ""
        table.add_row(*map(Text, _cells(stage)), style=style)
    return Group(Text(first, style=_STYLES[run.state]), *map(Text, head), table, *map(Text, _after(run, shown)))


def _head(run: RunStatus) -> list[str]:
    job = run.announced
    head = [f"{run.out}: {_state(run)}"]
    if job is not None:
        head.append(f"{job.area}, {job.period}, {', '.join(job.prompts)}")
    if run.state == "failed" and run.error and not run.failed:  # else the tiles say it
        head.append(_one_line(run.error))
    return head


def _state(run: RunStatus) -> str:
    since = f" since {_utc(run.started)}" if run.started else ""
    if run.state == "running":
        where = f" on {run.host}" if run.host else ""
        process = f" (process {run.pid})" if run.pid else ""
        return f"running{where}{process}{since}"
    at = f" on {_utc(run.ended)}" if run.ended else ""
    took = f" after {duration(run.ended - run.started)}" if run.ended and run.started else ""
    if run.state == "finished":
        return f"finished{at}{took}"
    go_on = "run the same command again to go on"
    if run.state == "unfinished":
        begun = f", begun on {_utc(run.started)}" if run.started else ""
        return f"not running and not finished{begun}; {go_on}"
    if run.state == "stopped":
        return f"stopped{at}{took}; {go_on}"
    return f"failed{at}{took}; {go_on}" + (", with --retry-failed to do just what failed" if run.failed else "")


def _cells(stage: StageStatus) -> tuple[str, ...]:
    def rate(value: float | None) -> str:
        return "" if value is None else si(value).strip()

    total = stage.total
    return (
        stage.name,
        f"{stage.done:,}",
        "?" if total is None else f"{total:,}",
        "" if not total else f"{100 * stage.done // total} %",
        f"{stage.failed:,}" if stage.failed else "",
        rate(stage.tiles_per_minute),
        rate(stage.pixels_per_minute),
        "" if stage.seconds_left is None else duration(stage.seconds_left),
        byte_size(stage.bytes_read) if stage.bytes_read else "",
        byte_size(stage.bytes_written) if stage.bytes_written else "",
    )


def _after(run: RunStatus, shown: int | None) -> list[str]:
    """Failed tiles and the slowest ones."""
    said = []
    if run.failed:
        first = run.failed[:shown]
        more = f", the first {len(first)}; --all shows all" if len(first) < len(run.failed) else ""
        said.append(f"failed ({len(run.failed):,}{more}):")
        for (stage, attempts, error), tiles in _alike(first).items():
            tried = "once" if attempts == 1 else f"{attempts} times"
            said.append(f"  {stage} {', '.join(tiles)}, tried {tried}: {_one_line(error)}")
    if run.slowest:
        said.append("slowest: " + ", ".join(f"{_named(tile)} {tile.seconds:.1f} s" for tile in run.slowest))
    return said


def _alike(failed: Sequence[TileStatus]) -> dict[tuple[str, int, str], list[str]]:
    """Failed tiles by stage, attempts and error: one broken file breaks many."""
    groups: dict[tuple[str, int, str], list[str]] = {}
    for tile in failed:
        groups.setdefault((tile.stage, tile.attempts, tile.error or ""), []).append(tile.key)
    return groups


def _named(tile: TileStatus) -> str:
    return f"{tile.stage} {tile.key}" + (f" on {tile.worker}" if tile.worker else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _iso(moment: float | None) -> str | None:
    return None if moment is None else dt.datetime.fromtimestamp(moment, dt.UTC).isoformat(timespec="milliseconds")


def _utc(moment: float) -> str:
    return f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
