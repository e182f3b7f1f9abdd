"""What a network learns from: a project's annotated images, split into parts, as examples at the model's pixel size.

The way of the data: project -> annotations -> classes -> examples (`targets`) -> parts (`splits`, `blocks`), which
`training` trains on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from tissuebridge.blocks import Piece, split_in_blocks
from tissuebridge.classes import Classes, ClassMap, ObjectCounts, renamed, resolve_classes, summarise
from tissuebridge.errors import AnnotationError
from tissuebridge.learnable import TrainingSummary
from tissuebridge.objects import PathObject
from tissuebridge.project.base import Image, Project
from tissuebridge.project.resample import BlockCache, grid_of, read_grid
from tissuebridge.project.statistics import image_statistics
from tissuebridge.splits import Given, Split, SplitOptions, chosen_split, given_split
from tissuebridge.targets import annotated_windows, annotations_of, example_of
from tissuemodel.heatmaps import sigma_px
from tissuemodel.labels import Example, LabelSet

CELL_DIAMETER_UM: Final = 3.5
"""Full width at half maximum of a cell's Gaussian: about half a nucleus, so that touching ones keep a maximum each."""
MIN_DISTANCE_UM: Final = 2.5
"""Between two cells, of one class or of two, where no validation images say better."""
LEAST_KEPT: Final = 0.6
"""Nobody asked for blocks: they are made only where this much of every kind of annotation is left to learn from."""

Parts = tuple[tuple[Example, ...], tuple[Example, ...]]
"""Examples to learn from, examples for validation."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What a network learns from.

    Attributes:
        classes: What was found in the annotations.
        pixel_size_um: Pixel size of the examples: the median of the images to learn from, or to choose among.
        train: Annotated pieces to learn from.
        validation: Annotated pieces of other images, or of other parts of them, for the thresholds; may be empty.
        found: All objects of these images: a person's, those of runs, proposals.
        summary: What there is to learn: cells, areas and hard negatives of each class, in the pieces to learn from.
        split: Which images are on which side, by what cases, and how that came about.
    """

    classes: Classes
    pixel_size_um: float
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    found: ObjectCounts
    summary: TrainingSummary
    split: Split

    @property
    def images(self) -> dict[str, tuple[str, ...]]:
        """Names of the images of each part; with validation inside slides, the same image may be in both."""
        return {"train": self.split.train, "validation": self.split.validation}


def build_training_set(
    project: Project,
    class_map: ClassMap | None = None,
    *,
    own_statistics: bool = False,
    splitting: SplitOptions | None = None,
    cell_diameter_um: float = CELL_DIAMETER_UM,
) -> TrainingSet:
    """Reads what a project's images are annotated with.

    Only objects that a person drew, accepted or edited count; only annotated parts of large images are read; images of
    the project's "test" split are not looked at.

    Args:
        project: Images with annotations.
        class_map: Roles, aliases and priorities of classes.
        own_statistics: Measure each image's colours too, for a model that normalises each image by its own.
        splitting: How images are split where the project does not say.
        cell_diameter_um: Of the widest cell class: how far round an annotation a cell's heat reaches.

    Raises:
        AnnotationError: No image has an annotation, a class is ambiguous, the project's splits leak, or the blocks that
            were asked for cannot be made.
        CalibrationError: An image has no pixel size.
        UsageError: Cases cannot be told, or blocks are asked for although the project names validation images.
    """
    splitting = splitting or SplitOptions()
    given = given_split(project, splitting)
    used = {*given.train, *(given.validation or ())}
    images = [image for image in project.images if image.name in used]
    objects = {image.name: renamed(image.objects(), class_map) for image in images}
    classes = resolve_classes(objects, class_map)
    pixel_size_um = _pixel_size_um(project, given, objects)
    pieces = {
        image.name: pieces_of(
            image,
            objects[image.name],
            classes,
            pixel_size_um,
            own_statistics=own_statistics,
            cell_diameter_um=cell_diameter_um,
        )
        for image in images
    }
    cell_px = cell_diameter_um / pixel_size_um
    split, (train, validation) = _divided(given, pieces, classes.labels, pixel_size_um, splitting, cell_px)
    return TrainingSet(
        classes=classes,
        pixel_size_um=pixel_size_um,
        train=train,
        validation=validation,
        found=summarise(obj for image in objects.values() for obj in image),
        summary=TrainingSummary.of(train, classes.labels, pixel_size_um),
        split=split,
    )


def pieces_of(
    image: Image,
    objects: Sequence[PathObject],
    classes: Classes,
    pixel_size_um: float,
    *,
    own_statistics: bool = False,
    cell_diameter_um: float = CELL_DIAMETER_UM,
) -> list[Piece]:
    """The annotated pieces of an image at the model's pixel size, with the whole image's statistics where asked."""
    if not objects:
        return []
    with BlockCache(image.open_pixels()) as pixels:
        grid = grid_of(pixels.levels, image.pixel_size_um, pixel_size_um)
        drawn = annotations_of(
            objects, classes.labels, image.name, explicit_priority=classes.explicit_priority
        )
        margin_px = 3 * cell_diameter_um / pixel_size_um
        statistics = image_statistics(pixels, image.pixel_size_um) if own_statistics else None
        pieces = []
        for window in annotated_windows(objects, grid.width, grid.height, grid.downsample):
            example = example_of(
                drawn,
                window,
                grid.downsample,
                read_grid(pixels, grid, *window),
                f"{image.name}, row {window[0]}, column {window[1]}",
                margin_px=margin_px,
                image_name=image.name,
            )
            pieces.append(Piece(window[0], window[1], replace(example, statistics=statistics)))
        return pieces


def _pixel_size_um(project: Project, given: Given, objects: Mapping[str, Sequence[PathObject]]) -> float:
    """The median of the annotated images to learn from, or to choose among."""
    learnt = set(given.train)
    annotated = [image for image in project.images if image.name in learnt and objects[image.name]]
    if not annotated:
        raise AnnotationError(
            f"{project.name}: none of the {len(learnt)} images to learn from has an annotation; "
            "draw regions or dot cells in QuPath and export them as GeoJSON beside the images"
        )
    return median(image.pixel_size_um for image in annotated)


# ---- Parts ------------------------------------------------------------------------------------------------


def _divided(
    given: Given,
    pieces: Mapping[str, Sequence[Piece]],
    labels: LabelSet,
    pixel_size_um: float,
    splitting: SplitOptions,
    cell_px: float,
) -> tuple[Split, Parts]:
    """Who learns and who checks: as the project says, inside slides, or by whole cases."""
    amounts = {name: _amounts(pieces[name], labels, pixel_size_um) for name in given.train}
    annotated = [name for name in given.train if any(amounts[name].values())]
    is_one = given.validation is None and len(given.units(annotated)) == 1
    if splitting.validation_blocks or is_one:
        chosen = {name: pieces[name] for name in given.train}
        inside = _in_blocks(given, chosen, labels, pixel_size_um, splitting, cell_px)
        if inside is not None:
            return inside
    split = chosen_split(given, amounts, splitting)
    return split, (_examples(pieces, split.train), _examples(pieces, split.validation))


def _in_blocks(
    given: Given,
    pieces: Mapping[str, Sequence[Piece]],
    labels: LabelSet,
    pixel_size_um: float,
    splitting: SplitOptions,
    cell_px: float,
) -> tuple[Split, Parts] | None:
    """The split inside slides; None where nobody asked for it and it would leave too little to learn from.

    Raises:
        AnnotationError: Somebody asked, and it can be made in no image.
    """
    # However near a network looks, no cell's heat may reach across the gap.
    gap_px = max(splitting.gap_px, math.ceil(3 * cell_px))
    sigma = sigma_px(cell_px, 1.0)
    tried = {name: split_in_blocks(held, labels, gap_px, sigma) for name, held in pieces.items()}
    least = 0.0 if splitting.validation_blocks else LEAST_KEPT
    made = {name: found for name, found in tried.items() if found is not None and found.kept >= least}
    gap = f"a gap of {gap_px * pixel_size_um:.3g} µm"
    if not made and splitting.validation_blocks:
        raise AnnotationError(
            f"--validation-blocks: in no image do blocks with {gap} leave something of every class to learn from. "
            "Annotate a larger part of one, or leave out the option."
        )
    if not made:
        return None
    how = f"by spatial blocks with {gap} inside {_where(given, pieces, made)}"
    split = Split(given.train, tuple(sorted(made)), given.test, how, given.cases, is_in_blocks=True)
    learnt = {name: made[name].train if name in made else pieces[name] for name in pieces}
    checked = {name: found.validation for name, found in made.items()}
    return split, (_examples(learnt, split.train), _examples(checked, split.validation))


def _where(given: Given, pieces: Mapping[str, Sequence[Piece]], made: Mapping[str, object]) -> str:
    annotated = [name for name, held in pieces.items() if held]
    if len(annotated) == 1:
        return "the only slide"
    text = f"{len(made)} of {len(annotated)} slides"
    return f"{text} of the only case" if given.cases and len(given.units(annotated)) == 1 else text


def _examples(pieces: Mapping[str, Sequence[Piece]], names: Sequence[str]) -> tuple[Example, ...]:
    return tuple(piece.example for name in names for piece in pieces[name])


def _amounts(pieces: Sequence[Piece], labels: LabelSet, pixel_size_um: float) -> dict[str, float]:
    """What an image is annotated with: kind to amount, of which only shares are compared."""
    summary = TrainingSummary.of([piece.example for piece in pieces], labels, pixel_size_um)
    amounts = {f"region {name}": region.area_um2 for name, region in summary.regions.items()}
    for name, cell in summary.cells.items():
        amounts |= {f"cell {name}": cell.marked, f"complete {name}": cell.complete_um2}
    return amounts
