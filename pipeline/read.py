"""One asset of one scene on one window of the grid."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.windows import Window

from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.redaction import redact_gdal_log
from timesenmap.catalogs.scenes import Scene
from timesenmap.catalogs.signing import SIGNERS, SasSigner, Signing
from timesenmap.pipeline import profile
from timesenmap.pipeline.clouds import Widening
from timesenmap.pipeline.errors import SceneReadError
from timesenmap.pipeline.projection import grid_crs
from timesenmap.pipeline.remote import patiently
from timesenmap.pipeline.resample import Footing, Method, footing, resample

redact_gdal_log()

# GDAL says either the code of S3's answer or its text; rasterio's error has a name for what it was.
_REFUSAL = re.compile(
    "HTTP response code: ?40[13]|Access ?Denied|Invalid(AccessKeyId|Credentials)|Access Key Id you provided does not"
    " exist|SignatureDoesNotMatch|signature we calculated does not match"
)

# What is read of a raster: pixels, and where in them those of the grid fall; None where they do not meet.
_Sampled = tuple[NDArray[np.uint16], Footing] | None

ReadWindow = Callable[[tuple[slice, slice]], NDArray[np.uint16]]
"""Reads rows and columns of a raster, uint16 (y, x)."""

T = TypeVar("T")

# Listing a folder for sidecar files costs a request for every asset, and nothing of theirs is used.
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


@dataclass(frozen=True)
class AssetSource:
    """Where an asset is, and whose it is, so that an error can say so.

    Attributes
    ----------
    item, asset
        The item's id and the asset's key.
    href
        Its address, unsigned.
    signing
        Who signs the address at the moment it is read (`timesenmap.catalogs.signing`).
    shape, transform
        Pixels (y, x), and the six coefficients of the affine transform, that the item states, where it does: another
        file than the item describes is not read.
    """

    item: str
    asset: str
    href: str
    signing: Signing = "none"
    shape: tuple[int, int] | None = None
    transform: tuple[float, ...] | None = None

    @property
    def address(self) -> str:
        """All as one string with a URL scheme, for libraries that carry nothing but an address."""
        return as_address("scene", astuple(self))

    @classmethod
    def from_address(cls, address: str) -> "AssetSource":
        """Read back what `address` gave."""
        return cls.of(from_address(address))

    @classmethod
    def of(cls, fields: Sequence[Any]) -> "AssetSource":
        """Make one of its fields as JSON has them."""
        item, asset, href, signing, *sizes = fields
        shape, transform = (None if numbers is None else tuple(numbers) for numbers in sizes)
        return cls(item, asset, href, signing, shape, transform)

    def failed(self, cause: object, *, signed: str = "") -> SceneReadError:
        """Make the error for this asset. What follows "?" in its address may be a key and is left out."""
        said = " ".join(str(cause).split()) or type(cause).__name__
        for address in (signed, self.href):
            said = said.replace(address, "it") if address else said
        shown = self.href.partition("?")[0] if urlsplit(self.href).scheme.startswith("http") else self.href
        remedy = "check the file or the connection"
        if _is_refusal(cause):
            remedy = "access was refused: check that the credentials are right and not expired"
        return SceneReadError(
            f"item {self.item}, asset {self.asset} at {shown}: cannot be read ({said}); "
            f"{remedy} and run the same command again"
        )


def as_address(scheme: str, fields: Sequence[Any]) -> str:
    """Write fields as one address, whatever they hold: letters that no library takes for a path or a query."""
    return f"{scheme}:{urlsafe_b64encode(json.dumps(fields).encode()).decode()}"


def from_address(address: str) -> list[Any]:
    """Read back what `as_address` wrote."""
    fields: list[Any] = json.loads(urlsafe_b64decode(address.partition(":")[2]))
    return fields


def asset_source(scene: Scene, band: str) -> AssetSource:
    """Where a scene keeps a band (one of `BANDS`), or "SCL"."""
    return AssetSource(
        scene.id, scene.assets[band], scene.href(band), scene.signing, scene.shape(band), scene.transform(band)
    )


def read_asset(
    source: AssetSource,
    grid: GeoBox,
    *,
    method: Method,
    gdal: Mapping[str, str] | None = None,
    widening: Widening | None = None,
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
    widening
        For scene classes: how far clouds are widened, before sampling, on the source's own pixels.

    Returns
    -------
    ndarray
        uint16 (y, x), 0 = no data or outside the source.

    Raises
    ------
    SceneReadError
        The asset cannot be opened or read, or is no such raster.
    """
    with profile.reading():
        sampled = _reading(source, partial(_needed, source, grid=grid, method=method, widening=widening), gdal)
    return _resampled(grid, sampled, method)


def read_place(source: AssetSource, *, gdal: Mapping[str, str] | None = None) -> GeoBox:
    """Find the grid of an asset's own pixels; errors as `read_asset` has them."""
    with profile.reading():
        return _reading(source, partial(_place, source), gdal)


def onto_grid(
    grid: GeoBox, place: GeoBox, read: ReadWindow, *, method: Method, widening: Widening | None = None
) -> NDArray[np.uint16]:
    """Bring a raster, of which windows can be had, onto a window of the grid.

    Parameters
    ----------
    grid, method, widening
        See `read_asset`.
    place
        Grid of the raster's own pixels.
    read
        Gives a window of it.

    Returns
    -------
    ndarray
        As `read_asset` gives it.
    """
    crs = grid_crs(place).to_wkt()
    sampled = _sampled(grid, crs, place.affine, place.shape.yx, read, method=method, widening=widening)
    return _resampled(grid, sampled, method)


def _reading(source: AssetSource, read: Callable[[rasterio.DatasetReader], T], gdal: Mapping[str, str] | None) -> T:
    """Open an asset and read of it, signed where it must be."""
    signer = SIGNERS.get(source.signing)
    if signer is None:
        outcome = _attempt(source, source.href, read, gdal)
    else:
        outcome = _attempt_signed(source, signer, read, gdal)
    if isinstance(outcome, SceneReadError):
        # Out here, so that the error carries no chain: GDAL's exceptions inside rasterio's cannot be unpickled,
        # and a worker of a cluster would report that instead.
        raise outcome
    return outcome


def _attempt(
    source: AssetSource, href: str, read: Callable[[rasterio.DatasetReader], T], gdal: Mapping[str, str] | None
) -> T | SceneReadError:
    """Open an address and read, or say why not."""

    def open_and_read(settings: Mapping[str, str]) -> T:
        with rasterio.Env(**settings), rasterio.open(href, sharing=False) as raster:
            return read(raster)

    try:
        return patiently(open_and_read, href, {**_GDAL, **(gdal or {})})
    except SceneReadError as error:
        return error
    except (rasterio.errors.RasterioError, ProjError, OSError) as error:
        # rasterio itself says "see previous exception for details"
        return source.failed(error.__cause__ or error, signed=href)


def _attempt_signed(
    source: AssetSource,
    signer: SasSigner,
    read: Callable[[rasterio.DatasetReader], T],
    gdal: Mapping[str, str] | None,
) -> T | SceneReadError:
    """Read a signed address; where the storage refuses it, once more with a new token."""
    for last in (False, True):
        try:
            href = signer.sign(source.href)
        except CatalogError as error:
            return source.failed(error)
        outcome = _attempt(source, href, read, gdal)
        if last or not isinstance(outcome, SceneReadError) or not _is_refusal(outcome):
            break
        signer.refused(href)
    return outcome


def _is_refusal(cause: object) -> bool:
    return _REFUSAL.search(f"{type(cause).__name__} {cause}") is not None


def _place(source: AssetSource, raster: rasterio.DatasetReader) -> GeoBox:
    """Grid of a raster's pixels, once it is found to be what its item says."""
    _check(source, raster)
    return GeoBox(raster.shape, raster.transform, raster.crs.to_wkt())


def _check(source: AssetSource, raster: rasterio.DatasetReader) -> None:
    """Refuse a raster that is not of one band of integers, not north-up, or of another size than its item says."""
    if raster.count != 1 or raster.dtypes[0] not in ("uint8", "uint16"):
        raise source.failed(f"{raster.count} band(s) of {raster.dtypes[0]}, not one of uint8 or uint16")
    if source.shape is not None and raster.shape != source.shape:
        found, stated = (" x ".join(str(side) for side in shape) for shape in (raster.shape, source.shape))
        raise source.failed(f"a band of another size: it has {found} pixels, its item says {stated}")
    if raster.crs is None or raster.transform.a <= 0 or raster.transform.e >= 0:
        raise source.failed("no CRS, or not north-up")
    if source.transform is not None and not _same_place(raster, Affine(*source.transform)):
        found, stated = (
            f"pixels of {transform.a:g} x {-transform.e:g} from {transform.c:.12g}, {transform.f:.12g} on"
            for transform in (raster.transform, Affine(*source.transform))
        )
        raise source.failed(f"a band of another size or place: it has {found}, its item says {stated}")


def _same_place(raster: rasterio.DatasetReader, stated: Affine) -> bool:
    """Whether a raster's corners lie where a stated transform puts them, to a hundredth of a pixel."""
    height, width = raster.shape
    found = raster.transform
    for col, row in ((0, 0), (width, 0), (0, height), (width, height)):
        right = stated.a * col + stated.b * row + stated.c - (found.a * col + found.b * row + found.c)
        up = stated.d * col + stated.e * row + stated.f - (found.d * col + found.e * row + found.f)
        if max(abs(right), abs(up)) > 0.01 * found.a:
            return False
    return True


def _needed(
    source: AssetSource, raster: rasterio.DatasetReader, *, grid: GeoBox, method: Method, widening: Widening | None
) -> _Sampled:
    """Pixels of the raster that the grid needs, and where in them its pixels fall; None where they do not meet."""
    _check(source, raster)

    def read(window: tuple[slice, slice]) -> NDArray[np.uint16]:
        pixels: NDArray[np.uint16] = raster.read(1, window=Window.from_slices(*window)).astype(np.uint16, copy=False)
        profile.spend({}, bytes_read=_bytes_of(raster, *window))
        return pixels

    crs, transform = raster.crs.to_wkt(), raster.transform
    return _sampled(grid, crs, transform, raster.shape, read, method=method, widening=widening)


def _sampled(
    grid: GeoBox,
    crs: str,
    transform: Affine,
    shape: tuple[int, int],
    read: ReadWindow,
    *,
    method: Method,
    widening: Widening | None,
) -> _Sampled:
    """Read what the grid needs of a raster of this CRS (WKT), transform and shape (y, x)."""
    pixel: float = transform.a
    parts = max(1, int(grid.affine.a / pixel + 0.5)) if method == "bilinear" else 1
    with profile.timed("resampling"):
        feet = footing(grid, crs, transform, parts=parts)
    margin = widening.margin(pixel) if widening else 1 if method == "bilinear" else 0
    window = feet.window(shape, margin=margin)
    if window is None:
        return None
    pixels = read(window)
    with profile.timed("masking"):
        return widening(pixels, pixel) if widening else pixels, feet.moved(window)


def _bytes_of(raster: rasterio.DatasetReader, rows: slice, cols: slice) -> int:
    """Size of the blocks that a window reaches into, as the file has them; of its pixels where only GeoTIFF tells."""
    if raster.driver != "GTiff":
        return int((rows.stop - rows.start) * (cols.stop - cols.start) * np.dtype(raster.dtypes[0]).itemsize)
    height, width = raster.block_shapes[0]
    total = 0
    for row in range(rows.start // height, -(-rows.stop // height)):
        for col in range(cols.start // width, -(-cols.stop // width)):
            with suppress(rasterio.errors.RasterBlockError):  # a block of no data that is not in the file
                total += int(raster.block_size(1, row, col))
    return total


@profile.timed("resampling")
def _resampled(grid: GeoBox, sampled: _Sampled, method: Method) -> NDArray[np.uint16]:
    if sampled is None:
        return np.zeros(grid.shape, np.uint16)
    return resample(*sampled, method=method)
