"""The models that a server was started with, and the service that lists them.

Comes in from the command line (model folders, loaded once), goes out to `analysis`. Nothing that a client sends
is ever part of a path: it names a model of this list or is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import Cancelled, UsageError
from tissuebridge.predictor.base import ModelDescription, Prediction, Predictor
from tissuebridge.rpc import convert
from tissuebridge.rpc.v1 import models_pb2 as wire
from tissuebridge.rpc.v1 import models_pb2_grpc
from tissuemodel.labels import ChannelStatistics


class ModelList:
    """Predictors by name, asked in one thread in the order of asking.

    A second thread would only share the same processor, and with a thread for each call the threads of OpenMP
    would multiply.

    Args:
        models: Name to predictor.

    Raises:
        UsageError: There is none, or a name is impossible.
    """

    def __init__(self, models: Mapping[str, Predictor]) -> None:
        for name in models:
            if not convert.MODEL_NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot be a model's name: expected {convert.MODEL_NAME.pattern}")
        if not models:
            raise UsageError("the server needs a model: give at least one with --model DIR")
        self._models = dict(sorted(models.items()))
        self._network = ThreadPoolExecutor(1, "network")

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def add(self, name: str, predictor: Predictor) -> None:
        """Serves a model too, instead of another of that name; calls under way keep the one they have."""
        self._models = dict(sorted({**self._models, name: predictor}.items()))

    def name_of(self, wanted: str) -> str:
        """The name of the model a client asks for; "" is the only one there is.

        Raises:
            UsageError: There is none of that name, or "" and several.
        """
        if wanted in self._models:
            return wanted
        if not wanted and len(self._models) == 1:
            return next(iter(self._models))
        names = ", ".join(self._models)
        problem = f"the server has no model {wanted[:80]!r}" if wanted else "the server has several models"
        raise UsageError(f"{problem}; choose one of: {names}")

    def description(self, name: str) -> ModelDescription:
        """What the engine and clients must know of a model."""
        return self._models[name].description

    def for_call(self, name: str, cancelled: Callable[[], bool]) -> Predictor:
        """A model as one call sees it: it waits for its turn, and is not asked once the call is over."""
        return _Turns(self._models[name], self._network, cancelled)


class _Turns:
    """A predictor that is shared with other calls."""

    def __init__(
        self, predictor: Predictor, network: ThreadPoolExecutor, cancelled: Callable[[], bool]
    ) -> None:
        self._predictor, self._network, self._cancelled = predictor, network, cancelled

    @property
    def description(self) -> ModelDescription:
        return self._predictor.description

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        return self._network.submit(self._predict, tiles).result()

    def for_image(
        self, statistics: ChannelStatistics | None = None, squares: NDArray[np.uint8] | None = None
    ) -> Predictor:
        return _Turns(self._predictor.for_image(statistics, squares), self._network, self._cancelled)

    def _predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        # The call may have ended while it waited for its turn.
        if self._cancelled():
            raise Cancelled("the call has ended")
        return self._predictor.predict(tiles)


class ModelsService(models_pb2_grpc.ModelsServicer):
    """Tells which models there are.

    Args:
        models: The server's models.
    """

    def __init__(self, models: ModelList) -> None:
        self._models = models

    def List(self, request: wire.ListModelsRequest, context: Any) -> wire.ListModelsResponse:  # noqa: N802
        """All of them, by name."""
        return wire.ListModelsResponse(models=[self._message(name) for name in self._models])

    def Describe(self, request: wire.DescribeModelRequest, context: Any) -> wire.Model:  # noqa: N802
        """One of them."""
        return self._message(self._models.name_of(request.name))

    def _message(self, name: str) -> wire.Model:
        return convert.model_message(name, self._models.description(name))
