"""Reflectance is right on every service: decided by hand for 43 real items, and for items that cannot be believed."""

import json
import warnings
from pathlib import Path
from typing import Any

import pystac
import pytest

from timesenmap.catalogs import BANDS, CatalogError, Scaling, reflectance_scaling

ADDED = Scaling(1e-4, -0.1)  # the numbers carry ESA's 1000, which must be taken off
PLAIN = Scaling(1e-4, 0.0)  # they do not, or no longer
REFUSED = None

# Decided by reading the items, not by running the code. Each line: file (its distinguishing part), what must come out,
# and why. The files are those of the shared data folder stac_items; the collection among them is no item.
BY_HAND: list[tuple[str, Scaling | None, str]] = [
    (
        "cdse__sentinel-2-l2a__S2C_MSIL2A_20260527T014651_N0512_R017_T55WFR_20260527T042005",
        ADDED,
        "STAC 1.1: raster:offset -0.1 on the asset B04_10m, processing:version 05.12",
    ),
    *(
        (
            f"e84__sentinel-2-c1-l2a__{name}_L2A",
            ADDED,
            "raster:bands offset -0.1, baseline 05.11, no flag: ESA's numbers",
        )
        for name in (
            "S2B_T20EPT_20250731T131905",
            "S2B_T24MUV_20250731T130245",
            "S2B_T24MWV_20250731T130245",
            "S2B_T24MXV_20250731T130245",
        )
    ),
    *(
        (
            f"e84__sentinel-2-l1c__S2B_{tile}_20250731_0_L1C",
            REFUSED,
            "S2MSI1C: top of atmosphere; -0.1 is RADIO_ADD_OFFSET",
        )
        for tile in ("20EPT", "24MUV", "24MVV", "24MWV", "24MXV")
    ),
    *(
        (
            f"e84__sentinel-2-l2a__S2B_{tile}_20250731_0_L2A",
            PLAIN,
            "earthsearch:boa_offset_applied true: subtracted by the service, raster:bands still says -0.1",
        )
        for tile in ("20EPT", "24MUV", "24MVV", "24MWV")
    ),
    (
        "e84__sentinel-s2-l2a-cogs__S2B_20EPT_20250731_0_L2A",
        PLAIN,
        "Earth Search v0: sentinel:boa_offset_applied true, baseline 05.11, nothing declared",
    ),
    (
        "odc_stac__S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531",
        PLAIN,
        "baseline 02.12 and nothing declared: before 04.00 there was no offset",
    ),
    (
        "odc_stac__S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext",
        PLAIN,
        "baseline 02.12; raster:bands gives nodata only, not scale or offset",
    ),
    *(
        (f"pc__sentinel-2-l2a__S2A_MSIL2A_{name}", PLAIN, "Planetary Computer declares nothing; baseline 02.12")
        for name in (
            "20150704T101006_R022_T35XQA_20210411T133707",
            "20190101T000001_R116_T58UFF_20201007T214659",
            "20190101T000001_R116_T58UFG_20201007T214655",
            "20190101T000001_R116_T58UGE_20201007T214656",
            "20190101T000001_R116_T58VFH_20201007T214652",
            "20190101T000001_R116_T58VFJ_20201007T214649",
            "20190101T000001_R116_T59ULA_20201007T214701",
        )
    ),
    *(
        (
            f"pc__sentinel-2-l2a__S2B_MSIL2A_{name}",
            ADDED,
            "Planetary Computer declares nothing; baseline 05.10 or 05.11",
        )
        for name in (
            "20240419T095549_R122_T46XER_20240419T124342",
            "20240419T095549_R122_T47XMJ_20240419T122756",
            "20240419T095549_R122_T47XML_20240419T123458",
            "20250312T014549_R074_T53NKG_20250312T041213",
        )
    ),
    *(
        (f"stactools__{name}", REFUSED, "S2MSI1C: top of atmosphere")
        for name in (
            "S2A_MSIL1C_20200717T221941_R029_T01LAC_20200717T234135.SAFE",
            "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE",
            "S2A_OPER_MSI_L1C_TL_SGS__20181231T203637_A018414_T10SDG",
            "examples_sentinel2-l1c-example_S2A_T01LAC_20200717T221944_L1C_S2A_T01LAC_20200717T221944_L1C",
        )
    ),
    *(
        (f"stactools__{name}", PLAIN, "raster:bands offset 0, baseline 02.11 or 02.12: both say no offset")
        for name in (
            "S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857.SAFE",
            "S2A_OPER_MSI_L2A_TL_SGS__20181231T210250_A018414_T10SDG",
            "S2B_MSIL2A_20191228T210519_N0212_R071_T01CCV_20201003T104658.SAFE",
            "examples_sentinel2-l2a-example_S2A_T07HFE_20190212T192646_L2A_S2A_T07HFE_20190212T192646_L2A",
        )
    ),
    *(
        (f"stactools__{name}", ADDED, "raster:bands offset -0.1, baseline 05.09 or 05.10")
        for name in (
            "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022157.SAFE",
            "S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158.SAFE",
            "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825.SAFE",
            "S2A_OPER_MSI_L2A_TL_2APS_20240108T121951_A044635_T34VEL",
            "S2A_T60CWS_20240109T203651_L2A",
        )
    ),
    (
        "stactools__S2A_OPER_MSI_L2A_TL_VGS1_20220401T110010_A035382_T34LBP",
        ADDED,
        "baseline 04.00, the first with the offset, and raster:bands offset -0.1",
    ),
    (
        "stactools__S2B_MSIL2A_20200914T231559_N0500_R087_T01VCG_20230315T224658",
        ADDED,
        "sensed in 2020 but reprocessed with 05.00, and raster:bands offset -0.1: the date does not tell",
    ),
]


def read_item(path: Path) -> pystac.Item:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pystac, about the storage extension
        return pystac.Item.from_dict(json.loads(path.read_text()))


def test_every_real_item_as_decided_by_hand(shared_data):
    folder = shared_data / "stac_items"
    files = {path.name.removesuffix(".json") for path in folder.glob("*.json")} - {
        "odc_stac__sentinel-2-l2a.collection"
    }
    assert {name for name, _, _ in BY_HAND} == files
    assert len(BY_HAND) == 43
    wrong = []
    for name, expected, why in BY_HAND:
        item = read_item(folder / f"{name}.json")
        try:
            found = {reflectance_scaling(item, band) for band in BANDS}
            rule = reflectance_scaling(item, "B04").rule
        except CatalogError as error:
            found, rule = {REFUSED}, str(error)
            assert item.id in rule
        outcome = " | ".join(f"DN * {s.scale:g} {s.offset:+g}" if s else "refused" for s in found)
        print(f"{name[:78]:78}  {outcome:18}  {why}\n{'':80}{'':20}-> {rule}")
        if found != {expected}:
            wrong.append(f"{name}: {outcome}, but {why}")
    assert not wrong


def make_item(
    properties: dict[str, Any] | None = None,
    asset: dict[str, Any] | None = None,
    *,
    key: str = "B04",
    id_: str = "scene-1",
    href: str = "https://example.org/B04.tif",
) -> pystac.Item:
    """One item with one asset, as small as the statements under test allow."""
    return pystac.Item.from_dict(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": id_,
            "geometry": None,
            "properties": {"datetime": "2023-06-01T10:00:00Z", **(properties or {})},
            "links": [],
            "assets": {key: {"href": href, **(asset or {})}},
        }
    )


BASELINE, FLAG, OLD_FLAG = "s2:processing_baseline", "earthsearch:boa_offset_applied", "sentinel:boa_offset_applied"
MINUS = {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1}]}
ZERO = {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": 0}]}
EARTH_SEARCH = "https://sentinel-cogs.s3.us-west-2.amazonaws.com/x/B04.tif"


@pytest.mark.parametrize(
    ("properties", "asset", "expected"),
    [
        ({BASELINE: "03.01"}, {}, PLAIN),
        ({BASELINE: "04.00"}, {}, ADDED),
        ({BASELINE: "10.00"}, {}, ADDED),  # as text it would come before "04.00"
        ({BASELINE: "00.01", FLAG: False}, ZERO, PLAIN),  # the first scenes of Earth Search v1
        ({BASELINE: "02.09", FLAG: False}, {}, PLAIN),
        ({BASELINE: "04.00", FLAG: False}, MINUS, ADDED),
        ({BASELINE: "04.00", OLD_FLAG: False}, {}, ADDED),
        ({BASELINE: "05.11", FLAG: True}, ZERO, PLAIN),
        ({FLAG: True}, {}, PLAIN),
        ({}, MINUS, ADDED),
        ({}, ZERO, PLAIN),
        ({BASELINE: "05.09"}, {"raster:scale": 0.0001, "raster:offset": -0.1}, ADDED),
        ({"processing:version": "05.09"}, {"bands": [{"name": "B04", "raster:offset": -0.1}]}, ADDED),
        ({"processing:version": "2024.1", BASELINE: "02.12"}, {}, PLAIN),  # a version, not of ESA's processor
        ({BASELINE: "99.99"}, MINUS, ADDED),  # made with the Sen2Cor toolbox: only the declaration counts
        ({"s2:product_uri": "S2A_MSIL2A_20230601T100001_N0509_R122_T33UUP_20230601T120000.SAFE"}, {}, ADDED),
        ({"sentinel:product_id": "S2A_MSIL2A_20190601T100001_N0212_R122_T33UUP_20190601T120000"}, {}, PLAIN),
        ({BASELINE: "02.14", "s2:product_uri": "S2A_MSIL2A_20190601T100001_N0213_R122_T33UUP_2019.SAFE"}, {}, PLAIN),
    ],
)
def test_statements_that_agree(properties, asset, expected):
    assert reflectance_scaling(make_item(properties, asset), "B04") == expected


@pytest.mark.parametrize(
    ("properties", "asset", "said"),
    [
        # Such items were published: water would have a reflectance of -0.65.
        ({BASELINE: "05.09"}, {"raster:bands": [{"scale": 1e-4, "offset": -0.7}]}, "offset -0.7"),
        ({BASELINE: "05.09", FLAG: True}, {"raster:bands": [{"scale": 1e-4, "offset": -0.7}]}, "offset -0.7"),
        ({BASELINE: "05.09"}, {"raster:bands": [{"scale": 1e-4, "offset": -1000}]}, "offset -1000"),
        ({BASELINE: "05.09"}, {"raster:bands": [{"scale": 1.0, "offset": -0.1}]}, "scale 1,"),
        ({BASELINE: "05.09"}, {"raster:bands": [{"scale": 1e-4, "offset": "-0.1"}]}, "offset '-0.1'"),
        ({BASELINE: "05.09"}, {**MINUS, "raster:offset": 0}, "offsets 0 and -0.1"),
        ({BASELINE: "05.09"}, ZERO, "offset 0 but has processing baseline 05.09"),
        ({BASELINE: "03.01"}, MINUS, "offset -0.1 but has processing baseline 03.01"),
        ({BASELINE: "05.09", FLAG: False}, ZERO, "boa_offset_applied false and declares offset 0"),
        ({BASELINE: "03.01", FLAG: False}, MINUS, "boa_offset_applied false and declares offset -0.1"),
        ({BASELINE: "03.01", FLAG: True}, ZERO, "boa_offset_applied true but has processing baseline 03.01"),
        ({BASELINE: "05.09", FLAG: "true"}, MINUS, "boa_offset_applied 'true'"),
        ({BASELINE: "05.09", FLAG: True, OLD_FLAG: False}, MINUS, "sentinel:boa_offset_applied False"),
        ({BASELINE: "03.01", "processing:version": "05.09"}, {}, "both sides of 04.00"),
        ({BASELINE: "03.01", "s2:product_uri": "S2A_MSIL2A_20190601T1_N0500_R122_T33UUP"}, {}, "both sides of 04.00"),
        ({BASELINE: "newest"}, {}, "'newest'"),
        ({}, {}, "neither offset nor processing baseline"),
        ({"datetime": "2018-01-01T00:00:00Z"}, {}, "neither offset nor processing baseline"),  # the date does not tell
        ({BASELINE: "99.99"}, {}, "neither offset nor processing baseline"),
        ({FLAG: False}, {}, "neither offset nor processing baseline"),
        ({}, {"raster:bands": [{"scale": 1e-4}]}, "neither offset nor processing baseline"),
        ({"processing:level": "L1C", BASELINE: "05.09"}, MINUS, "Level-1C"),
        ({"product:type": "S2MSI1C", BASELINE: "02.12"}, ZERO, "Level-1C"),
        ({"processing:level": "L1", BASELINE: "02.12"}, ZERO, "Level-1C"),
    ],
)
def test_items_that_cannot_be_believed(properties, asset, said):
    with pytest.raises(CatalogError) as caught:
        reflectance_scaling(make_item(properties, asset), "B04")
    message = str(caught.value)
    assert "scene-1" in message
    assert said in message
    assert "\n" not in message
    assert "--skip-bad-items" in message or "Level-2A collection" in message


@pytest.mark.parametrize("properties", [{BASELINE: "04.00"}, {}])
def test_missing_flag_where_some_files_are_corrected(properties):
    item = make_item(properties, MINUS, key="red", href=EARTH_SEARCH)
    with pytest.raises(CatalogError, match=r"scene-1.*earthsearch:boa_offset_applied is missing"):
        reflectance_scaling(item, "B04")


def test_old_scene_without_flag_in_that_archive_is_plain():
    assert reflectance_scaling(make_item({BASELINE: "02.13"}, href=EARTH_SEARCH), "B04") == PLAIN


def test_rule_tells_what_decided():
    flagged = reflectance_scaling(make_item({BASELINE: "05.11", FLAG: True}, MINUS), "B04")
    assert "earthsearch:boa_offset_applied true" in flagged.rule
    assert "05.11" in flagged.rule
    declared = reflectance_scaling(make_item({BASELINE: "05.11"}, MINUS), "B04")
    assert "declared by asset B04" in declared.rule
    assert "no offset declared" in reflectance_scaling(make_item({BASELINE: "05.11"}), "B04").rule


def test_unknown_band_and_missing_asset_are_named():
    with pytest.raises(CatalogError, match=r"'B4'.*B02, B03, B04"):
        reflectance_scaling(make_item({BASELINE: "05.11"}), "B4")
    with pytest.raises(CatalogError, match=r"scene-1.*B08.*it has B04"):
        reflectance_scaling(make_item({BASELINE: "05.11"}), "B08")


def test_untouched_jpeg2000_of_earth_search_never_stands_in_for_the_corrected_band():
    asset = {"roles": ["data", "reflectance"], "eo:bands": [{"name": "B04"}], **MINUS}
    item = make_item({BASELINE: "05.11", FLAG: True}, asset, key="red-jp2")
    with pytest.raises(CatalogError, match="no asset for band B04"):
        reflectance_scaling(item, "B04")
