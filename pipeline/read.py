"""One asset of one scene on one window of the grid."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.windows import Window

from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.resample import Footing, Method, footing, resample

# Listing a folder for sidecar files costs a request for every asset, and nothing of theirs is used.
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


@dataclass(frozen=True)
class AssetSource:
    """Where an asset is, and whose it is, so that an error can say so."""

    item: str
    asset: str
    href: str

    @property
    def address(self) -> str:
        """All three as one string with a URL scheme, for libraries that carry nothing but an address."""
        return "scene:" + json.dumps([self.item, self.asset, self.href])

    @classmethod
    def from_address(cls, address: str) -> "AssetSource":
        """Read back what `address` gave."""
        return cls(*json.loads(address.removeprefix("scene:")))

    def failed(self, cause: object) -> SceneReadError:
        """Make the error for this asset. What follows "?" in its address may be a key and is left out."""
        said = " ".join(str(cause).split()).replace(self.href, "it")
        shown = self.href.partition("?")[0] if urlsplit(self.href).scheme.startswith("http") else self.href
        return SceneReadError(
            f"item {self.item}, asset {self.asset} at {shown}: cannot be read ({said}); "
            "check the file or the connection and run the same command again"
        )


def read_asset(
    source: AssetSource, grid: GeoBox, *, method: Method, gdal: Mapping[str, str] | None = None
) -> NDArray[np.uint16]:
    """Read an asset onto a window of the grid.

    Parameters
    ----------
    source
        A raster of one band of unsigned 8- or 16-bit integers, north-up, in any CRS. 0 is no data whatever its
        nodata tag says.
    grid
        North-up window to fill.
    method
        "bilinear" (rounded half up, as GDAL does; where the grid is coarser than the source, the mean of samples
        at the source's resolution) or "nearest" (the source pixel under the pixel's centre; on an edge the one
        to the right or below).
    gdal
        GDAL configuration while reading.

    Returns
    -------
    ndarray
        uint16 (y, x), 0 = no data or outside the source.

    Raises
    ------
    SceneReadError
        The asset cannot be opened or read, or is no such raster.
    """
    cause: BaseException | None = None
    sampled = None
    try:
        with rasterio.Env(**{**_GDAL, **(gdal or {})}), rasterio.open(source.href, sharing=False) as raster:
            sampled = _needed(source, raster, grid, method=method)
    except (rasterio.errors.RasterioError, ProjError, OSError) as error:
        cause = error.__cause__ or error  # rasterio itself says "see previous exception for details"
    if cause is not None:
        # Out here, so that the error carries no chain: GDAL's exceptions inside rasterio's cannot be unpickled,
        # and a worker of a cluster would report that instead.
        raise source.failed(cause)
    if sampled is None:
        return np.zeros(grid.shape, np.uint16)
    pixels, feet = sampled
    return resample(pixels, feet, method=method)


def _needed(
    source: AssetSource, raster: rasterio.DatasetReader, grid: GeoBox, *, method: Method
) -> tuple[NDArray[np.uint16], Footing] | None:
    """Pixels of the raster that the grid needs, and where in them its pixels fall; None where they do not meet."""
    if raster.count != 1 or raster.dtypes[0] not in ("uint8", "uint16"):
        raise source.failed(f"{raster.count} band(s) of {raster.dtypes[0]}, not one of uint8 or uint16")
    if raster.crs is None or raster.transform.a <= 0 or raster.transform.e >= 0:
        raise source.failed("no CRS, or not north-up")
    parts = max(1, int(grid.affine.a / raster.transform.a + 0.5)) if method == "bilinear" else 1
    feet = footing(grid, raster.crs.to_wkt(), raster.transform, parts=parts)
    window = feet.window(raster.shape, margin=1 if method == "bilinear" else 0)
    if window is None:
        return None
    pixels = raster.read(1, window=Window.from_slices(*window)).astype(np.uint16, copy=False)
    return pixels, feet.moved(window)
