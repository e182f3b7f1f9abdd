"""Validation inside one slide: blocks of it are held out, with a gap that neither side learns from or is measured on.

Stands between `targets` and `training_set`, for the case that there is only one slide (or patient). The pieces of an
image come in; pieces to learn from and pieces to check go out, which share no labelled pixel and no cell. The image is
cut across its longer annotated side, so that a block spans the other side and borders on at most two gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuemodel.heatmaps import heat_maps
from tissuemodel.labels import IGNORE_LABEL, Example, LabelSet

BLOCKS: Final = 10
"""Blocks that hold equally much of what is annotated."""
HELD_OUT_BLOCKS: Final = 2
"""Of these for validation: a fifth, as one run or as two, where two see more classes."""

Run = tuple[int, int]
"""First row or column, and the one behind the last, in px of the image's grid."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A piece of an image, and where in it.

    Attributes:
        row: Of the piece's first pixel, on the image's grid.
        col: Likewise.
        example: The piece.
    """

    row: int
    col: int
    example: Example

    def start(self, axis: int) -> int:
        """Where it begins along rows (0) or columns (1)."""
        return (self.row, self.col)[axis]

    def stop(self, axis: int) -> int:
        """Where it ends along rows (0) or columns (1)."""
        return self.start(axis) + int(self.example.regions.shape[axis])


@dataclass(frozen=True, slots=True, eq=False)
class BlockSplit:
    """An image in two parts.

    Attributes:
        train: Pieces to learn from.
        validation: Pieces that only check.
        axis: The blocks are runs of rows (0) or of columns (1).
        held_out: Those that only check.
        kept: Of the kind of annotation that loses most to blocks and gaps, the share that is left to learn from.
    """

    train: tuple[Piece, ...]
    validation: tuple[Piece, ...]
    axis: int
    held_out: tuple[Run, ...]
    kept: float


def split_in_blocks(
    pieces: Sequence[Piece], classes: LabelSet, gap_px: int, sigma_px: float
) -> BlockSplit | None:
    """Holds out about a fifth of an image.

    Between a pixel that is learnt from and one that is measured on lie at least `gap_px` others. Each side's pieces
    show the network its gaps too, as context, but nothing of the other side; in the gap they are ignored. So are pixels
    that the heat of a cell beyond the border would reach: that cell is on the other side, or in the gap and on none.

    Args:
        pieces: Of one image, not overlapping; points may come from their margins.
        classes: What the examples' indices mean.
        gap_px: How far the network looks, or more, in px of the grid.
        sigma_px: Standard deviation of the widest cell's Gaussian, in px of the grid.

    Returns:
        The parts; None where no choice of blocks leaves something of every kind of annotation to learn from and
        something to measure on.
    """
    for axis in _longer_first(pieces):
        amounts = _amounts(pieces, classes, axis)
        held_out = _choose(amounts, gap_px)
        if held_out is not None:
            learnt = ~_grown(held_out, gap_px)
            return BlockSplit(
                train=_side(pieces, learnt, axis, gap_px, sigma_px),
                validation=_side(pieces, held_out, axis, gap_px, sigma_px),
                axis=axis,
                held_out=tuple(_runs(held_out)),
                kept=float(amounts[:, learnt].sum(axis=1).min()),
            )
    return None


# ---- Choosing blocks --------------------------------------------------------------------------------------


def _longer_first(pieces: Sequence[Piece]) -> tuple[int, ...]:
    """Both axes, first the one along which annotations extend farther; none where nothing is annotated."""
    extents = {}
    for axis in (0, 1):
        known = [
            piece.start(axis) + np.flatnonzero(_annotated(piece.example).any(axis=1 - axis))
            for piece in pieces
        ]
        places = np.concatenate([np.zeros(0, np.int64), *known])
        extents[axis] = int(np.ptp(places)) if len(places) else 0
    return tuple(sorted((axis for axis in extents if extents[axis]), key=lambda axis: -extents[axis]))


def _annotated(example: Example) -> NDArray[np.bool_]:
    """Where there is a label, a cell, something that is no cell, or a completely marked area: (row, col)."""
    known: NDArray[np.bool_] = (example.regions != IGNORE_LABEL) | (example.complete != 0)
    height, width = known.shape
    col, row = np.floor(np.concatenate([example.points, example.negatives])).astype(np.int64).T
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    known[row[inside], col[inside]] = True
    known &= ~example.ignored
    return known


def _amounts(pieces: Sequence[Piece], classes: LabelSet, axis: int) -> NDArray[np.float64]:
    """What there is of each kind on each row or column of the image: (kind, place), each kind sums to 1.

    The kinds are the labelled pixels of each region class, the cells of each cell class and the area in which these
    are completely marked; those that the image has.
    """
    length = max(piece.stop(axis) for piece in pieces)
    amounts = np.zeros((len(classes.regions) + 2 * len(classes.cells), length))
    for piece in pieces:
        here = slice(piece.start(axis), piece.stop(axis))
        amounts[:, here] += [kind.sum(axis=1 - axis) for kind in _kinds(piece.example, classes)]
    totals = amounts.sum(axis=1, keepdims=True)
    there = totals[:, 0] > 0
    return amounts[there] / totals[there]  # type: ignore[no-any-return]


def _kinds(example: Example, classes: LabelSet) -> Iterator[NDArray[np.integer[Any]]]:
    """How much each pixel has of each kind: (row, col) for each."""
    counts = ~example.ignored
    yield from ((example.regions == index) & counts for index in range(len(classes.regions)))
    height, width = counts.shape
    x, y = example.points.T
    for index in range(len(classes.cells)):
        own = example.point_classes == index
        cells, _, _ = np.histogram2d(y[own], x[own], bins=(np.arange(height + 1), np.arange(width + 1)))
        yield cells.astype(np.int64) * counts
        yield (example.complete >> index & 1) * counts


def _choose(amounts: NDArray[np.float64], gap_px: int) -> NDArray[np.bool_] | None:
    """Which rows or columns are held out: what shows most kinds and, among these, leaves most to learn from."""
    if not len(amounts):
        return None
    running = np.cumsum(amounts.sum(axis=0))
    inner = np.searchsorted(running, running[-1] * np.arange(1, BLOCKS) / BLOCKS) + 1
    edges = [0, *inner.tolist(), amounts.shape[1]]
    best, best_score = None, (0, 0.0)
    for blocks in combinations(range(BLOCKS), HELD_OUT_BLOCKS):
        held_out = np.zeros(amounts.shape[1], np.bool_)
        for block in blocks:
            held_out[edges[block] : edges[block + 1]] = True
        left = amounts[:, ~_grown(held_out, gap_px)].sum(axis=1).min()
        score = (int(amounts[:, held_out].any(axis=1).sum()), float(left))
        if left > 0 and score > best_score:
            best, best_score = held_out, score
    return best


def _grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """A mask (place,) with each run longer by `by` at both ends."""
    grown = np.zeros_like(mask)
    for start, stop in _runs(mask):
        grown[max(start - by, 0) : stop + by] = True
    return grown


def _runs(mask: NDArray[np.bool_]) -> list[Run]:
    """The runs of a mask (place,).

    >>> _runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


# ---- Cutting ----------------------------------------------------------------------------------------------


def _side(
    pieces: Sequence[Piece], mask: NDArray[np.bool_], axis: int, gap_px: int, sigma_px: float
) -> tuple[Piece, ...]:
    """What one side has of an image: all that is annotated on the rows or columns of a mask (place,)."""
    bands = [_Band(axis, run, len(mask), gap_px, sigma_px) for run in _runs(mask)]
    parts = [band.cut(piece) for piece in pieces for band in bands if band.meets(piece)]
    return tuple(part for part in parts if _annotated(part.example).any())


@dataclass(frozen=True, slots=True)
class _Band:
    """A run of rows or columns across an image.

    Attributes:
        axis: 0 for rows, 1 for columns.
        run: Which, on the image's grid.
        length: Of the image along the axis.
        context_px: So far round the run the pixels come along, ignored.
        sigma_px: Of the widest cell.
    """

    axis: int
    run: Run
    length: int
    context_px: int
    sigma_px: float

    def meets(self, piece: Piece) -> bool:
        """Whether a piece has some of the run."""
        return piece.start(self.axis) < self.run[1] and piece.stop(self.axis) > self.run[0]

    def cut(self, piece: Piece) -> Piece:
        """What a piece has of the run, with context."""
        example, origin = piece.example, piece.start(self.axis)
        first = max(self.run[0] - self.context_px - origin, 0)
        last = min(self.run[1] + self.context_px - origin, example.regions.shape[self.axis])
        corner = (first, 0) if self.axis == 0 else (0, first)
        offset = np.array(corner[::-1], np.float32)
        cut = (slice(first, last), slice(None)) if self.axis == 0 else (slice(None), slice(first, last))
        own, negatives = (self._holds(points, origin) for points in (example.points, example.negatives))
        ignored = example.ignored[cut] | self._outside(origin + first, origin + last)
        ignored |= _warmed(example.points[~own] - offset, ignored.shape, self.sigma_px)
        row, col = piece.row + corner[0], piece.col + corner[1]
        image_name = example.image_name or example.name
        part = replace(
            example,
            name=f"{image_name}, row {row}, column {col}",
            image=example.image[cut],
            regions=np.where(ignored, np.uint8(IGNORE_LABEL), example.regions[cut]),
            points=example.points[own] - offset,
            point_classes=example.point_classes[own],
            negatives=example.negatives[negatives] - offset,
            complete=np.where(ignored, np.uint16(0), example.complete[cut]),
            ignored=ignored,
            image_name=image_name,
        )
        return Piece(row, col, part)

    def _holds(self, points: NDArray[np.float32], origin: int) -> NDArray[np.bool_]:
        """Which points (x, y) of a piece lie in the run; those beyond the image's edge belong to the last place."""
        place = np.clip(np.floor(points[:, 1 - self.axis]).astype(np.int64) + origin, 0, self.length - 1)
        holds: NDArray[np.bool_] = (place >= self.run[0]) & (place < self.run[1])
        return holds

    def _outside(self, first: int, last: int) -> NDArray[np.bool_]:
        """Which of some places of the image are only context: as a column for rows, as a row for columns."""
        places = np.arange(first, last)
        outside: NDArray[np.bool_] = (places < self.run[0]) | (places >= self.run[1])
        return outside[:, None] if self.axis == 0 else outside[None]


def _warmed(points: NDArray[np.float32], shape: tuple[int, ...], sigma_px: float) -> NDArray[np.bool_]:
    """Where the heat of cells reaches, (row, col)."""
    heat = heat_maps(points, np.zeros(len(points), np.uint8), (shape[0], shape[1]), [sigma_px])
    warmed: NDArray[np.bool_] = heat[0] > 0
    return warmed
