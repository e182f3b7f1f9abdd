"""What an image's pixels are like on the whole: their statistics, and whether a model learnt from such colours.

Read once, before the tiles, at one fixed physical scale: so the numbers are the same for any tile size, region of
interest and transport, and the same in training as in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from tissuebridge.errors import Cancelled
from tissuebridge.project.base import PixelSource
from tissuebridge.project.resample import Grid, grid_of, read_grid
from tissuemodel.colours import COLOUR_PIXEL_UM, UNUSUAL_SHARE, colour_counts, unusual_share
from tissuemodel.labels import ChannelStatistics

STATISTICS_PIXEL_UM: Final = 8.0
"""Coarse enough for one quick reading of a slide's small levels, fine enough to tell glands from the space between."""

_STRIP_ROWS: Final = 256

_LOOKS: Final = 6
_LOOK_PX: Final = 128
"""An image's colours are looked at in so many rows and columns of squares, each of so many px."""


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


def colour_warning(source: PixelSource, pixel_size_um: float, usual_colours: str) -> str | None:
    """What to tell about an image whose colours a model did not learn from; None where they are usual.

    Looks at 36 squares of 256 um, evenly spread, which is all of a small image.

    Args:
        source: The open pixels.
        pixel_size_um: Of the full resolution.
        usual_colours: What the model says it learnt from; "" where it does not.

    Raises:
        ImageError: Pixels cannot be decoded.
    """
    if not usual_colours:
        return None
    grid = grid_of(source.levels, pixel_size_um, max(COLOUR_PIXEL_UM, pixel_size_um))
    counts = sum(colour_counts(read_grid(source, grid, *square)) for square in looks(grid, _LOOK_PX))
    share = unusual_share(np.asarray(counts), usual_colours)
    if share is None or share <= UNUSUAL_SHARE:
        return None
    return (
        f"{share:.0%} of the tissue has colours that the model did not learn from (another stain, scanner or "
        "laboratory?): measure it on annotated images like this before believing it"
    )


def looks(grid: Grid, side_px: int) -> Iterator[tuple[int, int, int, int]]:
    """Squares (row, col, height, width) evenly spread over an image, at most 36: all of a small one.

    Args:
        grid: The image's grid.
        side_px: Of a square, in px of the grid; a smaller image is one square.

    >>> list(looks(Grid(200, 100, 1.0), 128))
    [(0, 0, 100, 128), (0, 72, 100, 128)]
    """
    height, width = min(side_px, grid.height), min(side_px, grid.width)
    for row in _starts(grid.height, side_px):
        for col in _starts(grid.width, side_px):
            yield row, col, height, width


def _starts(side: int, look_px: int) -> list[int]:
    """Where the squares begin along a side: all of it where so many reach, else evenly spread.

    >>> _starts(200, 128), _starts(100, 128), len(_starts(100_000, 128))
    ([0, 72], [0], 6)
    """
    count = min(_LOOKS, -(-side // look_px))
    return [round(start) for start in np.linspace(0, max(0, side - look_px), count).tolist()]
