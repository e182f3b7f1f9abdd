"""What a network learns from: a project's annotated images, split into parts, as examples at the model's pixel size.

The way of the data: project -> annotations -> classes -> examples (`targets`), which `training` trains on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from tissuebridge.classes import Classes, ClassMap, ObjectCounts, renamed, resolve_classes, summarise
from tissuebridge.errors import AnnotationError
from tissuebridge.learnable import TrainingSummary
from tissuebridge.objects import PathObject
from tissuebridge.project.base import Image, Project
from tissuebridge.project.resample import BlockCache, grid_of, read_grid
from tissuebridge.project.statistics import image_statistics
from tissuebridge.targets import annotated_windows, annotations_of, example_of
from tissuemodel.labels import Example

CELL_DIAMETER_UM: Final = 5.0
"""Full width at half maximum of a cell's Gaussian: about two thirds of a nucleus."""
HELD_OUT_EVERY: Final = 5
"""Without splits, every fifth image (by name) is kept for choosing thresholds, from five images on."""


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


def build_training_set(
    project: Project, class_map: ClassMap | None = None, *, own_statistics: bool = False
) -> TrainingSet:
    """Reads what a project's images are annotated with.

    Only objects that a person drew, accepted or edited count; only annotated parts of large images are read.

    Args:
        project: Images with annotations.
        class_map: Roles, aliases and priorities of classes.
        own_statistics: Measure each image's colours too, for a model that normalises each image by its own.

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
        name: [
            e
            for image in part
            for e in examples_of(
                image, objects[image.name], classes, pixel_size_um, own_statistics=own_statistics
            )
        ]
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
    image: Image,
    objects: Sequence[PathObject],
    classes: Classes,
    pixel_size_um: float,
    *,
    own_statistics: bool = False,
) -> list[Example]:
    """The annotated pieces of an image at the model's pixel size, with the whole image's statistics where asked."""
    if not objects:
        return []
    with BlockCache(image.open_pixels()) as pixels:
        grid = grid_of(pixels.levels, image.pixel_size_um, pixel_size_um)
        drawn = annotations_of(
            objects, classes.labels, image.name, explicit_priority=classes.explicit_priority
        )
        margin_px = 3 * CELL_DIAMETER_UM / pixel_size_um
        statistics = image_statistics(pixels, image.pixel_size_um) if own_statistics else None
        return [
            replace(
                example_of(
                    drawn,
                    window,
                    grid.downsample,
                    read_grid(pixels, grid, *window),
                    f"{image.name}, row {window[0]}, column {window[1]}",
                    margin_px=margin_px,
                    image_name=image.name,
                ),
                statistics=statistics,
            )
            for window in annotated_windows(objects, grid.width, grid.height, grid.downsample)
        ]
