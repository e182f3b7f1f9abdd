"""Precision over recall, drawn for light and for dark pages.

A curve as `tissuemodel.metrics.precision_recall_curve` gives it comes in, RGB pixels go out. Nothing of matplotlib's
global state is touched, so that reports can be made from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tissuemodel.evaluation import Curve

SHOWN_PX: Final = 360
"""Side of a curve in CSS px; it has twice as many pixels."""

_ISO_F1: Final = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Colors:
    """What a drawing on a page is drawn in: a light or a dark one."""

    paper: str
    ink: str
    soft: str
    line: str
    point: str


LIGHT: Final = Colors("#ffffff", "#1d1d1f", "#8a8a90", "#2f66d0", "#c04a00")
DARK: Final = Colors("#1b1b1d", "#ececee", "#8a8a90", "#82aaff", "#ffa657")


def precision_recall_picture(
    curve: Curve, point: tuple[float, float] | None, *, dark: bool = False
) -> NDArray[np.uint8]:
    """A precision-recall curve with lines of equal F1 behind it.

    Args:
        curve: Precision, recall and thresholds, as `precision_recall_curve` gives them; may be empty.
        point: (recall, precision) at the model's threshold, marked by a disc; None marks none.
        dark: For dark pages.

    Returns:
        uint8 (row, col, 3), twice `SHOWN_PX` a side.

    >>> precision_recall_picture((np.array([1.0]), np.array([0.5]), np.array([0.9])), (0.5, 1.0)).shape
    (720, 720, 3)
    """
    colors = DARK if dark else LIGHT
    dpi = 2 * SHOWN_PX / 3.6
    figure = Figure(figsize=(3.6, 3.6), dpi=dpi, facecolor=colors.paper, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = _axes(figure, colors)
    _draw_iso_f1(axes, colors)
    precision, recall, _ = curve
    if len(precision):
        # As average precision adds it up: a step's precision holds for all the recall that it gains.
        steps = np.append(0.0, recall), np.append(precision[:1], precision)
        axes.plot(*steps, drawstyle="steps-pre", color=colors.line, linewidth=1.8, solid_joinstyle="round")
    if point is not None:
        axes.plot(*point, "o", color=colors.point, markersize=7, markeredgecolor=colors.paper, clip_on=False)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _axes(figure: Figure, colors: Colors) -> Any:
    axes = figure.add_subplot(facecolor=colors.paper)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="Recall", ylabel="Precision")
    color_axes(axes, colors)
    return axes


def color_axes(axes: Any, colors: Colors) -> None:
    """Labels, ticks and two axis lines in a page's colours."""
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(colors.ink)
    axes.tick_params(colors=colors.ink, labelsize=8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(colors.soft)


def _draw_iso_f1(axes: Any, colors: Colors) -> None:
    """Where F1 is the same: P = F R / (2 R - F)."""
    for f1 in _ISO_F1:
        recall = np.linspace(f1 / (2 - f1), 1.0, 100)
        axes.plot(
            recall, f1 * recall / (2 * recall - f1), color=colors.soft, linewidth=0.6, linestyle=(0, (4, 3))
        )
        axes.annotate(
            f"F1 {f1:g}", (1, f1 / (2 - f1)), (3, 0), textcoords="offset points", va="center", fontsize=7,
            color=colors.soft, annotation_clip=False,
        )  # fmt: skip
