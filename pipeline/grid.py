"""The map grid: one frozen GeoBox for a run, its tiles, and which of its pixels lie in the area."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from distributed.system import MEMORY_LIMIT
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertAzimuthalEqualAreaConversion

from timesenmap.pipeline.aoi import Aoi
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.projection import crs_name, grid_crs, join_at_antimeridian, outline, parse_crs

# How far an area may reach beyond the six degrees of its UTM zone: half a degree costs 0.2 per mille of scale
# at the equator, and spares an area on the edge of two zones from leaving UTM.
_ZONE_SLACK = 0.5

# lon/lat box of the EEA reference grid's countries, where EPSG:3035 (ETRS89-extended / LAEA Europe) is at home.
_EUROPE = shapely.box(-25.0, 34.0, 45.0, 72.0)

# Part of a pixel by which an area may overlap a grid line before another row of pixels is added: enough to
# swallow the rounding of a round trip through lon/lat and the sagitta of an edge that is straight there, and
# harmless, since only pixels whose centre lies inside belong to the area.
_EDGE_SLACK = 0.01

_CHECKED_FOR_CENTRES = 1_000_000


@dataclass(frozen=True, order=True)
class Tile:
    """A unit of work: rows y0..y1 and columns x0..x1 (exclusive) of the grid; tiles count from its top left."""

    row: int
    col: int
    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def key(self) -> str:
        """Name of the tile, as in the ledger: "r0003c0012"."""
        return f"r{self.row:04d}c{self.col:04d}"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns (y, x)."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return (self.y1 - self.y0) * (self.x1 - self.x0)

    def geobox(self, grid: GeoBox) -> GeoBox:
        """Give the tile's window of the grid."""
        return grid[self.y0 : self.y1, self.x0 : self.x1]


def grid_for(aoi: Aoi, *, resolution: float = 10.0, crs: str | None = None) -> GeoBox:
    """Lay the map grid over an area.

    The CRS is, in this order: `crs` where given; the UTM zone (WGS 84) of the area's centre, where the area
    stays within the zone's six degrees and half a degree more; EPSG:3035 where the area lies in Europe; a
    Lambert azimuthal equal-area CRS on WGS 84 centred on the whole degree nearest to the area's centre. The last one
    serves continents, poles and the antimeridian alike: it has no seam, keeps areas exactly, and its pixels
    are out of square by less than 1% within 1,000 km of the centre, where a cylindrical grid for the whole world
    (EPSG:6933) stretches them by 1.5 to 1 at 45 degrees and breaks at 180 degrees.

    Parameters
    ----------
    aoi
        The area.
    resolution
        Pixel size in metres.
    crs
        A projected CRS in metres.

    Returns
    -------
    GeoBox
        North-up, pixel edges on multiples of the resolution, just large enough for the area. An area given in
        the grid's CRS with edges on such multiples gives exactly these edges.

    Raises
    ------
    MapError
        Resolution not above zero; CRS unknown, geographic, not in metres or made for another part of the world;
        no pixel centre inside the area.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise MapError(f"resolution {resolution:g}: must be metres above zero; give --resolution, 10 as a rule")
    target = _default_crs(aoi) if crs is None else _checked_crs(crs, aoi)
    minx, miny, maxx, maxy = aoi.in_crs(target).bounds
    left, right = _pixel_edges(minx, maxx, resolution)
    bottom, top = _pixel_edges(miny, maxy, resolution)
    transform = Affine(resolution, 0.0, left * resolution, 0.0, -resolution, top * resolution)
    authority = target.to_authority()
    grid = GeoBox((top - bottom, right - left), transform, ":".join(authority) if authority else target.to_wkt())
    if grid.shape.y * grid.shape.x <= _CHECKED_FOR_CENTRES and not aoi_mask(aoi, grid).any():
        raise MapError(
            f"area {aoi.name}: no pixel of {resolution:g} m has its centre inside it; "
            "enlarge the area or give a smaller --resolution"
        )
    return grid


def aoi_mask(aoi: Aoi, grid: GeoBox) -> NDArray[np.bool_]:
    """Tell which pixels of a grid, or of one tile's window of it, have their centre in the area.

    Returns
    -------
    ndarray
        bool (y, x), True inside.
    """
    area = aoi.in_crs(grid_crs(grid))
    inside: NDArray[np.bool_] = rasterio.features.geometry_mask(
        [area], out_shape=grid.shape, transform=grid.affine, all_touched=False, invert=True
    )
    return inside


def default_tile_size(memory: int = MEMORY_LIMIT) -> int:
    """Side in pixels of the tiles that a worker with so many bytes of memory can make.

    By default what this machine, or the container, has. Blocks of files are 1024 pixels large, so that smaller tiles
    decode more of them again; a tile of 1024 took 0.8 GiB with six scenes a month, one of 512 a quarter of what it
    added. The size shows nowhere in a map.
    """
    return 1024 if memory >= 2 << 30 else 512 if memory >= 1 << 30 else 256


def tiles(grid: GeoBox, size: int, *, aoi: Aoi | None = None) -> list[Tile]:
    """Cut a grid into tiles of `size` pixels from its top left, row by row; the last ones may be smaller.

    Parameters
    ----------
    grid
        The map grid.
    size
        Pixels on a side.
    aoi
        Where given, tiles that the area does not touch are left out.

    Raises
    ------
    MapError
        Size below one.
    """
    if size < 1:
        raise MapError(f"tile size {size}: must be at least one pixel; give --tile-size, 1024 as a rule")
    cut = list(_cut(grid, size))
    if aoi is None:
        return cut
    area = aoi.in_crs(grid_crs(grid))
    shapely.prepare(area)
    return [tile for tile in cut if area.intersects(outline(tile.geobox(grid)))]


def _cut(grid: GeoBox, size: int) -> Iterator[Tile]:
    height, width = grid.shape
    for row, y0 in enumerate(range(0, height, size)):
        for col, x0 in enumerate(range(0, width, size)):
            yield Tile(row, col, y0, min(y0 + size, height), x0, min(x0 + size, width))


def _pixel_edges(low: float, high: float, resolution: float) -> tuple[int, int]:
    """First and last grid line around low..high, in multiples of the resolution; at least one pixel apart."""
    first = math.floor(low / resolution + _EDGE_SLACK)
    last = math.ceil(high / resolution - _EDGE_SLACK)
    return first, max(last, first + 1)


def _default_crs(aoi: Aoi) -> CRS:
    area = join_at_antimeridian(aoi.geometry)
    west, south, east, north = area.bounds
    centre = area.centroid
    zone = math.floor((centre.x + 180.0) / 6.0)
    zone_west = zone * 6.0 - 180.0
    in_zone = zone_west - _ZONE_SLACK <= west and east <= zone_west + 6.0 + _ZONE_SLACK
    if in_zone and south >= -80.0 and north <= 84.0:
        return CRS.from_epsg((32600 if centre.y >= 0 else 32700) + zone % 60 + 1)
    if _EUROPE.contains(area):
        return CRS.from_epsg(3035)
    return equal_area_crs(longitude=(west + east) / 2, latitude=(south + north) / 2)


def equal_area_crs(*, longitude: float, latitude: float) -> CRS:
    """Lambert azimuthal equal-area CRS on WGS 84 in metres, centred on the nearest whole degree."""
    lon = (round(longitude) + 180) % 360 - 180
    lat = round(latitude)
    name = f"WGS 84 / LAEA {abs(lat)}{'N' if lat >= 0 else 'S'} {abs(lon)}{'E' if lon >= 0 else 'W'}"
    conversion = LambertAzimuthalEqualAreaConversion(latitude_natural_origin=lat, longitude_natural_origin=lon)
    return ProjectedCRS(conversion, name=name, geodetic_crs="EPSG:4326")


def _checked_crs(text: str, aoi: Aoi) -> CRS:
    crs = parse_crs(text, option="--crs")
    name = crs_name(crs)
    if not crs.is_projected or crs.is_compound:
        raise MapError(f"CRS {name}: a map grid needs a projected CRS in metres; leave --crs out or give a UTM zone")
    if any(axis.unit_conversion_factor != 1.0 for axis in crs.axis_info):
        raise MapError(f"CRS {name}: its unit is {crs.axis_info[0].unit_name}, not metre; choose another --crs")
    use = crs.area_of_use
    if use is not None and use.west <= use.east:
        # One UTM zone beside its own is common practice and still fine; another continent is a slip of the hand.
        home = shapely.box(use.west - 6.0, use.south - 6.0, use.east + 6.0, use.north + 6.0)
        if not home.intersects(aoi.geometry):
            place = use.name.partition(".")[0]
            raise MapError(f"CRS {name}: made for {place}, which the area {aoi.name} is not in; choose another --crs")
    return crs
