"""How well a predictor does on the held-out part: the measures of `evaluate`, their means, and nuclei of any class.

Stands between `evaluation` and the demo's page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.evaluation import TOLERANCE_PX, evaluate
from tissuebridge.objects import CELLS_MARKED, PathObject
from tissuebridge.pipeline import Analysis, analyse
from tissuebridge.predictor.base import Predictor
from tissuebridge.project.base import Image, Project
from tissuemodel.metrics import match, precision_recall_f1


def measured(project: Project, predictor: Predictor) -> dict[str, Any]:
    """Scores a predictor on the project's "test" split, which is one image.

    Returns:
        Plain JSON values: "regions" and "cells" as `evaluate` gives them; "macro", the means of their F1 over
        classes; "detection", F1, precision and recall of nuclei whatever their class.
    """
    scores = evaluate(project, predictor)
    (image,) = [image for image in project.images if image.name in scores["images"]]
    return {
        "regions": scores["regions"],
        "cells": scores["cells"],
        "macro": {"regions_f1": macro_f1(scores["regions"]), "cells_f1": macro_f1(scores["cells"])},
        "detection": detection(image.objects(), found_in(image, predictor)),
    }


def macro_f1(scores: Mapping[str, Mapping[str, float | None]]) -> float:
    """The mean F1 over classes; a class without an F1 (never true, never found) is left out.

    >>> macro_f1({"Tumor": {"f1": 0.5}, "Stroma": {"f1": 1.0}, "Vessel": {"f1": None}})
    0.75
    """
    known = [f1 for score in scores.values() if (f1 := score["f1"]) is not None]
    return sum(known) / len(known) if known else 0.0


def found_in(image: Image, predictor: Predictor) -> Analysis:
    """An image's analysis whose journal is thrown away."""
    with tempfile.TemporaryDirectory(prefix="tissuebridge-") as journal:
        return analyse(image, predictor, journal_dir=Path(journal))


def detection(objects: Sequence[PathObject], found: Analysis) -> dict[str, float | None]:
    """F1, precision and recall of cells whatever their class; false ones count inside `Cells marked*` only.

    Args:
        objects: The image's annotations.
        found: Its analysis.
    """
    names = set(found.model.cell_classes)
    marked = shapely.get_coordinates([o.geometry for o in objects if o.class_name in names])
    complete = shapely.union_all([o.geometry for o in objects if o.class_name == CELLS_MARKED])
    cells = found.cells
    matches = match(cells.xy, marked, cells.score, TOLERANCE_PX)
    counts: NDArray[np.bool_] = matches.is_tp | shapely.contains_xy(complete, cells.xy)
    hits = int(matches.is_tp.sum())
    precision, recall, f1 = precision_recall_f1(hits, int(counts.sum()) - hits, len(marked) - hits)
    return {"f1": f1, "precision": precision, "recall": recall}
