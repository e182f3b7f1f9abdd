"""From blocks of a file's levels to windows of the model's grid: every pixel at the model's pixel size.

In comes a `PixelSource` (a file, or a client behind gRPC) and a `Grid`; out come uint8 windows for the
network, and points converted between the grid and full resolution. Nothing is shifted: grid pixel j
covers the full-resolution interval [j d, (j + 1) d). The value of a grid pixel follows from its place on
the grid alone, never from the window it was read in, so that any tiling of an image gives the same bytes.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import CalibrationError
from tissuebridge.project.base import Level, PixelSource
from tissuebridge.project.pixels import check_block

_log = logging.getLogger(__name__)

SNAP: Final = 0.01
"""Within this of a level's downsample the level's own pixels are used untouched: no scanner is truer."""

MIN_DOWNSAMPLE: Final = 0.5
"""An image more than twice as coarse as the model's grid is refused: the detail it learnt is not there."""

COARSE_DOWNSAMPLE: Final = 0.8
"""Below it a warning says that the image is coarser than what the model was trained on."""

BLOCK_SIDE: Final = 1024
"""Blocks are asked for at multiples of this many level pixels, so that overlapping tiles share them."""

_PIECE_PX: Final = 1024
"""A window is worked off in pieces of at most about this many level pixels a side: bounds the memory."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The model's grid over an image.

    Attributes:
        width: In grid px.
        height: In grid px.
        downsample: Full-resolution px per grid px.
    """

    width: int
    height: int
    downsample: float


def grid_of(levels: Sequence[Level], pixel_size_um: float, model_pixel_size_um: float) -> Grid:
    """The model's grid over an image.

    Args:
        levels: The image's levels, full resolution first.
        pixel_size_um: Of the full resolution.
        model_pixel_size_um: Of the grid.

    Returns:
        The grid; its downsample is that of a level where the two agree within 1 %.

    Raises:
        CalibrationError: A pixel size is no positive number, or the image is more than twice as coarse.

    >>> grid_of([Level(2220, 2967, 1.0)], 0.25, 0.5)
    Grid(width=1110, height=1484, downsample=2.0)
    """
    for size in (pixel_size_um, model_pixel_size_um):
        if not (math.isfinite(size) and size > 0):
            raise CalibrationError(
                f"a pixel size of {size:g} um is impossible; give the right one with --pixel-size UM"
            )
    downsample = model_pixel_size_um / pixel_size_um
    if downsample < MIN_DOWNSAMPLE:
        raise CalibrationError(
            f"the image has {pixel_size_um:g} um a pixel, more than twice as coarse as the model's "
            f"{model_pixel_size_um:g} um; use a model trained at its size, or correct --pixel-size UM"
        )
    if (warning := coarse_warning(pixel_size_um, model_pixel_size_um)) is not None:
        _log.warning(warning)
    nearest = min(levels, key=lambda level: abs(downsample / level.downsample - 1))
    if abs(downsample / nearest.downsample - 1) <= SNAP:
        downsample = nearest.downsample
    width, height = (
        max(1, math.floor(side / downsample + 0.5)) for side in (levels[0].width, levels[0].height)
    )
    return Grid(width, height, downsample)


def coarse_warning(pixel_size_um: float, model_pixel_size_um: float) -> str | None:
    """What to tell about an image coarser than a model's training images; None where it is as fine.

    >>> coarse_warning(0.25, 0.5)
    """
    if model_pixel_size_um / pixel_size_um >= COARSE_DOWNSAMPLE:
        return None
    return (
        f"the image has {pixel_size_um:g} um a pixel and the model was trained at {model_pixel_size_um:g} um: "
        "small detail is missing, expect worse results"
    )


def to_grid(xy: NDArray[np.floating], grid: Grid) -> NDArray[np.float64]:
    """Points (n, 2) as (x, y) in full-resolution px, in px of the grid.

    >>> to_grid(np.array([[3.0, 5.0]]), Grid(10, 10, 2.0)).tolist()
    [[1.5, 2.5]]
    """
    return np.asarray(xy, np.float64) / grid.downsample


def to_full_resolution(xy: NDArray[np.floating], downsample: float) -> NDArray[np.float64]:
    """Points (n, 2) as (x, y) in px of the grid, in full-resolution px.

    >>> to_full_resolution(np.array([[1.5, 2.5]]), 2.0).tolist()
    [[3.0, 5.0]]
    """
    return np.asarray(xy, np.float64) * downsample


def level_for(levels: Sequence[Level], grid: Grid) -> int:
    """The level a grid is read from: the coarsest that is at least as fine (to 1 %).

    >>> level_for([Level(100, 100, 1.0), Level(50, 50, 2.0), Level(25, 25, 4.0)], Grid(33, 33, 3.0))
    1
    """
    fine = [index for index, level in enumerate(levels) if level.downsample <= grid.downsample * (1 + SNAP)]
    return max(fine, key=lambda index: levels[index].downsample, default=0)


def read_grid(
    source: PixelSource, grid: Grid, row: int, col: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Reads a window of the model's grid.

    Coarser than the level: the mean over the area that a grid pixel covers, with fractional coverage. Finer:
    linear interpolation between pixel centres. Equal: the level's own pixels. Beyond the level's last
    pixel (sizes of levels are rounded) the last pixel counts. Rounded half up, once.

    Args:
        source: The open pixels; wrap them in a `BlockCache` if windows overlap.
        grid: From `grid_of`.
        row: Top row, in grid px.
        col: Left column, in grid px.
        height: In grid px.
        width: In grid px.

    Returns:
        Array (height, width, 3), red, green, blue.

    Raises:
        ValueError: The window is empty or reaches outside the grid.
        ImageError: Pixels cannot be decoded.
    """
    inside = row >= 0 and col >= 0 and row + height <= grid.height and col + width <= grid.width
    if height < 1 or width < 1 or not inside:
        raise ValueError(
            f"{source.name}: window row={row}, col={col}, {height} x {width} is not inside the grid "
            f"of {grid.height} rows and {grid.width} columns"
        )
    index = level_for(source.levels, grid)
    level = source.levels[index]
    ratio = _ratio(grid, level)
    out = np.empty((height, width, 3), np.uint8)
    for top, bottom in _pieces(row, row + height, ratio):
        for left, right in _pieces(col, col + width, ratio):
            piece = (slice(top - row, bottom - row), slice(left - col, right - col))
            if ratio == round(ratio):
                out[piece] = _mean_of_squares(source, index, int(ratio), (top, bottom), (left, right))
            else:
                out[piece] = _weighted(source, index, ratio, (top, bottom), (left, right))
    return out


def _ratio(grid: Grid, level: Level) -> float:
    """Level px per grid px; an integer where that moves no pixel of the grid by more than 0.01 level px."""
    ratio = grid.downsample / level.downsample
    whole = round(ratio)
    return float(whole) if whole and abs(ratio - whole) * max(grid.width, grid.height) <= 0.01 else ratio


def _pieces(start: int, stop: int, ratio: float) -> Iterator[tuple[int, int]]:
    """Cuts [start, stop) so that a piece needs about `_PIECE_PX` level px; where it cuts changes no value."""
    step = max(1, int(_PIECE_PX / max(ratio, 1.0)))
    for first in range(start, stop, step):
        yield first, min(first + step, stop)


def _read_clamped(
    source: PixelSource, index: int, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.uint8]:
    """Level px of [rows) x [cols), the edge pixels repeated outside the level."""
    level = source.levels[index]
    top, bottom = _clamp(rows, level.height)
    left, right = _clamp(cols, level.width)
    block = source.read_block(index, left, top, right - left, bottom - top)
    pad = ((top - rows[0], rows[1] - bottom), (left - cols[0], cols[1] - right))
    if pad == ((0, 0), (0, 0)):
        return block
    row_index = np.clip(np.arange(rows[0], rows[1]), top, bottom - 1) - top
    col_index = np.clip(np.arange(cols[0], cols[1]), left, right - 1) - left
    return block[row_index][:, col_index]


def _clamp(span: tuple[int, int], side: int) -> tuple[int, int]:
    """The part of a span inside [0, side), never empty."""
    first = min(max(span[0], 0), side - 1)
    return first, max(first + 1, min(span[1], side))


def _mean_of_squares(
    source: PixelSource, index: int, n: int, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.uint8]:
    """Whole ratios: the exact mean of n x n level px, in integers."""
    pixels = _read_clamped(source, index, (rows[0] * n, rows[1] * n), (cols[0] * n, cols[1] * n))
    if n == 1:
        return pixels
    kind = np.uint16 if n * n * 255 + n * n // 2 < 2**16 else np.uint32
    down: NDArray[Any] = pixels[0::n].astype(kind)
    for k in range(1, n):
        down += pixels[k::n]
    total: NDArray[Any] = down[:, 0::n].copy()
    for k in range(1, n):
        total += down[:, k::n]
    total += n * n // 2
    total //= n * n
    return total.astype(np.uint8)


def _weighted(
    source: PixelSource, index: int, ratio: float, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.uint8]:
    """Other ratios: separable weights, down the columns first, in float32, taps in a fixed order."""
    first_row, row_weights = _taps(rows, ratio)
    first_col, col_weights = _taps(cols, ratio)
    top, left = int(first_row[0]), int(first_col[0])
    bottom = int(first_row[-1]) + row_weights.shape[1]
    right = int(first_col[-1]) + col_weights.shape[1]
    pixels = _read_clamped(source, index, (top, bottom), (left, right)).astype(np.float32)
    down = _along_rows(pixels, first_row - top, row_weights)
    both = _along_rows(np.ascontiguousarray(down.transpose(1, 0, 2)), first_col - left, col_weights)
    both += np.float32(0.5)
    return both.astype(np.uint8).transpose(1, 0, 2)


def _along_rows(
    pixels: NDArray[np.float32], first: NDArray[np.int64], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weighted sums of rows: out[i] = sum_k weights[i, k] pixels[first[i] + k]."""
    out = pixels[first]
    out *= weights[:, 0, None, None]
    for k in range(1, weights.shape[1]):
        tap = pixels[first + k]
        tap *= weights[:, k, None, None]
        out += tap
    return out


def _taps(span: tuple[int, int], ratio: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First level px and weights (n, taps) of the grid px in [span), from their numbers on the grid alone."""
    number = np.arange(span[0], span[1], dtype=np.float64)
    if ratio < 1:
        centre = (number + 0.5) * ratio - 0.5
        first = np.floor(centre)
        part = centre - first
        return first.astype(np.int64), np.stack([1 - part, part], axis=1).astype(np.float32)
    start, stop = number * ratio, (number + 1) * ratio
    first = np.floor(start)
    edges = first[:, None] + np.arange(math.ceil(ratio) + 2)
    cover = np.minimum(edges[:, 1:], stop[:, None]) - np.maximum(edges[:, :-1], start[:, None])
    cover = np.maximum(cover, 0.0)
    return first.astype(np.int64), (cover / cover.sum(axis=1, keepdims=True)).astype(np.float32)


class BlockCache:
    """A `PixelSource` that reads aligned blocks of another and keeps those used last.

    Neighbouring tiles overlap by the halo, and a remote client should send nothing twice.

    Args:
        source: What is read; closed together with the cache.
        capacity_bytes: Blocks are dropped, the longest unused first, beyond it; one block always stays.
    """

    def __init__(self, source: PixelSource, capacity_bytes: int = 2**28) -> None:
        self._source = source
        self._capacity = capacity_bytes
        self._blocks: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    @property
    def name(self) -> str:
        """The image's name."""
        return self._source.name

    @property
    def levels(self) -> Sequence[Level]:
        """The levels, full resolution first."""
        return self._source.levels

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Reads a block of any size and place inside the level; see `PixelSource.read_block`.

        Raises:
            ValueError: The block is not inside the level.
            ImageError: A block of the source cannot be decoded.
        """
        check_block(self, level, x, y, width, height)
        out = np.empty((height, width, 3), np.uint8)
        for top in range(y - y % BLOCK_SIDE, y + height, BLOCK_SIDE):
            for left in range(x - x % BLOCK_SIDE, x + width, BLOCK_SIDE):
                block = self._block(level, left, top)
                first_row, first_col = max(y - top, 0), max(x - left, 0)
                part = block[first_row : y + height - top, first_col : x + width - left]
                row, col = top + first_row - y, left + first_col - x
                out[row : row + part.shape[0], col : col + part.shape[1]] = part
        return out

    def _block(self, level: int, left: int, top: int) -> NDArray[np.uint8]:
        """The aligned block that begins at (left, top), clipped to the level."""
        key = (level, left, top)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        size = self.levels[level]
        width, height = min(BLOCK_SIDE, size.width - left), min(BLOCK_SIDE, size.height - top)
        block = self._source.read_block(level, left, top, width, height)
        self._blocks[key] = block
        self._bytes += block.nbytes
        while self._bytes > self._capacity and len(self._blocks) > 1:
            self._bytes -= self._blocks.popitem(last=False)[1].nbytes
        return block

    def close(self) -> None:
        """Drops the blocks and closes the source."""
        self._blocks.clear()
        self._bytes = 0
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
