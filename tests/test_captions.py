"""The reviewed table from source labels to captions."""

import numpy as np
import pandas as pd
import pytest
import yaml

from timesenmap.model.captions import UNLABELLED, label_rows, load_captions
from timesenmap.model.errors import ModelError

TABLE = {
    "templates": {"crop": ["{}", "a field of {}"], "trees": ["{}"], "land": ["{}"]},
    "captions": {
        "cropland": {"kind": "land", "landcover": "cropland", "phrasings": ["fields"], "unseen": ["arable"]},
        "wheat": {
            "kind": "crop", "landcover": "cropland", "within": ["cropland"], "related": ["spelt"],
            "phrasings": ["bread wheat"], "unseen": ["durum"],
        },
        "spelt": {"kind": "crop", "landcover": "cropland", "phrasings": ["dinkel"], "unseen": ["hulled wheat"]},
        "heath": {"kind": "land", "landcover": None, "phrasings": ["heather"], "unseen": ["moor"]},
    },
    "sources": {
        "a": {
            "about": "x",
            "labels": {"Weizen": "wheat", "Sonst": {"drop": "anything"}, "Heide": {"caption": "heath", "why": "y"}},
        }
    },
}  # fmt: skip


def read(tmp_path, **changes):
    path = tmp_path / "captions.yaml"
    path.write_text(yaml.safe_dump({**TABLE, **changes}, sort_keys=False))
    return load_captions(path)


def test_rows_get_captions_at_two_levels(tmp_path):
    table = read(tmp_path)
    frame = pd.DataFrame({"dataset": ["a"] * 4, "label": ["Weizen", "Sonst", "Heide", "Weizen"]})
    labelled = label_rows(table, frame)
    assert labelled.caption.tolist() == [1, UNLABELLED, 3, 1]
    assert labelled.landcover.tolist() == [0, UNLABELLED, UNLABELLED, 0]
    assert labelled.dropped == {"a: Sonst: anything": 1}


def test_narrower_and_related_captions_are_spared_broader_ones_are_not(tmp_path):
    table = read(tmp_path)  # cropland; wheat within it, related to spelt; spelt within cropland; heath
    expected = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(table.spared, expected)
    np.testing.assert_array_equal(table.compatible, expected | expected.T)


def test_wordings_are_phrasings_in_templates(tmp_path):
    table = read(tmp_path)
    assert table.wordings("wheat") == ("wheat", "bread wheat", "a field of wheat", "a field of bread wheat")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"dataset": ["b"], "label": ["Weizen"]}, "source 'b'"),
        ({"dataset": ["a"], "label": ["weizen"]}, "label 'weizen' of source 'a' .1 rows"),
    ],
)
def test_unknown_labels_are_not_guessed(tmp_path, frame, message):
    with pytest.raises(ModelError, match=message):
        label_rows(read(tmp_path), pd.DataFrame(frame))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"templates": {"crop": ["a field"], "trees": ["{}"], "land": ["{}"]}}, "template 'a field'"),
        ({"sources": {"a": {"about": "x", "labels": {"Weizen": "weat"}}}}, "'weat', which is no caption"),
        ({"sources": {"a": {"about": "x", "labels": {"W": {"why": "nothing"}}}}}, "either a caption or a reason"),
        ({"captions": TABLE["captions"] | {"oak": {"kind": "tree", "landcover": None, "phrasings": ["o"],
                                                   "unseen": ["q"]}}}, "captions.oak.kind"),
        ({"captions": TABLE["captions"] | {"oak": {"kind": "trees", "landcover": "wood", "phrasings": ["o"],
                                                   "unseen": ["q"]}}}, "names 'wood'"),
        ({"captions": TABLE["captions"] | {"oak": {"kind": "trees", "landcover": None, "phrasings": ["oaks"],
                                                   "unseen": ["oaks"]}}}, "both used and unseen"),
        ({"distractors": [["a song", "dinkel"]]}, r"caption 'spelt': \['dinkel'\] is among distractors"),
        ({"distractors": [["moor"]]}, r"caption 'heath': \['moor'\] is among distractors"),
        ({"extra": 1}, "extra"),
    ],
)  # fmt: skip
def test_a_faulty_table_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message) as caught:
        read(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_every_label_of_the_data_is_reviewed_and_the_table_knows_no_others(shared_data):
    table = load_captions()
    found: set[tuple[str, str]] = set()
    for path in sorted((shared_data / "series").glob("*.parquet")):
        pairs = pd.read_parquet(path, columns=["dataset", "label"]).drop_duplicates()
        found |= set(pairs.itertuples(index=False, name=None))
    reviewed = {(name, label) for name, source in table.sources.items() for label in source.labels}
    reviewed -= {pair for pair in reviewed if pair[0] == "simulated"}  # made, not delivered: see test_simulation
    assert found - reviewed == set(), "labels nobody has reviewed"
    assert reviewed - found == set(), "labels no file has"
    assert len({label for name, label in found if name.startswith("world")}) == 162


def test_the_table_holds_no_caption_without_use():
    table = load_captions()
    used = {entry.caption for _, entry in table.labels() if entry.caption}
    broader = {other for caption in table.captions.values() for other in caption.within}
    assert set(table.names) == used | broader


def test_captions_of_one_land_cover_stay_in_it():
    """A caption within another has its land cover, or one within that: no crop is a forest by a slip."""
    table = load_captions()
    for name, caption in table.captions.items():
        for other in caption.within:
            land = table.captions[other].landcover
            assert land is None or caption.landcover == land or land in table.captions[caption.landcover].within, name


def test_land_cover_captions_are_their_own_land_cover():
    table = load_captions()
    for number in np.unique(table.landcover[table.landcover != UNLABELLED]):
        assert table.landcover[number] == number


def test_unseen_wordings_are_in_no_training_sentence():
    table = load_captions()
    sentences = {sentence.lower() for name in table.names for sentence in table.wordings(name)}
    phrases = {word.lower() for name, caption in table.captions.items() for word in (name, *caption.phrasings)}
    for name, caption in table.captions.items():
        for wording in caption.unseen:
            assert wording.lower() not in phrases, f"{name}: {wording}"
            assert not any(f" {wording.lower()} " in f" {sentence} " for sentence in sentences), f"{name}: {wording}"


def test_hard_judgements_of_the_german_labels():
    """Spot checks by somebody who reads the source language."""
    labels = load_captions().sources["worldcrops_bavaria"].labels
    expected = {
        "Winterdinkel": "spelt", "Koernermais": "maize", "Ackerbohne": "broad beans", "Sommergerste": "spring barley",
        "Ackerland aus der Erzeugung genommen": "fallow land", "Kartoffeln": "potatoes", "Weiden": "pasture",
        "Winterraps": "rapeseed", "Luzerne": "alfalfa",
    }  # fmt: skip
    assert {label: labels[label].caption for label in expected} == expected
    assert labels["Naturschutzflaechen (keine landw. Verwertung)"].caption is None
