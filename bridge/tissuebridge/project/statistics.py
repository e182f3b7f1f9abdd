"""What an image's pixels are like on the whole, for models that normalise each image by its own statistics.

Read once, before the tiles, at one fixed physical scale: so the numbers are the same for any tile size, region of
interest and transport, and the same in training as in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from tissuebridge.errors import Cancelled
from tissuebridge.project.base import PixelSource
from tissuebridge.project.resample import grid_of, read_grid
from tissuemodel.labels import ChannelStatistics

STATISTICS_PIXEL_UM: Final = 8.0
"""Coarse enough for one quick reading of a slide's small levels, fine enough to tell glands from the space between."""

_STRIP_ROWS: Final = 256


def image_statistics(
    source: PixelSource, pixel_size_um: float, cancelled: Callable[[], bool] = lambda: False
) -> ChannelStatistics:
    """Channel means and standard deviations of a whole image at 8 um a pixel (or its own, where that is coarser).

    All pixels count, blank glass too: what is tissue would need a rule of its own, with its own mistakes. Memory is
    a strip; the cost is one reading of the coarsest level that is at least as fine, all of the image where it has
    no pyramid.

    Args:
        source: The open pixels; wrap them in a `BlockCache`, since strips share blocks.
        pixel_size_um: Of the full resolution.
        cancelled: Asked before every strip; True stops.

    Raises:
        Cancelled: `cancelled` said so.
        ImageError: Pixels cannot be decoded.
    """
    grid = grid_of(source.levels, pixel_size_um, max(STATISTICS_PIXEL_UM, pixel_size_um))
    counts = np.zeros((3, 256), np.int64)
    for row in range(0, grid.height, _STRIP_ROWS):
        if cancelled():
            raise Cancelled(f"{source.name}: stopped while its colours were measured; run again")
        pixels = read_grid(source, grid, row, 0, min(_STRIP_ROWS, grid.height - row), grid.width)
        for channel in range(3):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    return ChannelStatistics.of_counts(counts)
