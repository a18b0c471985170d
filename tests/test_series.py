"""Series tables: reading, refusing, cells and splits."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from timesenmap.model.atmosphere import sun_height, surface_from_top
from timesenmap.model.errors import ModelError
from timesenmap.model.series import (
    SERIES_COLUMNS,
    SeriesTable,
    concatenate,
    read_series,
    spatial_cells,
    split_by_group,
    without_damage,
)

BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


def make_frame(rows: int = 3) -> pd.DataFrame:
    """A series file in which every value says where it stands: row + month / 100 + band / 1000, all over 10."""
    columns = {
        f"{band}_m{month:02d}": (np.arange(rows) + month / 100 + index / 1000) / 10
        for index, band in enumerate(BANDS)  # bands outermost: not the order of the array
        for month in range(1, 13)
    }
    described = {
        "dataset": ["a"] * rows,
        "sample_id": [str(row) for row in range(rows)],
        "lon": np.linspace(3.0, 4.0, rows),
        "lat": np.linspace(50.0, 51.0, rows),
        "label": ["maize"] * rows,
        "level": ["L2A"] * rows,
    }
    return pd.DataFrame(described | columns).astype(dict.fromkeys(columns, np.float32))


def written(frame: pd.DataFrame, folder: Path) -> Path:
    path = folder / "series.parquet"
    frame.to_parquet(path)
    return path


def test_every_value_lands_at_its_row_month_and_band(tmp_path):
    frame = make_frame()
    shuffled = frame[frame.columns[::-1]]
    table = read_series(written(shuffled, tmp_path))
    assert table.reflectance.shape == (3, 12, 10)
    assert table.reflectance.dtype == np.float32
    expected = (np.arange(3)[:, None, None] + np.arange(1, 13)[None, :, None] / 100 + np.arange(10) / 1000) / 10
    np.testing.assert_allclose(table.reflectance, expected, atol=1e-6)
    assert set(table.frame.columns) == {"dataset", "sample_id", "lon", "lat", "label", "level"}
    assert list(table.take(np.array([False, True, True])).frame["sample_id"]) == ["1", "2"]


def test_missing_values_stay_missing(tmp_path):
    frame = make_frame()
    frame.loc[1, "B8A_m04"] = np.nan
    table = read_series(written(frame, tmp_path))
    assert np.argwhere(np.isnan(table.reflectance)).tolist() == [[1, 3, 7]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns=["B8A_m03", "B8A_m04"]), "2 columns missing .*B8A_m03"),
        (lambda f: f.drop(columns=["label"]), "1 columns missing .*label"),
        (lambda f: f.assign(B02_m01=f["B02_m01"] * 10_000, B03_m01=f["B03_m01"] * 10_000), "digital numbers"),
        (lambda f: f.assign(B02_m01=np.inf), "infinite"),
        (lambda f: f.assign(B02_m01=-0.5), "-0.5"),
        (lambda f: f.assign(B04_m02="dark"), "B04_m02 holds"),
    ],
)
def test_what_is_no_series_is_refused_with_its_name(tmp_path, change, message):
    path = written(change(make_frame()), tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        read_series(path)
    assert "series.parquet" in str(caught.value)


def test_files_that_are_no_parquet_are_refused(tmp_path):
    with pytest.raises(ModelError, match="not found"):
        read_series(tmp_path / "nowhere.parquet")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ModelError, match="no readable parquet"):
        read_series(broken)


def test_damaged_months_lose_their_20_m_bands_only():
    series = np.full((1, 12, 10), 0.3, np.float32)
    series[0, 2, 8] = 1.27  # short-wave infrared no land has
    series[0, 5, 0] = 1.4  # a sunlit snow slope: kept
    cleaned = without_damage(series)
    assert [BANDS[band] for band in np.flatnonzero(np.isnan(cleaned[0, 2]))] == [
        "B05", "B06", "B07", "B8A", "B11", "B12",
    ]  # fmt: skip
    assert np.isnan(cleaned).sum() == 6
    assert cleaned[0, 5, 0] == np.float32(1.4)
    assert series[0, 2, 8] == np.float32(1.27), "the input is left as it was"


def test_cells_follow_coordinates_and_else_the_sample():
    frame = pd.DataFrame({
        "dataset": ["a", "b", "a", "a", "a"],
        "sample_id": ["1", "2", "3", "4", "4"],
        "lon": [0.3, 0.39, -0.01, np.nan, 1.0],
        "lat": [0.0, 0.09, -0.01, 5.0, np.nan],
    })  # fmt: skip
    assert list(spatial_cells(frame)) == ["E3N0", "E3N0", "E-1N-1", "a/4", "a/4"]
    assert list(spatial_cells(frame, size=1.0)) == ["E0N0", "E0N0", "E-1N-1", "a/4", "a/4"]


def test_a_group_is_on_one_side_only_and_stays_there():
    groups = np.array([f"cell{i % 400}" for i in range(2000)])
    split = split_by_group(groups, validation=0.1, test=0.2, seed=3)
    sides = np.stack([split.train, split.validation, split.test])
    assert (sides.sum(0) == 1).all()
    for group in np.unique(groups):
        assert (sides[:, groups == group].any(1)).sum() == 1
    # Independently: the documented hash of one group.
    number = int.from_bytes(hashlib.sha256(b"3:cell17").digest()[:7], "big") / 2**56
    assert split.test[17] == (number < 0.2)
    assert split.validation[17] == (0.2 <= number < 0.3)
    # Other rows beside them change nothing; another seed does.
    fewer = split_by_group(groups[:50], validation=0.1, test=0.2, seed=3)
    np.testing.assert_array_equal(fewer.test, split.test[:50])
    other = split_by_group(groups, validation=0.1, test=0.2, seed=4)
    assert (other.test != split.test).any()
    # 400 groups: shares within four standard deviations.
    assert abs(split.test.mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 400)
    assert abs(split.validation.mean() - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 400)


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ModelError, match=r"0.5 and test 0.5"):
        split_by_group(np.array(["a"]), validation=0.5, test=0.5)


def test_tables_are_joined_with_columns_of_both(tmp_path):
    first = read_series(written(make_frame(2), tmp_path))
    second = SeriesTable(first.reflectance + 1, first.frame.assign(region="north"))
    joined = concatenate([first, second])
    assert len(joined) == 4
    assert joined.frame["region"].isna().tolist() == [True, True, False, False]
    np.testing.assert_array_equal(joined.reflectance[2:], second.reflectance)
    with pytest.raises(ModelError, match="no series given"):
        concatenate([])


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ModelError, match="beside 1 described"):
        SeriesTable(np.zeros((2, 12, 10), np.float32), pd.DataFrame({"label": ["x"]}))


def test_sun_height_at_known_places():
    # Equator in late March: the sun 22.5 degrees from the zenith an hour and a half before noon.
    assert sun_height(np.array([0.0]), np.array([3]))[0] == pytest.approx(math.cos(math.radians(22.5)), abs=0.02)
    june, december = sun_height(np.array([50.0, 50.0]), np.array([6, 12]))
    assert june > 0.8
    assert december == pytest.approx(0.25, abs=0.05)
    south = sun_height(np.array([-50.0]), np.array([12]))[0]
    assert south == pytest.approx(june, abs=0.02)


def test_correction_undoes_what_air_adds():
    """Against radiative transfer tables: molecules alone add about 0.06 at 0.49 micrometres, 0.001 at 1.6."""
    dark = np.full((1, 12, 10), 0.10, np.float32)
    surface = surface_from_top(dark, np.array([45.0]))
    lost = 0.10 - surface[0, 6]
    assert 0.03 < lost[0] < 0.08
    assert lost[0] > lost[1] > lost[2]
    assert abs(lost[8]) < 0.01
    assert (surface > 0).all()
    assert np.isnan(surface_from_top(np.full((1, 12, 10), np.nan, np.float32), np.array([45.0]))).all()
    bright = surface_from_top(np.full((1, 12, 10), 0.8, np.float32), np.array([45.0]))
    assert abs(bright[0, 6, 2] - 0.8) < 0.1, "a bright surface stays about as bright"


def test_real_files_are_read_and_none_lies_in_the_place_of_the_demonstration(shared_data):
    total = 0
    for path in sorted((shared_data / "series").glob("*.parquet")):
        table = read_series(path)
        raw = pd.read_parquet(path)
        total += len(table)
        row, month, band = len(table) // 2, 6, 3
        value = raw["B05_m07"].iloc[row]
        assert np.array_equal(table.reflectance[row, month, band], np.float32(value), equal_nan=True)
        # belgium-2018, EPSG:32631 501360 5629040 502000 5629680 in degrees, with a kilometre around.
        lon, lat = table.frame["lon"].to_numpy(float), table.frame["lat"].to_numpy(float)
        inside = (lon > 3.019 - 0.015) & (lon < 3.0285 + 0.015) & (lat > 50.813 - 0.01) & (lat < 50.819 + 0.01)
        assert not inside.any()
    assert total == 20_860
    assert len(SERIES_COLUMNS) == 120
