"""What an interrupted training needs to go on exactly: taken out of the running objects, and put back.

Stands between `training`, whose objects it knows, and `state`, which is the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tissuemodel.config import ModelConfig
from tissuemodel.labels import Example
from tissuemodel.objective import MultitaskTraining
from tissuemodel.saved_model import CheckpointError
from tissuemodel.state import TrainingState, load_state
from tissuemodel.validation import Validation

_PARTS = ("network", "average", "best", "adam")


class ResumeError(CheckpointError):
    """A training state belongs to other examples or another configuration."""


def digest_of(examples: Sequence[Example]) -> str:
    """sha256 (hex) over all that the examples hold: resuming with other data is another training."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr((example.image_name, example.statistics, example.image.shape)).encode())
        for array in (
            example.image,
            example.regions,
            example.points,
            example.point_classes,
            example.negatives,
            example.complete,
            example.ignored,
        ):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def resumable(path: Path, config: ModelConfig, examples_digest: str) -> TrainingState | None:
    """The state of a training of this configuration on these examples; None where there is none.

    Args:
        path: The state's file.
        config: From `prepare`.
        examples_digest: Of all examples, also those for validation.

    Raises:
        CheckpointError: The file is damaged.
        ResumeError: It belongs to another training.
    """
    if not path.exists():
        return None
    state = load_state(path)
    if state.about.get("examples") != examples_digest:
        raise ResumeError(f"{path}: an unfinished training on other images or annotations")
    if state.about.get("config") != config.to_dict():
        raise ResumeError(f"{path}: an unfinished training with other settings")
    return state


def captured(
    module: MultitaskTraining, trainer: Any, validation: Validation | None, about: Mapping[str, Any]
) -> TrainingState:
    """The state of a running training.

    Args:
        module: The network and what is learnt beside it.
        trainer: Lightning's.
        validation: The loss on other examples, if it is looked at.
        about: Steps, seconds, configuration and digest of the examples.
    """
    tensors = {f"network.{name}": value for name, value in module.network.state_dict().items()}
    tensors["log_variances"] = module.log_variances.detach()
    if module.average is not None:
        tensors |= {f"average.{name}": value for name, value in module.average.state_dict().items()}
    optimizer = trainer.optimizers[0].state_dict()["state"]
    for index, moments in optimizer.items():
        tensors |= {f"adam.{index}.{name}": value for name, value in moments.items()}
    if validation is not None:
        tensors |= {f"best.{name}": value for name, value in validation.best_weights.items()}
    scaler = trainer.precision_plugin.state_dict()
    return TrainingState(
        tensors,
        {**about, "scaler": scaler, "validation": validation.about() if validation is not None else None},
    )


def restore(state: TrainingState, module: MultitaskTraining, validation: Validation | None) -> None:
    """Puts back what is known before Lightning has built the optimiser."""
    parts = _by_part(state.tensors)
    module.network.load_state_dict(parts["network"])
    module.log_variances.data.copy_(state.tensors["log_variances"])
    if module.average is not None:
        module.average.load_state_dict(parts["average"])
    if validation is not None and state.about.get("validation"):
        validation.resume(state.about["validation"], parts["best"])


class Restoring(Callback):  # type: ignore[misc]
    """Puts the optimiser's moments, and mixed precision's scale, back into a training that is about to begin."""

    def __init__(self, state: TrainingState) -> None:
        self._state = state

    def on_train_start(self, trainer: Any, module: MultitaskTraining) -> None:
        """After Lightning has built the optimiser, before the first step."""
        optimizer = trainer.optimizers[0]
        moments = _moments(_by_part(self._state.tensors)["adam"])
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        if self._state.about.get("scaler"):
            trainer.precision_plugin.load_state_dict(self._state.about["scaler"])


def _by_part(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part in parts:
            parts[part][rest] = value
    return parts


def _moments(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, kind = name.partition(".")
        moments.setdefault(int(index), {})[kind] = value
    return moments
