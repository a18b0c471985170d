"""Headless Chromium (Debian: chromium), spoken to over its debugging protocol."""

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from tornado.websocket import websocket_connect

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


def program() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """Run a browser until the block ends; gives the address where it listens."""
    process = subprocess.Popen(
        [
            program(),
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
            raise RuntimeError("Chromium ended before it listened")
        yield line.split("ws://")[1].split("/")[0]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def with_page(browser, page_file, visit, size=DESKTOP, *, scripts=True, density=1):
    """Open a page from disk in a new tab and let ``visit`` look at it; ``size`` is width, height, whether a phone."""

    async def go():
        request = urllib.request.Request(f"http://{browser}/json/new?about:blank", method="PUT")
        address = json.loads(urllib.request.urlopen(request).read())["webSocketDebuggerUrl"]
        page = Page(await websocket_connect(address, max_message_size=2**28))
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.do(f"{domain}.enable")
        width, height, mobile = size
        await page.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=density, mobile=mobile
        )
        await page.do("Page.bringToFront")  # tabs behind others are not drawn
        await page.do("Emulation.setScriptExecutionDisabled", value=not scripts)
        await page.do("Page.navigate", url=page_file.as_uri())
        await page.until("Page.loadEventFired")
        try:
            return await visit(page)
        finally:
            await page.do("Page.close")
            page.socket.close()

    return asyncio.run(asyncio.wait_for(go(), 120))
