"""Monthly medians."""

import warnings

import numpy as np
from lines import Line, seconds_of

from timesenmap.pipeline.composite import SCL_SET_ASIDE, composite


def lines(repeats: int) -> list[Line]:
    """Monthly median of ten scenes of ten bands, 256 x 256, against np.nanmedian on float32."""
    rng = np.random.default_rng(0)
    dn = rng.integers(0, 4000, (10, 10, 256, 256), np.uint16)
    scl = rng.choice(np.array([3, 4, 5, 8, 9], np.uint8), (10, 256, 256))
    multiply, add = np.ones((10, 10)), np.zeros((10, 10))

    def reference() -> object:
        clear = ~np.isin(scl, list(SCL_SET_ASIDE)) & (dn > 0).all(axis=1)
        values = np.where(clear[:, None], dn.astype(np.float32), np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pixel that is never clear is NaN, as it should be
            return np.nanmedian(values, axis=0)

    def ours() -> object:
        return composite(dn, scl, multiply, add, set_aside=SCL_SET_ASIDE)

    mine, theirs = seconds_of([ours, reference], repeats)
    return [Line("monthly median", "values/s", dn.size / mine, "np.nanmedian, float32", dn.size / theirs)]
