import warnings

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite


def oracle(dn, scl, multiply, add, set_aside):
    """What the contract says, in NumPy's own words and float64."""
    clear = ~np.isin(scl, list(set_aside)) & (dn > 0).all(axis=1)
    values = dn * multiply[:, :, None, None] + add[:, :, None, None]
    values[~np.broadcast_to(clear[:, None], values.shape)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN pixels
        middle = np.nanmedian(values, axis=0) if len(dn) else np.full(dn.shape[1:], np.nan)
    reflectance = np.where(np.isnan(middle), 0, np.clip(np.rint(middle), 1, 65535))
    return reflectance.astype(np.uint16), np.minimum(clear.sum(axis=0), 255).astype(np.uint8)


@st.composite
def observations(draw, whole=True):
    times = draw(st.integers(0, 11))
    bands, height, width = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    # Few distinct numbers, so that ties and half values are frequent, and the extremes of the type.
    numbers = st.sampled_from([0, 1, 2, 3, 999, 1000, 1001, 1002, 5000, 5001, 65534, 65535])
    dn = draw(hnp.arrays(np.uint16, (times, bands, height, width), elements=numbers))
    scl = draw(hnp.arrays(np.uint8, (times, height, width), elements=st.sampled_from([0, 3, 4, 5, 6, 8, 11, 200])))
    if whole:
        multiply = np.ones((times, bands))
        offsets = st.sampled_from([-1000.0, 0.0, 0.0, -999.0, 1001.0, 40000.0])
    else:
        multiply = draw(hnp.arrays(np.float64, (times, bands), elements=st.sampled_from([1.0, 0.5, 2.0, 0.75])))
        offsets = st.sampled_from([-1000.0, 0.0, 0.25])
    add = draw(
        st.one_of(
            hnp.arrays(np.float64, (times, bands), elements=offsets), offsets.map(lambda o: np.full((times, bands), o))
        )
    )
    return dn, scl, multiply, add


@settings(max_examples=300, deadline=None)
@given(observations())
def test_median_equals_numpy(data):
    for mine, expected in zip(composite(*data), oracle(*data, SCL_SET_ASIDE), strict=True):
        np.testing.assert_array_equal(mine, expected, strict=True)


@settings(max_examples=200, deadline=None)
@given(observations(whole=False), st.sets(st.integers(0, 11)))
def test_any_scaling_and_any_classes_equal_numpy(data, set_aside):
    mine = composite(*data, set_aside=frozenset(set_aside))
    for one, expected in zip(mine, oracle(*data, set_aside), strict=True):
        np.testing.assert_array_equal(one, expected, strict=True)


@pytest.mark.parametrize("times", [1, 2, 3, 7, 12, 40])
@pytest.mark.parametrize("offset", ["none", "all", "some"])
def test_large_blocks_equal_numpy(times, offset):
    random = np.random.default_rng(times)
    dn = random.integers(0, 12000, (times, 3, 200, 257)).astype(np.uint16)  # more than one strip, and a rest
    dn[random.random(dn.shape) < 0.05] = 0
    scl = random.integers(0, 12, (times, 200, 257)).astype(np.uint8)
    add = np.zeros((times, 3))
    add[{"none": slice(0, 0), "all": slice(None), "some": slice(None, None, 2)}[offset]] = -1000
    for mine, expected in zip(
        composite(dn, scl, np.ones((times, 3)), add),
        oracle(dn, scl, np.ones((times, 3)), add, SCL_SET_ASIDE),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, expected, strict=True)


def one_pixel(values, offset=0.0):
    dn = np.array(values, np.uint16).reshape(-1, 1, 1, 1)
    scl = np.full((len(values), 1, 1), 4, np.uint8)
    shape = (len(values), 1)
    return int(composite(dn, scl, np.ones(shape), np.full(shape, offset))[0][0, 0, 0])


@pytest.mark.parametrize(
    ("values", "offset", "expected"),
    [
        ([2, 3], 0, 2),  # 2.5 to the even 2
        ([3, 4], 0, 4),  # 3.5 to the even 4
        ([1002, 1003], -1000, 2),  # 2.5: the offset first, then rounding
        ([1003, 1004], -1000, 4),
        ([900], -1000, 1),  # dark water below zero reflectance is still an observation
        ([1000], -1000, 1),
        ([65535, 65535], 0, 65535),
        ([65535], 1000, 65535),
        ([65534, 65535], 0, 65534),
        ([7, 0, 9], 0, 8),  # the zero is no data and not a dark observation
        ([0], 0, 0),
    ],
)
def test_rounding_limits_and_no_data(values, offset, expected):
    assert one_pixel(values, offset) == expected


def test_one_band_without_data_takes_the_whole_observation_away():
    dn = np.array([[10, 20], [30, 0]], np.uint16).reshape(2, 2, 1, 1)
    reflectance, clear = composite(dn, np.full((2, 1, 1), 4, np.uint8), np.ones((2, 2)), np.zeros((2, 2)))
    assert reflectance.ravel().tolist() == [10, 20]
    assert clear.item() == 1


def test_the_count_saturates():
    times = 300
    _, clear = composite(
        np.ones((times, 1, 1, 1), np.uint16),
        np.full((times, 1, 1), 4, np.uint8),
        np.ones((times, 1)),
        np.zeros((times, 1)),
    )
    assert clear.item() == 255


def test_the_input_is_left_as_it_was():
    dn = np.arange(1, 25, dtype=np.uint16)[::-1].reshape(4, 1, 2, 3)
    before = dn.copy()
    composite(dn, np.full((4, 2, 3), 8, np.uint8), np.ones((4, 1)), np.zeros((4, 1)))
    composite(dn, np.full((4, 2, 3), 4, np.uint8), np.ones((4, 1)), np.zeros((4, 1)))
    np.testing.assert_array_equal(dn, before)


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match="do not belong together"):
        composite(np.ones((2, 1, 3, 3), np.uint16), np.ones((2, 3, 4), np.uint8), np.ones((2, 1)), np.zeros((2, 1)))
