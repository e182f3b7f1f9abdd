"""From an annotated project to a trained model: what was found, what is learnt from, the checkpoint.

The way of the data: project -> annotations -> classes -> examples (`targets`) -> training -> checkpoint.
torch is imported only when training begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tissuebridge import __version__
from tissuebridge.classes import ClassMap
from tissuebridge.errors import StorageError
from tissuebridge.learnable import check_learnable
from tissuebridge.project.base import Project
from tissuebridge.training_set import CELL_DIAMETER_UM, TrainingSet, build_training_set

if TYPE_CHECKING:
    from tissuemodel.config import ModelConfig


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What a person may choose about a training.

    Attributes:
        preset: "paper" or "compact".
        minutes: Train about this long.
        epochs: Train this many passes instead; exact repetition is promised only for these.
        seed: Seed of weights, crops and augmentation.
        class_map: Roles, aliases and priorities of classes.
        crop_px: Side of a crop in px of the model's grid, a multiple of the network's stride; None: the preset's.
        learning_rate: Adam's, at the start; None: the preset's.
    """

    preset: str = "compact"
    minutes: float | None = None
    epochs: int | None = None
    seed: int = 0
    class_map: ClassMap | None = None
    crop_px: int | None = None
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training tells what it does; each may raise to stop it.

    Attributes:
        found: Called once with the table of what was found, before anything is learnt.
        step: Called after each step with (steps done, steps in all, loss).
    """

    found: Callable[[str], None] = lambda _table: None
    step: Callable[[int, int, float], None] = lambda _done, _steps, _loss: None


def train(
    project: Project, output: Path, options: TrainingOptions, progress: Progress | None = None
) -> dict[str, Any]:
    """Trains a network on a project's annotations and writes its checkpoint.

    Args:
        project: Images with annotations.
        output: Folder for `model.safetensors` and `model.json`.
        options: Preset, length, seed, class map.
        progress: Told of what was found and of each step.

    Returns:
        What was done, as plain JSON values: classes, images, steps, thresholds, digest, paths.

    Raises:
        AnnotationError: There is nothing to learn, or a class is ambiguous or cannot be learnt.
        CalibrationError: An image has no pixel size.
        GeoJSONError: An annotation file is damaged.
        ImageError: An image cannot be read.
        StorageError: The checkpoint cannot be written.
    """
    from tissuemodel.calibration import choose_detection
    from tissuemodel.checkpoint import make_checkpoint, save_checkpoint
    from tissuemodel.training import prepare, train_network

    progress = progress or Progress()
    check_writable(output)
    training_set = build_training_set(project, options.class_map)
    progress.found(f"{training_set.found.table()}\n\n{training_set.summary.table()}\n")
    check_learnable(training_set.summary)
    config = prepare(model_config(training_set, options), training_set.train)
    network, config = train_network(training_set.train, config, progress.step)
    config = choose_detection(network, config, training_set.validation or training_set.train)
    record = _record(project, training_set, options)
    checkpoint = make_checkpoint(output.resolve().name, config, network, record)
    try:
        save_checkpoint(checkpoint, output)
    except OSError as error:
        raise StorageError(
            f"{output}: the model could not be written ({error.strerror}); free some space"
        ) from error
    return {
        "model": str(output),
        "digest": checkpoint.digest,
        "steps": config.training.steps,
        "thresholds": dict(zip(config.cell_classes, config.inference.thresholds, strict=True)),
        **record,
    }


def model_config(training_set: TrainingSet, options: TrainingOptions) -> ModelConfig:
    """The configuration of the model that is going to be trained."""
    from tissuemodel.config import InferenceConfig, ModelConfig, TargetConfig
    from tissuemodel.training import PRESETS

    network, plan = PRESETS[options.preset]
    plan = replace(
        plan,
        minutes=options.minutes,
        seed=options.seed,
        epochs=options.epochs or plan.epochs,
        crop_px=options.crop_px or plan.crop_px,
        learning_rate=options.learning_rate or plan.learning_rate,
    )
    labels = training_set.classes.labels
    cells = len(labels.cells)
    return ModelConfig(
        region_classes=labels.regions,
        cell_classes=labels.cells,
        colors=labels.colors,
        pixel_size_um=training_set.pixel_size_um,
        network=network,
        training=plan,
        targets=TargetConfig(diameters_um=(CELL_DIAMETER_UM,) * cells),
        inference=InferenceConfig(
            min_distance_um=(CELL_DIAMETER_UM / 2,) * cells, cross_class_radius_um=CELL_DIAMETER_UM / 2
        ),
    )


def _record(project: Project, training_set: TrainingSet, options: TrainingOptions) -> dict[str, Any]:
    return {
        "project": project.name,
        "preset": options.preset,
        "seed": options.seed,
        "version": __version__,
        "numpy": np.__version__,
        "images": {part: list(names) for part, names in training_set.images.items()},
        "found": training_set.summary.as_dict(),
        "thresholds_from": "validation" if training_set.validation else "training images (no others)",
    }


def check_writable(folder: Path) -> None:
    """Finds out before the work, not after it, that a folder cannot be written.

    Raises:
        StorageError: It cannot.
    """
    probe = folder / ".tissuebridge-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written ({error.strerror}); choose another --output"
        ) from error
