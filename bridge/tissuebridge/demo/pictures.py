"""The demo's pictures: what was found over the whole image, and found beside marked in the held-out part.

Comes in from the analysis and the annotations; goes out as RGB arrays for PNG files and the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tissuebridge.demo.sample import HELD_OUT, LEARN, PIXEL_SIZE_UM, Part
from tissuebridge.objects import PathObject
from tissuebridge.report.legend import INK, PAPER, font
from tissuebridge.report.overlay import render_overlay

SCALE: Final = 2.0

_HEADER_PX: Final = 34
_FONT_PX: Final = 18
_VEIL: Final = 0.72


def whole_picture(image: NDArray[np.uint8], objects: Iterable[PathObject]) -> NDArray[np.uint8]:
    """The whole image with what was found, and a header that says which part is which.

    Args:
        image: uint8 (row, col, 3).
        objects: In its px (x, y); none for the bare image.

    Returns:
        uint8 (row, col, 3), the image `SCALE` times as large, header above and legend below.
    """
    picture = render_overlay(image, objects, scale=SCALE, pixel_size_um=PIXEL_SIZE_UM)
    rows, gap = round(image.shape[0] * SCALE), slice(round(LEARN.right * SCALE), round(HELD_OUT.left * SCALE))
    strip = picture[:rows, gap]
    # Veiled rather than cut out: what was found there is real, but neither learnt from nor measured.
    picture[:rows, gap] = (strip * (1 - _VEIL) + 255 * _VEIL).astype(np.uint8)
    return np.concatenate([_header(picture.shape[1]), picture])


def part_picture(part: Part, image: NDArray[np.uint8], objects: Iterable[PathObject]) -> NDArray[np.uint8]:
    """A part of the image with some objects of it, in the part's px (x, y)."""
    return render_overlay(part.pixels(image), objects, scale=SCALE, pixel_size_um=PIXEL_SIZE_UM)


def _header(width: int) -> NDArray[np.uint8]:
    """Brackets over both parts, with their names."""
    header = Image.new("RGB", (width, _HEADER_PX), PAPER)
    draw = ImageDraw.Draw(header)
    for part, text in ((LEARN, "learnt from this part"), (HELD_OUT, "held out: measured here")):
        left, right = round(part.left * SCALE) + 1, round(part.right * SCALE) - 2
        draw.line([(left, _HEADER_PX), (left, 28), (right, 28), (right, _HEADER_PX)], INK, 2)
        draw.text(((left + right) / 2, 14), text, INK, font(_FONT_PX), anchor="mm")
    return np.array(header)
