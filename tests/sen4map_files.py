"""Small Sen4Map files in both layouts, made for the tests."""

from pathlib import Path

import h5py
import numpy as np

BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
POINTS = {"40683280": ("NL", (6.2667, 52.5707)), "55082360": ("BG", (24.6946, 43.2977)), "41823372": ("DK", None)}
"""Number -> country and (lon, lat) of two rows of the authors' published table, and one without coordinates."""


def write_attributes(group, *, country="NL", lc1="E20", lu1="U111", coordinates=None, **others):
    group.attrs["nuts0"], group.attrs["lc1"], group.attrs["lu1"] = country, lc1, lu1
    if coordinates is not None:
        group.attrs["Coordinates"] = coordinates
    for name, value in others.items():
        group.attrs[name] = value


def write_raw(file, name, *, dn, scl, names, bands=BANDS, **attributes):
    """dn (t, bands, y, x), scl (t, y, x)."""
    group = file.create_group(name)
    for i, band in enumerate(bands):
        group.create_dataset(band, data=dn[:, i])
    group.create_dataset("SCL", data=scl)
    group.attrs["Image_ID"] = np.array(names, dtype=h5py.string_dtype())
    write_attributes(group, **attributes)
    return group


def acquisition_names(months, *, year=2018):
    return [f"S2A_MSIL2A_{year}{month:02d}15T105301_N0206_R051_T31UFU_{year}{month:02d}15T1" for month in months]


def random_raw(file, name, *, seed=0, acquisitions=24, size=64, **attributes):
    rng = np.random.default_rng(seed)
    dn = rng.integers(50, 6000, (acquisitions, 10, size, size)).astype(np.uint16)
    scl = rng.choice([4, 5, 6, 8, 9, 10, 11], (acquisitions, size, size)).astype(np.uint8)
    names = acquisition_names(rng.permutation(np.arange(acquisitions) % 12 + 1))
    write_raw(file, name, dn=dn, scl=scl, names=names, **attributes)
    return dn, scl, names


def write_crop(file, name, image, **attributes):
    group = file.create_group(name)
    group.create_dataset("image", data=image)
    write_attributes(group, **attributes)
    return group


def crops_file(path: Path, numbers, *, seed=0, size=1, country="NL"):
    """A file in the authors' layout, one crop a number; returns number -> image."""
    rng = np.random.default_rng(seed)
    images = {}
    with h5py.File(path, "w") as file:
        for number in numbers:
            images[number] = rng.integers(100, 5000, (12, 10, size, size)).astype(np.float32)
            write_crop(file, f"Lucas_Point_{number}", images[number], country=country)
    return images
