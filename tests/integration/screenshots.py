"""Pictures of a run for the documentation: its QGIS project in QGIS, its report in a browser, its preview.

    python screenshots.py demo --name demo

writes into ``docs/images``: NAME.png (the preview), NAME-report.png, NAME-report-phone.png, NAME-qgis.png; and beside
them nothing. ``make screenshots`` calls it.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from browser import PHONE, chromium, with_page
from PIL import Image

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
HERE = Path(__file__).resolve().parent
_WINDOW = 1280, 900


def save(picture: Image.Image, name: str) -> None:
    """Write a picture with at most 256 colours, which maps and pages hardly exceed: a third of the bytes."""
    path = IMAGES / name
    picture.convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


async def pointed(page) -> Image.Image:
    """The report with the pointer on the map, so that values and curve are shown."""
    await page.picture()
    box = json.loads(await page.read("JSON.stringify(document.getElementById('canvas').getBoundingClientRect())"))
    await page.mouse("mouseMoved", box["left"] + 0.44 * box["width"], box["top"] + 0.68 * box["height"])
    picture = await page.picture()
    assert page.complaints() == [], page.complaints()
    return picture


async def below_title(page) -> Image.Image:
    await page.read("document.getElementById('viewer').scrollIntoView()")
    return await pointed(page)


def report(out: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromium(Path(profile)) as browser:
        page = (out / "index.html").resolve()
        save(with_page(browser, page, pointed, (1280, 1000, False)), f"{name}-report.png")
        save(with_page(browser, page, below_title, PHONE, density=1.5), f"{name}-report-phone.png")


def qgis(out: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        picture = Path(home) / "qgis.png"
        screen = f"-screen 0 {_WINDOW[0]}x{_WINDOW[1]}x24"
        options = ["--nologo", "--noversioncheck", "--noplugins", "--profiles-path", home]
        subprocess.run(
            ["xvfb-run", "-a", "-s", screen, "qgis", *options, "--code", HERE / "grab_qgis.py", out / "map.qgz"],
            check=True,
            capture_output=True,
            timeout=300,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
            | {"HOME": home, "XDG_RUNTIME_DIR": home, "LC_ALL": "C.UTF-8", "TIMESENMAP_PICTURE": str(picture)},
        )
        save(Image.open(picture), f"{name}-qgis.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of a run for the documentation, into docs/images")
    parser.add_argument("out", type=Path, help="output folder of a finished run")
    parser.add_argument("--name", required=True, help="what the pictures are called")
    asked = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    save(Image.open(asked.out / "preview.png"), f"{asked.name}.png")
    report(asked.out, asked.name)
    qgis(asked.out.resolve(), asked.name)


if __name__ == "__main__":
    main()
