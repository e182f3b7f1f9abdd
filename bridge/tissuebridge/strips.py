"""The engine's loop: tiles of pixels through a worker, strip by strip, into the journal.

Stands between the tile plan and the journal. The worker is a network (`tile_network`) or one that proposes without
any (`proposals.tiles`); reading ahead, finishing behind, padding, resuming and stopping are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import Cancelled, ImageError, TissuebridgeError
from tissuebridge.journal import Journal, StripResult
from tissuebridge.project.base import PixelSource
from tissuebridge.project.resample import Grid, read_grid
from tissuebridge.readahead import finish_behind, read_ahead
from tissuebridge.tiles import AnalysedArea, Tile, TilePlan, Window, batches
from tissuemodel.detection import Candidates
from tissuemodel.labels import IGNORE_LABEL

READ_AHEAD_BATCHES: Final = 2
"""Batches of pixels that lie ready while the worker works."""

_SQUARES: Final = 36
_SQUARE_PX: Final = 128
"""So many squares of so many px are seen by a network before it is asked (`area_squares`); a multiple of any stride."""

FinishedTile: TypeAlias = tuple[Window, NDArray[np.uint8], Candidates]
"""A core inside the grid, its labels and its candidates."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What is to be done for an image.

    Attributes:
        image_name: For messages.
        source: Open pixels, used by the reader thread alone.
        grid: The model's grid over the image.
        plan: How the grid is cut.
        area: What of it is analysed.
        batch_size: Tiles the worker gets at once.
    """

    image_name: str
    source: PixelSource
    grid: Grid
    plan: TilePlan
    area: AnalysedArea
    batch_size: int

    def tiles(self, strip: int) -> list[Tile]:
        """The strip's tiles that have an analysed pixel in their core; the worker sees no other."""
        return [tile for tile in self.plan.tiles(strip) if self.area.touches(tile.core)]


class TileWorker(Protocol):
    """What becomes of a tile's pixels. To keep tiled results equal to untiled ones it must depend on nothing else."""

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """What stands for pixels outside the image (one fixed RGB value)."""
        ...

    @property
    def numbers(self) -> int:
        """How many numbers a candidate carries: the columns of `Candidates.scores`."""
        ...

    def finished(
        self, work: Work, batch: Sequence[Tile], pixels: NDArray[np.uint8]
    ) -> Iterator[FinishedTile]:
        """What is in each tile's core.

        The call itself is for what has to happen in the engine's thread, such as asking a network. The tiles are taken
        from the iterator in another thread, while this one has the next batch.

        Args:
            work: Where the tiles lie.
            batch: Tiles whose contexts have one shape.
            pixels: uint8 (tile, row, col, 3), the contexts' pixels.
        """
        ...


def compute_missing(
    work: Work,
    worker: TileWorker,
    journal: Journal,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
    part: tuple[int, int] = (0, 1),
) -> int:
    """Computes the strips that the journal lacks.

    Args:
        work: The image, cut into tiles.
        worker: Called from this thread only; what it gives is finished in another.
        journal: Gets each strip when it is finished, from that thread.
        progress: Called with (tiles done, tiles in all): once at the start, then after each call of the worker. Of a
            part: its own tiles that are done.
        cancelled: Asked before every call of the worker.
        part: (k, n): only the k-th of n runs of strips; others compute the rest.

    Returns:
        The number of tiles in all strips that have something to analyse.

    Raises:
        ImageError: A tile could not be read; names image and tile.
        ModelError: A network gave NaN or infinity; names image and tile.
        StorageError: A strip could not be written.
        Cancelled: As asked; finished strips stay.
    """
    todo = {strip: list(batches(work.tiles(strip), work.batch_size)) for strip in range(work.plan.strips)}
    tiles_of = {strip: sum(len(batch) for batch in todo[strip]) for strip in todo}
    own = range(work.plan.strips * part[0] // part[1], work.plan.strips * (part[0] + 1) // part[1])
    missing, total = [strip for strip in journal.missing if strip in own], sum(tiles_of.values())
    done = sum(tiles_of[strip] for strip in own) - sum(tiles_of[strip] for strip in missing)
    progress(done, total)
    wanted = (batch for strip in missing for batch in todo[strip])
    pixels_of_batches = (_read_batch(work, batch, worker.pad_value) for batch in wanted)
    with read_ahead(pixels_of_batches, READ_AHEAD_BATCHES) as pixels_ahead, finish_behind() as finish:
        for strip in missing:
            whole = _Strip(work, strip, tiles_of[strip], worker.numbers, journal)
            for batch in todo[strip]:
                pixels = next(pixels_ahead)
                if cancelled():
                    where = f"{work.image_name}: stopped after {done} of {total} tiles"
                    raise Cancelled(f"{where}; run again to go on from there")
                finish(whole.put, worker.finished(work, batch, pixels))
                done += len(batch)
                progress(done, total)
            if not todo[strip]:
                finish(whole.put, ())
    return total


def _read_batch(work: Work, batch: Sequence[Tile], pad_value: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The pixels of a batch; uint8 (tile, row, col, 3)."""
    return np.stack([_read_tile(work, tile, pad_value) for tile in batch])


def _read_tile(work: Work, tile: Tile, pad_value: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The pixels that the worker sees of a tile; beyond the grid the one fixed value."""
    window, grid = tile.context, work.grid
    inside = window.clipped(grid.height, grid.width)
    try:
        pixels = read_grid(work.source, grid, inside.row, inside.col, inside.height, inside.width)
    except TissuebridgeError as error:
        raise type(error)(f"{work.image_name}, {tile}: {error}") from error
    except Exception as error:
        raise ImageError(f"{work.image_name}, {tile}: its pixels cannot be read: {error}") from error
    if inside == window:
        return pixels
    return _padded(pixels, (window.height, window.width), pad_value)


def _padded(
    pixels: NDArray[np.uint8], shape: tuple[int, int], pad_value: tuple[int, int, int]
) -> NDArray[np.uint8]:
    padded = np.empty((*shape, 3), np.uint8)
    padded[:] = pad_value
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return padded


def area_squares(
    source: PixelSource, grid: Grid, area: AnalysedArea, pad_value: tuple[int, int, int]
) -> NDArray[np.uint8] | None:
    """Pixels from all over what is analysed, for a network that must see some before it can be asked.

    Returns:
        uint8 (square, row, col, 3); None where nothing is analysed.

    Raises:
        ImageError: Pixels cannot be decoded.
    """
    windows = area.squares(_SQUARES, _SQUARE_PX)
    if not windows:
        return None
    return np.stack(
        [
            _padded(read_grid(source, grid, w.row, w.col, w.height, w.width), (_SQUARE_PX,) * 2, pad_value)
            for w in windows
        ]
    )


class _Strip:
    """A strip that its tiles are put into; with the last of them it goes into the journal.

    Args:
        work: The image, cut into tiles.
        strip: Which one.
        tiles: How many of its tiles are computed; what no tile covers was not analysed.
        numbers: Of each candidate.
        journal: Gets it.
    """

    def __init__(self, work: Work, strip: int, tiles: int, numbers: int, journal: Journal) -> None:
        self._window, self._strip, self._tiles = work.plan.strip_window(strip), strip, tiles
        self._numbers, self._journal = numbers, journal
        self._finished: list[FinishedTile] = []

    def put(self, tiles: Iterable[FinishedTile]) -> None:
        """Takes the next of its tiles."""
        self._finished.extend(tiles)
        if len(self._finished) == self._tiles:
            self._journal.write(self._strip, self._joined())

    def _joined(self) -> StripResult:
        labels = np.full((self._window.height, self._window.width), IGNORE_LABEL, np.uint8)
        for core, core_labels, _ in self._finished:
            labels[core.slices(self._window)] = core_labels
        return StripResult(labels, Candidates.joined((found for *_, found in self._finished), self._numbers))
