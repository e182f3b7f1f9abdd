"""From an annotated project to a trained model: what was found, what is learnt from, the checkpoint.

The way of the data: project -> annotations -> classes -> examples (`targets`) -> training -> checkpoint.
torch is imported only when training begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tissuebridge import __version__
from tissuebridge.classes import Classes, ClassMap, ObjectCounts, renamed, resolve_classes, summarise
from tissuebridge.errors import AnnotationError, StorageError
from tissuebridge.learnable import TrainingSummary, check_learnable
from tissuebridge.objects import PathObject
from tissuebridge.project.base import Image, Project
from tissuebridge.project.resample import BlockCache, grid_of, read_grid
from tissuebridge.targets import annotated_windows, annotations_of, example_of
from tissuemodel.labels import Example

if TYPE_CHECKING:
    from tissuemodel.config import ModelConfig

CELL_DIAMETER_UM: Final = 5.0
"""Full width at half maximum of a cell's Gaussian: about two thirds of a nucleus."""
HELD_OUT_EVERY: Final = 5
"""Without splits, every fifth image (by name) is kept for choosing thresholds, from five images on."""

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
class TrainingSet:
    """What a network learns from.

    Attributes:
        classes: What was found in the annotations.
        pixel_size_um: Pixel size of the examples: the median of the training images'.
        train: Annotated pieces to learn from.
        validation: Annotated pieces of other images, for the thresholds; empty where there are too few images.
        found: All objects of these images: a person's, those of runs, proposals.
        summary: What there is to learn: cells, areas and hard negatives of each class, in the images to learn from.
        images: Names of the images of each part.
    """

    classes: Classes
    pixel_size_um: float
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    found: ObjectCounts
    summary: TrainingSummary
    images: Mapping[str, tuple[str, ...]]


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


def build_training_set(project: Project, class_map: ClassMap | None = None) -> TrainingSet:
    """Reads what a project's images are annotated with.

    Only objects that a person drew, accepted or edited count; only annotated parts of large images are read.

    Raises:
        AnnotationError: No image has an annotation, or a class is ambiguous.
        CalibrationError: An image has no pixel size.
    """
    parts = split_images(project)
    objects = {image.name: renamed(image.objects(), class_map) for part in parts.values() for image in part}
    classes = resolve_classes(objects, class_map)
    annotated = [image for image in parts["train"] if objects[image.name]]
    if not annotated:
        raise AnnotationError(
            f"{project.name}: none of the {len(parts['train'])} images to learn from has an annotation; "
            "draw regions or dot cells in QuPath and export them as GeoJSON beside the images"
        )
    pixel_size_um = median(image.pixel_size_um for image in annotated)
    examples = {
        name: [e for image in part for e in examples_of(image, objects[image.name], classes, pixel_size_um)]
        for name, part in parts.items()
    }
    summary = TrainingSummary.of(examples["train"], classes.labels, pixel_size_um)
    names = {name: tuple(image.name for image in part) for name, part in parts.items()}
    found = summarise(obj for image in objects.values() for obj in image)
    return TrainingSet(
        classes, pixel_size_um, tuple(examples["train"]), tuple(examples["validation"]), found, summary, names
    )


def split_images(project: Project) -> dict[str, list[Image]]:
    """Which images are learnt from and which choose the thresholds: the project's own splits, or every fifth.

    Images of the project's "test" split are in neither.
    """
    splits = project.splits
    if splits is None:
        images = list(project.images)
        held_out = images[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        names = {image.name for image in held_out}
        return {"train": [i for i in images if i.name not in names], "validation": held_out}
    by_name = {image.name: image for image in project.images}
    return {part: [by_name[name] for name in splits.get(part, ())] for part in ("train", "validation")}


def examples_of(
    image: Image, objects: Sequence[PathObject], classes: Classes, pixel_size_um: float
) -> list[Example]:
    """The annotated pieces of an image at the model's pixel size."""
    if not objects:
        return []
    with BlockCache(image.open_pixels()) as pixels:
        grid = grid_of(pixels.levels, image.pixel_size_um, pixel_size_um)
        drawn = annotations_of(
            objects, classes.labels, image.name, explicit_priority=classes.explicit_priority
        )
        margin_px = 3 * CELL_DIAMETER_UM / pixel_size_um
        return [
            example_of(
                drawn,
                window,
                grid.downsample,
                read_grid(pixels, grid, *window),
                f"{image.name}, row {window[0]}, column {window[1]}",
                margin_px=margin_px,
            )
            for window in annotated_windows(objects, grid.width, grid.height, grid.downsample)
        ]


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
