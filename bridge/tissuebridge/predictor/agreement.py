"""How far a network in reduced precision agrees with itself in full precision, measured on an image's own tiles.

Stands between the engine and a fast predictor: on the first tiles both are asked, and what differs is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.predictor.base import ModelDescription, Prediction, Predictor
from tissuemodel.labels import ChannelStatistics

TILES: Final = 2
"""Of each image so many tiles are looked at twice."""


@dataclass(slots=True)
class _Counts:
    """What was compared."""

    tiles: int = 0
    pixels: int = 0
    same: int = 0
    heat: float = 0.0

    def add(self, found: Prediction, exact: Prediction) -> None:
        if found.logits.shape[1]:
            same = found.logits.argmax(1) == exact.logits.argmax(1)
            self.same += int(same.sum())
            self.pixels += same.size
        if found.heat.size:
            self.heat = max(self.heat, float(np.abs(found.heat - exact.heat).max()))


class Compared:
    """A fast predictor that also asks an exact one about the first tiles of an image.

    Args:
        fast: Whose answers count.
        exact: The same network in full precision.
    """

    def __init__(self, fast: Predictor, exact: Predictor) -> None:
        self._fast, self._exact = fast, exact
        self._counts = _Counts()

    @property
    def description(self) -> ModelDescription:
        """The fast predictor's."""
        return self._fast.description

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        """The fast predictor's answer."""
        found = self._fast.predict(tiles)
        if self._counts.tiles < TILES:
            self._counts.tiles += len(tiles)
            self._counts.add(found, self._exact.predict(tiles))
        return found

    def for_image(
        self, statistics: ChannelStatistics | None = None, squares: NDArray[np.uint8] | None = None
    ) -> Compared:
        """Both, for one image; counted together with this one."""
        exact = self._exact if statistics is None else self._exact.for_image(statistics)
        bound = Compared(self._fast.for_image(statistics, squares), exact)
        bound._counts = self._counts
        return bound

    def told(self) -> str:
        """What was measured, in words; "" where no tile was looked at."""
        counts = self._counts
        if not counts.tiles:
            return ""
        parts = [f"{100 * counts.same / counts.pixels:.2f} % of the labels agree"] if counts.pixels else []
        if self.description.cell_classes:
            parts.append(f"scores of cells differ by up to {counts.heat:.3f}")
        return f"{self.description.precision} against fp32 on {counts.tiles} tiles: {', '.join(parts)}"
