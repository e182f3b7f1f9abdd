"""A network's share in the engine: what it says of a tile becomes the labels and peaks of the tile's core.

The worker (`strips.TileWorker`) of `pipeline.analyse`. What a core becomes here depends on what lies within the
network's reach and the peaks' radius of it, and on nothing else: tiled results equal untiled ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import ModelError
from tissuebridge.predictor.base import ModelDescription, Prediction, Predictor
from tissuebridge.strips import FinishedTile, Work
from tissuebridge.tiles import Tile, Window
from tissuemodel.detection import Candidates, disc_reach, peaks, subpixel
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.mosaic import argmax_labels, mode_filter


class NetworkTiles:
    """Asks a network about tiles.

    Args:
        predictor: Called from the engine's thread only.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """What stands for pixels outside the image."""
        return self._predictor.description.pad_value

    @property
    def numbers(self) -> int:
        """A score of each cell class."""
        return len(self._predictor.description.cell_classes)

    def finished(
        self, work: Work, batch: Sequence[Tile], pixels: NDArray[np.uint8]
    ) -> Iterator[FinishedTile]:
        """What the network says of each tile's core: it is asked at the call, the rest is left to the iterator.

        Raises:
            ModelError: The network gave NaN or infinity (raised by the iterator), or no answer; names image and tile.
        """
        try:
            prediction = self._predictor.predict(pixels)
        except ModelError as error:
            raise ModelError(f"{work.image_name}, {'; '.join(map(str, batch))}: {error}") from error
        return _finished(work, batch, prediction, self._predictor.description)


def _finished(
    work: Work, batch: Sequence[Tile], prediction: Prediction, model: ModelDescription
) -> Iterator[FinishedTile]:
    _check_finite(work.image_name, batch, prediction, model)
    for place, tile in enumerate(batch):
        core = tile.core.clipped(work.grid.height, work.grid.width)
        labels = _core_labels(work, tile, core, prediction.logits[place], model)
        found = _core_peaks(work, tile, core, prediction.heat[place], model)
        yield core, labels, found


def _check_finite(
    image_name: str, batch: Sequence[Tile], prediction: Prediction, model: ModelDescription
) -> None:
    """Stops NaN and infinity before they become a result; one sum tells whether to look closer."""
    for maps in (prediction.logits, prediction.heat):
        with np.errstate(invalid="ignore", over="ignore"):
            looks_finite = bool(np.isfinite(maps.sum()))
        for place in range(0 if looks_finite else len(batch)):
            if not np.isfinite(maps[place]).all():
                raise ModelError(
                    f"{image_name}, {batch[place]}: model {model.name} gave NaN or infinity; its weights are "
                    "unusable: train it again or take another"
                )


def _core_labels(
    work: Work, tile: Tile, core: Window, logits: NDArray[np.float32], model: ModelDescription
) -> NDArray[np.uint8]:
    """The core's labels; the mode filter sees one pixel round it, clipped to the grid."""
    classes = len(model.region_classes)
    if classes == 0:
        return np.full((core.height, core.width), IGNORE_LABEL, np.uint8)
    seen = core.grown(1 if model.mode_filter else 0).shared(tile.context)
    seen = seen.clipped(work.grid.height, work.grid.width)
    labels = argmax_labels(logits[(slice(None), *seen.slices(tile.context))])
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
