"""Where a model went wrong in an image, drawn over its pixels: cells found, false and missed; regions called wrongly.

Comes in from `comparison`: an image as the model saw it and as a person drew it. Pictures for a page go out. Only a
window is read, at a coarser pixel size where it is large, so that a slide costs no more than a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPoint, MultiPolygon

from tissuebridge.comparison import Compared
from tissuebridge.geojson import default_color
from tissuebridge.objects import ObjectType, PathClass, PathObject, is_area, is_persons
from tissuebridge.project.resample import Grid, read_grid
from tissuebridge.report.legend import Entry, draw_legend
from tissuebridge.report.overlay import render_overlay
from tissuebridge.targets import Window, annotations_of, example_of
from tissuebridge.vectorize import discs
from tissuemodel.labels import LabelSet

CELLS_SIDE_PX: Final = 512
"""Largest side, in px of the model's grid, of the window in which cells are shown: each can be seen."""
REGIONS_SIDE_PX: Final = 1024
"""Largest side, in px that are read, of the window in which regions are shown."""
OUTPUT_PX: Final = 800
"""About the longer side of a picture; the legend can still be read where a page shows it at two thirds."""

FOUND: Final = (0, 158, 115)
FALSE: Final = (213, 94, 0)
MISSED: Final = (0, 60, 200)
OTHER_CLASS: Final = (170, 60, 160)
UNJUDGED: Final = (150, 150, 150)
"""After Okabe and Ito, so that people who confuse colours can tell them; shapes tell found from missed besides."""

_WRONG_OPACITY: Final = 0.6
_STEP_PX: Final = 64
_DOT_PX: Final = 6.0
_LARGEST_SCALE: Final = 4.0


# ---- Cells ------------------------------------------------------------------------------------------------


def draw_cell_mistakes(compared: Compared) -> NDArray[np.uint8]:
    """The window with most mistakes: rings round the model's cells, dots on marked cells that it missed.

    Returns:
        uint8 (row, col, 3), with a legend that counts what is in the window.

    Raises:
        ImageError: Pixels cannot be decoded.
    """
    window = _worst_window(compared)
    pixels = _read(compared, window, 1)
    return render_overlay(
        pixels,
        _cell_marks(compared, window),
        scale=_scale(pixels),
        pixel_size_um=compared.image.pixel_size_um * compared.found.downsample,
        dot_px=_DOT_PX,
    )


def _worst_window(compared: Compared) -> Window:
    """The square with most false, missed and wrongly called cells, of those that start at multiples of a step."""
    height, width = compared.found.labels.shape
    cells, matched = compared.found.cells, compared.cells
    wrong = np.concatenate(
        [cells.xy[matched.counts & ~matched.is_right], compared.marked_xy[matched.is_missed]]
    )
    if not len(wrong):
        wrong = compared.marked_xy
    col, row = np.floor(wrong.T / compared.found.downsample / _STEP_PX).astype(int)
    blocks = np.zeros((-(-height // _STEP_PX), -(-width // _STEP_PX)), np.float32)
    np.add.at(blocks, (row.clip(0, blocks.shape[0] - 1), col.clip(0, blocks.shape[1] - 1)), 1)
    side = CELLS_SIDE_PX // _STEP_PX
    inside = cv2.boxFilter(
        blocks, -1, (side, side), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    top, left = (int(place) * _STEP_PX for place in np.unravel_index(inside.argmax(), inside.shape))
    top, left = min(top, max(height - CELLS_SIDE_PX, 0)), min(left, max(width - CELLS_SIDE_PX, 0))
    return top, left, min(CELLS_SIDE_PX, height - top), min(CELLS_SIDE_PX, width - left)


def _cell_marks(compared: Compared, window: Window) -> Iterator[PathObject]:
    model, cells, matched = compared.found.model, compared.found.cells, compared.cells
    diameters = np.array(model.cell_diameters_um) / model.pixel_size_um
    counts, right, other = matched.counts, matched.is_right, (matched.found >= 0) & ~matched.is_right
    xy, inside = _in_window(cells.xy, compared, window)
    kinds = (
        ("Found", FOUND, right),
        ("False: nothing is marked here", FALSE, counts & ~right & ~other),
        ("Found, but called another class", OTHER_CLASS, other),
        ("Not judged: not all cells are marked here", UNJUDGED, ~counts),
    )
    for name, color, mask in kinds:
        shown = mask & inside
        rings = discs(xy[shown], diameters[cells.class_index[shown]])
        if len(rings):
            yield PathObject(
                MultiPolygon(list(rings)), ObjectType.DETECTION, path_class=PathClass(name, color)
            )
    xy, inside = _in_window(compared.marked_xy, compared, window)
    missed = inside & matched.is_missed
    if missed.any():
        yield PathObject(MultiPoint(xy[missed]), path_class=PathClass("Missed", MISSED))


def _in_window(
    xy: NDArray[np.float64], compared: Compared, window: Window
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Full-resolution points in px of a window, and which of them lie in it."""
    row, col, height, width = window
    here = xy / compared.found.downsample - [col, row]
    return here, np.all((here >= 0) & (here < [width, height]), axis=1)


# ---- Regions ----------------------------------------------------------------------------------------------


def draw_region_mistakes(compared: Compared) -> NDArray[np.uint8]:
    """The piece with most mistakes: outlines as drawn, and filled where the model called another class.

    Returns:
        uint8 (row, col, 3), with a legend.

    Raises:
        ImageError: Pixels cannot be decoded.
    """
    wrong = [int(counts.labelled.sum() - np.trace(counts.labelled)) for counts in compared.regions]
    window, k = _coarse(compared.windows[int(np.argmax(wrong))])
    drawn, called, window = _labels(compared, window, k)
    pixels = _read(compared, window, k)
    names = compared.found.model.region_classes
    mistaken = (drawn < len(names)) & (called != drawn)
    entries = []
    for index in np.unique(called[mistaken]).tolist():
        name = names[index] if index < len(names) else "not analysed"
        color = _color(compared, name) if index < len(names) else UNJUDGED
        place = mistaken & (called == index)
        pixels[place] = (1 - _WRONG_OPACITY) * pixels[place] + _WRONG_OPACITY * np.array(color)
        entries.append(Entry(f"Wrongly {name}", color, "area"))
    picture = render_overlay(
        pixels,
        _outlines(compared, window, k),
        scale=_scale(pixels),
        pixel_size_um=compared.image.pixel_size_um * compared.found.downsample * k,
        fills=False,
    )
    return np.concatenate([picture, draw_legend(picture.shape[1], entries)])


def _coarse(window: Window) -> tuple[Window, int]:
    """A window of the model's grid on a grid that is a whole number coarser, and that number."""
    k = max(1, math.ceil(max(window[2:]) / REGIONS_SIDE_PX))
    row, col = window[0] // k, window[1] // k
    return (row, col, max(1, window[2] // k), max(1, window[3] // k)), k


def _labels(
    compared: Compared, window: Window, k: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Window]:
    """Drawn and called labels in the part of a window that holds labels, at every k-th pixel, and that part."""
    row, col, height, width = window
    found, model = compared.found, compared.found.model
    drawn_objects = annotations_of(
        compared.objects, LabelSet(model.region_classes, (), {}), compared.image.name
    )
    blank = np.zeros((height, width, 3), np.uint8)
    drawn = example_of(drawn_objects, window, found.downsample * k, blank, compared.image.name).regions
    middle = k // 2
    called = found.labels[row * k + middle :: k, col * k + middle :: k][:height, :width]
    some = drawn < len(model.region_classes)
    rows, cols = np.flatnonzero(some.any(axis=1)), np.flatnonzero(some.any(axis=0))
    if not len(rows):
        return drawn, called, window
    margin = max(height, width) // 32
    top, left = max(rows[0] - margin, 0), max(cols[0] - margin, 0)
    part = slice(top, rows[-1] + 1 + margin), slice(left, cols[-1] + 1 + margin)
    drawn, called = drawn[part], called[part]
    return drawn, called, (row + int(top), col + int(left), *drawn.shape)


def _outlines(compared: Compared, window: Window, k: int) -> Iterator[PathObject]:
    """What a person drew of the model's region classes, in px of the window."""
    row, col, height, width = window
    frame, size = shapely.box(0, 0, width, height), compared.found.downsample * k
    for obj in compared.objects:
        name = obj.class_name
        if name not in compared.found.model.region_classes or not is_persons(obj):
            continue
        if obj.object_type is ObjectType.ANNOTATION and is_area(obj.geometry):
            outline = shapely.transform(obj.geometry, lambda xy: xy / size - [col, row])
            if outline.intersects(frame):
                yield PathObject(outline, path_class=PathClass(f"Drawn: {name}", _color(compared, name)))


def _color(compared: Compared, name: str) -> tuple[int, int, int]:
    return compared.found.model.colors.get(name) or default_color(name)


# ---- Pixels -----------------------------------------------------------------------------------------------


def _read(compared: Compared, window: Window, k: int) -> NDArray[np.uint8]:
    """The pixels of a window of a grid that is k times as coarse as the model's."""
    height, width = (max(1, side // k) for side in compared.found.labels.shape)
    row, col, rows, cols = window
    with compared.image.open_pixels() as source:
        grid = Grid(max(width, col + cols), max(height, row + rows), compared.found.downsample * k)
        return read_grid(source, grid, row, col, rows, cols)


def _scale(pixels: NDArray[np.uint8]) -> float:
    return float(min(OUTPUT_PX / max(pixels.shape[:2]), _LARGEST_SCALE))
