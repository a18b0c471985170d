import json

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from shapely.geometry import MultiPolygon, Polygon, box, mapping

from timesenmap.pipeline.aoi import Aoi, read_aoi
from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.grid import aoi_mask, default_tile_size, equal_area_crs, grid_for, tiles
from timesenmap.pipeline.projection import to_lon_lat

BELGIUM = "501360,5629040,502000,5629680"


def lon_lat(geometry):
    return Aoi(geometry, geometry, pyproj.CRS("EPSG:4326"), "test")


def around(lon, lat, metres=500.0):
    """A box of about this half width, in lon/lat."""
    dy = metres / 111_000
    dx = dy / max(np.cos(np.radians(lat)), 0.05)
    return read_aoi(f"{lon - dx},{lat - dy},{lon + dx},{lat + dy}")


def centres(grid):
    xs = grid.affine.c + (np.arange(grid.shape.x) + 0.5) * grid.affine.a
    ys = grid.affine.f + (np.arange(grid.shape.y) + 0.5) * grid.affine.e
    return np.meshgrid(xs, ys)


def edges(grid):
    return tuple(grid.boundingbox)


def test_a_box_on_the_grid_is_exactly_the_grid():
    grid = grid_for(read_aoi(BELGIUM, crs="EPSG:32631"))
    assert grid.crs.to_epsg() == 32631
    assert grid.shape == (64, 64)
    assert tuple(grid.affine)[:6] == (10.0, 0.0, 501360.0, 0.0, -10.0, 5629680.0)
    assert edges(grid) == (501360.0, 5629040.0, 502000.0, 5629680.0)


def test_the_same_box_through_lon_lat_is_the_same_grid(tmp_path):
    """As GeoJSON from another program: reprojected corners, straight edges, fewer digits."""
    transformer = pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    corners = shapely.transform(
        box(501360, 5629040, 502000, 5629680), lambda xy: np.column_stack(transformer.transform(*xy.T))
    )
    path = tmp_path / "belgium.geojson"
    for digits in (15, 7):
        rounded = shapely.transform(corners, lambda xy, digits=digits: np.round(xy, digits))
        path.write_text(json.dumps(mapping(rounded)))
        assert edges(grid_for(read_aoi(str(path)))) == (501360.0, 5629040.0, 502000.0, 5629680.0)


def test_an_equal_but_differently_spelt_crs_is_the_same_crs():
    wkt = pyproj.CRS("EPSG:32631").to_wkt("WKT1_GDAL")
    grid = grid_for(read_aoi(BELGIUM, crs="EPSG:32631"), crs=wkt)
    assert edges(grid) == (501360.0, 5629040.0, 502000.0, 5629680.0)


@settings(max_examples=60, deadline=None)
@given(st.floats(-179.5, 179.5), st.floats(-79, 83))
@example(6.0, 6.0)
@example(6.0, 0.0)
def test_small_areas_get_the_utm_zone_pyproj_names(lon, lat):
    aoi = around(lon, lat)
    grid = grid_for(aoi, resolution=100)
    centre = aoi.geometry.centroid
    # On the line between two zones, to the last digit, either will do.
    area = AreaOfInterest(centre.x - 1e-9, centre.y - 1e-9, centre.x + 1e-9, centre.y + 1e-9)
    codes = {int(info.code) for info in query_utm_crs_info("WGS 84", area)}
    assert grid.crs.to_epsg() in codes


@settings(max_examples=60, deadline=None)
@given(st.floats(-170, 170), st.floats(-60, 60), st.floats(200, 3000), st.sampled_from([10.0, 20.0, 12.5, 100.0, 33.3]))
def test_edges_are_on_multiples_and_hold_every_centre(lon, lat, metres, resolution):
    aoi = around(lon, lat, metres)
    grid = grid_for(aoi, resolution=resolution)
    lines = np.array(edges(grid)) / resolution
    np.testing.assert_allclose(lines, np.rint(lines), atol=1e-6)
    assert grid.affine.a == resolution
    assert grid.affine.e == -resolution
    # One pixel wider on all sides, no further pixel has its centre inside: the grid is large enough, and not larger.
    wide = grid.pad(1)
    inside = aoi_mask(aoi, wide)
    assert not inside[[0, -1]].any()
    assert not inside[:, [0, -1]].any()
    area = aoi.in_crs(pyproj.CRS(grid.crs.to_epsg()))
    left, bottom, right, top = edges(grid)
    minx, miny, maxx, maxy = area.bounds
    assert max(minx - left, miny - bottom, right - maxx, top - maxy) < 1.02 * resolution


def test_an_area_a_little_over_its_zone_stays_in_utm():
    assert grid_for(read_aoi("5.2,50.0,6.4,50.1"), resolution=100).crs.to_epsg() == 32631
    assert grid_for(read_aoi("5.7,50.0,6.9,50.1"), resolution=100).crs.to_epsg() == 32632


@pytest.mark.parametrize(
    ("area", "code"),
    [
        ("3,50,8,51", 3035),  # two zones in Europe
        ("-5,42,8,51", 3035),  # France
        ("12,-30,13,-29.5", 32733),
        ("12,-0.2,13,0.1", 32733),
        ("12,-0.1,13,0.2", 32633),
        ("179.9,-17,-179.9,-16.9", 32701),  # over the antimeridian, within the slack
        ("-180,60,-179.5,60.1", 32601),
        ("179.5,60,180,60.1", 32660),
    ],
)
def test_which_crs(area, code):
    assert grid_for(read_aoi(area), resolution=200).crs.to_epsg() == code


@pytest.mark.parametrize(
    ("area", "name"),
    [
        ("10,5,25,15", "WGS 84 / LAEA 10N 18E"),
        ("-60,-35,-45,-20", "WGS 84 / LAEA 28S 52W"),
        ("177,-19,-177,-16", "WGS 84 / LAEA 18S 180W"),
        ("-30,84.5,30,86", "WGS 84 / LAEA 85N 0E"),
    ],
)
def test_elsewhere_the_crs_is_equal_area_around_the_area(area, name):
    aoi = read_aoi(area)
    grid = grid_for(aoi, resolution=1000)
    crs = pyproj.CRS(grid.crs.to_wkt())
    assert crs.name == name
    # Area on the ellipsoid, from geodesics, against pixels: equal area means equal.
    geod = pyproj.Geod(ellps="WGS84")
    dense = shapely.segmentize(aoi.geometry, 0.05)
    truth = sum(abs(geod.geometry_area_perimeter(part)[0]) for part in shapely.get_parts(dense))
    assert aoi_mask(aoi, grid).sum() * 1000**2 == pytest.approx(truth, rel=2e-3)
    assert grid.shape.x < 2500
    # Out of square by less than 1% within 1000 km, as the docstring says.
    factors = pyproj.Proj(crs).get_factors(*aoi.geometry.representative_point().coords[0])
    assert factors.areal_scale == pytest.approx(1, abs=1e-6)
    assert factors.tissot_semimajor / factors.tissot_semiminor < 1.013


def test_islands_on_both_sides_of_the_antimeridian_make_a_small_grid():
    aoi = lon_lat(MultiPolygon([box(177, -19, 180, -16), box(-180, -19, -177, -16)]))
    grid = grid_for(aoi, resolution=1000)
    assert grid.shape.x * 1000 == pytest.approx(6 * 111_320 * np.cos(np.radians(16)), rel=0.02)
    mask = aoi_mask(aoi, grid)
    middle = mask[mask.shape[0] // 2]
    assert middle[5:-5].all()  # no seam at 180


def test_long_edges_are_drawn_where_they_were():
    """A box of 10 degrees: its northern edge follows the parallel, and does not cut the corner."""
    aoi = read_aoi("-5,42,8,51")
    grid = grid_for(aoi, resolution=1000)
    xs, ys = centres(grid)
    lon, lat = pyproj.Transformer.from_crs(3035, 4326, always_xy=True).transform(xs, ys)
    expected = (lon > -5) & (lon < 8) & (lat > 42) & (lat < 51)
    assert (aoi_mask(aoi, grid) != expected).mean() < 1e-5


def test_users_crs_and_resolution():
    aoi = read_aoi(BELGIUM, crs="EPSG:32631")
    grid = grid_for(aoi, crs="EPSG:3035", resolution=20)
    assert grid.crs.to_epsg() == 3035
    assert grid.affine.a == 20
    assert all(edge % 20 == 0 for edge in edges(grid))
    assert grid_for(aoi, crs="EPSG:32632").crs.to_epsg() == 32632  # the neighbouring zone is fine
    custom = grid_for(aoi, crs="+proj=laea +lat_0=50 +lon_0=3 +datum=WGS84")
    assert custom.crs.to_epsg() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 0.0}, "resolution 0"),
        ({"resolution": -10.0}, "resolution -10"),
        ({"resolution": float("nan")}, "resolution nan"),
        ({"crs": "EPSG:4326"}, "needs a projected CRS in metres"),
        ({"crs": "EPSG:4978"}, "needs a projected CRS in metres"),
        ({"crs": "EPSG:99999999"}, "unknown; give --crs"),
        ({"crs": "EPSG:2263"}, "US survey foot, not metre"),
        ({"crs": "EPSG:32755"}, "made for"),
        ({"crs": "EPSG:7415"}, "needs a projected CRS"),  # compound: with heights
    ],
)
def test_bad_grids_are_refused(options, said):
    with pytest.raises(MapError) as raised:
        grid_for(read_aoi(BELGIUM, crs="EPSG:32631"), **options)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_area_without_a_pixel_centre_is_refused():
    tiny = read_aoi("501361,5629041,501363,5629043", crs="EPSG:32631")
    with pytest.raises(MapError, match="no pixel of 10 m has its centre inside"):
        grid_for(tiny)
    assert grid_for(tiny, resolution=1).shape == (2, 2)
    centre = read_aoi("501364,5629044,501366,5629046", crs="EPSG:32631")
    assert grid_for(centre).shape == (1, 1)


# Mask and tiles ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def star():
    """A shape with a hole and slanting edges, in metres."""
    points = [(np.cos(a) * r, np.sin(a) * r) for a, r in zip(np.arange(10) * np.pi / 5, [900, 350] * 5, strict=True)]
    shape = Polygon([(601003 + x, 5600007 + y) for x, y in points]).difference(box(600900, 5599900, 601050, 5600033))
    return Aoi(to_lon_lat(shape, pyproj.CRS(32631)), shape, pyproj.CRS(32631), "star")


def test_the_mask_is_the_pixel_centre_rule(star):
    grid = grid_for(star, crs="EPSG:32631")
    np.testing.assert_array_equal(aoi_mask(star, grid), shapely.contains_xy(star.source_geometry, *centres(grid)))


@pytest.mark.parametrize("size", [1000, 64, 50, 7])
def test_tiles_cover_the_grid_once_and_their_masks_are_windows(star, size):
    grid = grid_for(star, crs="EPSG:32631")
    whole = aoi_mask(star, grid)
    seen = np.zeros(grid.shape, int)
    for tile in tiles(grid, size):
        seen[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
        assert (tile.y0, tile.x0) == (tile.row * size, tile.col * size)
        assert tile.shape == tile.geobox(grid).shape
        assert tile.pixels == tile.shape[0] * tile.shape[1]
        if size > 7 or tile.row % 5 == 0:
            window = tile.geobox(grid)
            np.testing.assert_array_equal(aoi_mask(star, window), whole[tile.y0 : tile.y1, tile.x0 : tile.x1])
            assert window.affine.c == grid.affine.c + tile.x0 * 10
            assert window.affine.f == grid.affine.f - tile.y0 * 10
    assert (seen == 1).all()


def test_tiles_away_from_the_area_can_be_left_out():
    aoi = lon_lat(MultiPolygon([box(3.0, 50.0, 3.01, 50.01), box(3.2, 50.2, 3.21, 50.21)]))
    grid = grid_for(aoi)
    every = tiles(grid, 256)
    near = tiles(grid, 256, aoi=aoi)
    assert set(near) == {tile for tile in every if tile in near or aoi_mask(aoi, tile.geobox(grid)).any()}
    assert len(near) < len(every) / 4


def test_tile_names_and_bad_sizes():
    grid = grid_for(read_aoi(BELGIUM, crs="EPSG:32631"))
    assert [tile.key for tile in tiles(grid, 40)] == ["r0000c0000", "r0000c0001", "r0001c0000", "r0001c0001"]
    with pytest.raises(MapError, match="tile size 0"):
        tiles(grid, 0)


def test_equal_area_crs_wraps_longitudes():
    assert equal_area_crs(longitude=181.2, latitude=0.2).name == "WGS 84 / LAEA 0N 179W"
    assert equal_area_crs(longitude=-179.8, latitude=-0.6).name == "WGS 84 / LAEA 1S 180W"


@pytest.mark.parametrize(("gibibytes", "size"), [(64, 1024), (2, 1024), (1.9, 512), (1, 512), (0.5, 256)])
def test_tiles_fit_the_memory_of_a_worker(gibibytes, size):
    assert default_tile_size(int(gibibytes * 2**30)) == size
