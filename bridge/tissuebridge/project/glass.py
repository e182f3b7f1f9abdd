"""Which parts of an image are empty glass, told from a thumbnail: a network need not look there.

Careful rather than clever: a block counts as glass only where all of it has the colour that most of the bright
background has, or no structure at all; what borders on anything else is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import Cancelled
from tissuebridge.project.base import PixelSource
from tissuebridge.project.resample import Grid, read_grid
from tissuebridge.tiles import BLOCK_PX

THUMBNAIL_PX: Final = 16
"""Side of a thumbnail's pixel in px of the model's grid: the mean of so much shows a fibre of two px across it."""
LEAST_PX: Final = 2**24
"""Of the model's grid: smaller images are analysed as a whole."""

_NEAR: Final = 5
"""Levels (of 255) by which glass may differ from the usual background; pale eosin over 1/16 of a pixel is more."""
_FLAT: Final = 1
"""Levels within a block that has no structure at all, such as what a scanner fills in."""
_BRIGHT: Final = 180
_STRIP_BLOCKS: Final = 16


def glass_blocks(
    source: PixelSource, grid: Grid, cancelled: Callable[[], bool] = lambda: False
) -> NDArray[np.bool_]:
    """Blocks of an image that show nothing but glass.

    Args:
        source: The open pixels; wrap them in a `BlockCache`, since strips share blocks. Without a pyramid all of
            the image is read.
        grid: The model's grid over the image.
        cancelled: Asked before every strip; True stops.

    Returns:
        bool (row, col), one for each block of `BLOCK_PX` of the grid, as `AnalysisOptions.skipped_blocks`.

    Raises:
        Cancelled: `cancelled` said so.
        ImageError: Pixels cannot be decoded.
    """
    thumbnail = _thumbnail(source, grid, cancelled)
    usual = _background(thumbnail)
    side = BLOCK_PX // THUMBNAIL_PX
    differs = np.ones(thumbnail.shape[:2], np.bool_)
    if usual is not None:
        differs = (np.abs(thumbnail.astype(np.int16) - usual) > _NEAR).any(axis=2)
    is_glass = ~_by_block(differs, side, np.max).astype(np.bool_)
    low, high = (_by_block(thumbnail, side, of).astype(np.int16) for of in (np.min, np.max))
    is_glass |= (high - low <= _FLAT).all(axis=2)
    # A network looks beyond a block, and a cell may lie across its border.
    near_tissue = cv2.dilate((~is_glass).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(near_tissue == 0)


def _thumbnail(source: PixelSource, grid: Grid, cancelled: Callable[[], bool]) -> NDArray[np.uint8]:
    small = Grid(
        -(-grid.width // THUMBNAIL_PX), -(-grid.height // THUMBNAIL_PX), grid.downsample * THUMBNAIL_PX
    )
    rows = _STRIP_BLOCKS * BLOCK_PX // THUMBNAIL_PX
    strips = []
    for row in range(0, small.height, rows):
        if cancelled():
            raise Cancelled(f"{source.name}: stopped while empty glass was looked for; run again")
        strips.append(read_grid(source, small, row, 0, min(rows, small.height - row), small.width))
    return np.concatenate(strips)


def _background(thumbnail: NDArray[np.uint8]) -> NDArray[np.int16] | None:
    """The most frequent colour of bright pixels; None where nothing is bright."""
    bright = thumbnail[thumbnail.min(axis=2) >= _BRIGHT]
    if not len(bright):
        return None
    # Coarse first: single colours of a noisy background are all rare.
    coarse = bright // 8
    keys = (coarse[:, 0].astype(np.int64) << 16) | (coarse[:, 1].astype(np.int64) << 8) | coarse[:, 2]
    values, counts = np.unique(keys, return_counts=True)
    usual: NDArray[np.int16] = np.median(bright[keys == values[counts.argmax()]], axis=0).astype(np.int16)
    return usual


def _by_block(
    pixels: NDArray[np.generic], side: int, of: Callable[..., NDArray[np.generic]]
) -> NDArray[np.generic]:
    """The smallest or largest of each block's pixels; the last blocks may be cut off."""
    rows, cols = -(-pixels.shape[0] // side), -(-pixels.shape[1] // side)
    missing = ((0, rows * side - pixels.shape[0]), (0, cols * side - pixels.shape[1]))
    whole = np.pad(pixels, missing + ((0, 0),) * (pixels.ndim - 2), mode="edge")
    shaped = whole.reshape(rows, side, cols, side, *pixels.shape[2:])
    return of(of(shaped, axis=3), axis=1)
