"""One asset of one scene on one window of the grid."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.windows import Window

from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.redaction import redact_gdal_log
from timesenmap.catalogs.signing import SIGNERS, SasSigner, Signing
from timesenmap.pipeline.clouds import Widening
from timesenmap.pipeline.errors import SceneReadError
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
    shape
        Pixels (y, x) that the item states, where it does: another file than the item describes is not read.
    """

    item: str
    asset: str
    href: str
    signing: Signing = "none"
    shape: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """All as one string with a URL scheme, for libraries that carry nothing but an address."""
        return "scene:" + json.dumps([self.item, self.asset, self.href, self.signing, self.shape])

    @classmethod
    def from_address(cls, address: str) -> "AssetSource":
        """Read back what `address` gave."""
        item, asset, href, signing, shape = json.loads(address.removeprefix("scene:"))
        return cls(item, asset, href, signing, None if shape is None else tuple(shape))

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
    read = partial(_needed, source, grid=grid, method=method, widening=widening)
    signer = SIGNERS.get(source.signing)
    if signer is None:
        sampled, cause = _attempt(source, source.href, read, gdal)
    else:
        sampled, cause = _attempt_signed(source, signer, read, gdal)
    if cause is not None:
        # Out here, so that the error carries no chain: GDAL's exceptions inside rasterio's cannot be unpickled,
        # and a worker of a cluster would report that instead.
        raise cause
    if sampled is None:
        return np.zeros(grid.shape, np.uint16)
    pixels, feet = sampled
    return resample(pixels, feet, method=method)


def _attempt(
    source: AssetSource, href: str, read: Callable[[rasterio.DatasetReader], _Sampled], gdal: Mapping[str, str] | None
) -> tuple[_Sampled, SceneReadError | None]:
    """Open an address and read, or say why not."""

    def open_and_read(settings: Mapping[str, str]) -> _Sampled:
        with rasterio.Env(**settings), rasterio.open(href, sharing=False) as raster:
            return read(raster)

    try:
        return patiently(open_and_read, href, {**_GDAL, **(gdal or {})}), None
    except SceneReadError as error:
        return None, error
    except (rasterio.errors.RasterioError, ProjError, OSError) as error:
        # rasterio itself says "see previous exception for details"
        return None, source.failed(error.__cause__ or error, signed=href)


def _attempt_signed(
    source: AssetSource,
    signer: SasSigner,
    read: Callable[[rasterio.DatasetReader], _Sampled],
    gdal: Mapping[str, str] | None,
) -> tuple[_Sampled, SceneReadError | None]:
    """Read a signed address; where the storage refuses it, once more with a new token."""
    sampled, cause = None, None
    for _ in range(2):
        try:
            href = signer.sign(source.href)
        except CatalogError as error:
            return None, source.failed(error)
        sampled, cause = _attempt(source, href, read, gdal)
        if cause is None or not _is_refusal(cause):
            break
        signer.refused(href)
    return sampled, cause


def _is_refusal(cause: object) -> bool:
    return _REFUSAL.search(f"{type(cause).__name__} {cause}") is not None


def _needed(
    source: AssetSource, raster: rasterio.DatasetReader, *, grid: GeoBox, method: Method, widening: Widening | None
) -> _Sampled:
    """Pixels of the raster that the grid needs, and where in them its pixels fall; None where they do not meet."""
    if raster.count != 1 or raster.dtypes[0] not in ("uint8", "uint16"):
        raise source.failed(f"{raster.count} band(s) of {raster.dtypes[0]}, not one of uint8 or uint16")
    if source.shape is not None and raster.shape != source.shape:
        found, stated = (" x ".join(str(side) for side in shape) for shape in (raster.shape, source.shape))
        raise source.failed(f"it has {found} pixels, its item says {stated}")
    if raster.crs is None or raster.transform.a <= 0 or raster.transform.e >= 0:
        raise source.failed("no CRS, or not north-up")
    parts = max(1, int(grid.affine.a / raster.transform.a + 0.5)) if method == "bilinear" else 1
    feet = footing(grid, raster.crs.to_wkt(), raster.transform, parts=parts)
    pixel: float = raster.transform.a
    margin = widening.margin(pixel) if widening else 1 if method == "bilinear" else 0
    window = feet.window(raster.shape, margin=margin)
    if window is None:
        return None
    pixels = raster.read(1, window=Window.from_slices(*window)).astype(np.uint16, copy=False)
    return widening(pixels, pixel) if widening else pixels, feet.moved(window)
