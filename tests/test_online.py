"""The true services: `make test-online`. Skipped, with the reason, where they cannot be reached."""

import datetime as dt
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
import shapely

from timesenmap.catalogs import find_scenes, load_profile, profile_names
from timesenmap.pipeline.grid import grid_for
from timesenmap.pipeline.load import load_scenes

pytestmark = pytest.mark.online

FIELDS = shapely.box(3.019, 50.813, 3.028, 50.819)  # the place of belgium-2018
JULY = {"start": dt.date(2023, 7, 1), "end": dt.date(2023, 8, 1)}
OPEN = ("earth-search", "earth-search-c1", "planetary-computer")


def _reach(address: str) -> None:
    host = urlsplit(address).hostname or address
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError as error:
        pytest.skip(f"{host} cannot be reached ({error})")


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "generic"])
def test_search_finds_july_with_a_believable_radiometry(name: str) -> None:
    _reach(str(load_profile(name).url))
    found = find_scenes(name, area=FIELDS, skip_bad_items=True, **JULY)
    assert len(found.scenes) >= 6
    assert {scene.scaling["B04"].offset for scene in found.scenes} <= {0.0, -0.1}


@pytest.mark.parametrize("name", OPEN)
def test_pixels_of_two_services_are_the_same_land(name: str) -> None:
    """Red reflectance of the same acquisition, whatever offset each service states, agrees with Earth Search's."""
    for profile in {name, "earth-search-c1"}:
        _reach(str(load_profile(profile).url))
    from timesenmap.pipeline.aoi import read_aoi

    grid = grid_for(read_aoi("501360,5629040,501680,5629360", crs="EPSG:32631"))

    def red(profile: str) -> dict[dt.date, np.ndarray]:
        scenes = find_scenes(profile, area=FIELDS, skip_bad_items=True, **JULY).scenes[:4]
        dn, _ = load_scenes(scenes, grid, gdal=load_profile(profile).gdal)
        pixels = dn.sel(band="B04").astype("float64").compute().values
        scalings = [scene.scaling["B04"] for scene in scenes]
        return {
            scene.datetime.date(): layer * scaling.scale + scaling.offset
            for scene, layer, scaling in zip(scenes, pixels, scalings, strict=True)
        }

    ours, reference = red(name), red("earth-search-c1")
    shared = ours.keys() & reference.keys()
    assert shared
    for day in shared:
        assert abs(np.median(ours[day]) - np.median(reference[day])) < 0.01


def test_the_papers_text_tower_loads() -> None:
    _reach("https://huggingface.co")
    from timesenmap.model import embed_texts

    vectors = embed_texts(["a field of maize", "a lake"], "open_clip:ViT-B-32-quickgelu/openai")
    assert vectors.shape == (2, 512)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
