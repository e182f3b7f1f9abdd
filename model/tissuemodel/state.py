"""Where an interrupted training stands, as one safetensors file, so that it can be resumed exactly.

Comes in from and goes back to `training`. Written whole or not at all, never a pickle, and a digest tells a damaged
file from a good one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from tissuemodel.atomic import sweep, whole_file
from tissuemodel.saved_model import CheckpointError, read_bounded

FORMAT: Final = "tissuebridge training state 1"
MAX_STATE_BYTES: Final = 4 << 30
"""Weights, their average and Adam's two moments of the largest model."""

_CURE: Final = "delete it and train from the start, or copy it again"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a training needs to go on.

    Attributes:
        tensors: Name to tensor: weights, moments, states of generators; any shape and type, on any device.
        about: Plain JSON values: steps done, configuration, ...; lists come back for tuples.
    """

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


def save_state(state: TrainingState, path: Path) -> None:
    """Replaces the file at `path` in one step; whenever the process is killed, the old or the new one is there.

    Temporary files that killed savers left are removed. One process at a time may save to a path.

    Raises:
        OSError: The file cannot be written; the old one stays.
        TypeError: `about` holds something that is no JSON value.
        ValueError: A tensor or `about` holds NaN or infinity; the old file stays.
    """
    about = json.dumps(dict(state.about), ensure_ascii=True, allow_nan=False)
    tensors = {name: _plain(tensor) for name, tensor in state.tensors.items()}
    if broken := _not_finite(tensors):
        raise ValueError(f"{path}: {broken} holds NaN or infinity; the state before it is kept")
    content = pack_tensors(
        tensors, metadata={"format": FORMAT, "about": about, "sha256": _digest(tensors, about)}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    with whole_file(path) as file:
        file.write(content)


def load_state(path: Path) -> TrainingState:
    """Reads what `save_state` wrote, onto the CPU.

    Raises:
        CheckpointError: The file is missing, too large, truncated, damaged, no training state, or holds NaN.
    """
    content = read_bounded(
        path,
        MAX_STATE_BYTES,
        "a training state",
        missing="there is nothing to resume: train from the start",
        too_large=_CURE,
    )
    try:
        header = _metadata(content)
        about, sha256 = header["about"], header["sha256"]
        tensors = parse_tensors(content)
        plain = json.loads(about)
    except Exception as error:  # safetensors meets bad headers with its own errors, KeyError, ValueError, ...
        raise CheckpointError(f"{path}: not a training state of this version; {_CURE}") from error
    if header.get("format") != FORMAT or _digest(tensors, about) != sha256:
        raise CheckpointError(f"{path}: the training state is damaged or was changed; {_CURE}")
    if broken := _not_finite(tensors):
        raise CheckpointError(f"{path}: {broken} holds NaN or infinity; {_CURE}")
    return TrainingState(tensors, plain)


def _metadata(content: bytes) -> dict[str, str]:
    """The part of a safetensors header that `parse_tensors` leaves out."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length])["__metadata__"])


def _plain(tensor: Tensor) -> Tensor:
    """A copy of its own on the CPU: safetensors refuses tensors that share memory or lie otherwise than in rows."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
