"""Text in pictures, whatever alphabet the class names are in.

Pillow's built-in font (Aileron) has the basic Latin letters only. A text that needs more is set in a font of the
machine's where one is found; failing that, letters lose their accents, and what remains is shown as '?'.
"""

import unicodedata
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont

_FONTS_WITH_MORE = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "FreeSans.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
)
# What has no accent to lose: dashes, bullet, times, euro, and letters that Unicode does not decompose.
_PLAIN = str.maketrans(
    {
        "\u2013": "-",
        "\u2014": "-",
        "\u2022": "-",
        "\u00d7": "x",
        "\u20ac": "EUR",
        "\u00df": "ss",
        "\u00e6": "ae",
        "\u0153": "oe",
        "\u00f8": "o",
        "\u0142": "l",
    }
)


@lru_cache(maxsize=64)
def _built_in(size: int) -> Font:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType: pictures need a Pillow that can draw text")
    return font


@lru_cache(maxsize=64)
def _of_machine(size: int) -> Font | None:
    for name in _FONTS_WITH_MORE:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


@lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    """Whether the font draws this letter as something other than its box for unknown letters."""
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask("\U0010ffff"))


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text.translate(_PLAIN)) if not unicodedata.combining(c))


def setting(text: str, size: int) -> tuple[str, Font]:
    """Return the text as it can be drawn at this size (pixels), and the font to draw it in."""
    text = unicodedata.normalize("NFC", text)
    for font in (_built_in(size), _of_machine(size)):
        if font is not None and all(_has(font, letter) for letter in text):
            return text, font
    font = _of_machine(size) or _built_in(size)
    if not all(_has(font, letter) for letter in text):
        text = _without_accents(text)
    return "".join(letter if _has(font, letter) else "?" for letter in text), font


def width(text: str, size: int) -> float:
    """Width of the text in pixels."""
    spelt, font = setting(text, size)
    return font.getlength(spelt)


def shorten(text: str, size: int, room: float) -> str:
    """Return the text, cut to ``room`` pixels with an ellipsis where it is wider."""
    if width(text, size) <= room:
        return text
    while text and width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, size: int, room: float) -> list[str]:
    """Lines of the text no wider than ``room`` pixels, broken between words; a wider word is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(shorten(word, size, room))
    return lines


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, *, fill: str, anchor: str = "ls"
) -> None:
    """Draw one line of text; ``anchor`` as in Pillow, by default the left end of the base line."""
    spelt, font = setting(text, size)
    draw.text(at, spelt, font=font, fill=fill, anchor=anchor)
