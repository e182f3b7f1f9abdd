"""Figures of pages, drawn once for light and for dark ones.

What draws into axes comes in, a `Drawing` goes out. Nothing of matplotlib's global state is touched.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import astuple
from typing import Any, Final

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tissuebridge.report.curves import DARK, LIGHT, Colors, color_axes
from tissuebridge.report.page import Drawing

PALETTE: Final = ("#2f66d0", "#d9541e", "#3a9a4a", "#9150b8", "#b08900", "#18939c", "#c0397b", "#70757d")
"""Told apart by most eyes, on light and on dark; more classes begin anew."""
SIZE_PX: Final = (520, 340)
"""Width and height in CSS px, unless told otherwise."""

_DRAWN: Final = Colors("#fffffd", "#1d1d1d", "#8a8a8e", "#2f66d1", "#c04a01")
"""What figures are drawn in: a light page's colours, but by so little unlike them that no other colour is replaced."""
_RANDOM_NAME: Final = re.compile(r'id="(\w*[0-9a-f]{10})"')

Draw = Callable[[Any, Colors], None]
"""Draws into axes in a page's colours. What it has rasterised keeps its colours on light and on dark pages."""


def figure_picture(draw: Draw, alt: str, caption: str, size: tuple[int, int] = SIZE_PX) -> Drawing:
    """A figure with one pair of axes.

    Args:
        draw: Called once.
        alt: What it shows, for those who cannot see it.
        caption: What stands below.
        size: Width and height in CSS px; what is rasterised has twice as many pixels a side.
    """
    svg = _drawn(draw, size)
    return Drawing(_in(svg, LIGHT), _in(svg, DARK), alt, caption, size)


def legend(axes: Any, colors: Colors) -> None:
    """Names what has a label, beside the axes."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            fontsize=7, frameon=False, labelcolor=colors.ink, loc="upper left", bbox_to_anchor=(1.0, 1.0)
        )


def _drawn(draw: Draw, size: tuple[int, int]) -> str:
    figure = Figure(
        figsize=(size[0] / 100, size[1] / 100), dpi=200, facecolor=_DRAWN.paper, layout="constrained"
    )
    canvas = FigureCanvasSVG(figure)
    axes = figure.add_subplot(facecolor=_DRAWN.paper)
    draw(axes, _DRAWN)
    color_axes(axes, _DRAWN)
    file = io.StringIO()
    canvas.print_svg(file, metadata={"Date": None})
    svg = file.getvalue()
    # With neither a date nor matplotlib's random names the same numbers give the same page.
    for place, name in enumerate(dict.fromkeys(_RANDOM_NAME.findall(svg))):
        svg = svg.replace(name, f"n{place}")
    return svg


def _in(svg: str, colors: Colors) -> str:
    for drawn, own in zip(astuple(_DRAWN), astuple(colors), strict=True):
        svg = svg.replace(drawn, own)
    return svg
