"""A predictor that says what it is told, whatever it sees; for tests of scores and pages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuemodel.heatmaps import heat_maps, sigma_px


@dataclass
class Says:
    """Two regions that meet at a column, and cells of one class at some points (x, y)."""

    border: int
    dots: Sequence[tuple[float, float]]
    description: ModelDescription

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        shape = (tiles.shape[1], tiles.shape[2])
        left = np.broadcast_to(np.arange(shape[1]) < self.border, shape)
        points = np.array(self.dots, np.float32).reshape(-1, 2)
        heat = heat_maps(points, np.zeros(len(points), np.uint8), shape, [sigma_px(5.0, 0.5)])
        log_p = np.where(np.stack([left, ~left]), 0.0, -9.0).astype(np.float32)
        return Prediction(log_p[None], heat[None])
