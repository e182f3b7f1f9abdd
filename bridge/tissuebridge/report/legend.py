"""The strip under an overlay that says what its colours mean and how long a micrometre is.

Comes in from `overlay`: class names, colours, kinds of marks. An RGB strip of the picture's width goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONT_PX: Final = 18
ROW_PX: Final = 30
PAPER: Final = (255, 255, 255)
INK: Final = (34, 34, 34)

_MARGIN: Final = 12
_SWATCH: Final = 26
_GAP: Final = 8
_NICE_UM: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True, slots=True)
class Entry:
    """One class of the legend.

    Attributes:
        text: What stands behind the sign.
        color: (red, green, blue).
        kind: Which sign: a filled or an empty outline, a ring, or a dot.
    """

    text: str
    color: tuple[int, int, int]
    kind: Literal["area", "outline", "ring", "dot"]


def draw_legend(
    width: int, entries: Sequence[Entry], *, output_px_per_um: float | None = None
) -> NDArray[np.uint8]:
    """A white strip with the entries in rows, and a scale bar last.

    Args:
        width: Width of the strip in px.
        entries: In order of reading.
        output_px_per_um: Length of a um in px of the strip; None draws no scale bar.

    Returns:
        uint8 (row, `width`, 3); no rows at all where there is nothing to say.

    >>> draw_legend(300, [Entry("Tumor", (200, 0, 0), "area")]).shape
    (42, 300, 3)
    """
    bar_um = _bar_um(width, output_px_per_um) if output_px_per_um else None
    texts = [_shortened(entry.text, width - 2 * _MARGIN - _SWATCH - _GAP) for entry in entries]
    widths = [_SWATCH + _GAP + _text_px(text) for text in texts]
    if bar_um is not None and output_px_per_um:
        widths.append(round(bar_um * output_px_per_um) + _GAP + _text_px(f"{bar_um} µm"))
    places = _wrapped(widths, width)
    if not places:
        return np.zeros((0, width, 3), np.uint8)
    strip = Image.new("RGB", (width, (places[-1][1] + 1) * ROW_PX + _MARGIN), PAPER)
    draw = ImageDraw.Draw(strip)
    for entry, text, (x, row) in zip(entries, texts, places, strict=False):
        middle = _MARGIN // 2 + row * ROW_PX + ROW_PX // 2
        _sign(strip, entry, x, middle)
        draw.text((x + _SWATCH + _GAP, middle), text, INK, font(FONT_PX), anchor="lm")
    if bar_um is not None and output_px_per_um:
        _scale_bar(draw, places[-1], bar_um, output_px_per_um)
    return np.array(strip)


@lru_cache(maxsize=8)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """The font of our pictures: matplotlib ships it, and it has Greek, Cyrillic and the micro sign."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size_px)


def _text_px(text: str) -> int:
    return round(font(FONT_PX).getlength(text) + 0.5)


def _shortened(text: str, width: int) -> str:
    """The text on one line, cut with an ellipsis where it is wider than the strip."""
    text = " ".join(text.split())
    while len(text) > 1 and _text_px(text) > width:
        text = text[:-2].rstrip() + "…"
    return text


def _wrapped(widths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """Where each item starts: (x, row)."""
    places: list[tuple[int, int]] = []
    x, row = _MARGIN, 0
    for item in widths:
        if x > _MARGIN and x + item > width - _MARGIN:
            x, row = _MARGIN, row + 1
        places.append((x, row))
        x += item + 3 * _GAP
    return places


def _sign(strip: Image.Image, entry: Entry, x: int, middle: int) -> None:
    """What the class looks like in the picture; drawn four times larger, then smoothed."""
    size = (_SWATCH * 4, _SWATCH * 4)
    sign = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sign)
    edge, faint = _SWATCH * 4 - 1, (*(round(255 - 0.3 * (255 - part)) for part in entry.color),)
    if entry.kind in ("area", "outline"):
        filled = faint if entry.kind == "area" else PAPER
        draw.rectangle((4, 20, edge - 4, edge - 20), fill=filled, outline=entry.color, width=10)
    elif entry.kind == "ring":
        draw.ellipse((16, 16, edge - 16, edge - 16), outline=entry.color, width=10)
    else:
        draw.ellipse((32, 32, edge - 32, edge - 32), fill=entry.color)
    strip.paste(sign.resize((_SWATCH, _SWATCH), Image.Resampling.LANCZOS), (x, middle - _SWATCH // 2))


def _bar_um(width: int, px_per_um: float) -> int | None:
    """The longest round length that is at most a fifth of the picture; None where even 1 um is longer."""
    return max((um for um in _NICE_UM if um * px_per_um <= width / 5), default=None)


def _scale_bar(draw: ImageDraw.ImageDraw, place: tuple[int, int], um: int, px_per_um: float) -> None:
    x, middle = place[0], _MARGIN // 2 + place[1] * ROW_PX + ROW_PX // 2
    end = x + round(um * px_per_um)
    draw.rectangle((x, middle - 2, end, middle + 2), fill=INK)
    draw.text((end + _GAP, middle), f"{um} µm", INK, font(FONT_PX), anchor="lm")
