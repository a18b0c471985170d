"""Signatures stay out of GDAL's warnings."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from flaky_server import serving

import timesenmap.pipeline.read  # noqa: F401 - importing what reads is what keeps the log clean


def test_warnings_of_retried_requests_hide_the_signature(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GDAL itself retries and warns, with the whole address; the key in it must not reach the log."""
    profile = {"driver": "GTiff", "height": 256, "width": 256, "count": 1, "dtype": "uint16", "crs": "EPSG:32631"}
    north_up = rasterio.Affine(10, 0, 500000, 0, -10, 5600000)
    with rasterio.open(tmp_path / "B04.tif", "w", transform=north_up, **profile) as raster:
        raster.write(np.ones((1, 256, 256), np.uint16))

    def busy_at_first(path: str, number: int) -> str | None:
        return "503" if 1 <= number <= 2 else None  # after the header

    settings = {
        "GDAL_HTTP_MAX_RETRY": "5",
        "GDAL_HTTP_RETRY_DELAY": "0.01",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    }
    caplog.set_level("DEBUG", logger="rasterio._env")
    with (
        serving(tmp_path, busy_at_first) as server,
        rasterio.Env(**settings),
        rasterio.open(f"{server.url}/B04.tif?sig=very-secret&se=2030") as raster,
    ):
        assert raster.read(1).sum() == 256 * 256
    said = caplog.text
    assert server.faults["503"] == 2
    assert "B04.tif" in said  # the warning is there, for whoever looks for the reason
    assert "very-secret" not in said
