"""The report in a real browser (Debian: chromium), headless, spoken to over its debugging protocol."""

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import urllib.request

import numpy as np
import pytest
from outputs_fixture import HOSTILE, make_run
from PIL import Image
from tornado.websocket import websocket_connect

from timesenmap.pipeline.legend import rgb
from timesenmap.pipeline.report import write_report

pytestmark = pytest.mark.integration
DESKTOP, PHONE = (1280, 900, False), (390, 780, True)


class Page:
    """One tab: commands in, results out, everything it complained about kept."""

    def __init__(self, socket):
        self.socket, self.number, self.events = socket, 0, []

    async def do(self, method, **params):
        self.number += 1
        await self.socket.write_message(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(await self.socket.read_message())
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    async def until(self, event):
        while not any(seen["method"] == event for seen in self.events):
            self.events.append(json.loads(await self.socket.read_message()))

    async def read(self, expression):
        result = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def picture(self):
        # Two frames: what was asked for is drawn in the next one.
        await self.read("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return await self.shot()

    async def shot(self):
        data = (await self.do("Page.captureScreenshot", format="png"))["data"]
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    async def mouse(self, kind, x, y, **more):
        await self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def complaints(self):
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [event for event in self.events if event["method"] in kinds]

    def requests(self):
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")
    process = subprocess.Popen(
        [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            "about:blank",
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stderr:  # 'DevTools listening on ws://127.0.0.1:PORT/devtools/browser/...'
            if "DevTools listening on" in line:
                break
        else:
            pytest.fail("Chromium ended before it listened")
        yield line.split("ws://")[1].split("/")[0]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), odd_name=HOSTILE, title=HOSTILE)
    write_report(made.out, made.record)
    return made


def with_page(browser, run, visit, size=DESKTOP, scripts=True):
    """Open the report in a new tab and let ``visit`` look at it."""

    async def go():
        request = urllib.request.Request(f"http://{browser}/json/new?about:blank", method="PUT")
        address = json.loads(urllib.request.urlopen(request).read())["webSocketDebuggerUrl"]
        page = Page(await websocket_connect(address, max_message_size=2**28))
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.do(f"{domain}.enable")
        width, height, mobile = size
        await page.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        await page.do("Page.bringToFront")  # tabs behind others are not drawn
        await page.do("Emulation.setScriptExecutionDisabled", value=not scripts)
        await page.do("Page.navigate", url=(run.out / "index.html").as_uri())
        await page.until("Page.loadEventFired")
        try:
            return await visit(page)
        finally:
            await page.do("Page.close")
            page.socket.close()

    return asyncio.run(asyncio.wait_for(go(), 120))


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


def readout_at(browser, run, row, column):
    async def visit(page):
        box = await canvas_box(page)
        height, width = run.grid.shape
        scale = min(box["width"] / width, box["height"] / height) * 0.94
        x = box["left"] + box["width"] / 2 + (column + 0.5 - width / 2) * scale
        y = box["top"] + box["height"] / 2 + (row + 0.5 - height / 2) * scale
        await page.mouse("mouseMoved", x, y)
        return await page.read("document.getElementById('readout').value")

    return with_page(browser, run, visit)


def test_pointer_reads_class_confidence_and_months(browser, run):
    row, column = 100, 300
    text = readout_at(browser, run, row, column)
    names = {c.code: c.name for m in run.record.maps for c in m.classes}
    assert f"Land cover: {names[run.classes['land-cover'][row, column]]} · " in text
    assert f"Land cover: confidence: {run.confidence['land-cover'][row, column]}% · " in text
    assert f"Crops: {names[run.classes['crops'][row, column]]} · " in text
    assert f"Months seen: {run.observations[row, column]} " in text
    x, y = run.grid.affine * (column + 0.5, row + 0.5)
    assert f"x {x:.0f}, y {y:.0f}" in text


def test_pointer_reads_unknown_with_its_confidence(browser, tmp_path):
    run = make_run(tmp_path, unknown_below=0.6)
    write_report(run.out, run.record)
    row, column = np.argwhere(run.classes["land-cover"][100:] == 255)[0] + [100, 0]
    text = readout_at(browser, run, int(row), int(column))
    assert f"Land cover: unknown · Land cover: confidence: {run.confidence['land-cover'][row, column]}% · " in text


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
