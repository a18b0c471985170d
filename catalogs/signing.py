"""Signatures that some services want on an address, put there at the moment of reading and nowhere else.

Planetary Computer keeps its files in Azure storage and gives tokens for a container to anybody who asks
(https://planetarycomputer.microsoft.com/docs/concepts/sas), valid for about 45 minutes to a day: longer runs need new
ones, and addresses kept in files must not carry them. A token is held in memory, one a container and process, renewed
before it expires; it is never stored, logged or pickled.
"""

import datetime as dt
import email.utils
import logging
import os
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter

from timesenmap.catalogs.errors import CatalogError, ServiceError
from timesenmap.catalogs.transport import BackOff, patient_retry

log = logging.getLogger(__name__)

Signing = Literal["none", "planetary-computer"]

TOKENS = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
"""Where tokens are given; the environment variable PC_SDK_SAS_URL names another address, as for the service's own
package."""

_STORAGE = ".blob.core.windows.net"
_PUBLIC = "ai4edatasetspublicassets"  # thumbnails: nothing to sign
_SIGNATURES = {"sig", "x-amz-signature", "x-goog-signature", "signature", "x-amz-security-token"}

# A token is renewed when this much of its life is left, or a third of it where it lives shorter: an asset that is
# being read must not outlive it.
_MARGIN = 300.0

_monotonic = time.monotonic


@dataclass
class _Token:
    text: str = field(default="", repr=False)
    renew_at: float = 0.0


class SasSigner:
    """Signs addresses in Azure storage with tokens of the Planetary Computer; safe for threads.

    Parameters
    ----------
    back_off
        How patiently the service is asked again; anonymous users are told 429 often.
    """

    def __init__(self, back_off: BackOff | None = None) -> None:
        self._back_off = back_off or BackOff()
        self._tokens: dict[tuple[str, str], _Token] = defaultdict(_Token)
        self._locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def sign(self, href: str) -> str:
        """Address with a token that is valid for some minutes; others than storage addresses stay as they are.

        Raises
        ------
        ServiceError
            No token can be had now.
        CatalogError
            The service refuses to give one.
        """
        container = _container(href)
        if container is None:
            return href
        with self._lock(container):  # one thread asks, the others wait for its answer
            token = self._tokens[container]
            if not token.text or _monotonic() >= token.renew_at:
                token = self._tokens[container] = self._ask(*container)
        return f"{href}{'&' if urlsplit(href).query else '?'}{token.text}"

    def refused(self, signed: str) -> None:
        """Forget the token of a signed address that the storage refused, unless another thread has a newer one."""
        container = _container(unsigned(signed))
        if container is None:
            return
        with self._lock(container):
            if signed.endswith(self._tokens[container].text):
                self._tokens[container] = _Token()

    def _lock(self, container: tuple[str, str]) -> threading.Lock:
        with self._guard:
            return self._locks[container]

    def _ask(self, account: str, container: str) -> _Token:
        address = f"{os.environ.get('PC_SDK_SAS_URL') or TOKENS}/{account}/{container}"
        key = os.environ.get("PC_SDK_SUBSCRIPTION_KEY")
        asked_at = _monotonic()
        try:
            with requests.Session() as session:
                adapter = HTTPAdapter(max_retries=patient_retry(self._back_off))
                session.mount("https://", adapter)
                session.mount("http://", adapter)
                answer = session.get(
                    address,
                    headers={"Ocp-Apim-Subscription-Key": key} if key else None,
                    timeout=self._back_off.timeout,
                )
        except requests.RequestException as error:
            raise ServiceError(f"{address}: no token to read with ({type(error).__name__}); try again later") from None
        if not answer.ok:
            raise CatalogError(
                f"{address}: no token to read with (status {answer.status_code}); check that the items are of the "
                "Planetary Computer"
            )
        try:
            fields = answer.json()
            text = str(fields["token"])
            expiry = dt.datetime.fromisoformat(str(fields["msft:expiry"]))
        except (ValueError, KeyError, TypeError):
            # The text of the answer may hold the token: it is not repeated.
            raise ServiceError(f"{address}: its answer is no token; try again later") from None
        seconds = (expiry - _service_time(answer)).total_seconds()
        log.debug("token for %s/%s, valid for %.0f s", account, container, seconds)
        return _Token(text, asked_at + seconds - min(_MARGIN, seconds / 3))


SIGNERS: dict[str, SasSigner] = {"planetary-computer": SasSigner()}
"""Signers by the name in a profile (`Profile.signing`), one for all threads of a process."""


def unsigned(href: str) -> str:
    """Address without its query where that holds a signature, whatever service signed it."""
    if not href.startswith(("http://", "https://")):
        return href
    names = {name.lower() for name, _ in parse_qsl(urlsplit(href).query, keep_blank_values=True)}
    return href.partition("?")[0] if names & _SIGNATURES else href


def _container(href: str) -> tuple[str, str] | None:
    """Storage account and container of an address, or None where there is nothing to sign."""
    parts = urlsplit(href)
    host = parts.hostname or ""
    account, container = host.removesuffix(_STORAGE), parts.path.lstrip("/").partition("/")[0]
    if not host.endswith(_STORAGE) or account == _PUBLIC or not container:
        return None
    return account, container


def _service_time(answer: requests.Response) -> dt.datetime:
    """Time by the service's clock: a machine whose own is wrong must not take good tokens for expired."""
    try:
        return email.utils.parsedate_to_datetime(answer.headers["Date"]).replace(tzinfo=dt.UTC)
    except (KeyError, ValueError):
        return dt.datetime.now(dt.UTC)
