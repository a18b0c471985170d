import datetime as dt

import numpy as np
import pandas as pd
import pytest

from timesenmap.pipeline.errors import MapError
from timesenmap.pipeline.period import Period


def test_a_year_runs_from_january():
    period = Period.of(year=2024)
    assert period.start == dt.date(2024, 1, 1)
    assert period.end == dt.date(2025, 1, 1)
    assert period.months == tuple((2024, month) for month in range(1, 13))


@pytest.mark.parametrize("start", ["2017-12", "2018-01", "2020-02", "2019-11"])
def test_months_equal_those_of_pandas(start):
    period = Period.of(start=start)
    expected = pd.period_range(start, periods=13, freq="M")
    assert period.labels == tuple(str(month) for month in expected[:12])
    assert period.months == tuple((month.year, month.month) for month in expected[:12])
    assert period.end == expected[12].start_time.date()
    assert (period.month_starts == expected[:12].start_time.values).all()
    assert period.month_starts.dtype == np.dtype("datetime64[ns]")


def test_month_of_a_moment_is_taken_in_utc():
    period = Period.of(start="2017-12")
    first_of_july = dt.datetime(2018, 7, 1, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))  # still June in UTC
    assert period.month_of(first_of_july) == 6
    assert period.month_of(dt.datetime(2018, 7, 1, 0, 30, tzinfo=dt.UTC)) == 7
    assert period.month_of(dt.datetime(2017, 12, 1, tzinfo=dt.UTC)) == 0
    assert period.month_of(dt.datetime(2018, 11, 30, 23, 59, 59, tzinfo=dt.UTC)) == 11
    assert period.month_of(dt.datetime(2017, 11, 30, 23, 59, 59, tzinfo=dt.UTC)) is None
    assert period.month_of(dt.datetime(2018, 12, 1, tzinfo=dt.UTC)) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "neither given"),
        ({"year": 2020, "start": "2020-01"}, "both --year 2020 and --start 2020-01"),
        ({"start": "2020-13"}, "'2020-13': not a month"),
        ({"start": "2020"}, "'2020': not a month"),
        ({"start": "20-01"}, "not a month"),
        ({"start": "2020-1"}, "not a month"),
        ({"start": "2020-01-01"}, "not a month"),
        ({"start": "0000-01"}, "Sentinel-2 sees the Earth since 2015"),
        ({"year": 2014}, "Sentinel-2 sees the Earth since 2015"),
        ({"year": -5}, "not a month"),
        ({"year": 9999}, "give a later --year"),
        ({"year": 12345}, "not a month"),
    ],
)
def test_bad_periods_are_refused(arguments, said):
    with pytest.raises(MapError) as raised:
        Period.of(**arguments)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_period_begins_with_a_month():
    with pytest.raises(MapError, match="first day of a month"):
        Period(dt.date(2020, 1, 2))
