"""The fields of a profile, and loading one by name, path or URL."""

import difflib
import json
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from timesenmap.catalogs.aws_profiles import AWS_KEYS, profile_has_keys
from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.signing import Signing

_GENERIC = "generic"  # not a catalogue by itself: the profile of any other API and of static catalogues

_CREDENTIAL = re.compile(r"SECRET|PASSWORD|USERPWD|TOKEN|ACCESS_KEY|BEARER|HTTP_HEADERS|COOKIE|CONNECTION_STRING")


class Profile(BaseModel):
    """How to search one catalogue and read its scenes. Frozen; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Short name, as given to --catalog.")
    title: str = Field(description="Name of the service in words.")
    kind: Literal["api", "static"] = Field(description="STAC API, or JSON files linked to each other.")
    url: str | None = Field(None, description="Landing page of the API, or address of the catalogue's file.")
    collections: tuple[str, ...] = Field((), description="Collections to search; none: those of the whole catalogue.")
    assets: dict[str, tuple[str, ...]] = Field(
        description="Our band name, or SCL -> asset keys that hold it, the best first."
    )
    guess_assets: bool = Field(False, description="Fall back on the band names that assets declare.")
    cloud_filter: Literal["cql2-json", "query", "local"] = Field(
        "local", description="How the service is asked for a cloud cover; local: items are sorted out here."
    )
    page_size: int = Field(100, ge=1, le=1000, description="Items asked for in one page of a search.")
    signing: Signing = Field(
        "none",
        description="Whether addresses need a short-lived token when they are read. Addresses kept stay unsigned.",
    )
    credentials: tuple[str, ...] = Field(
        (),
        description="Environment variables that must be set to read the assets, or AWS_PROFILE where they are AWS's; "
        "never stored, never printed.",
    )
    credentials_from: str = Field("", description="Where a user gets these credentials.")
    gdal: dict[str, str] = Field({}, description="GDAL settings while assets are read.")
    licence: str = Field("", description="Licence of the scenes.")
    attribution: str = Field("", description="What a map made from them must say.")
    notes: str = Field("", description="What a user of this service should know.")

    @field_validator("assets")
    @classmethod
    def _every_band(cls, assets: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        expected = (*BANDS, SCL)
        missing = [band for band in expected if not assets.get(band)]
        unknown = [band for band in assets if band not in expected]
        if missing:
            raise ValueError(f"no asset key for {', '.join(missing)}")
        if unknown:
            raise ValueError(f"unknown band {', '.join(unknown)} (bands are {', '.join(expected)})")
        return assets

    @field_validator("gdal")
    @classmethod
    def _no_credentials(cls, gdal: dict[str, str]) -> dict[str, str]:
        # Profiles are recorded beside the maps, so that a run can be repeated: they must not hold a key.
        found = [name for name in gdal if _CREDENTIAL.search(name.upper())]
        if found:
            raise ValueError(f"{found[0]} is a credential: set it in the environment, and name it under credentials")
        return gdal

    def missing_credentials(self) -> tuple[str, ...]:
        """Names of the environment variables that reading needs, that are not set and have no AWS profile instead."""
        missing = tuple(name for name in self.credentials if not os.environ.get(name))
        return () if set(missing) <= set(AWS_KEYS) and profile_has_keys() else missing

    @model_validator(mode="after")
    def _api_has_url(self) -> "Profile":
        if self.kind == "api" and not self.url and self.name != _GENERIC:
            raise ValueError("url: a STAC API needs its address")
        return self


def profile_names() -> tuple[str, ...]:
    """Names of the shipped profiles, sorted."""
    files = (Path(entry.name) for entry in resources.files(__package__).iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix == ".yaml" and file.stem != _GENERIC))


def load_profile(name_path_or_url: str, *, collection: str | None = None) -> Profile:
    """Profile of a catalogue.

    Parameters
    ----------
    name_path_or_url
        Name of a shipped profile; URL of a STAC API (of a static catalogue where it ends in .json; that of a shipped
        profile's service is that profile); path of a static catalogue, collection or item collection (JSON), or of
        the folder that holds its catalog.json; or path of a profile of one's own (YAML).
    collection
        Search this collection instead of the profile's.

    Raises
    ------
    CatalogError
        Unknown name, missing file, or a profile with an unknown field or without some band; the message lists the
        known names or names the field.
    """
    if name_path_or_url in profile_names():
        profile = _shipped(name_path_or_url)
    elif known := _at_address(name_path_or_url, collection):
        profile = known
    elif name_path_or_url.startswith(("http://", "https://")):
        kind = "static" if name_path_or_url.split("?", maxsplit=1)[0].endswith((".json", ".geojson")) else "api"
        profile = _generic(kind, name_path_or_url, name_path_or_url)
    else:
        profile = _from_path(name_path_or_url)
    return profile if collection is None else profile.model_copy(update={"collections": (collection,)})


def _at_address(url: str, collection: str | None) -> Profile | None:
    """Shipped profile of the service at an address: it knows how to sign and to read what a generic one does not."""
    there = [profile for profile in map(_shipped, profile_names()) if profile.url == url.rstrip("/")]
    fitting = [profile for profile in there if collection is None or collection in profile.collections]
    return fitting[0] if len(fitting) == 1 else None


def _from_path(text: str) -> Profile:
    path = Path(text).expanduser()
    if path.is_dir():
        found = next((path / name for name in ("catalog.json", "collection.json") if (path / name).is_file()), None)
        if found is None:
            raise CatalogError(f"folder {text} holds no catalog.json or collection.json; name the catalogue's file")
        path = found
    if not path.is_file():
        raise CatalogError(_unknown(text))
    if path.suffix in (".yaml", ".yml"):
        return _parse(path.read_text(encoding="utf-8"), str(path))
    return _generic("static", str(path.resolve()), text).model_copy(update=_about(path))


def _about(path: Path) -> dict[str, str]:
    """What a static catalogue says of itself: its title, and the credit its maps must carry where it names one."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # whoever walks the catalogue says what is wrong with it
    if not isinstance(fields, dict):
        return {}
    said = {"title": fields.get("title") or fields.get("id"), "attribution": fields.get("attribution")}
    return {name: value for name, value in said.items() if isinstance(value, str) and value}


def _unknown(text: str) -> str:
    names = profile_names()
    if "/" in text or Path(text).suffix:
        return f"catalogue file {text} does not exist; check the path, or take one of {', '.join(names)}"
    close = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return (
        f"unknown catalogue {text!r}: {hint}known are {', '.join(names)}; else give the path of a static STAC "
        "catalogue or the URL of a STAC API"
    )


def _generic(kind: str, url: str, name: str) -> Profile:
    return _shipped(_GENERIC).model_copy(update={"kind": kind, "url": url, "name": name})


def _shipped(name: str) -> Profile:
    file = resources.files(__package__) / f"{name}.yaml"
    return _parse(file.read_text(encoding="utf-8"), f"{name}.yaml")


def _parse(text: str, source: str) -> Profile:
    try:
        fields: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CatalogError(f"profile {source} is no YAML: {' '.join(str(error).split())}; correct it") from error
    if not isinstance(fields, dict):
        raise CatalogError(f"profile {source} holds no fields; see the shipped profiles for an example")
    try:
        return Profile(**{str(key): value for key, value in fields.items()})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'profile'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise CatalogError(f"profile {source} is not valid ({problems}); correct these fields") from error
