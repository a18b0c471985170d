"""Sen4Map readers and LUCAS nomenclature, against NumPy loops, the points' own grid and the authors' table."""

import csv
import pickle

import h5py
import numpy as np
import pytest
import sen4map_files as made

from timesenmap.model import sen4map
from timesenmap.model.errors import ModelError
from timesenmap.model.lucas import BIOREGIONS, HABITATS, Labels, labels_of, nominal_place, place_of, point_number
from timesenmap.model.sen4map import BadSampleError, monthly_composites, months_of, open_sen4map, read_place


def by_hand(dn, scl, names, *, gaps="keep"):
    """Monthly composites by plain loops over pixels and acquisitions."""
    acquisitions, bands, height, width = dn.shape
    out = np.full((12, bands, height, width), np.nan)
    for b in range(bands):
        for y in range(height):
            for x in range(width):
                clear = [
                    (int(names[t][15:17]), float(dn[t, b, y, x]))
                    for t in range(acquisitions)
                    if scl[t, y, x] not in (9, 10, 11) and dn[t, b, y, x] != 0
                ]
                for month in range(12):
                    of_month = [value for m, value in clear if m == month + 1]
                    if not of_month and gaps == "year":
                        of_month = [value for _, value in clear]
                    if of_month:
                        out[month, b, y, x] = np.median(of_month)
    return out


@pytest.mark.parametrize("gaps", ["keep", "year"])
def test_monthly_composites_equal_plain_loops(gaps):
    rng = np.random.default_rng(3)
    dn = rng.integers(0, 4, (30, 2, 3, 4)) * 700  # a quarter of it no data
    scl = rng.integers(0, 12, (30, 3, 4))
    names = made.acquisition_names(rng.integers(1, 10, 30))  # October to December have no acquisition
    found = monthly_composites(dn, scl, months_of(names), gaps=gaps)
    expected = by_hand(dn, scl, names, gaps=gaps)
    assert np.isnan(expected[9:]).all() == (gaps == "keep")
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_months_are_read_from_any_acquisition_name():
    names = [
        "S2A_MSIL2A_20180103T103421_N0206_R108_T32TQM_20180104T123456",
        "20181215T103421_20181215T103424_T32TQM",
        "T32TQM_20180731",
        "S2B_MSIL2A_20171231T103421_N0206_R108_T20TQM_20180101T000000",
        "no date",
    ]
    np.testing.assert_array_equal(months_of(names), [0, 11, 6, -1, -1])
    np.testing.assert_array_equal(months_of(names, year=2017), [-1, -1, -1, 11, -1])


@pytest.mark.parametrize(("patch", "start"), [(1, 32), (5, 30), (9, 28)])
def test_raw_group_is_cut_around_its_centre(tmp_path, patch, start):
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        dn, scl, names = made.random_raw(file, "Lucas_Point_40683280", coordinates=[6.2667, 52.5707])
    with open_sen4map(path) as file:
        place = read_place(file, "Lucas_Point_40683280", patch=patch)
    window = slice(start, start + patch)
    expected = by_hand(dn[..., window, window], scl[:, window, window], names)
    whole = np.where(np.isnan(expected), 0, np.rint(np.nan_to_num(expected)))
    np.testing.assert_array_equal(place.image, whole)
    assert (place.image == 0).any()
    reflectance = sen4map.from_cube(place.image)
    np.testing.assert_allclose(reflectance, np.where(whole > 0, whole / 10_000, np.nan), rtol=1e-6)
    assert place.labels == Labels(lc1="E20", lu1="U111", country="NL")
    assert place.labels.names["landcover"] == "Grassland"
    assert place.labels.names["landuse"] == "Agriculture"


def test_crops_of_the_authors_are_read_and_cut(tmp_path):
    path = tmp_path / "crops.h5"
    rng = np.random.default_rng(0)
    image = rng.integers(100, 5000, (12, 10, 9, 9)).astype(np.float32) + 0.5
    image[3] = 1  # hidden throughout: what the authors' code writes for a set-aside median
    image[5, 2, 4, 4] = 1  # a dark band of an observed month
    image[7, :, 4, 4] = np.nan
    with h5py.File(path, "w") as file:
        labels = {"country": "BG", "lc1": "B31", "lu1": "U111", "bioregion_class_code": 6, "EUNIS_L2": 0}
        made.write_crop(file, "Lucas_Point_55082360", image, coordinates=[43.297697, 24.694622], **labels)
    with open_sen4map(path) as file:
        place = read_place(file, "Lucas_Point_55082360", patch=5)
        filled = read_place(file, "Lucas_Point_55082360", patch=5, gaps="year")
    expected = np.rint(image[..., 2:7, 2:7])
    expected[3] = 0
    expected[7, :, 2, 2] = 0
    np.testing.assert_array_equal(place.image, expected)
    assert place.image[5, 2, 2, 2] == 1
    assert (place.lon, place.lat) == (24.694622, 43.297697)  # written the other way round
    assert place.labels == Labels("B31", "U111", "BG", "Continental", "I1")
    assert place.labels.names == {
        "landcover": "Cropland", "landuse": "Agriculture", "crop": "Sunflower",
        "habitat": "Arable land and market gardens", "country": "Bulgaria", "bioregion": "Continental",
    }  # fmt: skip
    others = np.where(np.arange(12) == 3, np.nan, np.arange(12))
    months = np.flatnonzero(~np.isnan(others))
    np.testing.assert_array_equal(filled.image[3, 0, 0, 0], np.rint(np.median(image[months, 0, 2, 2])))


def damaged(file):
    """Groups no one can use, by the reason they are counted under."""
    ok = np.full((12, 10, 1, 1), 500.0)
    shape = (4, 10, 9, 9)
    dn, scl, names = np.full(shape, 700), np.full((4, 9, 9), 4), made.acquisition_names([1, 2, 3, 4])
    made.write_crop(file, "Lucas_Point_40683280", ok[:, :9])
    made.write_crop(file, "Lucas_Point_40683281", ok[:4])
    made.write_crop(file, "Lucas_Point_40683283", np.full_like(ok, np.nan))
    made.write_crop(file, "Lucas_Point_40683284", ok / 10_000)
    made.write_crop(file, "Lucas_Point_40683285", ok * 1000)
    made.write_crop(file, "point_7", ok)
    made.write_raw(file, "Lucas_Point_40683286", dn=dn[:, :9], scl=scl, names=names, bands=made.BANDS[:9])
    made.write_raw(file, "Lucas_Point_40683287", dn=dn, scl=scl, names=names[:3])
    made.write_raw(file, "Lucas_Point_40683288", dn=dn, scl=scl, names=made.acquisition_names([1, 2, 3, 4], year=2020))
    made.write_raw(file, "Lucas_Point_40683289", dn=dn, scl=np.full((4, 9, 9), 9), names=names)
    file.create_dataset("Lucas_Point_40683290", data=np.arange(3))
    return {
        "Lucas_Point_40683280": "bands",
        "Lucas_Point_40683281": "shape",
        "Lucas_Point_40683283": "never observed",
        "Lucas_Point_40683284": "values",
        "Lucas_Point_40683285": "values",
        "point_7": "no LUCAS point",
        "Lucas_Point_40683286": "bands",
        "Lucas_Point_40683287": "shape",
        "Lucas_Point_40683288": "no acquisition",
        "Lucas_Point_40683289": "never observed",
        "Lucas_Point_40683290": "unreadable",
    }


def test_each_bad_sample_is_named_with_its_reason(tmp_path):
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        reasons = damaged(file)
    with open_sen4map(path) as file:
        for name, reason in reasons.items():
            with pytest.raises(BadSampleError, match=name) as caught:
                read_place(file, name)
            assert caught.value.reason == reason
            assert "bad.h5" in str(caught.value)
            copy = pickle.loads(pickle.dumps(caught.value))
            assert (copy.reason, str(copy)) == (reason, str(caught.value))


@pytest.mark.parametrize("coordinates", [[30.0, 10.0], "somewhere", [6.27], [6.27, 52.57, 0.0], [np.nan, 52.57]])
def test_coordinates_elsewhere_give_way_to_the_number(tmp_path, coordinates):
    path = tmp_path / "elsewhere.h5"
    with h5py.File(path, "w") as file:
        made.write_crop(file, "Lucas_Point_40683280", np.full((12, 10, 1, 1), 500.0), coordinates=coordinates)
    with open_sen4map(path) as file:
        place = read_place(file, "Lucas_Point_40683280")
    assert (place.lon, place.lat) == nominal_place("40683280")
    ((reason, detail),) = place.remarks
    assert reason == "coordinates elsewhere"
    assert "elsewhere.h5, Lucas_Point_40683280" in detail


def test_damaged_bytes_inside_a_file_are_a_bad_sample(tmp_path):
    path = tmp_path / "bytes.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("Lucas_Point_40683280")
        image = group.create_dataset(
            "image", data=np.full((12, 10, 9, 9), 500.0), chunks=(12, 10, 9, 9), compression="gzip"
        )
        made.write_attributes(group)
        place = image.id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    with open_sen4map(path) as file, pytest.raises(BadSampleError, match="download") as caught:
        read_place(file, "Lucas_Point_40683280")
    assert caught.value.reason == "unreadable"


def test_truncated_missing_and_foreign_files_are_refused(tmp_path):
    whole = tmp_path / "whole.h5"
    made.crops_file(whole, ["40683280"])
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole.read_bytes()[:-100])
    foreign = tmp_path / "foreign.h5"
    foreign.write_text("no HDF5")
    for path, words in ((cut, "truncated"), (foreign, "signature"), (tmp_path / "none.h5", "not found")):
        with pytest.raises(ModelError, match=words), open_sen4map(path):
            pass
    empty = tmp_path / "empty.h5"
    h5py.File(empty, "w").close()
    with pytest.raises(ModelError, match="no group"):
        sen4map.list_points(empty)


def test_labels_outside_the_nomenclatures_are_told_apart_from_absent_ones():
    labels, unknown = labels_of(
        {"lc1": b"X99", "lu1": "U999", "nuts0": "ZZ", "bioregion_class_code": np.int64(40), "EUNIS_L2": "Z9"}
    )
    assert labels == Labels()
    assert unknown == (
        "lc1 'X99'", "lu1 'U999'", "nuts0 'ZZ'", "bioregion_class_code '40'", "EUNIS_L2 'Z9'",
    )  # fmt: skip
    assert labels_of({"lc1": "", "EUNIS_L2": np.nan, "lu1": "NA"}) == (Labels(), ())


@pytest.mark.parametrize("value", [8, 8.0, "8", b"Mediterranean", "mediterranean", np.array([8])])
def test_bioregions_by_number_or_name(value):
    assert labels_of({"bioregion_class_code": value})[0].bioregion == "Mediterranean"


@pytest.mark.parametrize("value", [4, "G3", "Coniferous woodland"])
def test_habitats_by_number_code_or_name(value):
    labels, unknown = labels_of({"EUNIS_L2": value})
    assert (labels.habitat, labels.names["habitat"], unknown) == ("G3", "Coniferous woodland", ())


def test_the_authors_table_agrees_with_numbers_places_and_names(shared_data):
    """Every row of the published table: its point number gives its place, its names are those of our prompt sets."""
    with (shared_data / "lucas" / "Sen4Map_Test_all_labels_SAMPLE.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 35
    for row in rows:
        number = point_number(row["im_id"])
        swapped = float(row["lat"]), float(row["lon"])  # the columns are named the wrong way round
        assert np.abs(np.subtract(nominal_place(number), swapped)).max() < 0.02
        assert place_of(number, swapped) == place_of(number, swapped[::-1]) == swapped
        labels, unknown = labels_of({"EUNIS_L2": row["eunis_class"], "bioregion_class_code": row["bioregion_class"]})
        assert not unknown
        assert labels.names["habitat"] == row["eunis_class"]
        assert labels.bioregion == row["bioregion_class"].replace("BlackSea", "Black Sea")
        assert labels.habitat in HABITATS
        assert labels.bioregion in BIOREGIONS


def test_without_h5py_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ModelError, match=r"timesenmap\[train\]"), open_sen4map(tmp_path / "any.h5"):
        pass
