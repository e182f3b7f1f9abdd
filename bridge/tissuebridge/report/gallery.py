"""Cells to look at: some of each class drawn at random, and those nearest to the threshold, cut out of the image.

Comes in from `tissue`, an image at a time; once the whole project is known, small blocks of pixels are read. Cells are
drawn evenly from all cells of the project. The threshold is not written on objects: nearest to it are those of lowest
score. Every cell is in the middle of its crop; ticks at the edges point at it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import TissuebridgeError
from tissuebridge.objects import PathObject
from tissuebridge.project.base import Image, PixelSource
from tissuebridge.project.resample import Grid, read_grid
from tissuebridge.report.page import Content, Notice, Picture, Section, Text
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.tissue import Tissue

MOST_CELLS: Final = 50
"""Of each class and kind."""
MOST_CLASSES: Final = 8
"""So many classes are shown, those with most cells first: a page of a few MB."""
CROP_PX: Final = 96
CROP_UM: Final = 32.0
"""A lymphocyte takes about a fourth of it."""

_COLUMNS: Final = 10
_GAP_PX: Final = 10
_TICK_PX: Final = 6
_PAPER: Final = 255
_OUTSIDE: Final = 225

_HEADING: Final = "Cells to look at"
_INTRO: Final = (
    f"Look whether these are cells, and of that class. Each crop is {CROP_UM:g} µm wide; the ticks at its edges point "
    "at the cell in the middle. Cells are drawn evenly from all cells that were counted. gallery.csv lists them in the "
    "same order, row by row, with image and place. The threshold of the analysis is not written on objects, so the "
    "cells nearest to it are those with the lowest scores; what lies below it was not written and cannot be shown."
)


NO_PIXELS: Final = Section(
    _HEADING,
    [
        Text(
            "Crops of cells are shown by the command `tissuebridge spatial` only: QuPath's script sends the objects of "
            "an image, not its pixels."
        )
    ],
)
"""Stands where the gallery would, if objects come without their image."""


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """A cell that may be shown.

    Attributes:
        image: Where its pixels are.
        xy: Its centre in full-resolution px.
        score: NaN where it has none.
        draw: Its own random number.
        id: Of its object, "" for none.
    """

    image: Image
    xy: tuple[float, float]
    score: float
    draw: float
    id: str


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Cells of a class that are shown together, in order."""

    cell_class: str
    kind: str
    cells: Sequence[_Cell]


class Gallery:
    """Gathers candidates while a project is measured, then reads the pixels of those that are shown.

    Args:
        seed: The same seed draws the same cells.
    """

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._counts: dict[str, int] = {}
        self._random: dict[str, list[_Cell]] = {}
        self._lowest: dict[str, list[_Cell]] = {}

    def add(
        self,
        image: Image,
        tissue: Tissue,
        objects: Sequence[PathObject],
        scores: Mapping[str, NDArray[np.float64]],
    ) -> None:
        """Takes the cells of an image.

        Args:
            image: Where their pixels are.
            tissue: What was measured.
            objects: What it was made of.
            scores: From `scores_of`.
        """
        for name, points in tissue.cells.items():
            draws, own, um = self._rng.random(len(points)), scores[name], image.pixel_size_um
            # Only what may be among the first is made an object: a slide has millions of cells.
            first = {int(k) for order in (draws, own) for k in np.argsort(order)[:MOST_CELLS]}
            cells = [
                _Cell(
                    image,
                    (points[k, 0] / um, points[k, 1] / um),
                    own[k],
                    draws[k],
                    str(objects[tissue.index[name][k]].id or ""),
                )
                for k in sorted(first)
            ]
            scored = [cell for cell in cells if not math.isnan(cell.score)]
            self._counts[name] = self._counts.get(name, 0) + len(points)
            drawn = sorted([*self._random.get(name, []), *cells], key=lambda cell: cell.draw)
            self._random[name] = drawn[:MOST_CELLS]
            lowest = sorted([*self._lowest.get(name, []), *scored], key=lambda cell: cell.score)
            self._lowest[name] = lowest[:MOST_CELLS]

    def rows(self) -> list[Row]:
        """Which cells are shown, in the order of the page.

        Returns:
            Rows with "class", "kind", "place" (from 1), "image", "x_px", "y_px", "score", "id".
        """
        return [
            {
                "class": sheet.cell_class, "kind": sheet.kind, "place": place, "image": cell.image.name,
                "x_px": float(cell.xy[0]), "y_px": float(cell.xy[1]),
                "score": None if math.isnan(cell.score) else float(cell.score), "id": cell.id,
            }
            for sheet in self._sheets()
            for place, cell in enumerate(sheet.cells, 1)
        ]  # fmt: skip

    def tables(self) -> dict[str, list[Row]]:
        """As `Checks.tables`: "gallery", if any cell is shown."""
        rows = self.rows()
        return {"gallery": rows} if rows else {}

    def section(self) -> Section:
        """The crops, a picture for each class and kind; where pixels cannot be read, why not."""
        sheets = self._sheets()
        crops, unread = _crops([cell for sheet in sheets for cell in sheet.cells])
        content: list[Content] = [Text(_INTRO)] if sheets else [Text("There are no cells to show.")]
        content += [Notice(f"Cells of {name} are not shown: {why}") for name, why in unread.items()]
        if (more := len(self._counts) - MOST_CLASSES) > 0:
            content.append(Notice(f"{more} more classes, with fewer cells, are not shown."))
        for sheet in sheets:
            if any(id(cell) in crops for cell in sheet.cells):
                # What cannot be read stays a grey place, so that places are those of the table.
                shown = [crops.get(id(cell), _blank()) for cell in sheet.cells]
                content.append(_picture(sheet, shown, self._counts[sheet.cell_class]))
        return Section(_HEADING, content)

    def _sheets(self) -> list[_Sheet]:
        names = sorted(self._counts, key=lambda name: (-self._counts[name], name))
        sheets = []
        for name in names[:MOST_CLASSES]:
            lowest = self._lowest[name]
            if len(lowest) == self._counts[name]:
                # So few that both kinds would show the same cells.
                sheets.append(_Sheet(name, "all", lowest))
                continue
            sheets += [_Sheet(name, "random", self._random[name]), _Sheet(name, "lowest score", lowest)]
        return [sheet for sheet in sheets if sheet.cells]


# ---- Pixels -----------------------------------------------------------------------------------------------


def _crops(cells: Sequence[_Cell]) -> tuple[dict[int, NDArray[np.uint8]], dict[str, str]]:
    """The pixels of cells by their identity, an image opened once; and of which images none could be read, and why."""
    by_image: dict[str, list[_Cell]] = {}
    for cell in cells:
        by_image.setdefault(cell.image.name, []).append(cell)
    crops: dict[int, NDArray[np.uint8]] = {}
    unread: dict[str, str] = {}
    for name, own in by_image.items():
        try:
            with own[0].image.open_pixels() as source:
                crops.update({id(cell): _crop(source, cell) for cell in own})
        except (TissuebridgeError, OSError) as error:
            unread[name] = str(error)
    return crops, unread


def _crop(source: PixelSource, cell: _Cell) -> NDArray[np.uint8]:
    """uint8 (CROP_PX, CROP_PX, 3) with the cell in the middle; grey outside the image."""
    full = source.levels[0]
    downsample = CROP_UM / CROP_PX / cell.image.pixel_size_um
    grid = Grid(max(1, int(full.width / downsample)), max(1, int(full.height / downsample)), downsample)
    left, top = (round(place / downsample) - CROP_PX // 2 for place in cell.xy)
    (col, right), (row, bottom) = _clip(left, grid.width), _clip(top, grid.height)
    crop = _blank()
    if row < bottom and col < right:
        inside = slice(row - top, bottom - top), slice(col - left, right - left)
        crop[inside] = read_grid(source, grid, row, col, bottom - row, right - col)
    return crop


def _blank() -> NDArray[np.uint8]:
    return np.full((CROP_PX, CROP_PX, 3), _OUTSIDE, np.uint8)


def _clip(start: int, side: int) -> tuple[int, int]:
    return max(start, 0), min(start + CROP_PX, side)


# ---- Pictures ---------------------------------------------------------------------------------------------


def _picture(sheet: _Sheet, crops: Sequence[NDArray[np.uint8]], count: int) -> Picture:
    kinds = {
        "all": f"all {count}, lowest scores first",
        "random": f"{len(sheet.cells)} of {count:,}, drawn at random",
        "lowest score": f"the {len(sheet.cells)} of {count:,} with the lowest scores, nearest to the threshold",
    }
    title = f"{sheet.cell_class}: {kinds[sheet.kind]}"
    scores = [cell.score for cell in sheet.cells if not math.isnan(cell.score)]
    told = f"Scores {min(scores):.2f} to {max(scores):.2f}." if scores else "These cells have no score."
    pixels = _sheet_pixels(crops)
    return Picture(pixels, title, f"{title}. {told}", is_photograph=True)


def _sheet_pixels(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Crops side by side, ten in a row."""
    step, rows = CROP_PX + _GAP_PX, math.ceil(len(crops) / _COLUMNS)
    columns = min(len(crops), _COLUMNS)
    sheet = np.full((rows * step - _GAP_PX, columns * step - _GAP_PX, 3), _PAPER, np.uint8)
    for place, crop in enumerate(crops):
        row, col = (step * part for part in divmod(place, _COLUMNS))
        sheet[row : row + CROP_PX, col : col + CROP_PX] = _with_ticks(crop)
    return sheet


def _with_ticks(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop with a short black line at the middle of each edge, on white: seen on any tissue, off the cell."""
    ticked = crop.copy()
    middle = slice(CROP_PX // 2 - 1, CROP_PX // 2 + 1)
    around = slice(CROP_PX // 2 - 2, CROP_PX // 2 + 2)
    for end in (slice(0, _TICK_PX), slice(CROP_PX - _TICK_PX, CROP_PX)):
        ticked[end, around] = ticked[around, end] = _PAPER
        ticked[end, middle] = ticked[middle, end] = 0
    return ticked
