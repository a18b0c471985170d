"""Object storage: clients with keys from the environment, and failures in words that hold no key.

Addresses are ``s3://bucket/prefix`` (of any S3-compatible service), ``gs://bucket/prefix`` and ``az://container/prefix``.
obstore speaks to the services, tries again where they fail, and reads from the environment what it needs:
``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` and
their like. No key is ever part of an address.
"""

import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, Self

import obstore
import obstore.exceptions
from obstore.store import ObjectStore as Client
from obstore.store import from_url
from zarr.core.buffer import Buffer
from zarr.storage import ObjectStore

from timesenmap.catalogs.aws_profiles import profile_values
from timesenmap.pipeline.errors import MapError, StoreError

SCHEMES = ("s3", "gs", "az")

WORK_PROFILE = "TIMESENMAP_WORK_PROFILE"
"""Environment variable naming the AWS profile of the stores, where the keys of AWS_ACCESS_KEY_ID are for the scenes."""

# What a client may depend on.
_ENVIRONMENT = ("AWS_", "AZURE_", "GOOGLE_", "HOME", WORK_PROFILE)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

# A service that answers with errors, or not at all, is asked for three minutes; before the run, for seconds.
PATIENT: dict[str, Any] = {"max_retries": 12, "retry_timeout": timedelta(minutes=3)}
BRIEF: dict[str, Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}

_REFUSED = "access is refused to these keys"
_CODES = {
    "AccessDenied": _REFUSED,
    "AllAccessDisabled": _REFUSED,
    "InvalidAccessKeyId": "the service does not know this access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the session token has expired",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "the bucket is in another region (AWS_REGION)",
    "AuthorizationHeaderMalformed": "the bucket is in another region (AWS_REGION)",
}
_STATUS = {"401": "the service asks for credentials", "403": _REFUSED, "404": "there is no such bucket"}


def client(url: str, retries: dict[str, Any] | None = None) -> Client:
    """Client for the objects under an address; the same one for the same address and environment.

    Raises MapError where the environment or the address cannot be right.
    """
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)))
    return _client(url, environment, tuple((retries or PATIENT).items()))


@lru_cache(maxsize=64)
def _client(url: str, environment: tuple[tuple[str, str], ...], retries: tuple[tuple[str, Any], ...]) -> Client:
    make: Callable[..., Client] = from_url  # its types allow only what is written out
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {"connect_timeout": "10s", "timeout": "120s"}  # a request carries 5 MB at most
    if url.startswith("s3:"):
        settings = _from_profile(dict(environment))
        endpoint = next((value for name, value in environment if name in _ENDPOINTS and value), "")
        endpoint = settings.get("endpoint", endpoint)
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise MapError(f"AWS_ENDPOINT_URL {endpoint}: is no address; write https://HOST or http://HOST:PORT")
        options["allow_http"] = endpoint.startswith("http://")
    try:
        return make(url, client_options=options, retry_config=dict(retries), **settings)
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise MapError(
            f"{url}: is no address of an object storage ({in_words(error)}); write s3://BUCKET/FOLDER"
        ) from None


def _from_profile(environment: dict[str, str]) -> dict[str, Any]:
    """Settings of the AWS profile that the environment names, where it has no keys itself."""
    name = environment.get(WORK_PROFILE)
    if not name and not environment.get("AWS_ACCESS_KEY_ID"):
        name = environment.get("AWS_PROFILE")
    if not name:
        return {}
    found = profile_values(name)
    if environment.get(WORK_PROFILE) and not found.get("aws_access_key_id"):
        raise MapError(f"{WORK_PROFILE} {name}: no keys of this profile in ~/.aws/credentials; add them or unset it")
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
        "endpoint_url": "endpoint",
    }
    return {names[key]: value for key, value in found.items() if key in names}


class Objects(ObjectStore[Client]):
    """Zarr's store of the objects under an address; its failures name the object, and hold no key."""

    def __init__(self, store: Client, *, url: str, read_only: bool = False) -> None:
        super().__init__(store, read_only=read_only)
        self.url = url

    def with_read_only(self, read_only: bool = False) -> Self:
        """Give the same objects, to be read only or written, too."""
        return type(self)(self.store, url=self.url, read_only=read_only)

    async def get(self, key: str, *args: Any, **options: Any) -> Buffer | None:
        """Read an object, or a part of it; None where there is none."""
        with named(f"{self.url}/{key}"):
            return await super().get(key, *args, **options)

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        with named(f"{self.url}/{key}"):
            return await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object: whole, or not at all."""
        with named(f"{self.url}/{key}", missing=True):
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object unless there is one; asked first, since not every service writes conditionally."""
        if not await self.exists(key):
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """Delete an object, if there is one."""
        with named(f"{self.url}/{key}"):
            await super().delete(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Names right under a prefix."""
        with named(f"{self.url}/{prefix}"):
            async for name in super().list_dir(prefix):
                yield name


@contextmanager
def named(url: str, *, missing: bool = False) -> Iterator[None]:
    """Raise StoreError, with the address and the cause in words, for what the service or the way to it refuses.

    That an object is missing is told by FileNotFoundError, which is left alone unless `missing` is to be an error, too.
    """
    try:
        yield
    except FileNotFoundError as error:
        if not missing:
            raise
        raise StoreError(f"{url}: {in_words(error)}") from None
    except obstore.exceptions.BaseError as error:
        raise StoreError(f"{url}: {in_words(error)}") from None


def in_words(error: Exception) -> str:
    """Cause of a failure in a few words; of what a service answers only its code, since the rest may name keys."""
    said = str(error).partition("Debug source")[0]
    if "169.254." in said:
        return "no keys in the environment"
    if "error sending request" in said or "HTTP error" in said:
        return f"the service cannot be reached ({_host(said)})"
    code = re.search(r"<Code>(\w+)</Code>", said)
    status = re.search(r"status code: (\d{3})( [A-Z][A-Za-z ]+)?", said)
    if code and code[1] in _CODES:
        return _CODES[code[1]]
    if status:
        words = _STATUS.get(status[1], f"the service answered {status[1]}{status[2] or ''}")
        return f"{words} ({code[1]})" if code else words
    return " ".join(re.sub(r"\?\S*", "", said).split())[:200]


def _host(said: str) -> str:
    found = re.search(r"https?://[^/\s]+", said)
    return found[0] if found else "its address is not known"


def read(url: str, name: str) -> bytes | None:
    """Bytes of a small object; None where there is none."""
    with named(f"{url}/{name}"):
        try:
            return bytes(obstore.get(client(url), name).bytes())
        except FileNotFoundError:
            return None


def write(url: str, name: str, content: bytes) -> None:
    """Write a small object."""
    with named(f"{url}/{name}", missing=True):
        obstore.put(client(url), name, content)


def size(url: str, name: str) -> int:
    """Bytes of an object; 0 where there is none."""
    with named(f"{url}/{name}"):
        try:
            return int(obstore.head(client(url), name)["size"])
        except FileNotFoundError:
            return 0


def remove(url: str) -> None:
    """Delete all objects under an address, none of which is left when this returns."""
    with named(url):
        for batch in obstore.list(client(url), chunk_size=1000):
            obstore.delete(client(url), [found["path"] for found in batch])
