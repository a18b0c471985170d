"""The same year in the style of every service gives the same cube, byte for byte.

Half of the real scenes of belgium-2018 are encoded again as ESA does since baseline 04.00 (1000 added to what is
not 0), and all get the metadata of a real item of the service: nothing in the cube may tell.
"""

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
import yaml

from timesenmap.catalogs.bands import BANDS, SCL
from timesenmap.catalogs.profiles import load_profile
from timesenmap.catalogs.search import find_scenes
from timesenmap.pipeline.aoi import read_aoi
from timesenmap.pipeline.grid import grid_for, tiles
from timesenmap.pipeline.observe import composite_tile
from timesenmap.pipeline.period import Period

PERIOD = Period.of(start="2017-12")


class Style(NamedTuple):
    """How a service says what its numbers are.

    `template` names the real item; `baseline` the property of the baseline; `flag` the property that says whether
    the offset was subtracted; `new` for the scenes of baseline 05.09, in turn: what the flag says and whether the
    files carry the 1000.
    """

    profile: str
    template: str
    baseline: str
    flag: str | None = None
    new: tuple[tuple[bool | None, bool], ...] = ((None, True),)


STYLES = {
    # No offset anywhere: the baseline tells.
    "planetary-computer": Style("planetary-computer", "pc__*_20240419T*T46XER*", "s2:processing_baseline"),
    # raster:bands declares -0.1.
    "earth-search-c1": Style("earth-search-c1", "e84__sentinel-2-c1-l2a__*20EPT*", "s2:processing_baseline"),
    # raster:bands declares -0.1 even where it was subtracted; the flag tells.
    "earth-search": Style(
        "earth-search",
        "e84__sentinel-2-l2a__*20EPT*",
        "s2:processing_baseline",
        "earthsearch:boa_offset_applied",
        ((True, False), (False, True)),
    ),
    # Nothing declared, a flag of another name.
    "earth-search-v0": Style(
        "generic",
        "e84__sentinel-s2-l2a-cogs__*20EPT*",
        "sentinel:processing_baseline",
        "sentinel:boa_offset_applied",
        ((True, False), (False, True)),
    ),
    # STAC 1.1, raster:offset on the asset, B04_10m, the baseline as processing:version.
    "cdse": Style("cdse", "cdse__*", "processing:version"),
}


def cube(catalog: str) -> tuple[np.ndarray, np.ndarray]:
    aoi = read_aoi("501360,5629040,502000,5629680", crs="EPSG:32631")
    found = find_scenes(catalog, area=aoi.geometry, start=PERIOD.start, end=PERIOD.end)
    grid = grid_for(aoi)
    (tile,) = tiles(grid, 1024)
    assert not found.refused
    assert len(found.scenes) > 80
    return composite_tile(found.scenes, grid, tile, PERIOD)


@pytest.fixture(scope="module")
def original(belgium):
    return cube(str(belgium))


@pytest.fixture(scope="module")
def encoded_again(belgium, tmp_path_factory) -> Path:
    """Every second scene with 1000 added to all that is not 0."""
    folder = tmp_path_factory.mktemp("encoded")
    for scene in every_second(belgium):
        (folder / scene.name).mkdir()
        for band in BANDS:
            with rasterio.open(scene / f"{band}.tif") as raster:
                dn, profile = raster.read(1), raster.profile
            assert dn.max() <= 65535 - 1000
            with rasterio.open(folder / scene.name / f"{band}.tif", "w", **profile) as raster:
                raster.write(np.where(dn > 0, dn + 1000, 0).astype(np.uint16), 1)
    return folder


def items_of(belgium: Path) -> list[Path]:
    return sorted(path for path in belgium.parent.iterdir() if path.is_dir())


def every_second(belgium: Path) -> list[Path]:
    return items_of(belgium)[::2]


def catalogue(style: Style, belgium: Path, encoded_again: Path, folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Write an item collection as this service would, and its profile for files; the profile's path, and the items."""
    (source,) = (belgium.parent.parent / "stac_items").glob(style.template)
    template = json.loads(source.read_text())
    profile = load_profile(style.profile) if style.profile != "generic" else load_profile(str(belgium))
    new = {path.name for path in every_second(belgium)}
    features = []
    for number, path in enumerate(items_of(belgium)):
        plain = json.loads((path / f"{path.name}.json").read_text())
        item = copy.deepcopy(template)
        item |= {name: plain[name] for name in ("id", "geometry", "bbox")} | {"links": [], "assets": {}}
        flag, carries = style.new[number // 2 % len(style.new)] if path.name in new else (False, False)
        fields = item["properties"]
        fields |= {"datetime": plain["properties"]["datetime"], "platform": "sentinel-2a"}
        fields[style.baseline] = "05.09" if path.name in new else "02.12"
        if style.flag:
            fields[style.flag] = flag
        code = {"proj:code": "EPSG:32631"} if style.profile == "cdse" else {"proj:epsg": 32631}
        if style.profile != "cdse":
            fields |= code
        for name in list(fields):  # names of the product and of its tile, which are the template's
            if name.startswith(("s2:product", "sentinel:product", "mgrs:")) or name in ("s2:mgrs_tile", "grid:code"):
                del fields[name]
        for band in (*BANDS, SCL):
            key = next(key for key in profile.assets[band] if key in template["assets"])
            asset = copy.deepcopy(template["assets"][key])
            asset.pop("alternate", None)
            like = plain["assets"][band]
            asset |= {name: like[name] for name in ("proj:shape", "proj:transform") if name in like}
            if style.profile == "cdse":
                asset |= code
            declare(asset, band, is_new=path.name in new)
            home = encoded_again / path.name if carries and band != SCL else path
            asset["href"] = str(home / f"{band}.tif")
            item["assets"][key] = asset
        features.append(item)
    listing = folder / "items.json"
    listing.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    local = {"kind": "static", "url": str(listing), "collections": [], "credentials": [], "signing": "none", "gdal": {}}
    described = folder / "profile.yaml"
    described.write_text(yaml.safe_dump({**profile.model_dump(mode="json"), **local}))
    return str(described), features


def declare(asset: dict[str, Any], band: str, *, is_new: bool) -> None:
    """Older products declare the offset 0 where newer ones declare -0.1; what declares nothing goes on so."""
    if band == SCL or is_new:
        return
    if "raster:offset" in asset:
        asset["raster:offset"] = 0
    for entry in asset.get("raster:bands", []):
        entry["offset"] = 0


@pytest.mark.parametrize("name", STYLES)
def test_every_service_gives_the_same_cube(name, original, belgium, encoded_again, tmp_path):
    profile, features = catalogue(STYLES[name], belgium, encoded_again, tmp_path)
    text = json.dumps(features)
    assert text.count('"05.09"') == text.count('"02.12"') == 59
    for one, expected in zip(cube(profile), original, strict=True):
        np.testing.assert_array_equal(one, expected, strict=True)


def test_the_encoding_matters(original, belgium, encoded_again, tmp_path):
    """Read as if nothing had been added, the same files give another cube: the test above can fail."""
    profile, features = catalogue(STYLES["planetary-computer"], belgium, encoded_again, tmp_path)
    for item in features:
        item["properties"]["s2:processing_baseline"] = "02.12"
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    reflectance, clear = cube(profile)
    np.testing.assert_array_equal(clear, original[1])
    assert (reflectance != original[0]).mean() > 0.5
