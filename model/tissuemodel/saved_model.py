"""What a model folder holds, read and checked without torch: all of a model but its network.

Comes in from `checkpoint`, which saves it; goes back there, and to whoever only has to know what a model is. The
weights' digest stands in the JSON, so that a flipped bit is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tissuemodel.atomic import leftovers
from tissuemodel.config import ModelConfig
from tissuemodel.rules import impossible

FORMAT: Final = 1
WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "model.json"
MAX_WEIGHTS_BYTES: Final = 1 << 30
MAX_CONFIG_BYTES: Final = 8 << 20


class CheckpointError(ValueError):
    """A model folder is missing, damaged, tampered with, or of another format; the message says which."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A model as it was saved.

    Attributes:
        folder: Where.
        name: The model's name, shown to people.
        config: Classes, pixel size, normalisation, thresholds, and how it was trained.
        digest: sha256 (hex) over weights and configuration.
        record: What training recorded (counts, versions, measures); plain JSON values.
        weights: The bytes of the safetensors file; whether they fit the classes, the network tells.
    """

    folder: Path
    name: str
    config: ModelConfig
    digest: str
    record: Mapping[str, Any]
    weights: bytes


def read_model(folder: Path) -> SavedModel:
    """Reads a model folder and checks that weights and JSON are whole and belong together.

    Where saving was killed between its two renames, the new JSON is found under its temporary name, and the rename is
    done if the folder can be written.

    Raises:
        CheckpointError: A file is missing, too large, damaged, tampered with or of another format.
    """
    path = folder / CONFIG_FILE
    try:
        return _read_as(folder, path)
    except CheckpointError:
        for candidate in (*leftovers(path), path):  # the last: somebody may be saving just now
            with contextlib.suppress(CheckpointError):
                model = _read_as(folder, candidate)
                with contextlib.suppress(OSError):
                    candidate.replace(path)
                return model
        raise


def about_digest(name: str, record: Mapping[str, Any]) -> str:
    """sha256 (hex) of what a model says of itself besides its configuration."""
    canonical = json.dumps([name, dict(record)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def model_digest(weights: bytes, config: ModelConfig) -> str:
    """sha256 (hex) over the bytes of the safetensors file and the configuration."""
    canonical = json.dumps(config.to_dict(), sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(hashlib.sha256(weights).digest() + canonical).hexdigest()


def _read_as(folder: Path, path: Path) -> SavedModel:
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
    if hashlib.sha256(weights).hexdigest() != sha256 or model_digest(weights, config) != digest:
        raise CheckpointError(
            f"{folder}: weights and configuration do not belong together or were changed; copy the model again"
        )
    if about_digest(name, record) != about_sha256:
        # What a model learnt from stands there: changed, it could be measured on its own training images unwarned.
        raise CheckpointError(f"{path}: its name or record were changed since training; copy the model again")
    return SavedModel(folder, name, config, digest, record, weights)


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


def read_bounded(path: Path, limit: int, what: str, *, missing: str, too_large: str) -> bytes:
    """A file of at most so many bytes.

    Args:
        path: Of the file.
        limit: Bytes.
        what: What may have no more of them, for messages.
        missing: The cure where it cannot be read.
        too_large: The cure where it has more.

    Raises:
        CheckpointError: It cannot be read, or has more.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= limit else b""
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read ({reason}); {missing}") from error
    if size > limit:
        raise CheckpointError(f"{path}: {size} bytes, more than the {limit} {what} may have; {too_large}")
    return content


def _read(path: Path, limit: int) -> bytes:
    return read_bounded(
        path,
        limit,
        "a model",
        missing="--model wants a folder that `train` wrote",
        too_large="copy the model again",
    )


def _check(path: Path, config: ModelConfig) -> None:
    """Refuses configurations that are well-formed but make no sense together."""
    if wrong := impossible(config):
        told = ", ".join(f"{key} ({allowed})" for key, allowed in wrong.items())
        raise CheckpointError(f"{path}: impossible values (what is allowed): {told}; train the model again")
