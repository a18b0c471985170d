"""Object storage: clients with keys from the environment, and failures in words that hold no key.

Addresses are ``s3://bucket/prefix`` (of any S3-compatible service), ``gs://bucket/prefix`` and ``az://container/prefix``.
obstore speaks to the services, tries again where they fail, and reads from the environment what it needs:
``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` and
their like. No key is ever part of an address.
"""

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlsplit

import obstore
import obstore.exceptions
from obstore.store import ObjectStore as Client
from obstore.store import from_url
from zarr.core.buffer import Buffer
from zarr.storage import ObjectStore

from timesenmap.catalogs.aws_profiles import AWS_KEYS, profile_values
from timesenmap.pipeline.errors import MapError, StoreError

SCHEMES = ("s3", "gs", "az")

WORK_PROFILE = "TIMESENMAP_WORK_PROFILE"
"""Environment variable naming the AWS profile of the stores, where the keys of AWS_ACCESS_KEY_ID are for the scenes."""

# What a client may depend on.
_ENVIRONMENT = ("AWS_", "AZURE_", "GOOGLE_", "HOME", WORK_PROFILE)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

# How long a service that fails, or is not there, is asked again: for three minutes; for seconds before the run. Pauses
# are drawn at random from 0.2 s to three times the last one, so that workers do not ask all at once.
_PAUSES = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=15), "base": 3}
PATIENT: dict[str, Any] = {"max_retries": 1000, "retry_timeout": timedelta(minutes=3), "backoff": _PAUSES}
BRIEF: dict[str, Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10), "backoff": _PAUSES}

# Seconds before an answer that broke off is asked for again.
_AGAIN = (0.2, 1.0, 5.0, 15.0)

_RIGHTS = "give keys that may write, read, list and delete there"
_KEYS = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile"
_SET = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or what your service takes instead"
_BUCKET = "make it, or correct the address (and AWS_ENDPOINT_URL where the bucket is not Amazon's)"
_REGION = "set AWS_REGION to that of the bucket"
_LOOK = "look at the address, AWS_ENDPOINT_URL and the keys, or try again later"

# What services answer, as status and code: cause and remedy.
_ANSWERS = {
    "AccessDenied": ("access is refused to these keys", _RIGHTS),
    "InvalidAccessKeyId": ("the service does not know this access key", _KEYS),
    "SignatureDoesNotMatch": ("the secret key is wrong", _KEYS),
    "ExpiredToken": ("the session token has expired", "get a new one"),
    "NoSuchBucket": ("there is no such bucket", _BUCKET),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION),
    "401": ("the service asks for other credentials", _KEYS),
    "403": ("access is refused to these keys", _RIGHTS),
    "404": ("there is no such bucket", _BUCKET),
}


def client(url: str, *, brief: bool = False) -> Client:
    """Client for the objects under an address; the same one for the same address and environment.

    `brief` gives up after seconds. Raises MapError where the environment or the address cannot be right.
    """
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)))
    return _client(url, environment, brief)


@lru_cache(maxsize=64)
def _client(url: str, environment: tuple[tuple[str, str], ...], brief: bool) -> Client:
    make: Callable[..., Client] = from_url  # its types allow only what is written out
    variables, settings = dict(environment), {}
    options: dict[str, Any] = {"connect_timeout": "10s", "timeout": "120s"}  # a request carries 5 MB at most
    if url.startswith("s3:"):
        settings = _from_profile(variables)
        endpoint = next((variables[name] for name in _ENDPOINTS if variables.get(name)), "")
        endpoint = settings.get("endpoint", endpoint)
        parts = urlsplit(endpoint)
        if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise MapError(f"AWS_ENDPOINT_URL {endpoint}: is no address; write https://HOST or http://HOST:PORT")
        options["allow_http"] = parts.scheme == "http"
    try:
        return make(url, client_options=options, retry_config=BRIEF if brief else PATIENT, **settings)
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise MapError(
            f"{url}: is no address of an object storage ({diagnosis(error)[0]}); write s3://BUCKET/FOLDER"
        ) from None


def _from_profile(variables: Mapping[str, str]) -> dict[str, Any]:
    """Settings of the AWS profile that the environment names, where it has no keys itself."""
    name = variables.get(WORK_PROFILE)
    if not name and not variables.get("AWS_ACCESS_KEY_ID"):
        name = variables.get("AWS_PROFILE")
    if not name:
        return {}
    found = profile_values(name)
    settings: dict[str, Any] = {}
    if all(found.get(key.lower()) for key in AWS_KEYS):
        keys = {
            "access_key_id": found["aws_access_key_id"],
            "secret_access_key": found["aws_secret_access_key"],
            "token": found.get("aws_session_token"),
            "expires_at": None,
        }
        settings["credential_provider"] = lambda: keys  # instead of all that the environment has, tokens too
    elif variables.get(WORK_PROFILE):
        raise MapError(f"{WORK_PROFILE} {name}: no keys of this profile in ~/.aws/credentials; add them or unset it")
    names = {"region": "region", "endpoint_url": "endpoint"}
    return settings | {names[key]: value for key, value in found.items() if key in names}


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
            pauses = iter(_AGAIN)
            while True:
                try:
                    return await super().get(key, *args, **options)
                except obstore.exceptions.BaseError as error:
                    await asyncio.sleep(_before_another(pauses, error))

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

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Names under a prefix."""
        with named(f"{self.url}/{prefix}"):
            async for name in super().list_prefix(prefix):
                yield name

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
        raise StoreError(f"{url}: {diagnosis(error)[0]}") from None
    except obstore.exceptions.BaseError as error:
        raise StoreError(f"{url}: {diagnosis(error)[0]}") from None


def diagnosis(error: Exception) -> tuple[str, str]:
    """Cause of a failure and what to do, in a few words; of an answer only its code, since the rest may name keys."""
    said = str(error).partition("Debug source")[0]
    if "169.254." in said:  # where machines of Amazon's find their keys
        return "there are no keys in the environment", _SET
    status = re.search(r"status code: (\d{3}(?: [A-Z][a-z]+)*)", said)
    code = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", said)
    answers = [found for found in (*(status.groups() if status else ()), *(code.groups() if code else ())) if found]
    if answers:
        known = _ANSWERS.get(answers[-1]) or _ANSWERS.get(answers[0][:3])
        answer = ", ".join(answers)
        return (f"{known[0]} ({answer})", known[1]) if known else (f"the service answered {answer}", _LOOK)
    if "incorrectly configured region" in said:
        return _ANSWERS["PermanentRedirect"]
    if "error sending request" in said:
        host = re.search(r"https?://[^/\s]+", said)
        return f"the service {host[0] if host else ''} cannot be reached", _LOOK
    return " ".join(re.sub(r"\?\S*", "", said).split())[:200], _LOOK


def read(url: str, name: str) -> bytes | None:
    """Bytes of a small object; None where there is none."""
    with named(f"{url}/{name}"), suppress(FileNotFoundError):
        pauses = iter(_AGAIN)
        while True:
            try:
                return bytes(obstore.get(client(url), name).bytes())
            except obstore.exceptions.BaseError as error:
                time.sleep(_before_another(pauses, error))
    return None


def _before_another(pauses: Iterator[float], error: Exception) -> float:
    """Seconds to wait before an answer is asked for that had begun and then broke off; obstore itself does not.

    Another error is raised, and this one, too, when no pause is left.
    """
    pause = next(pauses, None)
    if pause is None or not ("body error" in str(error) or "decoding response body" in str(error)):
        raise error
    return pause


def write_new(url: str, name: str, content: bytes) -> bool:
    """Write a small object unless there is another; whether it is there now. Of two that try, one succeeds.

    Where the service cannot write on condition, the last one does.
    """
    with named(f"{url}/{name}", missing=True):
        try:
            obstore.put(client(url), name, content, mode="create")
        except obstore.exceptions.BaseError:
            there = read(url, name)
            if there is not None:  # another's; or ours, if the answer was lost on the way and the request repeated
                return there == content
            obstore.put(client(url), name, content)
        return True


def size(url: str, name: str) -> int:
    """Bytes of an object; 0 where there is none."""
    with named(f"{url}/{name}"):
        try:
            return int(obstore.head(client(url), name)["size"])
        except FileNotFoundError:
            return 0


def sizes(url: str) -> dict[str, int]:
    """Bytes of all objects under an address, by name; a request for each thousand."""
    with named(url):
        return {found["path"]: found["size"] for batch in obstore.list(client(url)) for found in batch}


def holds_anything(url: str) -> bool:
    """Whether there is any object under an address."""
    with named(url):
        return next((True for batch in obstore.list(client(url), chunk_size=1) if batch), False)


def delete(url: str, name: str) -> None:
    """Delete an object, if there is one."""
    with named(f"{url}/{name}"), suppress(FileNotFoundError):
        obstore.delete(client(url), name)


def remove(url: str, *, first: str) -> None:
    """Delete all objects under an address, one of them first; none is left when this returns."""
    delete(url, first)
    with named(url):
        for batch in obstore.list(client(url), chunk_size=1000):
            obstore.delete(client(url), [found["path"] for found in batch])


def check(url: str) -> None:
    """Refuse an address where objects cannot be written, read, listed and deleted; leaves none.

    Raises
    ------
    MapError
        Names the address, what failed, why, and what to do.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest.strip("/"):
        kinds = ", ".join(f"{known}://BUCKET/FOLDER" for known in SCHEMES)
        raise MapError(f"--work {url}: is no place in an object storage; write {kinds}, or the path of a folder")
    there, folder, content = (
        client(url, brief=True),
        f"probe-{uuid.uuid4().hex}",
        b"make-map looks whether it may write",
    )
    doing = "writing"
    try:
        obstore.put(there, f"{folder}/object", content)
        doing = "reading"
        back = bytes(obstore.get(there, f"{folder}/object").bytes())
        doing = "listing"
        found = [one["path"] for batch in obstore.list(there, folder) for one in batch]
        doing = "deleting"
        obstore.delete(there, f"{folder}/object")
    except (obstore.exceptions.BaseError, FileNotFoundError) as error:
        cause, remedy = diagnosis(error)
        raise MapError(f"--work {url}: {doing} an object failed: {cause}; {remedy}") from None
    if back != content or found != [f"{folder}/object"]:
        raise MapError(f"--work {url}: the service does not give back what was written; is there a cache before it?")
