"""The commands, job files, progress, exit codes; and ``map_area``, which is make-map from Python."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timesenmap.workflows.python import map_area

__all__ = ["map_area"]


def __getattr__(name: str) -> Any:  # the pipeline takes seconds to import, and --help needs little of it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.python"), name)
