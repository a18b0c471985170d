"""Saved searches: the scenes of a run in one file, to run again years later on exactly the same.

The file is stac-geoparquet, readable by anything that knows the format. Its metadata also say from which catalogue
the items are (the profile: keys, reading, signing, attribution; never a credential) and which items were refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from timesenmap.catalogs.errors import CatalogError
from timesenmap.catalogs.geoparquet import items_to_table, table_to_items
from timesenmap.catalogs.profiles import Profile, load_profile, profile_names
from timesenmap.catalogs.scenes import Scene
from timesenmap.catalogs.signing import unsigned
from timesenmap.catalogs.static import RawItem, self_href, walk_catalog
from timesenmap.catalogs.transport import BackOff, PatientIO, one_line, read_json

_KEY = "timesenmap"
_PARQUET = b"PAR1"
PARQUET_TYPE = "application/vnd.apache.parquet"  # media type of stac-geoparquet in links


@dataclass(frozen=True)
class SavedItems:
    """What a file of items holds.

    Attributes
    ----------
    profile
        The catalogue they are from.
    items
        As they stand in the file.
    refused
        Id and reason of the items that the search before had refused.
    """

    profile: Profile
    items: tuple[RawItem, ...]
    refused: tuple[tuple[str, str], ...]


def write_items(
    path: Path, scenes: Sequence[Scene], *, profile: Profile, refused: Sequence[tuple[str, str]] = ()
) -> Path:
    """Write the items of scenes as stac-geoparquet, whole or not at all; the same scenes give the same bytes.

    Addresses are written without signatures: what is in them is a key, and it expires.
    """
    items = [scene.item.to_dict() for scene in scenes]
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = unsigned(asset["href"])
    about = {"profile": profile.model_dump(mode="json"), "refused": [list(one) for one in refused]}
    table = items_to_table(items, metadata={_KEY: json.dumps(about, sort_keys=True)})
    part = path.with_name(path.name + ".part")
    try:
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_items(path: Path, *, profile: Profile | None = None) -> SavedItems:
    """Read a file of items: stac-geoparquet, or an item collection (GeoJSON FeatureCollection).

    The catalogue is `profile`, else the recorded one, else the one that the items' own addresses tell.

    Raises
    ------
    CatalogError
        Missing file, or no such file; a recorded catalogue that this version cannot read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_PARQUET))
    except OSError as error:
        raise CatalogError(f"--items {path}: cannot be read ({error.strerror}); check the path") from None
    said: dict[str, object] = {}
    if magic == _PARQUET:
        items, said = _read_parquet(path)
    else:
        items = _read_collection(path)
    if not items:
        raise CatalogError(f"--items {path}: holds no item; save a search that found some")
    recorded = said.get("profile")
    if profile is None:
        profile = _recognised(path, items) if recorded is None else _recorded(path, recorded)
    refused = said.get("refused")
    pairs = [(str(id_), str(reason)) for id_, reason in refused] if isinstance(refused, list) else []
    return SavedItems(profile, tuple(items), tuple(pairs))


def scenes_of_maps(catalog: str) -> Path | None:
    """File of the scenes that a catalogue's maps were made of, where it is the catalogue of a run; else None.

    The catalogue of a run (``catalog.json``, named by itself or by its folder) leads to them by a link of the relation
    "derived_from"; its items are maps, which are no scenes. Catalogues on the web are not looked into.

    Raises
    ------
    CatalogError
        The scenes are not where the link says.
    """
    if catalog in ("", *profile_names()):
        return None
    path = Path(catalog).expanduser()
    path = path / "catalog.json" if path.is_dir() else path
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # a profile, a URL, or a file of which others say what is wrong
    links = fields.get("links") if isinstance(fields, dict) else None
    for link in links if isinstance(links, list) else []:
        if link.get("rel") == "derived_from" and link.get("type") == PARQUET_TYPE:
            scenes: Path = path.parent / link["href"]
            if not scenes.is_file():
                raise CatalogError(
                    f"--catalog {catalog}: is a catalogue of maps, and the scenes they were made of ({link['href']}) "
                    "are not beside it; bring the file back, or name the catalogue of the scenes"
                )
            return scenes
    return None


def _read_parquet(path: Path) -> tuple[list[RawItem], dict[str, object]]:
    try:
        table = pq.read_table(path)
        items = table_to_items(table)
        said = json.loads((table.schema.metadata or {}).get(_KEY.encode(), b"{}"))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(
            f"--items {path}: cannot be read as stac-geoparquet ({one_line(error)}); give a file that make-map or "
            "another STAC program saved"
        ) from error
    return [RawItem(self_href(item) or str(path), item) for item in items], said


def _read_collection(path: Path) -> list[RawItem]:
    reader = PatientIO(BackOff(attempts=0))
    kind = read_json(str(path), reader).get("type")
    if kind not in ("FeatureCollection", "Feature"):
        raise CatalogError(
            f"--items {path}: is a {kind}, not saved items (stac-geoparquet or an item collection); give a catalogue "
            "to --catalog"
        )
    return list(walk_catalog(str(path), reader))


def _recorded(path: Path, fields: object) -> Profile:
    try:
        return Profile.model_validate(fields)
    except ValidationError as error:
        name = fields.get("name") if isinstance(fields, dict) else None
        if name in profile_names():
            return load_profile(str(name))
        raise CatalogError(
            f"--items {path}: the catalogue recorded in it ({name}) cannot be read by this version "
            f"({error.errors()[0]['msg']}); name the catalogue with --catalog"
        ) from error


def _recognised(path: Path, items: Sequence[RawItem]) -> Profile:
    """Profile of items saved by other programs: the service that their own links lead to, else that of any file."""
    for name in profile_names():
        profile = load_profile(name)
        if all(
            item.href.startswith(f"{profile.url}/") and item.fields.get("collection") in profile.collections
            for item in items
        ):
            return profile
    return load_profile(str(path))
