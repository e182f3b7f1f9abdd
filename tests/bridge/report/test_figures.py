"""Figures of pages: drawn once, in the colours of light and of dark pages, the same each time."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np

from tissuebridge.report.curves import DARK, LIGHT, Colors
from tissuebridge.report.figures import PALETTE, figure_picture, legend
from tissuebridge.report.page import Drawing


def picture(size: tuple[int, int] = (400, 300)) -> Drawing:
    def draw(axes: Any, colors: Colors) -> None:
        axes.plot([0, 1], [0, 1], "o-", color=colors.line)
        axes.plot([0, 1], [1, 0], color=PALETTE[0], label="<T & B>")
        axes.scatter(*np.eye(2), color=PALETTE[1], rasterized=True)
        axes.text(0.5, 0.5, "x", color="white")
        legend(axes, colors)

    return figure_picture(draw, "What it shows", "What stands below", size)


def test_a_dark_page_has_a_figure_in_its_own_colours() -> None:
    drawn = picture()

    assert LIGHT.line == PALETTE[0]
    for svg, own, other in ((drawn.svg, LIGHT, DARK), (drawn.dark, DARK, LIGHT)):
        assert all(color in svg for color in (own.paper, own.ink, own.soft, own.line))
        assert other.ink not in svg
        # What is not in a page's colours is the same on both: those of classes, and white on colours.
        assert PALETTE[0] in svg
        assert "#ffffff" in svg


def test_a_figure_is_as_large_as_asked_and_well_formed() -> None:
    drawn = picture((520, 340))

    left, top, width, height = map(float, ElementTree.fromstring(drawn.svg).attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert width / height == 520 / 340
    assert drawn.size == (520, 340)


def test_the_same_numbers_give_the_same_figure() -> None:
    assert picture() == picture()
