"""A predictor whose network is loaded when it is first asked: often it never is.

The process that writes what others computed, and a command given again when all is done, only have to know what the
model is; torch alone takes seconds to load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tissuebridge.predictor.base import ModelDescription, Prediction, Predictor
from tissuemodel.labels import ChannelStatistics


class OnDemand:
    """A predictor that is loaded by its first question.

    Args:
        description: Of what will be loaded.
        load: Loads it; called at most once.
    """

    def __init__(self, description: ModelDescription, load: Callable[[], Predictor]) -> None:
        self._description = description
        self._load = load

    @property
    def description(self) -> ModelDescription:
        """What the engine must know of the model."""
        return self._description

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        """Applies the network; see `tissuebridge.predictor.base.Predictor`."""
        return self._loaded.predict(tiles)

    def for_image(
        self, statistics: ChannelStatistics | None = None, squares: NDArray[np.uint8] | None = None
    ) -> OnDemand:
        """The same for one image, loaded no earlier."""
        outside = self._description.pad_value if statistics is None else statistics.pad_value
        return OnDemand(
            replace(self._description, pad_value=outside),
            lambda: self._loaded.for_image(statistics, squares),
        )

    @cached_property
    def _loaded(self) -> Predictor:
        return self._load()
