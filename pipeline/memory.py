"""Memory that was freed goes back to the system."""

import ctypes
import sys


def give_back() -> None:
    """Return freed memory, which glibc keeps for itself otherwise: the peak of a stage then holds no other's leftovers.

    Without effect where the C library is another.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
