"""Prompt sets: the shipped ones, a user's own, what is refused, and the class vectors."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from timesenmap.model.errors import ModelError
from timesenmap.model.prompts import (
    PromptSet,
    ambiguous_classes,
    class_embeddings,
    load_prompt_set,
    prompts_for,
    shipped_prompt_sets,
)

SHIPPED = {"land-cover": 8, "land-use": 16, "crops": 40, "habitats": 44}


def three_classes() -> dict[str, Any]:
    return {
        "name": "shore",
        "title": "A shore",
        "classes": [
            {"code": 7, "name": "Kelp", "colour": "#114433", "prompts": ["kelp", "brown seaweed"]},
            {"code": 2, "name": "Sand", "colour": "#EEDDAA", "prompts": ["a beach of sand"]},
            {"code": 9, "name": "Pier", "colour": "#555555", "prompts": ["a wooden pier"]},
        ],
    }


@pytest.fixture
def write(tmp_path: Path):
    def write(content: Any, name: str = "shore.yaml") -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return write


def lab(colour: str) -> np.ndarray:
    """CIE L*a*b* (D65) of an sRGB colour, by the formulas of CIE 15 and IEC 61966-2-1."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    ratio = xyz / [0.9505, 1.0, 1.089]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_the_four_sets_are_shipped() -> None:
    assert set(shipped_prompt_sets()) == set(SHIPPED)


@pytest.mark.parametrize(("name", "count"), SHIPPED.items())
def test_shipped_set_is_complete(name: str, count: int) -> None:
    prompt_set = load_prompt_set(name)
    assert prompt_set.name == name
    assert len(prompt_set.classes) == count
    references = [c.reference for c in prompt_set.classes]
    assert None not in references
    assert len(set(references)) == count
    for entry in prompt_set.classes:
        assert 4 <= len(entry.prompts) <= 8, entry.name
        assert len(set(entry.prompts)) == len(entry.prompts)
        # The plain class name comes first (long EUNIS names are shortened).
        assert entry.prompts[0].split()[0].strip(",").casefold() == entry.name.split()[0].strip(",").casefold()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_colours_can_be_told_apart(name: str) -> None:
    colours = np.array([lab(c.colour) for c in load_prompt_set(name).classes])
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    closest = distances[np.triu_indices(len(colours), k=1)].min()
    assert closest > 14, closest  # CIE76; about 2.3 is just noticeable side by side


def test_codes_follow_the_nomenclature() -> None:
    assert [c.reference for c in load_prompt_set("land-cover").classes] == list("ABCDEFGH")
    assert [c.code for c in load_prompt_set("land-cover").classes] == list(range(1, 9))
    assert all(c.reference == f"B{c.code}" for c in load_prompt_set("crops").classes)
    assert all(str(c.reference).startswith(f"U{c.code}") for c in load_prompt_set("land-use").classes)
    assert [c.code for c in load_prompt_set("habitats").classes] == list(range(1, 45))


def test_labels_of_the_lucas_sample_are_classes_of_the_shipped_sets(shared_data: Path) -> None:
    import pandas as pd

    sample = pd.read_csv(shared_data / "lucas" / "Sen4Map_Test_all_labels_SAMPLE.csv")
    columns = {"land-cover": "lc_label", "land-use": "lu_label", "crops": "crop_label", "habitats": "eunis_class"}
    for name, column in columns.items():
        known = {n for c in load_prompt_set(name).classes for n in c.labels}
        assert {label.casefold() for label in sample[column].dropna()} <= known


def test_a_users_set_keeps_order_codes_and_words(write) -> None:
    prompt_set = load_prompt_set(write(three_classes()))
    assert [c.code for c in prompt_set.classes] == [7, 2, 9]
    assert prompt_set.classes[0].prompts == ("kelp", "brown seaweed")
    assert prompt_set.classes[1].colour == "#eeddaa"
    assert prompt_set.templates == ()


def test_sha256_is_of_the_content_not_of_the_layout(write) -> None:
    content = three_classes()
    once = load_prompt_set(write(content))
    reordered = dict(reversed(content.items()))
    reordered["templates"] = []
    again = load_prompt_set(write("# a comment\n" + yaml.safe_dump(reordered, sort_keys=False), "other.yaml"))
    assert again.sha256 == once.sha256
    content["classes"][1]["colour"] = "#eeddaa"  # colours are stored in lower case
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert once.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    ("field", "value", "wording_changes"),
    [("prompts", ["sand"], True), ("name", "Sands", True), ("colour", "#000001", False), ("code", 3, False)],
)
def test_every_change_changes_the_sha256(write, field: str, value: Any, wording_changes: bool) -> None:
    before = load_prompt_set(write(three_classes()))
    content = three_classes()
    content["classes"][1][field] = value
    after = load_prompt_set(write(content))
    assert after.sha256 != before.sha256
    assert (after.wording_sha256 != before.wording_sha256) is wording_changes


def in_class(field: str, value: Any, index: int = 1):
    def change(content: dict[str, Any]) -> None:
        if value is ...:
            del content["classes"][index][field]
        else:
            content["classes"][index][field] = value

    return change


def at_top(field: str, value: Any):
    def change(content: dict[str, Any]) -> None:
        if value is ...:
            del content[field]
        else:
            content[field] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_class("code", 7), ["code 7", "twice", "Kelp", "Sand"]),
        (in_class("code", 0), ["class 2 'Sand'", "code 0", "1..254"]),
        (in_class("code", 255), ["class 2 'Sand'", "code 255", "1..254"]),
        (in_class("code", "7"), ["class 2 'Sand'", "code '7'", "whole number"]),
        (in_class("code", True), ["class 2 'Sand'", "code True"]),
        (in_class("name", "KELP"), ["name 'kelp'", "twice", "code 7", "code 2"]),
        (in_class("aliases", ["kelp"]), ["name 'kelp'", "twice", "code 7", "code 2"]),
        (in_class("name", None), ["class 2", "name is empty"]),
        (in_class("name", False), ["class 2", "name False", "quotes"]),
        (in_class("colour", "red"), ["class 2 'Sand'", "colour 'red'", "#1b7837"]),
        (in_class("colour", None), ["class 2 'Sand'", "colour is empty", "quotes"]),
        (in_class("colour", ...), ["class 2 'Sand'", "'colour' is missing"]),
        (in_class("prompts", []), ["class 2 'Sand'", "prompts []", "at least one"]),
        (in_class("prompts", ...), ["class 2 'Sand'", "'prompts' is missing"]),
        (in_class("prompts", "sand"), ["class 2 'Sand'", "prompts 'sand'", "list"]),
        (in_class("prompts", ["sand", "  "]), ["class 2 'Sand'", "prompts 2", "empty"]),
        (in_class("color", "#000000"), ["class 2 'Sand'", "unknown field 'color'", "'colour'"]),
        (in_class("prompts", ["a\x07b"]), ["class 2 'Sand'", "prompts 1", "control"]),
        (at_top("titel", "x"), ["unknown field 'titel'", "'title'"]),
        (at_top("templates", ["a photo of it"]), ["templates 1 'a photo of it'", "{}"]),
        (at_top("classes", []), ["classes []", "two entries"]),
        (at_top("classes", three_classes()["classes"][:1]), ["classes", "two entries"]),
        (at_top("classes", ["sand", "kelp"]), ["class 1", "'sand'", "1 more problem)"]),
        (at_top("classes", [{"code": 1}] * 255), ["prompt set 'shore'", "255 classes", "254"]),
        (at_top("unknown_below", 60), ["unknown_below 60", "0 to 1", "0.6"]),
        (at_top("unknown_below", float("nan")), ["unknown_below nan", "0 to 1"]),
        (at_top("unknown_below", True), ["unknown_below True"]),
        (at_top("name", ...), ["'name' is missing"]),
        (at_top("name", "../shore"), ["name '../shore'", "letters"]),
        (at_top("name", "observations"), ["name 'observations'", "another file"]),
    ],
)
def test_bad_content_is_refused_in_one_line(write, change, words: list[str]) -> None:
    content = three_classes()
    change(content)
    path = write(content)
    with pytest.raises(ModelError) as caught:
        load_prompt_set(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(path)
    for word in words:
        assert word in message


def test_a_map_has_room_for_254_classes(write) -> None:
    content = three_classes()
    content["classes"] = [
        {"code": code, "name": f"class {code}", "colour": "#000000", "prompts": ["a thing"]} for code in range(1, 255)
    ]
    assert len(load_prompt_set(write(content)).classes) == 254


def test_a_threshold_of_its_own_changes_the_set_but_not_its_wording(write) -> None:
    plain = load_prompt_set(write(three_classes()))
    assert plain.unknown_below is None
    own = load_prompt_set(write(three_classes() | {"unknown_below": 0.4}))
    assert own.unknown_below == 0.4
    assert own.sha256 != plain.sha256
    assert own.wording_sha256 == plain.wording_sha256


def test_two_problems_are_counted(write) -> None:
    content = three_classes()
    in_class("code", 300)(content)
    in_class("colour", "blue", index=2)(content)
    with pytest.raises(ModelError, match=r"code 300 .* \(and 1 more problem\)"):
        load_prompt_set(write(content))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: shore\nclasses: [\n", ["line 3", "not valid YAML"]),
        ("name: shore\nname: other\n", ["line 2", "'name' is given twice"]),
        ("name: !!python/object:os.system x\n", ["line 1", "not valid YAML"]),
        ("just words\n", ["holds no fields"]),
        ("", ["holds no fields"]),
    ],
)
def test_bad_yaml_names_the_line(write, text: str, words: list[str]) -> None:
    path = write(text)
    with pytest.raises(ModelError) as caught:
        load_prompt_set(path)
    assert "\n" not in str(caught.value)
    for word in (path, *words):
        assert word in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ModelError, match=r"latin\.yaml: is not UTF-8 text \(byte 9\)"):
        load_prompt_set(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("landcover", ["'landcover'", "did you mean land-cover", "crops, habitats, land-cover, land-use"]),
        ("trees", ["'trees'", "crops, habitats, land-cover, land-use"]),
        ("nowhere/trees.yaml", ["nowhere/trees.yaml", "does not exist"]),
        ("trees.yml", ["trees.yml", "does not exist"]),
    ],
)
def test_unknown_set_or_file(name: str, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        load_prompt_set(name)
    for word in words:
        assert word in str(caught.value)


def test_a_folder_is_no_prompt_set(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        load_prompt_set(str(tmp_path))


def test_templates_and_families() -> None:
    content = three_classes()
    content["templates"] = ["here is {}.", "{} at low tide, {braces} kept"]
    prompt_set = PromptSet.model_validate(content)
    assert prompts_for(prompt_set)[0] == (
        "here is kelp.",
        "here is brown seaweed.",
        "kelp at low tide, {braces} kept",
        "brown seaweed at low tide, {braces} kept",
    )
    assert prompts_for(prompt_set, "class-name") == (("Kelp",), ("Sand",), ("Pier",))
    assert prompts_for(prompt_set, "generic")[2] == ("a photo of a Pier.",)
    with pytest.raises(ModelError, match=r"'poetic'.*descriptive"):
        prompts_for(prompt_set, "poetic")  # type: ignore[arg-type]


def test_class_vector_is_the_mean_of_unit_vectors_of_unit_length(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {
        "kelp": [1, 0, 0],
        "brown seaweed": [0, 0.6, 0.8],
        "a beach of sand": [0, 1, 0],
        "a wooden pier": [0, 0, 1],
    }
    asked: list[list[str]] = []

    def embed_texts(texts, encoder):
        asked.append(list(texts))
        return np.array([vectors[text] for text in texts], np.float32)

    monkeypatch.setattr("timesenmap.model.towers.embed_texts", embed_texts)
    found = class_embeddings(PromptSet.model_validate(three_classes()), "any:tower")
    kelp = np.array([0.5, 0.3, 0.4]) / np.sqrt(0.5)
    np.testing.assert_allclose(found, [kelp, [0, 1, 0], [0, 0, 1]], atol=1e-7)
    assert found.dtype == np.float32
    assert len(asked) == 1, "all prompts in one call"


def test_prompts_that_cancel_out_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    opposite = {"kelp": [1, 0], "brown seaweed": [-1, 0]}
    monkeypatch.setattr(
        "timesenmap.model.towers.embed_texts",
        lambda texts, encoder: np.array([opposite.get(t, [0, 1]) for t in texts], np.float32),
    )
    with pytest.raises(ModelError, match=r"'shore', class 'Kelp'.*cancel out"):
        class_embeddings(PromptSet.model_validate(three_classes()), "any:tower")


def test_ambiguous_classes_are_named_closest_first() -> None:
    prompt_set = PromptSet.model_validate(three_classes())
    angles = np.deg2rad([0.0, 3.0, 10.0])  # cosines 0.9986, 0.9925, 0.9848
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = ambiguous_classes(prompt_set, vectors, threshold=0.99)
    assert [(p.first, p.second) for p in pairs] == [("Kelp", "Sand"), ("Sand", "Pier")]
    assert pairs[0].cosine == pytest.approx(np.cos(np.deg2rad(3)), abs=1e-6)
    assert "'Kelp' and 'Sand'" in str(pairs[0])
    assert ambiguous_classes(prompt_set, np.eye(3, dtype=np.float32)) == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_prompts_are_told_apart_by_the_sentence_encoder(name: str) -> None:
    prompt_set = load_prompt_set(name)
    vectors = class_embeddings(prompt_set, "sentence-transformers:all-MiniLM-L6-v2")
    assert vectors.shape == (len(prompt_set.classes), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert ambiguous_classes(prompt_set, vectors, threshold=0.85) == ()


def test_reading_a_set_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, timesenmap.model.prompts as p; p.load_prompt_set('crops'); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'torch'" not in done.stdout
