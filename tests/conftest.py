"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

from timesenmap.catalogs.demonstration import Demonstration, make_demonstration
from timesenmap.model.torchvision_cpu import ensure_torchvision

REPO = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Let the controller of parallel tests import Lightning: it does so when a test warns with a class of it."""
    if getattr(config.option, "dist", "no") != "no" and not hasattr(config, "workerinput"):
        ensure_torchvision()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scenes and series, beside the checkout (or named by TIMESENMAP_SHARED_DATA)."""
    folder = Path(os.environ.get("TIMESENMAP_SHARED_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not present at {folder} (set TIMESENMAP_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def belgium(shared_data: Path) -> Path:
    """Static STAC catalogue of the 118 real scenes of belgium-2018."""
    return shared_data / "belgium-2018" / "catalog.json"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """Generate a small place with a year of scenes."""
    return make_demonstration(tmp_path_factory.mktemp("place"), size=96)
