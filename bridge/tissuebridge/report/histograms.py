"""A histogram with the threshold that cuts it, drawn for light and for dark pages.

Counts and edges come in, as `tissuemodel.annotate.cell_classes.Threshold` has them; RGB pixels go out.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tissuebridge.report.curves import DARK, LIGHT, color_axes
from tissuemodel.annotate.cell_classes import Threshold

SHOWN_PX: Final = (420, 260)
"""Width and height in CSS px; it has twice as many pixels a side."""


def threshold_picture(threshold: Threshold, what: str, *, dark: bool = False) -> NDArray[np.uint8]:
    """How a stain's density is spread over nuclei, and where positive begins.

    Args:
        threshold: Histogram and value; an infinite one draws no line.
        what: Name of the horizontal axis, with its unit.
        dark: For dark pages.

    Returns:
        uint8 (row, col, 3), twice `SHOWN_PX`.
    """
    colors = DARK if dark else LIGHT
    size = (SHOWN_PX[0] / 100, SHOWN_PX[1] / 100)
    figure = Figure(figsize=size, dpi=200, facecolor=colors.paper, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=colors.paper)
    axes.stairs(threshold.counts, threshold.edges, fill=True, color=colors.line, alpha=0.75)
    if math.isfinite(threshold.value):
        axes.axvline(threshold.value, color=colors.point, linewidth=1.6)
        axes.annotate(
            f" {threshold.value:.3g}", (threshold.value, 1), xycoords=("data", "axes fraction"), va="top",
            fontsize=9, color=colors.point,
        )  # fmt: skip
    axes.set(xlabel=what, ylabel="Nuclei", xlim=(threshold.edges[0], threshold.edges[-1]))
    color_axes(axes, colors)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
