"""One area, one year, from scenes to maps; and what a run left, as xarray (``open_maps``, ``open_cube``)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timesenmap.pipeline.opened import open_cube, open_maps

__all__ = ["open_cube", "open_maps"]


def __getattr__(name: str) -> Any:  # xarray takes a second to import, and --help needs none of it
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.opened"), name)
