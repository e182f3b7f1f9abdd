"""A trained model as a folder: `model.safetensors` (weights) and `model.json` (everything else).

Comes in from `training`, goes to `inference`. No pickle is ever read or written; the weights' digest stands in the
JSON, so that a flipped bit is found, and whenever saving is killed the old or the new model is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch.overrides import TorchFunctionMode

from tissuemodel.atomic import leftovers, write_together
from tissuemodel.config import ModelConfig
from tissuemodel.network import MultitaskUNet
from tissuemodel.rules import impossible

FORMAT: Final = 1
WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "model.json"
MAX_WEIGHTS_BYTES: Final = 1 << 30
MAX_CONFIG_BYTES: Final = 8 << 20


class CheckpointError(ValueError):
    """A model folder is missing, damaged, tampered with, or of another format; the message says which."""


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
    return Checkpoint(name, config, network.eval(), _digest(_pack(network), config), record)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes both files beside the old ones, then renames them, the JSON last, since it vouches for the weights.

    A full disk or a record that is no JSON leaves the old model as it was. A computer that stops between the two
    renames leaves the new JSON under its temporary name, where `load_checkpoint` finds it.

    Raises:
        OSError: The folder cannot be written. Where only the last rename failed, the new model loads nevertheless.
        TypeError: The record holds something that is no JSON value.
        ValueError: The record holds NaN or infinity.
    """
    weights = _pack(checkpoint.network)
    about = {
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "about_sha256": _about_digest(checkpoint.name, checkpoint.record),
        **checkpoint.about(),
    }
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_together({folder / WEIGHTS_FILE: weights, folder / CONFIG_FILE: text.encode()})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a model folder and checks that it is whole.

    Where saving was killed between its two renames, the new JSON is found under its temporary name, and the rename is
    done if the folder can be written.

    Raises:
        CheckpointError: A file is missing, too large, damaged, tampered with or of another format, or the weights
            do not fit the classes.
    """
    path = folder / CONFIG_FILE
    try:
        return _load(folder, path)
    except CheckpointError:
        for candidate in (*leftovers(path), path):  # the last: somebody may be saving just now
            with contextlib.suppress(CheckpointError):
                checkpoint = _load(folder, candidate)
                with contextlib.suppress(OSError):
                    candidate.replace(path)
                return checkpoint
        raise


def _load(folder: Path, path: Path) -> Checkpoint:
    """The model of the weights in a folder with the JSON at a path."""
    about = _read_about(path)
    try:
        config = ModelConfig.from_dict(about["config"])
        name, digest, sha256 = str(about["name"]), str(about["digest"]), str(about["weights_sha256"])
        record, about_sha256 = dict(about["record"]), str(about["about_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not a configuration of this version ({reason})") from error
    _check(path, config)
    weights = _read(folder / WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
    if hashlib.sha256(weights).hexdigest() != sha256 or _digest(weights, config) != digest:
        raise CheckpointError(
            f"{folder}: weights and configuration do not belong together or were changed; copy the model again"
        )
    if _about_digest(name, record) != about_sha256:
        # What a model learnt from stands there: changed, it could be measured on its own training images unwarned.
        raise CheckpointError(f"{path}: its name or record were changed since training; copy the model again")
    return Checkpoint(name, config, _network(folder, config, weights).eval(), digest, record)


def _about_digest(name: str, record: Mapping[str, Any]) -> str:
    """sha256 (hex) of what a model says of itself besides its configuration."""
    canonical = json.dumps([name, dict(record)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read_about(path: Path) -> dict[str, Any]:
    text = _read(path, MAX_CONFIG_BYTES)
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); copy the model again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a tissuebridge model of format {FORMAT}; train it again or update"
        )
    return about


def _read(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= limit else b""
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{path}: cannot be read ({reason}); --model wants a folder that `train` wrote"
        ) from error
    if size > limit:
        raise CheckpointError(
            f"{path}: {size} bytes, more than the {limit} a model may have; copy the model again"
        )
    return content


def _check(path: Path, config: ModelConfig) -> None:
    """Refuses configurations that are well-formed but make no sense together."""
    if wrong := impossible(config):
        told = ", ".join(f"{key} ({allowed})" for key, allowed in wrong.items())
        raise CheckpointError(f"{path}: impossible values (what is allowed): {told}; train the model again")


def _network(folder: Path, config: ModelConfig, weights: bytes) -> MultitaskUNet:
    """The network with these weights; nothing is built before they are known to fit."""
    path = folder / WEIGHTS_FILE
    try:
        tensors = parse_tensors(weights)
    except Exception as error:  # safetensors meets bad headers with its own errors, KeyError, ValueError, ...
        raise CheckpointError(f"{path}: not a safetensors file; copy the model again") from error
    with torch.device("meta"), _Unfilled():  # takes no memory and draws no random numbers
        network = build_network(config)
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


def _digest(weights: bytes, config: ModelConfig) -> str:
    canonical = json.dumps(config.to_dict(), sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(hashlib.sha256(weights).digest() + canonical).hexdigest()
