"""A lock on a folder that others can look at without touching it.

Linux's open file description locks: like those of ``flock`` they go with the process, however it ends, and unlike them
they can be tested without being taken (a test by taking, however short, could make a run that starts at that moment
believe that another one is under way). Over NFS they hold between hosts. https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
"""

import datetime as dt
import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from timesenmap.pipeline.errors import LockedError

# struct flock of 64-bit Linux: type, whence, start, length (0: to the end, however long), process (0 in these locks).
_FLOCK = "hhqqi4x"
_SET: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_TEST: int | None = getattr(fcntl, "F_OFD_GETLK", None)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: host, process id there, and since when (UTC, ISO 8601)."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, made where there is none, and say in it who does; it stays there, unheld, afterwards.

    Raises
    ------
    LockedError
        Another process, or this one, holds it; `what` begins the sentence that says so.
    """
    with path.open("a+", encoding="utf-8") as file:
        if not hold(file):
            raise LockedError(locked_by(path, what))
        me = Holder(socket.gethostname(), os.getpid(), dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
        _say(file, json.dumps(asdict(me)))
        try:
            yield
        finally:
            _say(file, "")


def locked_by(path: Path, what: str) -> str:
    """Say that another run holds a lock file, and who says so in it."""
    return f"{what}: another run is at work there ({holder(path) or 'it does not say which'}); nothing was done"


def holder(path: Path) -> Holder | None:
    """Who a lock file says holds it; None where it does not say. Whether it is held at all, `is_held` tells."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _say(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def hold(file: IO[Any]) -> bool:
    """Lock a file, open for writing, until it is closed; False where another process, or this one, holds it.

    OSError where the file system knows no locks.
    """
    try:
        if _SET is None:  # not Linux
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            fcntl.fcntl(file, _SET, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as systems differ
        return False
    return True


def is_held(path: Path) -> bool | None:
    """Tell whether someone holds a file, without taking it; None where the system cannot tell.

    A file that does not exist is not held, and is not made.
    """
    if _TEST is None:
        return None
    try:
        with path.open("rb") as file:
            found = fcntl.fcntl(file, _TEST, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)
