"""Groups of patients drawn: a dot for each patient, and each group's mean function.

Values that `spatial.groups` and `spatial.group_functions` compare come in, pictures go out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.report.curves import Colors
from tissuebridge.report.figures import PALETTE, figure_picture, legend
from tissuebridge.report.page import Drawing, number_text
from tissuebridge.spatial.group_functions import GroupCurves

_HEIGHT: Final = 300
_GROUP_PX: Final = 110
_NAME_CHARS: Final = 14
_BESIDE: Final = 0.1
"""Between dots that would lie on each other; groups are 1 apart."""
_DOT: Final = 0.035
"""Height of a dot, as a part of the axis."""


def dots_picture(values: Mapping[str, NDArray[np.float64]], what: str, unit: str, caption: str) -> Drawing:
    """Each patient a dot, groups side by side, with their medians.

    Args:
        values: Group to its patients' values, float64 (patient,).
        what: What is compared.
        unit: What the axis says.
        caption: Stands below.
    """
    top = max((float(own.max()) for own in values.values() if len(own)), default=0.0) or 1.0

    def draw(axes: Any, colors: Colors) -> None:
        for place, own in enumerate(values.values()):
            if len(own):
                axes.plot([place - 0.3, place + 0.3], [np.median(own)] * 2, color=colors.ink, linewidth=2)
            color, aside = PALETTE[place % len(PALETTE)], _beside(own, _DOT * top)
            axes.plot(place + aside, own, "o", color=color, markersize=5, clip_on=False)
        names = [f"{textwrap.fill(name, _NAME_CHARS)}\nn = {len(own)}" for name, own in values.items()]
        axes.set_xticks(range(len(names)), names)
        axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, 1.05 * top), ylabel=unit)

    medians = ", ".join(
        f"{name} {number_text(float(np.median(own)))} (n = {len(own)})"
        for name, own in values.items()
        if len(own)
    )
    alt = f"{what}, each patient a dot. Medians: {medians}."
    return figure_picture(draw, alt, caption, (90 + _GROUP_PX * max(len(values), 2), _HEIGHT))


def group_curves_picture(curves: GroupCurves, what: str, at_um: float, caption: str) -> Drawing:
    """L less r of each group's mean K, with that of each patient behind it.

    Args:
        curves: What is compared.
        what: Its name.
        at_um: Where groups differ most.
        caption: Stands below.
    """
    r = curves.r

    def draw(axes: Any, colors: Colors) -> None:
        axes.axhline(0, color=colors.soft, linewidth=0.8)
        axes.axvline(at_um, color=colors.soft, linewidth=0.8, linestyle=(0, (4, 3)))
        for group, k in zip(curves.groups, curves.k, strict=True):
            axes.plot(
                r, np.sqrt(k / np.pi) - r, color=PALETTE[group % len(PALETTE)], alpha=0.3, linewidth=0.8
            )
        for place, name in enumerate(curves.names):
            label = f"{textwrap.fill(name, _NAME_CHARS)}\nn = {np.count_nonzero(curves.groups == place)}"
            color = PALETTE[place % len(PALETTE)]
            axes.plot(r, curves.mean_l(place) - r, color=color, linewidth=2.4, label=label)
        axes.set(xlabel="r in µm", ylabel="L(r) less r, µm")
        legend(axes, colors)

    return figure_picture(draw, f"{what} less r, the mean of each group and every patient", caption)


def _beside(values: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """How far each dot moves aside, (n,), so that none lies on another of about its height.

    >>> _beside(np.array([1.0, 5.0, 1.1, 0.9]), 0.5)
    array([ 0.1,  0. , -0.1,  0. ])
    """
    places = np.zeros(len(values), np.int64)
    order = np.argsort(values)
    for number, k in enumerate(order):
        near = {int(places[j]) for j in order[:number] if values[k] - values[j] < height}
        outwards = sorted(range(-len(near), len(near) + 1), key=lambda place: (abs(place), -place))
        places[k] = next(place for place in outwards if place not in near)
    # A crowd stays within its group.
    widest = max(int(np.abs(places).max(initial=0)), 1)
    return places.astype(np.float64) * min(_BESIDE, 0.35 / widest)
