"""Digital numbers of any processing baseline on one scale."""

from timesenmap.catalogs.radiometry import Scaling


def harmonised(scaling: Scaling) -> tuple[float, float]:
    """Give (multiply, add), with reflectance * 10000 = DN * multiply + add.

    Rounded to nine decimals: 0.0001 * 10000 must be 1, and -0.1 * 10000 must be -1000, for integers to stay so.
    """
    return round(scaling.scale * 10000, 9), round(scaling.offset * 10000, 9)
