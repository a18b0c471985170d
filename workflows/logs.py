"""The log of a command, on standard error: lines for people, or a JSON object a line for programs."""

import datetime as dt
import json
import logging
import sys
from types import TracebackType

from rich.console import Console
from rich.logging import RichHandler

log = logging.getLogger("timesenmap")

FIELDS = ("stage", "tile", "worker", "attempt", "seconds", "error")
"""What a record may say beside its message (`extra` of the logging calls)."""


class JsonLines(logging.Formatter):
    r"""A JSON object a line, ASCII alone: what other characters there are is written ``\uXXXX``.

    Keys: ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``; of `FIELDS` those that are known; ``exception``,
    the traceback, where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        said: dict[str, object] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name in FIELDS if (value := getattr(record, name, None)) not in (None, "")}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def console() -> Console:
    """Console on standard error; standard output is for what a command was asked to print."""
    return Console(stderr=True)


def set_up_logging(*, verbose: bool = False, json_lines: bool = False) -> None:
    """Send the log to standard error: through rich on a terminal, plain dated lines elsewhere, or as JSON.

    With `json_lines` so do the warnings and logs of libraries, and an error that nobody expected.
    """
    handler: logging.Handler
    if json_lines:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        _have_others_say_json(handler)
    elif sys.stderr.isatty():
        handler = RichHandler(console=console(), show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logger = logging.getLogger("timesenmap")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


def speaks_json() -> bool:
    """Whether the log is JSON, so that nothing else may be written to standard error."""
    return any(isinstance(handler.formatter, JsonLines) for handler in log.handlers)


def _have_others_say_json(handler: logging.Handler) -> None:
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.addHandler(handler)
    for name in list(logging.Logger.manager.loggerDict):  # distributed's have handlers of their own
        for other in logging.getLogger(name).handlers:
            other.setFormatter(handler.formatter)
    sys.excepthook = _log_unexpected


def _log_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))
