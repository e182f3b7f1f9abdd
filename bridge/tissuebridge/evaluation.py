"""How well a model does on annotated images: analyse each, compare with what a person drew and dotted.

Regions are compared pixel by pixel on the model's grid, where a person labelled them; cells by one-to-one matching in
full-resolution pixels. What counts as false is decided by `Cells marked*` (METHOD, "Evaluation").
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.classes import ClassMap, renamed
from tissuebridge.errors import AnnotationError, ModelError, UsageError
from tissuebridge.objects import PathObject
from tissuebridge.pipeline import Analysis, AnalysisOptions, analyse
from tissuebridge.predictor.base import ModelDescription, Predictor
from tissuebridge.project.base import Image, Project
from tissuebridge.targets import Window, annotated_windows, annotations_of, example_of
from tissuemodel.evaluation import CellTally, RegionTally, evaluation
from tissuemodel.labels import Example, LabelSet

TOLERANCE_PX: Final = 8.0
"""The paper's matching distance, in full-resolution px."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What a person may choose about an evaluation.

    Attributes:
        split: Which part of the project's splits; None for "test" where there are splits, else all images.
        tolerance_px: A cell within this many full-resolution px of a marked one found it.
        class_map: Aliases of the annotations' classes.
    """

    split: str | None = None
    tolerance_px: float = TOLERANCE_PX
    class_map: ClassMap | None = None


def evaluate(
    project: Project,
    predictor: Predictor,
    options: EvaluationOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores a model on the annotated images of a project.

    Args:
        project: Images with annotations.
        predictor: The model.
        options: Split, tolerance, class map.
        progress: Called with (images done, images in all).

    Returns:
        ``{"regions": {CLASS: {"f1"}}, "cells": {CLASS: {"f1", "precision", "recall", "ap"}}, "images": [...]}``; a
        score is None where it is 0/0. F1, precision and recall are of the cells that `analyse` gives; average
        precision is over all candidates.

    Raises:
        AnnotationError: No image of the split is annotated.
        ModelError: The annotations have none of the model's classes.
    """
    options = options or EvaluationOptions()
    model = predictor.description
    labels = LabelSet(model.region_classes, model.cell_classes, dict(model.colors))
    images = _annotated(images_of_split(project, options.split), options.class_map)
    _check_classes(project.name, images, labels)
    scores = _Scores.of(model)
    for done, (image, objects) in enumerate(images):
        with tempfile.TemporaryDirectory(prefix="tissuebridge-") as journal:
            found = analyse(image, predictor, journal_dir=Path(journal), options=_everywhere(image))
        scores.add(found, truth(objects, found, labels, image.name), options.tolerance_px)
        if progress:
            progress(done + 1, len(images))
    return {**scores.results(), "images": [image.name for image, _ in images]}


def _everywhere(image: Image) -> AnalysisOptions:
    """The whole image, whatever its own `Region*` says: the annotations decide where is compared."""
    whole = image.identity
    return AnalysisOptions(region_of_interest=shapely.box(0, 0, whole.width, whole.height))


def images_of_split(project: Project, split: str | None) -> list[Image]:
    """The images of a split; of "test" (or all, without splits) if none is named.

    Raises:
        UsageError: The project has no such split.
    """
    if project.splits is None and split in (None, "all"):
        return list(project.images)
    splits = project.splits or {}
    name = split or "test"
    if name not in splits:
        raise UsageError(
            f"{project.name}: no split {name!r} in splits.json (it has: {', '.join(splits) or 'none'})"
        )
    members = set(splits[name])
    return [image for image in project.images if image.name in members]


def truth(
    objects: Sequence[PathObject], found: Analysis, labels: LabelSet, name: str
) -> list[tuple[Window, Example]]:
    """What a person labelled and dotted, on the model's grid, in pieces that do not overlap."""
    height, width = found.labels.shape
    drawn = annotations_of(objects, labels, name)
    no_pixels = np.zeros((1, 1, 3), np.uint8)
    return [
        (
            window,
            example_of(drawn, window, found.downsample, np.broadcast_to(no_pixels, (*window[2:], 3)), name),
        )
        for window in annotated_windows(objects, width, height, found.downsample)
    ]


@dataclass(frozen=True, slots=True)
class _Scores:
    """The tallies over images: regions, delivered cells, and all candidates (for the average precision)."""

    model: ModelDescription
    regions: RegionTally
    cells: CellTally
    candidates: CellTally

    @staticmethod
    def of(model: ModelDescription) -> _Scores:
        return _Scores(
            model,
            RegionTally(model.region_classes),
            CellTally(model.cell_classes),
            CellTally(model.cell_classes),
        )

    def add(self, found: Analysis, pieces: Sequence[tuple[Window, Example]], tolerance_px: float) -> None:
        for (row, col, height, width), piece in pieces:
            self.regions.add(piece.regions, found.labels[row : row + height, col : col + width])
        points, classes = _points(pieces, found.downsample)
        cells, every = found.cells, found.candidates
        for tally, xy, index, score, pixels in (
            (self.cells, cells.xy, cells.class_index, cells.score, cells.pixels),
            (self.candidates, every.xy * found.downsample, every.class_index, every.score, every.pixels),
        ):
            tally.add(xy, index, score, points, classes, _countable(pixels, index, pieces), tolerance_px)

    def results(self) -> dict[str, Any]:
        delivered = evaluation(self.regions, self.cells, self.model.thresholds)
        ranked = self.candidates.results(self.model.thresholds)
        for name, scores in delivered["cells"].items():
            scores["ap"] = ranked[name]["ap"]
        return dict(delivered)


def _points(
    pieces: Sequence[tuple[Window, Example]], downsample: float
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """All marked cells outside ignored areas in full-resolution px (x, y), and their classes."""
    places: list[NDArray[np.float64]] = [np.zeros((0, 2))]
    classes = [np.zeros(0, np.uint8)]
    for (row, col, _, _), piece in pieces:
        x, y = piece.points.astype(np.intp).T
        counts = ~piece.ignored[y, x]
        places.append((piece.points[counts] + np.array([col, row], np.float64)) * downsample)
        classes.append(piece.point_classes[counts])
    return np.concatenate(places), np.concatenate(classes)


def _countable(
    pixels: NDArray[np.int32], classes: NDArray[np.uint8], pieces: Sequence[tuple[Window, Example]]
) -> NDArray[np.bool_]:
    """Whether each cell lies where every cell of its class is marked and nothing is ignored."""
    countable = np.zeros(len(pixels), np.bool_)
    for (row, col, height, width), piece in pieces:
        here = pixels - np.array([row, col])
        inside = np.all((here >= 0) & (here < [height, width]), axis=1)
        r, c = here[inside].T
        marked = (piece.complete[r, c] >> classes[inside]) & 1 == 1
        countable[inside] = marked & ~piece.ignored[r, c]
    return countable


def _annotated(images: Sequence[Image], class_map: ClassMap | None) -> list[tuple[Image, list[PathObject]]]:
    pairs = [(image, renamed(image.objects(), class_map)) for image in images]
    annotated = [(image, objects) for image, objects in pairs if objects]
    if not annotated:
        raise AnnotationError(
            f"none of the {len(images)} images has an annotation to compare with; export them from QuPath as GeoJSON"
        )
    return annotated


def _check_classes(
    project: str, images: Sequence[tuple[Image, Sequence[PathObject]]], labels: LabelSet
) -> None:
    drawn = {obj.class_name for _, objects in images for obj in objects if obj.class_name}
    known = {*labels.regions, *labels.cells}
    if not drawn & known:
        raise ModelError(
            f"{project}: annotated with {', '.join(sorted(drawn)) or 'no class'}, but the model knows "
            f"{', '.join(sorted(known))}; use the model that belongs to these classes, or --classes with aliases"
        )
