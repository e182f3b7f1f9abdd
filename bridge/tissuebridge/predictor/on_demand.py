"""A predictor whose network is loaded when it is first asked: often it never is.

The process that writes what others computed, and a command given again when all is done, only have to know what the
model is; torch alone takes seconds to load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tissuebridge.predictor.base import ModelDescription, Prediction, Predictor
from tissuebridge.predictor.saved import describe
from tissuemodel.labels import ChannelStatistics
from tissuemodel.saved_model import SavedModel

Load: TypeAlias = Callable[[SavedModel, str, str], Predictor]
"""Loads a model in a precision, by an engine."""


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


def load(saved: SavedModel, precision: str, engine: str) -> Predictor:
    """Loads a model into this process, and torch with it; see `tissuebridge.predictor.local.LocalPredictor`."""
    from tissuebridge.predictor.local import LocalPredictor

    return LocalPredictor.of(saved, precision, engine)


def predictors(
    saved: SavedModel, precision: str, engine: str, load: Load = load
) -> tuple[Predictor, Predictor | None]:
    """What to ask about images, and what to compare it with.

    Args:
        saved: The model.
        precision: As for `tissuebridge.predictor.local.LocalPredictor`.
        engine: Likewise.
        load: Called at most once for each of the two.

    Returns:
        The model as it was asked for, and, in a reduced precision, the exact one.

    Raises:
        UsageError: The engine is not installed, or does not compute in this precision.
    """
    exact = OnDemand(describe(saved), lambda: load(saved, "fp32", "torch"))
    # What an engine cannot do is told before anything is computed.
    chosen = exact if (precision, engine) == ("fp32", "torch") else load(saved, precision, engine)
    return chosen, exact if precision != "fp32" else None
