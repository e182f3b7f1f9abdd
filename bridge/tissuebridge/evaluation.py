"""How well a model does on annotated images: analyse each, compare with what a person drew and dotted (`comparison`).

A project and a predictor come in, scores with intervals as plain JSON values go out, and for pages the curves and each
image as it was compared. Thresholds are the checkpoint's, chosen on validation images: nothing is tuned here.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge import __version__
from tissuebridge.classes import ClassMap, renamed
from tissuebridge.comparison import Compared, compare
from tissuebridge.errors import AnnotationError, ModelError, UsageError
from tissuebridge.objects import CELLS_MARKED, is_persons
from tissuebridge.pipeline import AnalysisOptions, analyse
from tissuebridge.predictor.base import ModelDescription, Predictor
from tissuebridge.project.base import Image, Project
from tissuemodel.evaluation import Curve, Evaluation
from tissuemodel.metrics import BORDER_UM

TOLERANCE_PX: Final = 8.0
"""The paper's matching distance, in full-resolution px."""

EVERYTHING: Final = "all"
"""The split that is no split: all images."""

_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What a person may choose about an evaluation.

    Attributes:
        split: Which part of the project's splits, or "all"; None for "test" where there are splits, else all images.
        tolerance_px: A cell within this many full-resolution px of a marked one found it.
        tolerance_um: The same in um; it counts instead of `tolerance_px` where given.
        border_um: Width of the bands along borders in which regions are scored by themselves.
        class_map: Aliases of the annotations' classes.
        cases: Image name to case, where several images are of one patient: intervals are then over cases.
        learnt_from: Names of the images that the model has seen: "train", those it learnt from; "validation", those
            on which its thresholds were chosen. A checkpoint's record has them under "images".
    """

    split: str | None = None
    tolerance_px: float = TOLERANCE_PX
    tolerance_um: float | None = None
    border_um: float = BORDER_UM
    class_map: ClassMap | None = None
    cases: Mapping[str, str] | None = None
    learnt_from: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def tolerance_in(self, pixel_size_um: float) -> float:
        """The tolerance in full-resolution px of an image.

        >>> EvaluationOptions(tolerance_um=2.0).tolerance_in(0.5)
        4.0
        """
        return self.tolerance_px if self.tolerance_um is None else self.tolerance_um / pixel_size_um


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation says.

    Attributes:
        scores: Plain JSON values, see `evaluate`.
        curves: Precision, recall and thresholds of each cell class, over all candidates.
        model: Which model.
    """

    scores: dict[str, Any]
    curves: Mapping[str, Curve]
    model: ModelDescription


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
        ``{"regions": {CLASS: {"f1", ...}}, "cells": {CLASS: {"f1", "precision", "recall", "ap", ...}}, ...}`` with
        averages, intervals, confusion matrices and scores of each image (`tissuemodel.evaluation.Evaluation.results`),
        "model", "settings", "seen_in_training" and "warnings" (why the scores may not mean what one takes them for,
        in words); a score is None where it is 0/0. F1, precision and recall are of the cells that `analyse` gives;
        average precision is over all candidates.

    Raises:
        AnnotationError: No image of the split is annotated.
        ModelError: The annotations have none of the model's classes.
        UsageError: The project has no such split, or nothing is in it.
    """
    return measure(project, predictor, options, progress).scores


def measure(
    project: Project,
    predictor: Predictor,
    options: EvaluationOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Compared], None] | None = None,
) -> Evaluated:
    """As `evaluate`, with what a page shows besides.

    Args:
        project: Images with annotations.
        predictor: The model.
        options: Split, tolerance, class map.
        progress: Called with (images done, images in all).
        seen: Called with each image once it is compared; keep what is needed of it, not the image's whole analysis.

    Raises:
        AnnotationError: No image of the split is annotated.
        ModelError: The annotations have none of the model's classes.
        UsageError: The project has no such split, or nothing is in it.
    """
    options = options or EvaluationOptions()
    model = predictor.description
    annotated = _annotated(project, options, {*model.region_classes, *model.cell_classes})
    evaluation = Evaluation(model.region_classes, model.cell_classes)
    complete_px = np.zeros(len(model.cell_classes), np.int64)
    warnings: list[Sequence[str]] = []
    for done, image in enumerate(annotated.images):
        compared = _compared(image, predictor, options, evaluation)
        complete_px += compared.complete_px
        warnings.append(compared.found.summary.warnings)
        if seen:
            seen(compared)
        if progress:
            progress(done + 1, len(annotated.images))
    scores = evaluation.results(options.cases)
    for result, said in zip(scores["images"].values(), warnings, strict=True):
        result["warnings"] = list(said)
    about = {
        "model": {"name": model.name, "digest": model.digest, "pixel_size_um": model.pixel_size_um},
        "settings": _settings(project, options),
        "seen_in_training": seen_in_training(options.learnt_from, evaluation.images),
        "without_annotations": [image.name for image in annotated.left_out],
    }
    scores |= about
    scores["warnings"] = _warnings(scores, annotated.unknown, complete_px)
    return Evaluated(scores, evaluation.candidates.curves(), model)


def seen_in_training(learnt_from: Mapping[str, Sequence[str]], images: Sequence[str]) -> dict[str, list[str]]:
    """Which images the model has seen, by name: scores on them say nothing about new ones.

    Args:
        learnt_from: As in `EvaluationOptions`.
        images: Names of the evaluated images.

    Returns:
        "train": those that it learnt from; "validation": those on which its thresholds were chosen.

    >>> seen_in_training({"train": ["a", "b"], "validation": []}, ["b", "c"])
    {'train': ['b'], 'validation': []}
    """
    return {
        part: [name for name in images if name in set(learnt_from.get(part, ()))]
        for part in ("train", "validation")
    }


def images_of_split(project: Project, split: str | None) -> list[Image]:
    """The images of a split; of "test" (or all, without splits) if none is named.

    Raises:
        UsageError: The project has no such split, or nothing is in it.
    """
    if split == EVERYTHING or (project.splits is None and split is None):
        return list(project.images)
    splits = project.splits or {}
    name = split or "test"
    if not splits.get(name):
        problem = "is empty" if name in splits else "is not"
        filled = ", ".join(part for part, members in splits.items() if members)
        raise UsageError(
            f"{project.name}: split {name!r} {problem} in splits.json (it has: {filled or 'none'}); "
            f"choose one with --split, or --split {EVERYTHING} for all images"
        )
    members = set(splits[name])
    return [image for image in project.images if image.name in members]


# ---- One image --------------------------------------------------------------------------------------------


def _compared(
    image: Image, predictor: Predictor, options: EvaluationOptions, evaluation: Evaluation
) -> Compared:
    """Analyses an image, compares it with what a person drew, and adds it to the evaluation."""
    with tempfile.TemporaryDirectory(prefix="tissuebridge-") as journal:
        found = analyse(image, predictor, journal_dir=Path(journal), options=_everywhere(image))
    objects, near = renamed(image.objects(), options.class_map), options.tolerance_in(image.pixel_size_um)
    compared = compare(image, objects, found, tolerance_px=near, border_um=options.border_um)
    evaluation.candidates.add(
        found.candidates.xy * found.downsample,
        found.candidates.class_index,
        found.candidates.score,
        compared.marked_xy,
        compared.cells.truth_classes,
        compared.judged,
        near,
    )
    cells = compared.cells.confusion(len(found.model.cell_classes))
    evaluation.add(image.name, compared.all_regions, cells)
    return compared


def _everywhere(image: Image) -> AnalysisOptions:
    """The whole image, whatever its own `Region*` says: the annotations decide where is compared."""
    whole = image.identity
    return AnalysisOptions(region_of_interest=shapely.box(0, 0, whole.width, whole.height))


# ---- Which images, and what to say of them ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Annotated:
    """Images to compare with, those that cannot be, and how many objects are of classes that the model lacks."""

    images: Sequence[Image]
    left_out: Sequence[Image]
    unknown: Mapping[str, int]


def _annotated(project: Project, options: EvaluationOptions, known: set[str]) -> _Annotated:
    """Sorts images by whether a person drew something on them that the model knows, or marked all cells."""
    images, left_out, drawn = list[Image](), list[Image](), Counter[str]()
    for image in images_of_split(project, options.split):
        objects = renamed(image.objects(), options.class_map)
        named = Counter(obj.class_name for obj in objects if obj.class_name and is_persons(obj))
        drawn += named
        (images if named.keys() & {*known, CELLS_MARKED} else left_out).append(image)
    if not drawn:
        raise AnnotationError(
            f"none of the {len(left_out)} images has an annotation to compare with; export them from QuPath as GeoJSON"
        )
    if not drawn.keys() & known:
        raise ModelError(
            f"{project.name}: annotated with {', '.join(sorted(drawn))}, but the model knows "
            f"{', '.join(sorted(known))}; use the model that belongs to these classes, or --classes with aliases"
        )
    unknown = {name: n for name, n in sorted(drawn.items()) if name not in known and not name.endswith("*")}
    return _Annotated(images, left_out, unknown)


def _settings(project: Project, options: EvaluationOptions) -> dict[str, Any]:
    in_um = options.tolerance_um is not None
    return {
        "project": project.name,
        "split": options.split or (EVERYTHING if project.splits is None else "test"),
        **({"tolerance_um": options.tolerance_um} if in_um else {"tolerance_px": options.tolerance_px}),
        "border_um": options.border_um,
        "version": __version__,
    }


def _warnings(
    scores: Mapping[str, Any], unknown: Mapping[str, int], complete_px: NDArray[np.int64]
) -> list[str]:
    """Why the scores may not mean what one takes them for, worst first."""
    images, seen = scores["images"], scores["seen_in_training"]
    marked = zip(scores["cells"].items(), complete_px, strict=True)
    unjudged = [name for (name, cells), complete in marked if cells["marked"] and not complete]
    unlike = [name for name, result in images.items() if result["warnings"]]
    of = f"of {len(images)} images:"
    said = [
        (seen["train"], f"{of} the model learnt from these, so scores on them say nothing about new images"),
        (seen["validation"], f"{of} the model's thresholds were chosen on these, which flatters its scores"),
        (
            unjudged,
            f"without an area '{CELLS_MARKED}': none can be called false, which flatters precision and F1",
        ),
        (unlike, f"{of} unlike those that the model learnt from (see the warnings of each image)"),
        ([f"{name}: {n}" for name, n in unknown.items()], "annotated, but unknown to the model and left out"),
        (scores["without_annotations"], "left out: nothing is annotated there that the model knows"),
    ]
    return [f"{_listed(names)} {what}" for names, what in said if names]


def _listed(names: Sequence[str]) -> str:
    """How many, and the first of them.

    >>> _listed(["a", "b"])
    '2 (a, b)'
    """
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} ({', '.join(names[:_NAMED])}{more})"
