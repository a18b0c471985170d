"""Reading JSON over HTTP from services that are busy, slow or out of order for a moment."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from urllib3 import BaseHTTPResponse, Retry

from timesenmap.catalogs.errors import CatalogError, ServiceError

_BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class BackOff:
    """How often and how patiently a request is tried again.

    Attributes
    ----------
    attempts
        Tries after the first, for statuses 429, 500, 502, 503 and 504, time-outs, refused or broken connections.
    factor
        Seconds before the second try; doubled for each one after it. A service's own Retry-After goes before.
    longest
        Most seconds between two tries, whatever the service asks for.
    timeout
        Seconds to wait for an answer.
    """

    attempts: int = 6
    factor: float = 1.0
    longest: float = 60.0
    timeout: float = 60.0


class _CappedRetry(Retry):
    """Retry that waits for a Retry-After of an hour no longer than for its own back-off."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, float(self.backoff_max))


def patient_retry(back_off: BackOff) -> Retry:
    """Rules by which urllib3 asks again, for requests of any method."""
    return _CappedRetry(
        total=back_off.attempts,
        backoff_factor=back_off.factor,
        backoff_max=back_off.longest,
        status_forcelist=_BUSY,
        allowed_methods=None,  # searches are POST requests, which urllib3 does not repeat unless told to
    )


class PatientIO(StacApiIO):
    """Reader of pystac-client that backs off and tries again.

    Passed to `pystac_client.Client.open`, or used alone for the JSON files of static catalogues.
    """

    def __init__(self, back_off: BackOff) -> None:
        self.back_off = back_off
        super().__init__(timeout=(back_off.timeout, back_off.timeout), max_retries=patient_retry(back_off))

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Request an address, also again where the answer breaks off in the middle: urllib3 gives up there."""
        for attempt in range(self.back_off.attempts + 1):
            try:
                return super().request(href, method=method, headers=headers, parameters=parameters)
            except APIError as error:
                cut = isinstance(error.__context__, ChunkedEncodingError | ContentDecodingError)
                if not cut or attempt == self.back_off.attempts:
                    raise
                time.sleep(min(self.back_off.factor * 2**attempt, self.back_off.longest))
        raise AssertionError("unreachable: the last attempt returns or raises")


def read_json(href: str, stac_io: PatientIO) -> dict[str, Any]:
    """Read a JSON object from a path or an http(s) address.

    Raises
    ------
    CatalogError
        Missing, or no JSON object.
    ServiceError
        Its service does not answer, or not now.
    """
    try:
        text = stac_io.request(href) if is_url(href) else Path(href).read_text(encoding="utf-8")
        value = json.loads(text)
    except FileNotFoundError:
        raise CatalogError(f"file {href} does not exist; check the path, or the link that leads to it") from None
    except (OSError, APIError) as error:
        raise error_of(error)(
            f"{href} cannot be read ({one_line(error)}); check the address or try again later"
        ) from error
    except ValueError as error:
        raise CatalogError(
            f"{href} is no JSON ({one_line(error)}); give a STAC catalogue, collection or item"
        ) from error
    if not isinstance(value, dict):
        raise CatalogError(
            f"{href} is no STAC: it holds a {type(value).__name__}; give a catalogue, collection or item"
        )
    return value


def error_of(error: BaseException) -> type[CatalogError]:
    """ServiceError for what may be over by tomorrow (no answer, 429, 5xx), CatalogError for what will not (404)."""
    if not isinstance(error, APIError):
        return CatalogError
    status = getattr(error, "status_code", None)  # absent where no answer came
    return CatalogError if status is not None and 400 <= status < 500 and status not in _BUSY else ServiceError


def is_url(href: str) -> bool:
    """Whether an address is read over HTTP."""
    return href.startswith(("http://", "https://"))


def one_line(error: BaseException) -> str:
    """Text of an exception on one line, at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
