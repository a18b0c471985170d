"""What the Zarr stores of a run have in common."""

import shutil
from pathlib import Path

import zarr

from timesenmap.pipeline.grid import Tile


def remove_store(path: Path) -> None:
    """Remove a store so that no part of it, should the removal be cut short, can be taken for a store."""
    (path / "zarr.json").unlink(missing_ok=True)
    if path.exists():
        shutil.rmtree(path)


def stored_bytes(path: Path, tile: Tile, *names: str) -> int:
    """Size on disk of a tile in arrays of a store whose chunks (or shards) are one tile each.

    Chunks of nothing but the fill value are not written and count nothing.
    """
    total = 0
    for name in names:
        array = zarr.open_array(path, path=name, mode="r")
        edges = array.shards or array.chunks
        first = {"y": tile.y0, "x": tile.x0, "tile_y": tile.row, "tile_x": tile.col}
        dimensions = getattr(array.metadata, "dimension_names", None) or ()
        index = tuple(first.get(str(axis), 0) // edge for axis, edge in zip(dimensions, edges, strict=True))
        chunk = path / name / array.metadata.encode_chunk_key(index)
        total += chunk.stat().st_size if chunk.exists() else 0
    return total
