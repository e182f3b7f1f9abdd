"""One image as the model saw it beside what a person drew and dotted on it.

Stands between `pipeline` and `evaluation`: an image's objects and its analysis come in, counts and matches go out.
Regions are compared pixel by pixel on the model's grid, where a person labelled them; cells by one-to-one matching in
full-resolution pixels. What counts as false is decided by `Cells marked*`. Source: METHOD.md, "Evaluation".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import PathObject
from tissuebridge.pipeline import Analysis
from tissuebridge.project.base import Image
from tissuebridge.targets import Annotations, Window, annotated_windows, annotations_of, example_of
from tissuemodel.counts import MatchedCells, RegionCounts, match_cells
from tissuemodel.labels import Example, LabelSet


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """One image as the model saw it and as a person drew it.

    Attributes:
        image: Which image.
        objects: Its objects, classes named as the model names them.
        found: What the model found.
        windows: Which pieces of the model's grid a person annotated, (row, col, height, width); they do not overlap.
        regions: The labelled pixels of each piece.
        marked_xy: float64 (m, 2), the marked cells that count, in full-resolution px (x, y).
        cells: How the model's cells (`found.cells`) match them.
        judged: bool (n,), whether each of `found.candidates` lies where every cell of its class is marked.
        complete_px: int64 (cell class,), on how many px of the grid all cells of each class are marked.
    """

    image: Image
    objects: Sequence[PathObject]
    found: Analysis
    windows: Sequence[Window]
    regions: Sequence[RegionCounts]
    marked_xy: NDArray[np.float64]
    cells: MatchedCells
    judged: NDArray[np.bool_]
    complete_px: NDArray[np.int64]

    @property
    def all_regions(self) -> RegionCounts:
        """The labelled pixels of all pieces."""
        return sum(self.regions, RegionCounts.none(len(self.found.model.region_classes)))


def compare(
    image: Image, objects: Sequence[PathObject], found: Analysis, *, tolerance_px: float, border_um: float
) -> Compared:
    """Compares what the model found in an image with what a person drew on it.

    Args:
        image: The image.
        objects: Its objects, classes named as the model names them.
        found: What the model found in it, everywhere.
        tolerance_px: A cell within this many full-resolution px of a marked one found it.
        border_um: Width of the bands along borders in which regions are counted by themselves.

    Raises:
        AnnotationError: See `targets.annotations_of`.
    """
    model, cells, every = found.model, found.cells, found.candidates
    drawn = annotations_of(objects, LabelSet(model.region_classes, model.cell_classes, {}), image.name)
    windows = annotated_windows(objects, found.labels.shape[1], found.labels.shape[0], found.downsample)
    marked_px = np.floor(drawn.points[:, ::-1] / found.downsample).astype(np.int64)
    marked, of_cells, of_all = (np.zeros(len(some), np.bool_) for some in (marked_px, cells, every))
    regions, complete_px = [], np.zeros(len(model.cell_classes), np.int64)
    band_px = border_um / model.pixel_size_um
    for piece in _pieces(drawn, windows, found, image.name, band_px):
        regions.append(piece.region_counts(found, band_px))
        complete_px += piece.complete_px(len(model.cell_classes))
        marked |= piece.holds(marked_px)
        of_cells |= piece.judges(cells.pixels, cells.class_index)
        of_all |= piece.judges(every.pixels, every.class_index)
    xy, classes = drawn.points[marked], drawn.point_classes[marked]
    matched = match_cells(cells.xy, cells.class_index, cells.score, xy, classes, of_cells, tolerance_px)
    return Compared(image, objects, found, windows, regions, xy, matched, of_all, complete_px)


def _pieces(
    drawn: Annotations, windows: Sequence[Window], found: Analysis, name: str, margin_px: float
) -> Iterator[_Piece]:
    """One piece after the other, so that a large annotated slide is never held as a whole."""
    no_pixels = np.zeros((1, 1, 3), np.uint8)
    for window in windows:
        outer = _grown(window, int(np.ceil(margin_px)), *found.labels.shape)
        blank = np.broadcast_to(no_pixels, (*outer[2:], 3))
        yield _Piece(window, outer, example_of(drawn, outer, found.downsample, blank, name))


def _grown(window: Window, margin: int, height: int, width: int) -> Window:
    top, left = max(window[0] - margin, 0), max(window[1] - margin, 0)
    bottom, right = window[0] + window[2] + margin, window[1] + window[3] + margin
    return top, left, min(bottom, height) - top, min(right, width) - left


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a person labelled in a piece of an image, with a margin that only tells where borders are.

    Attributes:
        window: The piece itself, in px of the model's grid.
        outer: The piece with its margin, clipped to the image.
        example: Of `outer`; its pixels are blank.
    """

    window: Window
    outer: Window
    example: Example

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the piece itself lies in its example's arrays."""
        row, col = self.window[0] - self.outer[0], self.window[1] - self.outer[1]
        return slice(row, row + self.window[2]), slice(col, col + self.window[3])

    def region_counts(self, found: Analysis, band_px: float) -> RegionCounts:
        """Its labelled pixels by true and found class."""
        row, col, height, width = self.outer
        called = found.labels[row : row + height, col : col + width]
        classes = len(found.model.region_classes)
        return RegionCounts.of(self.example.regions, called, classes, band_px=band_px, inner=self.inner)

    def holds(self, pixels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Which pixels (n, 2) of the grid, (row, col), lie in the piece itself and in no ignored area."""
        row, col, height, width = self.window
        holds: NDArray[np.bool_] = np.all(
            (pixels >= [row, col]) & (pixels < [row + height, col + width]), axis=1
        )
        holds[holds] = ~self.example.ignored[self._places(pixels[holds])]
        return holds

    def judges(self, pixels: NDArray[np.integer[Any]], classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which cells, each at its pixel and of its class, it holds where every cell of that class is marked."""
        judges = self.holds(pixels)
        judges[judges] = (self.example.complete[self._places(pixels[judges])] >> classes[judges]) & 1 == 1
        return judges

    def complete_px(self, classes: int) -> NDArray[np.int64]:
        """On how many of its pixels all cells of each class are marked, (class,)."""
        complete = self.example.complete[self.inner][~self.example.ignored[self.inner]]
        return np.array([np.count_nonzero((complete >> index) & 1) for index in range(classes)], np.int64)

    def _places(self, pixels: NDArray[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        return pixels[:, 0] - self.outer[0], pixels[:, 1] - self.outer[1]
