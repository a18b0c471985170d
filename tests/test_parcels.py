"""Agreement of maps with declared parcels: by hand, and on the real place."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.transform import from_origin

from timesenmap.model.prompts import PromptSet, load_prompt_set
from timesenmap.pipeline.errors import MapError
from timesenmap.workflows.evaluate_encoder import main
from timesenmap.workflows.parcels import agreement, codes_of, parcels_report

WEIGHTS = Path(__file__).resolve().parent.parent / "model" / "weights"


def prompt_set(*references: str | None) -> PromptSet:
    classes = [
        {
            "code": 3 * (i + 1),
            "name": f"class {i}",
            "colour": "#123456",
            "prompts": [f"word {i}"],
            "reference": reference,
        }
        for i, reference in enumerate(references)
    ]
    return PromptSet.model_validate({"name": "few", "title": "Few", "classes": classes})


def test_agreement_by_hand() -> None:
    # Classes 3 (codes 10 and 11), 6 (code 20), 9 (no code: can only be wrong); 99 and 0 are not compared.
    asked = prompt_set("10, 11", "20", None)
    truth = np.array([[10, 11, 10, 20, 20, 20, 99, 0]], np.uint16)
    mapped = np.array([[3, 3, 6, 6, 9, 0, 3, 3]], np.uint8)
    confidence = np.array([[90, 90, 60, 80, 50, 255, 70, 70]], np.uint8)
    found = agreement(asked, truth, mapped, confidence)
    assert (found.pixels, found.without_class) == (6, 1)
    assert found.accuracy == pytest.approx(3 / 6)
    # Class 0: 2 of 3 found, nothing else called so: F1 4/5. Class 1: 1 of 3 found, one false: 2 / (3 + 2).
    assert [one.f1 for one in found.classes] == pytest.approx([4 / 5, 2 / 5])
    assert [one.recall for one in found.classes] == pytest.approx([2 / 3, 1 / 3])
    assert found.macro_f1 == pytest.approx(0.6)
    assert found.confidence == pytest.approx((90 + 90 + 60 + 80 + 50) / 500)
    # Bins of 1/15: 0.9 twice right; 0.6 wrong; 0.8 right; 0.5 wrong.
    assert found.error == pytest.approx((2 * 0.1 + 0.6 + 0.2 + 0.5) / 5)


def test_codes_are_numbers_of_one_class_each() -> None:
    assert codes_of(prompt_set("10, 11", "20", None)) == {10: 0, 11: 0, 20: 1}
    with pytest.raises(MapError, match="reference 'B16' is no list of codes"):
        codes_of(prompt_set("B16", "20"))
    with pytest.raises(MapError, match="code 20 is the reference of two classes"):
        codes_of(prompt_set("20", "10 20"))


def declared(path: Path, codes: np.ndarray, crs: str | None = "EPSG:32631") -> Path:
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": codes.shape[0], "width": codes.shape[1]}
    with rasterio.open(path, "w", crs=crs, transform=from_origin(501360, 5629680, 10, 10), **profile) as raster:
        raster.write(codes.astype(np.uint16), 1)
    return path


def test_declarations_that_cannot_be_compared_are_refused_before_a_map_is_made(tmp_path: Path) -> None:
    words = [str(WEIGHTS / "parcels-words.yaml")]
    common = {"catalog": "nowhere.json", "start": "2017-12"}
    other = declared(tmp_path / "other.tif", np.full((8, 8), 77))
    with pytest.raises(MapError, match=r"none of its references is a code of .*other\.tif', which holds 77"):
        parcels_report(other, words, tmp_path / "out", **common)
    nowhere = declared(tmp_path / "nowhere.tif", np.full((8, 8), 1200), crs=None)
    with pytest.raises(MapError, match="have no CRS"):
        parcels_report(nowhere, words, tmp_path / "out", **common)
    with pytest.raises(MapError, match="cannot be read"):
        parcels_report(tmp_path / "none.tif", words, tmp_path / "out", **common)
    assert not (tmp_path / "out").exists()


def test_the_real_place_in_ones_own_words(belgium: Path, tmp_path: Path) -> None:
    labels = belgium.parent / "labels_CT.tif"
    sets = [WEIGHTS / f"parcels-{name}.yaml" for name in ("words", "cover")]
    arguments = ["parcels", "--labels", str(labels), "--catalog", str(belgium), "--start", "2017-12"]
    for path in sets:
        arguments += ["--prompts", str(path)]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    scenes = [path.name for path in belgium.parent.glob("S2_*") if path.name[3:9] >= "201712"]
    assert (report["scenes"], report["first_month"], report["last_month"]) == (len(scenes), "2017-12", "2018-11")
    with rasterio.open(labels) as raster:
        truth = raster.read(1)
    for entry, path in zip(report["sets"], sets, strict=True):
        codes = codes_of(load_prompt_set(str(path)))
        assert entry["pixels"] == np.isin(truth, list(codes)).sum()
        with rasterio.open(tmp_path / "out" / "parcels" / f"{entry['prompts']}.tif") as raster:
            mapped = raster.read(1)
        # Both rasters are the same 64 x 64 pixels; codes of the sets are positions plus one.
        right = [np.count_nonzero((truth == code) & (mapped == position + 1)) for code, position in codes.items()]
        assert entry["accuracy"] == pytest.approx(sum(right) / entry["pixels"])
        assert entry["accuracy"] > 0.5
    assert "Agreement with declared parcels" in (tmp_path / "out" / "tables.md").read_text()
