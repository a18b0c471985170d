"""The page of a run, read with an HTML parser; what a browser makes of it is in integration/test_report_browser.py."""

import base64
import hashlib
import io
import json
import re
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from outputs_fixture import CROPS, HOSTILE, make_run
from PIL import Image

from timesenmap.pipeline import charts, figures, legend, pictures, report
from timesenmap.pipeline.report import render_report, write_report

VOID = {"meta", "link", "img", "br", "input"}


class Reader(HTMLParser):
    """Elements as (tag, attributes, text directly inside), in order; the texts of the page; balance of tags."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.stack, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.stack == [], f"not closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.stack.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        opened, _ = self.stack.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        if self.stack:
            tag, index = self.stack[-1]
            self.elements[index][2] += data
            if tag not in ("script", "style"):
                self.texts.append(" ".join(data.split()))

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(filter(None, self.texts))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), height=180, width=210, odd_name=HOSTILE, title=HOSTILE)
    write_report(made.out, made.record)
    return made


@pytest.fixture(scope="module")
def html(run):
    return (run.out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Reader(html)


def picture_of(page, identifier):
    (source,) = [a["src"] for a, _ in page.all("img") if a["id"] == identifier]
    assert source.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))


def rows_of(html, caption_start):
    """Texts of the cells of each body row of the table whose block starts with this heading."""
    block = html.split(f"<h2>{caption_start}", 1)[1].split("</table>", 1)[0]
    body = block.split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in rows]


def test_page_stands_alone(page):
    for tag, attributes, _ in page.elements:
        for name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
            if name not in attributes:
                continue
            value = attributes[name]
            # What the page shows is inside it; links lead to files beside it.
            assert value.startswith("data:") or (tag == "a" and re.fullmatch(r"#?[\w.-]+", value)), (tag, value)
    style = page.all("style")[0][1]
    assert "url(" not in style
    assert "@import" not in style


def test_links_lead_to_files_of_the_run(page):
    links = {a["href"] for a, _ in page.all("a") if not a["href"].startswith("#")}
    assert links == {
        "land-cover.tif",
        "land-cover.confidence.tif",
        "crops.tif",
        "crops.confidence.tif",
        "observations.tif",
        "map.qgz",
        "catalog.json",
        "run.json",
    }


def test_only_our_script_may_run(page):
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    executable = [text for a, text in page.all("script") if a.get("type") != "application/json"]
    digest = base64.b64encode(hashlib.sha256(executable[0].encode()).digest()).decode()
    assert len(executable) == 1
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_names_with_markup_stay_text(html, page):
    assert "<script>alert" not in html
    assert page.all("title")[0][1] == HOSTILE
    assert page.all("h1")[0][1] == HOSTILE
    assert page.text.count(HOSTILE) == 4  # title, heading, legend, table
    meanings = json.loads(next(t for a, t in page.all("script") if a.get("id") == "layer-data"))[0]["meanings"]
    assert HOSTILE in meanings.values()


def test_areas_are_those_of_the_array(run, html):
    values = run.classes["crops"]
    names = {c.name: c.code for c in run.record.maps[1].classes}
    rows = rows_of(html, "Crops: area")
    total = (values > 0).sum()
    assert len(rows) == len(np.unique(values[values > 0]))
    for name, area, share, _, confidence in rows:
        where = values == names[name]
        assert float(area.replace(",", "")) == pytest.approx(where.sum() / 100, abs=0.5 if where.sum() > 1e4 else 0.051)
        assert share == figures.percent(where.sum() / total)
        assert confidence == f"{run.confidence['crops'][where].mean():.0f}%"
    assert f"{report.hectares(total / 100)} ha classified" in html
    assert f"{report.hectares((run.inside & (values == 0)).sum() / 100)} ha without any clear observation" in html


def test_absent_classes_are_named(run, page):
    (text,) = [text for text in page.texts if text.startswith("Asked for and not found:")]
    absent = [c.name for c in CROPS if not (run.classes["crops"] == c.code).any()]
    assert text == f"Asked for and not found: {', '.join(absent)}."


def test_pictures_are_the_maps(run, page):
    """Pixel by pixel, through the table of meanings that the page reads under the pointer."""
    layers = {
        layer["id"]: layer
        for layer in json.loads(next(t for a, t in page.all("script") if a.get("id") == "layer-data"))
    }
    assert list(layers) == ["classes-0", "confidence-0", "classes-1", "confidence-1", "observations"]
    for identifier, values, words in (
        ("classes-1", run.classes["crops"], {c.code: c.name for c in run.record.maps[1].classes}),
        ("confidence-0", run.confidence["land-cover"], {n: f"{n}%" for n in range(101)}),
        ("observations", run.observations, {n: str(n) for n in range(13)}),
    ):
        rgba = np.asarray(picture_of(page, identifier).convert("RGBA"))
        no_data = 0 if identifier.startswith("classes") else 255
        np.testing.assert_array_equal(rgba[..., 3] == 255, run.inside)
        seen, where = np.unique(rgba[run.inside][:, :3].astype(int) @ [65536, 256, 1], return_inverse=True)
        read = np.array([layers[identifier]["meanings"][f"#{c:06x}"] for c in seen])[where]
        expected = [words[v] if v != no_data else "no clear observation" for v in values[run.inside].tolist()]
        assert read.tolist() == expected


@pytest.fixture(scope="module")
def partly_unknown(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("unknown"), height=180, width=210, unknown_below=0.6)


def test_unknown_has_its_row_its_grey_and_its_words(partly_unknown):
    run = partly_unknown
    html = render_report(run.out, run.record)
    page = Reader(html)
    values = run.classes["land-cover"]
    pixels, seen = (values == 255).sum(), (values > 0).sum()
    name, area, share, _, confidence = rows_of(html, "Land cover: area")[-1]
    assert (name, share) == ("unknown (below 60%)", figures.percent(pixels / seen))
    assert area == report.hectares(pixels / 100)
    assert confidence == f"{run.confidence['land-cover'][values == 255].mean():.0f}%"
    assert f"{report.hectares((seen - pixels) / 100)} ha classified; {report.hectares(pixels / 100)} ha unknown" in html
    assert f"{share} of the pixels seen ({area} ha) have a confidence below 60% and are left unknown." in page.text
    assert page.text.count("unknown (below 60%)") == 2  # legend and table of the land cover; not of the crops
    layers = json.loads(next(t for a, t in page.all("script") if a.get("id") == "layer-data"))
    rgba = np.asarray(picture_of(page, "classes-0").convert("RGBA"))
    read = [layers[0]["meanings"][f"#{r:02x}{g:02x}{b:02x}"] for r, g, b, _ in rgba[values == 255].tolist()]
    assert set(read) == {"unknown"}
    unseen = rgba[run.inside & (values == 0)]
    assert {layers[0]["meanings"][f"#{r:02x}{g:02x}{b:02x}"] for r, g, b, _ in unseen.tolist()} == {
        "no clear observation"
    }
    assert "unknown" not in layers[2]["meanings"].values()


def test_threshold_that_nothing_was_below_says_so(partly_unknown):
    first, crops = partly_unknown.record.maps
    none = first.unknown.model_copy(update={"pixels": 0, "mean_confidence": None})
    record = partly_unknown.record.model_copy(update={"maps": (first.model_copy(update={"unknown": none}), crops)})
    html = render_report(partly_unknown.out, record)
    assert "No pixel has a confidence below 60%: nothing is left unknown." in html
    assert rows_of(html, "Land cover: area")[-1] == ["unknown (below 60%)", "0.00", "0%", "", ""]


def test_without_a_threshold_nothing_speaks_of_unknown(page):
    assert "nknown" not in page.text


def test_large_maps_are_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_LONGEST", 30)
    monkeypatch.setattr(report, "_LONGEST_CLASSES", 60)
    run = make_run(tmp_path, height=100, width=150, maps=1)
    page = Reader(render_report(tmp_path, run.record))
    assert picture_of(page, "classes-0").size == (60, 40)
    assert picture_of(page, "confidence-0").size == (30, 20)


def test_a_colour_used_twice_is_still_told_apart(run):
    first, second, *rest = run.record.maps[0].classes
    grey = rest[0].model_copy(update={"colour": pictures.NO_DATA_COLOUR})
    twice = (first, second.model_copy(update={"colour": first.colour}), grey)
    colours = report._distinct(run.record.maps[0].model_copy(update={"classes": twice}))
    assert colours[first.code] == first.colour
    assert len({*colours.values(), pictures.NO_DATA_COLOUR}) == 4
    for code, colour in colours.items():
        wanted = next(c.colour for c in twice if c.code == code)
        assert np.abs(np.subtract(legend.rgb(colour), legend.rgb(wanted))).max() <= 1


def test_margin_is_shown_and_explained(tmp_path):
    run = make_run(tmp_path, height=120, width=150, margin=True)
    html = render_report(run.out, run.record)
    page = Reader(html)
    assert [a["id"] for a, _ in page.all("img") if a["id"].startswith("margin")] == ["margin-0"]
    picture = picture_of(page, "margin-0").convert("RGBA")
    margin = run.margin["land-cover"]
    low = margin == margin.min()
    colours = {tuple(c) for c in np.asarray(picture)[low].tolist()}
    assert colours == {(*legend.MARGIN.table()[margin.min()].tolist(), 255)}
    layers = {
        one["id"]: one for one in json.loads(next(t for a, t in page.all("script") if a.get("id") == "layer-data"))
    }
    assert layers["margin-0"]["of"] == "margin"
    near = figures.percent((margin < 10).sum() / (margin <= 100).sum())
    assert near != "0%"
    assert f"look there first. {near} of the pixels seen have a margin below 10%" in page.text
    assert page.text.count("look there first") == 1  # the crops have no map of it
    assert "land-cover.margin.tif" in {a["href"] for a, _ in page.all("a")}


def test_no_two_values_of_a_ramp_share_a_colour():
    for ramp in (legend.CONFIDENCE, legend.MARGIN, legend.OBSERVATIONS):
        used = ramp.table()[ramp.minimum : ramp.maximum + 1]
        assert len({tuple(c) for c in used.tolist()} | {legend.rgb(pictures.NO_DATA_COLOUR)}) == len(used) + 1


def test_scenes_used_and_refused_with_their_reasons(run, page):
    for scene in run.record.scenes:
        assert scene.id in page.text
    for refused in run.record.refused:
        assert refused.id in page.text
        assert refused.reason in page.text
    old = sum(scene.baseline == "02.06" for scene in run.record.scenes)
    assert f"{old} scenes: scale 0.0001 offset 0: baseline 02.06 is before 04.00" in page.texts


@pytest.mark.parametrize(
    "words",
    [
        "January to December 2018",
        "50.8",
        "no clear observation in 2018-12 for 31% of the area",
        "Area of interest: a ring that crossed itself was repaired",
        "3 (cloud shadow)",
        "starter, float32 on cpu",
        "sentence-transformers:all-MiniLM-L6-v2, temperature 0.07",
        "WGS 84 / UTM zone 31N (EPSG:32631), 210 \u00d7 180 pixels of 10 m",
        "search 2.4 s, cube 81 s, encode 45 s",
        "torch 2.13.0",
        "Contains modified Copernicus Sentinel data 2018.",
        '"tile_size": 512',
    ],
)
def test_page_says(page, words):
    assert words in page.text


def test_hashes_of_encoder_prompts_and_maps_are_given(run, page):
    for digest in (
        run.record.encoder.sha256,
        *(m.prompts_sha256 for m in run.record.maps),
        *(m.checksum for m in run.record.maps),
    ):
        assert digest in page.text


def test_every_picture_has_words_and_every_control_a_label(page):
    assert all(a["alt"] for a, _ in page.all("img"))
    labels = {a["for"] for a, _ in page.all("label")}
    assert {a["id"] for tag in ("select", "input") for a, _ in page.all(tag)} == labels
    assert all(text.strip() or a.get("aria-label") for a, text in page.all("button"))
    assert page.all("html")[0][0]["lang"] == "en"


def bars_of(svg):
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    return [(g.findtext(f"{space}title"), float(g.find(f"{space}rect").get("height"))) for g in root.iter(f"{space}g")]


def test_months_chart_has_the_heights_of_the_shares(run):
    bars = bars_of(report._months_chart(run.record))
    shares = run.record.observations.clear_share_by_month
    heights = np.array([height for _, height in bars])
    np.testing.assert_allclose(heights / heights[0], np.array(shares) / shares[0], rtol=1e-2)
    assert bars[2][0] == f"March 2018: {shares[2]:.0%} seen, 9 scenes"


def test_confidence_chart_counts_every_pixel_once(run):
    notes = [note for note, _ in bars_of(report._confidence_chart(run.record.maps[0]))]
    confidence = run.confidence["land-cover"]
    counts, _ = np.histogram(confidence[confidence < 255], bins=np.arange(0, 101, 5))  # NumPy's last bin is closed
    shares = 100 * counts / counts.sum()
    assert notes == [f"{5 * i}-{5 * i + 5}%: {share:.1f}% of the pixels" for i, share in enumerate(shares)]


def test_chart_texts_are_escaped():
    svg = charts.bars([1], labels=[HOSTILE], notes=[HOSTILE], tops=[HOSTILE], title=HOSTILE, description=HOSTILE)
    assert [element.text for element in ET.fromstring(svg).iter() if element.text == HOSTILE] == [HOSTILE] * 5


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 1), (0.03, 0.05), (1, 1), (1.1, 2), (2.2, 2.5), (7, 10), (10, 10), (4100, 5000)]
)
def test_axis_ends_at_a_round_number(value, expected):
    assert charts._round_up(value) == pytest.approx(expected)


def test_a_run_that_saw_nothing_is_reported_all_the_same(run):
    nothing = tuple(
        m.model_copy(
            update={
                "classes": tuple(c.model_copy(update={"pixels": 0, "mean_confidence": None}) for c in m.classes),
                "confidence_histogram": (0,) * 101,
            }
        )
        for m in run.record.maps
    )
    seen = run.record.observations.model_copy(
        update={"clear_months_histogram": (5, *[0] * 12), "clear_share_by_month": (0.0,) * 12}
    )
    record = run.record.model_copy(
        update={"maps": nothing, "observations": seen, "scenes": (), "refused": (), "warnings": (), "aoi_notes": ()}
    )
    page = Reader(render_report(run.out, record))
    assert "Nothing was classified." in page.text
    assert "0 Sentinel-2 scenes of" in page.text


def test_same_run_same_page_and_nothing_half_written(run, html):
    assert render_report(run.out, run.record) == html
    assert not list(run.out.glob("*.part"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.84, "0.8 s"), (81.3, "81 s"), (121, "2 min"), (7199, "2 h 00 min"), (11100, "3 h 05 min")]
)
def test_durations_for_people(seconds, text):
    assert report.duration(seconds) == text


@pytest.mark.parametrize(("area", "text"), [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234567.8, "1,234,568")])
def test_areas_for_people(area, text):
    assert report.hectares(area) == text
