"""Figures of pages, drawn for light and for dark ones alike.

What draws into axes comes in, a `Picture` goes out. Nothing of matplotlib's global state is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tissuebridge.report.curves import DARK, LIGHT, Colors, color_axes
from tissuebridge.report.page import Picture

PALETTE: Final = ("#2f66d0", "#d9541e", "#3a9a4a", "#9150b8", "#b08900", "#18939c", "#c0397b", "#70757d")
"""Told apart by most eyes, on light and on dark; more classes begin anew."""
SIZE_PX: Final = (520, 340)
"""Width and height in CSS px, unless told otherwise."""

Draw = Callable[[Any, Colors], None]
"""Draws into axes in a page's colours."""


def figure_picture(draw: Draw, alt: str, caption: str, size: tuple[int, int] = SIZE_PX) -> Picture:
    """A figure with one pair of axes.

    Args:
        draw: Called for the light and for the dark one.
        alt: What it shows, for those who cannot see it.
        caption: What stands below.
        size: Width and height in CSS px; it has twice as many pixels a side.
    """
    light, dark = (_drawn(draw, colors, size) for colors in (LIGHT, DARK))
    return Picture(light, alt, caption, width=size[0], dark=dark)


def legend(axes: Any, colors: Colors) -> None:
    """Names what has a label, beside the axes."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            fontsize=7, frameon=False, labelcolor=colors.ink, loc="upper left", bbox_to_anchor=(1.0, 1.0)
        )


def _drawn(draw: Draw, colors: Colors, size: tuple[int, int]) -> NDArray[np.uint8]:
    figure = Figure(
        figsize=(size[0] / 100, size[1] / 100), dpi=200, facecolor=colors.paper, layout="constrained"
    )
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=colors.paper)
    draw(axes, colors)
    color_axes(axes, colors)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
