"""The engine's loop: tiles of pixels through the network, strip by strip, into the journal.

Stands between the tile plan and the journal. What a tile's core becomes here depends on what lies within the
network's reach and the peaks' radius of it, and on nothing else: tiled results equal untiled ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import Cancelled, ImageError, ModelError, TissuebridgeError
from tissuebridge.journal import Journal, StripResult
from tissuebridge.predictor.base import ModelDescription, Prediction, Predictor
from tissuebridge.project.base import PixelSource
from tissuebridge.project.resample import Grid, read_grid
from tissuebridge.readahead import read_ahead
from tissuebridge.tiles import AnalysedArea, Tile, TilePlan, Window, batches
from tissuemodel.detection import Candidates, disc_reach, peaks, subpixel
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.mosaic import argmax_labels, mode_filter

READ_AHEAD_BATCHES: Final = 2
"""Batches of pixels that lie ready while the network works."""

_FinishedTile: TypeAlias = tuple[Window, NDArray[np.uint8], Candidates]
"""A core inside the grid, its labels and its peaks."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What is to be done for an image.

    Attributes:
        image_name: For messages.
        source: Open pixels, used by the reader thread alone.
        grid: The model's grid over the image.
        plan: How the grid is cut.
        area: What of it is analysed.
        batch_size: Tiles the network gets at once.
    """

    image_name: str
    source: PixelSource
    grid: Grid
    plan: TilePlan
    area: AnalysedArea
    batch_size: int

    def tiles(self, strip: int) -> list[Tile]:
        """The strip's tiles that have an analysed pixel in their core; the network sees no other."""
        return [tile for tile in self.plan.tiles(strip) if self.area.touches(tile.core)]


def compute_missing(
    work: Work,
    predictor: Predictor,
    journal: Journal,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> int:
    """Computes the strips that the journal lacks.

    Args:
        work: The image, cut into tiles.
        predictor: Called from this thread only.
        journal: Gets each strip when it is finished.
        progress: Called with (tiles done, tiles in all): once at the start, then after each batch.
        cancelled: Asked before every call of the network.

    Returns:
        The number of tiles in all strips that have something to analyse.

    Raises:
        ImageError: A tile could not be read; names image and tile.
        ModelError: The network gave NaN or infinity; names image and tile.
        StorageError: A strip could not be written.
        Cancelled: As asked; finished strips stay.
    """
    todo = {strip: list(batches(work.tiles(strip), work.batch_size)) for strip in range(work.plan.strips)}
    tiles_of = {strip: sum(len(batch) for batch in todo[strip]) for strip in todo}
    missing, total = journal.missing, sum(tiles_of.values())
    done = total - sum(tiles_of[strip] for strip in missing)
    progress(done, total)
    wanted = (batch for strip in missing for batch in todo[strip])
    pad_value = predictor.description.pad_value
    pixels_of_batches = (_read_batch(work, batch, pad_value) for batch in wanted)
    with read_ahead(pixels_of_batches, READ_AHEAD_BATCHES) as pixels_ahead:
        for strip in missing:
            finished: list[_FinishedTile] = []
            for batch in todo[strip]:
                pixels = next(pixels_ahead)
                if cancelled():
                    where = f"{work.image_name}: stopped after {done} of {total} tiles"
                    raise Cancelled(f"{where}; run again to go on from there")
                finished.extend(_analysed_batch(work, batch, pixels, predictor))
                done += len(batch)
                progress(done, total)
            journal.write(strip, _joined(work, strip, finished, len(predictor.description.cell_classes)))
    return total


def _read_batch(work: Work, batch: Sequence[Tile], pad_value: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The pixels of a batch; uint8 (tile, row, col, 3)."""
    return np.stack([_read_tile(work, tile, pad_value) for tile in batch])


def _read_tile(work: Work, tile: Tile, pad_value: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The pixels that the network sees of a tile; beyond the grid the one fixed value."""
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
    padded = np.empty((window.height, window.width, 3), np.uint8)
    padded[:] = pad_value
    padded[: inside.height, : inside.width] = pixels
    return padded


def _analysed_batch(
    work: Work, batch: Sequence[Tile], pixels: NDArray[np.uint8], predictor: Predictor
) -> Iterator[_FinishedTile]:
    """What the network says of each tile's core."""
    try:
        prediction = predictor.predict(pixels)
    except ModelError as error:
        raise ModelError(f"{work.image_name}, {'; '.join(map(str, batch))}: {error}") from error
    _check_finite(work.image_name, batch, prediction, predictor.description)
    for place, tile in enumerate(batch):
        core = tile.core.clipped(work.grid.height, work.grid.width)
        labels = _core_labels(work, tile, core, prediction.log_probabilities[place], predictor.description)
        found = _core_peaks(work, tile, core, prediction.heat[place], predictor.description)
        yield core, labels, found


def _check_finite(
    image_name: str, batch: Sequence[Tile], prediction: Prediction, model: ModelDescription
) -> None:
    """Stops NaN and infinity before they become a result; one sum tells whether to look closer."""
    for maps in (prediction.log_probabilities, prediction.heat):
        with np.errstate(invalid="ignore", over="ignore"):
            looks_finite = bool(np.isfinite(maps.sum()))
        for place in range(0 if looks_finite else len(batch)):
            if not np.isfinite(maps[place]).all():
                raise ModelError(
                    f"{image_name}, {batch[place]}: model {model.name} gave NaN or infinity; its weights are "
                    "unusable: train it again or take another"
                )


def _core_labels(
    work: Work, tile: Tile, core: Window, log_probabilities: NDArray[np.float32], model: ModelDescription
) -> NDArray[np.uint8]:
    """The core's labels; the mode filter sees one pixel round it, clipped to the grid."""
    classes = len(model.region_classes)
    if classes == 0:
        return np.full((core.height, core.width), IGNORE_LABEL, np.uint8)
    seen = core.grown(1 if model.mode_filter else 0).shared(tile.context)
    seen = seen.clipped(work.grid.height, work.grid.width)
    labels = argmax_labels(log_probabilities[(slice(None), *seen.slices(tile.context))])
    if not work.area.is_everything:
        labels[~work.area.within(seen)] = IGNORE_LABEL
    if model.mode_filter:
        labels = mode_filter(labels, classes)
    return labels[core.slices(seen)]


def _core_peaks(
    work: Work, tile: Tile, core: Window, heat: NDArray[np.float32], model: ModelDescription
) -> Candidates:
    """The peaks whose pixel lies in the core and is analysed, in coordinates of the whole grid.

    What lies beyond the grid takes no part: the maps are clipped to the grid, which is the same as -inf
    there.
    """
    analysed = None if work.area.is_everything else work.area.within(core)
    parts = []
    for index, distance_um in enumerate(model.min_distance_um):
        radius_px = distance_um / model.pixel_size_um
        seen = core.grown(disc_reach(radius_px) + 1).shared(tile.context)
        seen = seen.clipped(work.grid.height, work.grid.width)
        own = heat[index][seen.slices(tile.context)]
        rows, cols = peaks(own, radius_px, model.floor)
        core_rows, core_cols = rows + seen.row - core.row, cols + seen.col - core.col
        owned = (core_rows >= 0) & (core_rows < core.height) & (core_cols >= 0) & (core_cols < core.width)
        if analysed is not None:
            owned[owned] = analysed[core_rows[owned], core_cols[owned]]
        rows, cols = rows[owned], cols[owned]
        pixels = np.stack([rows + seen.row, cols + seen.col], axis=1).astype(np.int32)
        xy = subpixel(own, rows, cols) + np.array([seen.col, seen.row])
        scores = heat[:, pixels[:, 0] - tile.context.row, pixels[:, 1] - tile.context.col].T
        parts.append(Candidates(pixels, xy, np.full(len(rows), index, np.uint8), scores))
    return Candidates.joined(parts, len(model.cell_classes))


def _joined(
    work: Work,
    strip: int,
    finished: Sequence[_FinishedTile],
    cell_classes: int,
) -> StripResult:
    """A strip from its tiles; what no tile covered was not analysed."""
    window = work.plan.strip_window(strip)
    labels = np.full((window.height, window.width), IGNORE_LABEL, np.uint8)
    for core, core_labels, _ in finished:
        labels[core.slices(window)] = core_labels
    return StripResult(labels, Candidates.joined((found for *_, found in finished), cell_classes))
