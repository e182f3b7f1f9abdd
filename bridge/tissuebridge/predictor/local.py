"""A trained checkpoint in this process: the predictor that everything uses in the end (the server too)."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import ModelError, UsageError
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuebridge.predictor.saved import describe, read_saved
from tissuemodel.checkpoint import Checkpoint, checkpoint_of
from tissuemodel.inference import Inference, has_bfloat16, has_int8
from tissuemodel.labels import ChannelStatistics
from tissuemodel.saved_model import CheckpointError, SavedModel

_log = logging.getLogger(__name__)


class LocalPredictor:
    """Asks a checkpoint's network in this process.

    Args:
        checkpoint: A trained model.
        precision: "fp32", "bf16", or "int8" (by OpenVINO).
        engine: "torch", or "openvino": the same results but for rounding, faster on a CPU.

    Raises:
        UsageError: The engine is not installed, or does not compute in this precision.
    """

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32", engine: str = "torch") -> None:
        self.checkpoint = checkpoint
        try:
            self._infer = Inference(checkpoint.network, checkpoint.config, precision=precision, engine=engine)
        except ImportError as error:
            raise UsageError("OpenVINO is not installed: pip install 'tissuebridge[openvino]'") from error
        except ValueError as error:
            raise UsageError(
                f"--precision {precision} --engine {engine}: {error}; add --engine openvino"
            ) from error
        self._description = replace(describe(checkpoint), precision=precision)
        if precision == "bf16" and self._infer.device.type == "cpu" and not has_bfloat16():
            _log.warning("this CPU has no bfloat16: without --precision bf16 it is several times as fast")
        if precision == "int8" and not has_int8():
            _log.warning("this CPU gains nothing by int8: without --precision int8 it is as fast, and exact")

    @classmethod
    def load(cls, folder: Path, precision: str = "fp32", engine: str = "torch") -> LocalPredictor:
        """Reads a model folder.

        Raises:
            ModelError: It is missing, damaged or tampered with.
            UsageError: The engine is not installed.
        """
        return cls.of(read_saved(folder), precision, engine)

    @classmethod
    def of(cls, saved: SavedModel, precision: str = "fp32", engine: str = "torch") -> LocalPredictor:
        """Builds the network of a model that was read.

        Raises:
            ModelError: The weights do not fit the classes.
            UsageError: The engine is not installed.
        """
        try:
            return cls(checkpoint_of(saved), precision, engine)
        except CheckpointError as error:
            raise ModelError(str(error)) from error

    @property
    def description(self) -> ModelDescription:
        """What the engine must know of the model."""
        return self._description

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        """Applies the network; see `tissuebridge.predictor.base.Predictor`."""
        return Prediction(*self._infer(tiles))

    def for_image(
        self, statistics: ChannelStatistics | None = None, squares: NDArray[np.uint8] | None = None
    ) -> LocalPredictor:
        """The same network, normalising by an image's own statistics, its steps chosen by the image's pixels."""
        bound = copy.copy(self)
        if statistics is not None:
            bound._infer = self._infer.for_image(statistics)
            bound._description = replace(self._description, pad_value=bound._infer.config.pad_value)
        if squares is not None:
            bound._infer = bound._infer.quantised(squares)
        return bound
