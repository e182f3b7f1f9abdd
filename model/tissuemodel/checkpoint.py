"""A trained model as a folder: `model.safetensors` (weights) and `model.json` (everything else).

Comes in from `training`, goes to `inference`. No pickle is ever read or written; the weights' digest stands in the
JSON, so that a flipped bit is found, and whenever saving is killed the old or the new model is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch.overrides import TorchFunctionMode

from tissuemodel.atomic import write_together
from tissuemodel.config import ModelConfig
from tissuemodel.network import MultitaskUNet
from tissuemodel.saved_model import (
    CONFIG_FILE,
    FORMAT,
    WEIGHTS_FILE,
    CheckpointError,
    SavedModel,
    about_digest,
    model_digest,
    read_model,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network with what is needed to use it.

    Attributes:
        name: The model's name, shown to people.
        config: Classes, pixel size, normalisation, thresholds, and how it was trained.
        network: The network, in evaluation mode, on the CPU.
        digest: sha256 (hex) over weights and configuration.
        record: What training recorded (counts, versions, measures); plain JSON values.
    """

    name: str
    config: ModelConfig
    network: MultitaskUNet
    digest: str
    record: Mapping[str, Any] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """What `model.json` says of it, as plain JSON values."""
        return {
            "name": self.name,
            "digest": self.digest,
            "config": self.config.to_dict(),
            "record": dict(self.record),
        }


def build_network(config: ModelConfig) -> MultitaskUNet:
    """The untrained network that a configuration describes, with random weights."""
    return MultitaskUNet(config.network, len(config.region_classes), len(config.cell_classes))


def make_checkpoint(
    name: str, config: ModelConfig, network: MultitaskUNet, record: Mapping[str, Any]
) -> Checkpoint:
    """Binds a trained network to its configuration and computes the digest."""
    return Checkpoint(name, config, network.eval(), model_digest(_pack(network), config), record)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes both files beside the old ones, then renames them, the JSON last, since it vouches for the weights.

    A full disk or a record that is no JSON leaves the old model as it was. A computer that stops between the two
    renames leaves the new JSON under its temporary name, where `read_model` finds it.

    Raises:
        OSError: The folder cannot be written. Where only the last rename failed, the new model loads nevertheless.
        TypeError: The record holds something that is no JSON value.
        ValueError: The record holds NaN or infinity.
    """
    weights = _pack(checkpoint.network)
    about = {
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "about_sha256": about_digest(checkpoint.name, checkpoint.record),
        **checkpoint.about(),
    }
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_together({folder / WEIGHTS_FILE: weights, folder / CONFIG_FILE: text.encode()})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a model folder and checks that it is whole.

    Raises:
        CheckpointError: As for `saved_model.read_model`, or the weights do not fit the classes.
    """
    return checkpoint_of(read_model(folder))


def checkpoint_of(saved: SavedModel) -> Checkpoint:
    """The network of a model that was read.

    Raises:
        CheckpointError: The weights do not fit the classes.
    """
    return Checkpoint(saved.name, saved.config, _network(saved).eval(), saved.digest, saved.record)


def _network(saved: SavedModel) -> MultitaskUNet:
    """The network; nothing is built before the weights are known to fit."""
    path = saved.folder / WEIGHTS_FILE
    try:
        tensors = parse_tensors(saved.weights)
    except Exception as error:  # safetensors meets bad headers with its own errors, KeyError, ValueError, ...
        raise CheckpointError(f"{path}: not a safetensors file; copy the model again") from error
    with torch.device("meta"), _Unfilled():  # takes no memory and draws no random numbers
        network = build_network(saved.config)
    wanted = {key: (value.shape, value.dtype) for key, value in network.state_dict().items()}
    if {key: (value.shape, value.dtype) for key, value in tensors.items()} != wanted:
        raise CheckpointError(
            f"{path}: the weights do not fit the model's classes and widths; copy the model again"
        )
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise CheckpointError(f"{path}: {broken[0]} holds NaN or infinity; train the model again")
    network.load_state_dict(tensors, assign=True)
    return network


class _Unfilled(TorchFunctionMode):
    """Leaves weights as they come: to fill those of no memory, torch would load a computer algebra system."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def _pack(network: MultitaskUNet) -> bytes:
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    return pack_tensors(
        {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in state.items()}
    )
