"""Reading files of a service again, where what came was broken or nothing came."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import rasterio.errors

from timesenmap.pipeline.errors import SceneReadError

log = logging.getLogger(__name__)

_ATTEMPTS = 6

# GDAL keeps what it read of an address, also what was cut short or garbage, and would serve it again (measured with
# GDAL 3.10: a body that broke off fails every later read of the file in the process). For addresses that begin so
# it forgets, when it closes the file, whatever it keeps of it: an attempt with old bytes leaves the next one fresh.
_FORGET = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/"}

_REMOTE = re.compile(r"(https?|s3|gs|az)://|/vsi(curl|s3|gs|az)")

# What asking again does not change: refused or not there (408, 425 and 429 mean "later").
_FINAL = re.compile(
    r"HTTP response code: ?4(?!08|25|29)\d\d|NoSuchKey|specified key does not exist|NoSuchBucket|AccessDenied"
    r"|Access Denied|InvalidAccessKeyId|Access Key Id you provided does not exist|SignatureDoesNotMatch"
    r"|signature we calculated does not match|AWS_SECRET_ACCESS_KEY"
)

T = TypeVar("T")


def is_remote(href: str) -> bool:
    """Whether an address is read over a network."""
    return _REMOTE.match(href) is not None


def patiently(read: Callable[[Mapping[str, str]], T], href: str, gdal: Mapping[str, str]) -> T:
    """Open and read a file, again where its service fails; local files are read once.

    On top of what GDAL itself tries again (`GDAL_HTTP_MAX_RETRY`): it does not notice that the body of an answer
    broke off, or was something else, until it decodes the pixels; and a header that broke off may open as a raster
    without CRS. So what a remote raster lacks is no reason to give up at once, either.

    Parameters
    ----------
    read
        Opens and reads the file under the GDAL configuration it gets.
    href
        The file's address.
    gdal
        GDAL configuration; `GDAL_HTTP_RETRY_DELAY` (seconds, default 1) is the pause before the second try, doubled
        for each after it.

    Raises
    ------
    rasterio.errors.RasterioError, OSError, SceneReadError
        Of the last attempt, or of the first one where the service says that the file is not there or not allowed.
    """
    pause = float(gdal.get("GDAL_HTTP_RETRY_DELAY", "1"))
    attempts = _ATTEMPTS if is_remote(href) else 1
    for attempt in range(1, attempts):
        try:
            return read(gdal if attempt == 1 else {**gdal, **_FORGET})
        except (rasterio.errors.RasterioError, OSError, SceneReadError) as error:
            said = str(error.__cause__ or error)
            if _FINAL.search(f"{error} {said}"):
                raise
            log.debug("attempt %d of %d failed: %s", attempt, attempts, said)
        time.sleep(pause * 2 ** (attempt - 1))
    return read({**gdal, **_FORGET} if attempts > 1 else gdal)
