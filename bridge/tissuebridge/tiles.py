"""Which tiles the network sees, what part of each is used, and which pixels are analysed at all.

Stands between the image's size on the model's grid and the reading of pixels. All lengths are px of the
model's grid, arrays (row, col). The reference is the network on the whole image, padded right and bottom to a
multiple of the stride; a tile shows the network its core and a halo, clipped to that padded extent and never
filled or reflected, so that the network's own zero padding acts only at the image's own edge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import UsageError
from tissuemodel.detection import disc_reach

BLOCK_PX: Final = 256
"""Side of the blocks that are skipped or not as one: a fixed grid of the image, whatever the tile size."""

MAX_TILE_PX: Final = 16_384
"""A larger core would need too much memory (the pixels of a tile of this size are 0.8 GiB)."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels on the model's grid."""

    row: int
    col: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """The column after the last."""
        return self.col + self.width

    def grown(self, by: int) -> Window:
        """The window with a margin on all four sides."""
        return Window(self.row - by, self.col - by, self.height + 2 * by, self.width + 2 * by)

    def clipped(self, height: int, width: int) -> Window:
        """The part inside an array of this size (with no rows or columns where there is none).

        >>> Window(-4, 2, 10, 10).clipped(8, 8)
        Window(row=0, col=2, height=6, width=6)
        """
        row, col = min(max(self.row, 0), height), min(max(self.col, 0), width)
        return Window(row, col, max(min(self.bottom, height) - row, 0), max(min(self.right, width) - col, 0))

    def shared(self, other: Window) -> Window:
        """The rectangle that two overlapping windows have in common."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        return Window(row, col, min(self.bottom, other.bottom) - row, min(self.right, other.right) - col)

    def slices(self, origin: Window) -> tuple[slice, slice]:
        """Where this window lies in an array that starts at `origin`.

        >>> Window(4, 6, 2, 3).slices(Window(3, 3, 9, 9))
        (slice(1, 3, None), slice(3, 6, None))
        """
        row, col = self.row - origin.row, self.col - origin.col
        return slice(row, row + self.height), slice(col, col + self.width)


@dataclass(frozen=True, slots=True)
class Tile:
    """A piece of work for the network.

    Attributes:
        strip: Index of the row of tiles it belongs to.
        core: What it answers for; inside the padded extent.
        context: What the network sees: the core and its halo, clipped to the padded extent.
    """

    strip: int
    core: Window
    context: Window

    def __str__(self) -> str:
        return f"tile at row {self.core.row}, column {self.core.col} of the model's grid"


def round_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `value`.

    >>> round_up(137, 16), round_up(144, 16)
    (144, 144)
    """
    return -(-value // step) * step


def halo_px(reach: int, radii_px: Sequence[float], stride: int) -> int:
    """The halo that makes tiled results equal untiled ones.

    A core's pixel is decided by the network's maps in its disc (peaks, with one px more for the parabola) and
    one px round it (mode filter), and each of those by what lies within the network's reach.

    Args:
        reach: One-sided reach of the network.
        radii_px: Radius of the peak's disc of each cell class.
        stride: The network's stride.

    >>> halo_px(137, [6.2], 16), halo_px(137, [], 16)
    (144, 144)
    """
    return round_up(reach + max((disc_reach(radius) for radius in radii_px), default=0) + 1, stride)


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How an image is cut: cores on multiples of the stride, in strips (rows of cores).

    Attributes:
        height: Rows of the model's grid.
        width: Columns.
        stride: The network's stride.
        core: Side of a core, a multiple of the stride.
        halo: What the network sees around a core, a multiple of the stride.
    """

    height: int
    width: int
    stride: int
    core: int
    halo: int

    @staticmethod
    def of(height: int, width: int, *, stride: int, tile_size: int, halo: int) -> TilePlan:
        """The plan for an image.

        Args:
            height: Rows of the model's grid.
            width: Columns.
            stride: The network's stride.
            tile_size: Wanted side of a core; rounded up to a multiple of the stride.
            halo: See `halo_px`. A smaller one gives seams; the tests use that.

        Raises:
            UsageError: The tile size or the halo is impossible.

        >>> plan = TilePlan.of(100, 250, stride=16, tile_size=100, halo=32)
        >>> plan.core, plan.padded_height, plan.strips
        (112, 112, 1)
        >>> [tile.core.width for tile in plan.tiles(0)]
        [112, 112, 32]
        """
        if not 0 < tile_size <= MAX_TILE_PX:
            limit = f"must be from 1 to {MAX_TILE_PX} px; 1024 is a good choice"
            raise UsageError(f"tile size {tile_size}: {limit}")
        if halo < 0 or halo % stride:
            raise UsageError(f"halo {halo}: must be a multiple of the model's stride {stride}")
        return TilePlan(height, width, stride, round_up(tile_size, stride), halo)

    @property
    def padded_height(self) -> int:
        """Rows of what the network would see as a whole."""
        return round_up(self.height, self.stride)

    @property
    def padded_width(self) -> int:
        """Columns of what the network would see as a whole."""
        return round_up(self.width, self.stride)

    @property
    def strips(self) -> int:
        """How many rows of cores there are."""
        return -(-self.padded_height // self.core)

    def strip_window(self, strip: int) -> Window:
        """The strip's pixels inside the grid: whole rows."""
        return Window(strip * self.core, 0, self.core, self.width).clipped(self.height, self.width)

    def tiles(self, strip: int) -> list[Tile]:
        """The strip's tiles, from left to right."""
        row, size = strip * self.core, (self.padded_height, self.padded_width)
        cores = [
            Window(row, col, self.core, self.core).clipped(*size) for col in range(0, size[1], self.core)
        ]
        return [Tile(strip, core, core.grown(self.halo).clipped(*size)) for core in cores]


def batches(tiles: Sequence[Tile], batch_size: int) -> Iterator[list[Tile]]:
    """Neighbouring tiles whose contexts have one shape, at most `batch_size` at once, in order.

    Args:
        tiles: Of one strip, so that a batch never straddles strips.
        batch_size: At least 1.

    >>> plan = TilePlan.of(64, 320, stride=16, tile_size=64, halo=16)
    >>> [len(batch) for batch in batches(plan.tiles(0), 2)]
    [1, 2, 1, 1]
    """
    for _, group in groupby(tiles, key=lambda tile: (tile.context.height, tile.context.width)):
        alike = list(group)
        for start in range(0, len(alike), batch_size):
            yield alike[start : start + batch_size]


class AnalysedArea:
    """Which pixels of the model's grid are analysed: it masks the result, never what the network sees.

    The mask is made block by block (`BLOCK_PX`, on a fixed grid of the image) when asked for, so that it is
    the same for every tiling and never exists as a whole.
    """

    def __init__(
        self,
        height: int,
        width: int,
        downsample: float,
        region_of_interest: BaseGeometry | None = None,
        skipped_blocks: NDArray[np.bool_] | None = None,
    ) -> None:
        """Prepares the mask.

        Args:
            height: Rows of the model's grid.
            width: Columns.
            downsample: Full-resolution px per px of the grid.
            region_of_interest: Areas in full-resolution px (x, y); a pixel counts if its centre is inside.
                None: everything.
            skipped_blocks: bool (row, col), True for blocks that are not analysed. None: none is skipped.

        Raises:
            UsageError: The blocks do not fit the grid.
        """
        self.height, self.width, self._downsample = height, width, downsample
        rows, cols = -(-height // BLOCK_PX), -(-width // BLOCK_PX)
        if skipped_blocks is not None and skipped_blocks.shape != (rows, cols):
            raise UsageError(
                f"skipped blocks {skipped_blocks.shape} do not fit a model grid of {width} x {height} px: "
                f"expected {(rows, cols)}, one for each {BLOCK_PX} px"
            )
        self._skipped = skipped_blocks
        self._geometry = None if region_of_interest is None else _areas(region_of_interest)
        self._full, self._partial = self._classify(rows, cols)
        self._mask_of_block = lru_cache(maxsize=1024)(self._rasterise)

    def _classify(self, rows: int, cols: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which blocks are wholly inside, and which are cut by the border of the region of interest."""
        full, partial = np.ones((rows, cols), np.bool_), np.zeros((rows, cols), np.bool_)
        if self._geometry is not None:
            side = BLOCK_PX * self._downsample
            row, col = np.mgrid[:rows, :cols]
            boxes = shapely.box(col * side, row * side, (col + 1) * side, (row + 1) * side)
            shapely.prepare(self._geometry)
            full = np.asarray(shapely.contains_properly(self._geometry, boxes))
            partial = np.asarray(shapely.intersects(self._geometry, boxes)) & ~full
        if self._skipped is not None:
            full, partial = full & ~self._skipped, partial & ~self._skipped
        return full, partial

    def _rasterise(self, block_row: int, block_col: int) -> NDArray[np.bool_]:
        scale, side = self._downsample, BLOCK_PX * self._downsample
        transform = Affine(scale, 0, block_col * side, 0, scale, block_row * side)
        shape = (BLOCK_PX, BLOCK_PX)
        return np.asarray(
            rasterize([(self._geometry, 1)], out_shape=shape, transform=transform, dtype="uint8"),
            dtype=np.bool_,
        )

    @property
    def is_everything(self) -> bool:
        """Whether no pixel of the grid is left out."""
        return bool(self._full.all())

    def within(self, window: Window) -> NDArray[np.bool_]:
        """The mask of a window that lies inside the grid; bool (row, col)."""
        if self.is_everything:
            return np.ones((window.height, window.width), np.bool_)
        mask = np.zeros((window.height, window.width), np.bool_)
        for block_row, block_col in self._blocks(window):
            block = _block_window(block_row, block_col)
            shared = block.shared(window)
            if self._full[block_row, block_col]:
                mask[shared.slices(window)] = True
            elif self._partial[block_row, block_col]:
                mask[shared.slices(window)] = self._mask_of_block(block_row, block_col)[shared.slices(block)]
        return mask

    def touches(self, window: Window) -> bool:
        """Whether a window (which may reach beyond the grid) has an analysed pixel."""
        inside = window.clipped(self.height, self.width)
        if inside.height == 0 or inside.width == 0:
            return False
        blocks = list(self._blocks(inside))
        if any(self._full[block] for block in blocks):
            return True
        return any(self._partial[block] for block in blocks) and bool(self.within(inside).any())

    def squares(self, count: int, side: int) -> list[Window]:
        """Squares in the middle of blocks that are analysed, evenly spread over them in row order.

        Args:
            count: At most so many.
            side: In px of the grid, at most `BLOCK_PX`; less at the grid's edge.

        >>> AnalysedArea(600, 256, 1.0).squares(2, 128)
        [Window(row=64, col=64, height=128, width=128), Window(row=512, col=64, height=88, width=128)]
        """
        blocks = np.argwhere(self._full | self._partial)
        chosen = np.unique(np.linspace(0, len(blocks) - 1, min(count, len(blocks))).round().astype(int))
        return [self._square(row, col, side) for row, col in blocks[chosen].tolist()]

    def _square(self, block_row: int, block_col: int, side: int) -> Window:
        """The middle of a block's part inside the grid."""
        inside = _block_window(block_row, block_col).clipped(self.height, self.width)
        height, width = min(side, inside.height), min(side, inside.width)
        row, col = inside.row + (inside.height - height) // 2, inside.col + (inside.width - width) // 2
        return Window(row, col, height, width)

    def count(self) -> int:
        """How many pixels of the grid are analysed."""
        total = 0
        for block_row, block_col in np.argwhere(self._full | self._partial).tolist():
            block = _block_window(block_row, block_col)
            inside = block.clipped(self.height, self.width)
            if self._full[block_row, block_col]:
                total += inside.height * inside.width
            else:
                total += int(self._mask_of_block(block_row, block_col)[inside.slices(block)].sum())
        return total

    @cached_property
    def digests(self) -> tuple[str, str]:
        """Digests of the region of interest and of the skipped blocks; "" for none."""
        region = None
        if self._geometry is not None:
            region = shapely.to_wkb(shapely.normalize(self._geometry), byte_order=1)
        skipped = None if self._skipped is None else np.packbits(self._skipped).tobytes()
        return _digest(region), _digest(skipped)

    def _blocks(self, window: Window) -> Iterator[tuple[int, int]]:
        for block_row in range(window.row // BLOCK_PX, -(-window.bottom // BLOCK_PX)):
            for block_col in range(window.col // BLOCK_PX, -(-window.right // BLOCK_PX)):
                yield block_row, block_col


def _areas(geometry: BaseGeometry) -> BaseGeometry:
    """The geometry's areas, made valid; lines and points that are left over would be burnt into the mask."""
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(geometry)))
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def _block_window(block_row: int, block_col: int) -> Window:
    return Window(block_row * BLOCK_PX, block_col * BLOCK_PX, BLOCK_PX, BLOCK_PX)


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
