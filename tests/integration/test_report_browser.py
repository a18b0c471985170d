"""The report in a real browser."""

import json

import numpy as np
import pytest
from browser import DESKTOP, PHONE, chromium, program
from browser import with_page as open_page
from cube_fixture import make_cube
from outputs_fixture import HOSTILE, make_run

from timesenmap.pipeline import curves
from timesenmap.pipeline.legend import rgb
from timesenmap.pipeline.report import write_report

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if program() is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with chromium(tmp_path_factory.mktemp("profile")) as address:
        yield address


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), odd_name=HOSTILE, title=HOSTILE)
    write_report(made.out, made.record)
    return made


def with_page(browser, run, visit, size=DESKTOP, scripts=True):
    return open_page(browser, run.out / "index.html", visit, size, scripts=scripts)


async def canvas_box(page):
    box = await page.read("JSON.stringify(document.getElementById('canvas').getBoundingClientRect())")
    return json.loads(box)


async def choose(page, control, value, event):
    await page.read(
        f"(() => {{ const control = document.getElementById('{control}'); control.value = '{value}';"
        f" control.dispatchEvent(new Event('{event}')); }})()"
    )


def colours(picture, box):
    crop = np.asarray(picture.crop((box["left"], box["top"], box["right"], box["bottom"]))).reshape(-1, 3)
    found, counts = np.unique(crop.astype(int) @ [65536, 256, 1], return_counts=True)
    return {(c >> 16, c >> 8 & 255, c & 255): n for c, n in zip(found.tolist(), counts.tolist(), strict=True)}


def test_page_is_silent_and_asks_for_nothing(browser, run):
    async def visit(page):
        await page.picture()
        title = await page.read("document.title")
        injected = await page.read("document.querySelectorAll('script').length")
        return title, injected, page.complaints(), page.requests()

    title, scripts, complaints, requests = with_page(browser, run, visit)
    assert title == HOSTILE
    assert scripts == 3  # two of data, one of ours
    assert complaints == []
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == 1


def test_viewer_draws_the_map_and_names_its_classes(browser, run):
    async def visit(page):
        picture = await page.picture()
        return picture, await canvas_box(page), await page.read("document.getElementById('viewer-legend').innerText")

    picture, box, words = with_page(browser, run, visit)
    shown = colours(picture, box)
    values = run.classes["land-cover"]
    for c in run.record.maps[0].classes:
        assert c.name in words
        if c.pixels > 500:
            assert shown[rgb(c.colour)] / sum(shown.values()) > 0.3 * c.pixels / values.size
    assert shown[(220, 220, 216)] > 100  # no clear observation


async def point_at(page, run, row, column):
    box = await canvas_box(page)
    height, width = run.grid.shape
    scale = min(box["width"] / width, box["height"] / height) * 0.94
    x = box["left"] + box["width"] / 2 + (column + 0.5 - width / 2) * scale
    y = box["top"] + box["height"] / 2 + (row + 0.5 - height / 2) * scale
    await page.mouse("mouseMoved", x, y)


def readout_at(browser, run, row, column):
    async def visit(page):
        await point_at(page, run, row, column)
        return await page.read("document.getElementById('readout').value")

    return with_page(browser, run, visit)


def test_pointer_reads_class_confidence_and_months(browser, run):
    row, column = 100, 300
    text = readout_at(browser, run, row, column)
    names = {c.code: c.name for m in run.record.maps for c in m.classes}
    for title, name in (("Land cover", "land-cover"), ("Crops", "crops")):
        confidence = run.confidence[name][row, column]
        assert f"{title}: {names[run.classes[name][row, column]]}, confidence {confidence}% · " in text
    assert f" · Months seen: {run.observations[row, column]} " in text
    x, y = run.grid.affine * (column + 0.5, row + 0.5)
    assert f"x {x:.0f}, y {y:.0f}" in text


def test_pointer_reads_unknown_with_its_confidence(browser, tmp_path):
    run = make_run(tmp_path, unknown_below=0.6)
    write_report(run.out, run.record)
    row, column = np.argwhere(run.classes["land-cover"][100:] == 255)[0] + [100, 0]
    text = readout_at(browser, run, int(row), int(column))
    assert f"Land cover: unknown, confidence {run.confidence['land-cover'][row, column]}% · " in text


@pytest.mark.parametrize("most", [100_000, 1_000])
def test_pointer_draws_the_year_of_the_pixel(browser, tmp_path, monkeypatch, most):
    run = make_run(tmp_path, height=120, width=180)
    reflectance = make_cube(run.out / "work" / "cube.zarr", run.grid)
    monkeypatch.setattr(curves, "MOST_POINTS", most)
    write_report(run.out, run.record)
    row, column = np.argwhere(run.observations[40:110, 20:160] < 255)[4321] + [40, 20]
    every = 1 if most == 100_000 else 5
    red, infrared = reflectance[:, [2, 6], row // every * every + every // 2, column // every * every + every // 2].T

    async def visit(page):
        await point_at(page, run, row, column)
        said = await page.read("document.getElementById('curve').getAttribute('aria-label')")
        dots = await page.read("document.querySelectorAll('#curve-dots circle').length")
        path = await page.read("document.getElementById('curve-line').getAttribute('d')")
        return said, dots, path, page.complaints()

    said, dots, path, complaints = with_page(browser, run, visit)
    assert said.startswith("NDVI: January ")
    values = [word.rpartition(" ")[2] for word in said.removeprefix("NDVI: ").split(", ")]
    for i, value in enumerate(values):
        if red[i] == 0:
            assert value == "seen", said  # 'not seen'
        else:
            index = (float(infrared[i]) - red[i]) / (float(infrared[i]) + red[i])
            assert float(value) == pytest.approx(index, abs=0.011)
    assert 0 < dots == np.count_nonzero(red) < 12
    assert path.count("M") == sum(red[i] > 0 and (i == 0 or red[i - 1] == 0) for i in range(12))
    assert complaints == []


def test_keys_move_the_map_and_read_its_middle(browser, run):
    async def key(page, name):
        await page.do("Input.dispatchKeyEvent", type="keyDown", key=name)
        await page.do("Input.dispatchKeyEvent", type="keyUp", key=name)

    async def visit(page):
        box = await canvas_box(page)
        before = colours(await page.picture(), box)
        for _ in range(12):  # from the top of the page to the map
            await page.do("Input.dispatchKeyEvent", type="rawKeyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            await page.do("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
            if await page.read("document.activeElement.id") == "canvas":
                break
        middle = await page.read("document.getElementById('readout').value")
        with_cross = colours(await page.picture(), box)
        for _ in range(5):
            await key(page, "+")
        await key(page, "ArrowRight")
        return box, before, middle, with_cross, await page.read("document.getElementById('readout').value")

    box, before, middle, with_cross, right = with_page(browser, run, visit)
    height, width = run.grid.shape
    x, y = run.grid.affine @ (width // 2 + 0.5, height // 2 + 0.5)
    assert f"x {x:.0f}, y {y:.0f}" in middle
    assert with_cross.get((32, 38, 42), 0) > before.get((32, 38, 42), 0) + 40
    scale = min(box["width"] / width, box["height"] / height) * 0.94 * 1.5**5
    x, y = run.grid.affine @ (int(width / 2 + 60 / scale) + 0.5, height // 2 + 0.5)
    assert f"x {x:.0f}, y {y:.0f}" in right


def test_zoom_pan_opacity_and_choice_of_map(browser, run):
    async def visit(page):
        box = await canvas_box(page)
        x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
        seen = [colours(await page.picture(), box)]
        for _ in range(3):  # further than it goes
            await page.mouse("mousePressed", x, y, button="left", clickCount=1)
            await page.mouse("mouseMoved", box["right"] - 5, y, button="left", buttons=1)
            await page.mouse("mouseReleased", box["right"] - 5, y, button="left", clickCount=1)
        moved = await page.picture()
        seen += [colours(moved, box | {"right": x - 2}), colours(moved, box | {"left": x + 2})]
        await page.do("Input.dispatchKeyEvent", type="keyDown", key="0")
        seen.append(colours(await page.picture(), box))
        bar = await page.read("document.getElementById('scale-text').textContent")
        for _ in range(4):
            await page.read("document.getElementById('zoom-in').click()")
        await page.picture()
        closer = await page.read("document.getElementById('scale-text').textContent")
        await page.do("Input.dispatchKeyEvent", type="keyDown", key="0")
        await choose(page, "opacity", "0", "input")
        seen.append(colours(await page.picture(), box))
        await choose(page, "under-layer", "classes-1", "change")
        seen.append(colours(await page.picture(), box))
        await choose(page, "top-layer", "observations", "change")
        words = await page.read("document.getElementById('viewer-legend').innerText")
        return seen, bar, closer, words, page.complaints()

    (whole, left, right, again, clear, crops), bar, closer, words, complaints = with_page(browser, run, visit)
    cropland, grassland = rgb("#f2c14e"), rgb(run.record.maps[1].classes[-1].colour)
    assert left.get(cropland, 0) == 0
    assert right[cropland] > 0.4 * whole[cropland]
    assert again[cropland] == pytest.approx(whole[cropland], rel=0.01)
    assert (bar, closer) == ("1 km", "200 m")
    assert clear.get(cropland, 0) == 0
    assert crops[grassland] > 10_000
    assert "Months with a clear observation" in words
    assert complaints == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 640, True)])
def test_nothing_sticks_out_sideways(browser, run, size):
    async def visit(page):
        await page.read("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        return await page.read("document.documentElement.scrollWidth"), await page.read(
            "Math.max(...[...document.querySelectorAll('button,select,a')].filter(e => e.offsetParent)"
            ".map(e => e.getBoundingClientRect().right))"
        )

    scroll, right = with_page(browser, run, visit, size)
    assert scroll <= size[0]
    assert right <= size[0]


def test_without_scripts_the_maps_are_there_all_the_same(browser, run):
    async def visit(page):
        return await page.shot()

    picture = with_page(browser, run, visit, (900, 900, False), scripts=False)
    shown = colours(picture, {"left": 0, "top": 0, "right": 900, "bottom": 900})
    assert shown[rgb("#f2c14e")] > 5_000


def test_every_picture_and_chart_speaks(browser, run):
    async def visit(page):
        tree = await page.do("Accessibility.getFullAXTree")
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node.get("ignored")
        ]

    nodes = with_page(browser, run, visit)
    names = {}
    for role, name in nodes:
        names.setdefault(role, []).append(name)
    for role in ("button", "combobox", "slider", "link", "image"):
        assert names.get(role), role
        assert all(name.strip() for name in names[role]), (role, names[role])
    assert "Share of the area seen clearly, by month" in names["image"]
    assert names["heading"][0] == HOSTILE
