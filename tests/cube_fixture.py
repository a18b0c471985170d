"""A cube of random reflectance for the grid of a described run, with months missing here and there."""

import datetime as dt

import numpy as np
from odc.geo.geobox import GeoBox

from timesenmap.pipeline.cube import create_cube, write_tile
from timesenmap.pipeline.grid import tiles
from timesenmap.pipeline.period import Period
from timesenmap.pipeline.stores import StoreLike


def make_cube(store: StoreLike, grid: GeoBox, *, tile_size: int = 128) -> np.ndarray:
    """Write a cube and return its reflectance (12, 10, y, x) uint16, 0 = no clear observation."""
    rng = np.random.default_rng(4)
    height, width = grid.shape
    reflectance = rng.integers(1, 6000, (12, 10, height, width)).astype(np.uint16)
    reflectance[np.broadcast_to(rng.random((12, 1, height, width)) < 0.2, reflectance.shape)] = 0
    clear = (reflectance[:, 0] > 0).astype(np.uint8)
    create_cube(store, grid, Period(dt.date(2018, 1, 1)), tile_size=tile_size)
    for tile in tiles(grid, tile_size):
        window = (..., slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        write_tile(store, tile, np.ascontiguousarray(reflectance[window]), np.ascontiguousarray(clear[window]))
    return reflectance
