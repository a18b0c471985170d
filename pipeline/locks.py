"""A lock on a folder that others can look at without touching it.

Linux's open file description locks: like those of ``flock`` they go with the process, however it ends, and unlike them
they can be tested without being taken (a test by taking, however short, could make a run that starts at that moment
believe that another one is under way). Over NFS they hold between hosts. https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
"""

import fcntl
import os
import struct
from pathlib import Path
from typing import IO, Any

# struct flock of 64-bit Linux: type, whence, start, length (0: to the end, however long), process (0 in these locks).
_FLOCK = "hhqqi4x"
_SET: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_TEST: int | None = getattr(fcntl, "F_OFD_GETLK", None)


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
