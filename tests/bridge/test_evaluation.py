"""Scores against what a person drew, with a predictor that knows the truth, or a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from drawn_tissue import ArrayImage
from tissuebridge.errors import AnnotationError, ModelError, UsageError
from tissuebridge.evaluation import EvaluationOptions, evaluate
from tissuebridge.objects import CELLS_MARKED, IGNORE, PathClass, PathObject
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuemodel.heatmaps import heat_maps, sigma_px

SIDE = 96
DOTS = ((20.5, 20.5), (60.5, 20.5), (20.5, 70.5))
MODEL = ModelDescription(
    name="oracle",
    digest="oracle",
    region_classes=("Left", "Right"),
    cell_classes=("Dot",),
    colors={},
    pixel_size_um=0.5,
    stride=16,
    reach=0,
    pad_value=(255, 255, 255),
    cell_diameters_um=(5.0,),
    min_distance_um=(2.5,),
    thresholds=(0.5,),
    floor=0.1,
    cross_class_radius_um=None,
    mode_filter=False,
)


@dataclass
class Oracle:
    """Says that regions meet at a column, and that there are cells at some points."""

    border: int = SIDE // 2
    dots: Sequence[tuple[float, float]] = DOTS
    description: ModelDescription = MODEL

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        shape = (tiles.shape[1], tiles.shape[2])
        left = np.broadcast_to(np.arange(shape[1]) < self.border, shape)
        points = np.array(self.dots, np.float32).reshape(-1, 2)
        heat = heat_maps(points, np.zeros(len(points), np.uint8), shape, [sigma_px(5.0, 0.5)])
        log_p = np.where(np.stack([left, ~left]), 0.0, -9.0).astype(np.float32)
        return Prediction(log_p[None], heat[None])


@dataclass
class OneImage:
    """A project of drawn images."""

    images: Sequence[ArrayImage]
    splits: dict[str, Sequence[str]] | None = None
    name: str = "drawn"


def marked(*, complete: bool = True, extra: Sequence[PathObject] = ()) -> ArrayImage:
    half = SIDE // 2
    objects = [
        PathObject(shapely.box(0, 0, half, SIDE), path_class=PathClass("Left")),
        PathObject(shapely.box(half, 0, SIDE, SIDE), path_class=PathClass("Right")),
        PathObject(shapely.MultiPoint(DOTS), path_class=PathClass("Dot")),
        *extra,
    ]
    if complete:
        objects.append(PathObject(shapely.box(0, 0, SIDE, SIDE), path_class=PathClass(CELLS_MARKED)))
    return ArrayImage(np.full((SIDE, SIDE, 3), 200, np.uint8), drawn=objects)


def test_the_truth_scores_one() -> None:
    result = evaluate(OneImage([marked()]), Oracle())

    assert result["regions"] == {"Left": {"f1": 1.0}, "Right": {"f1": 1.0}}
    assert result["cells"] == {"Dot": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "ap": 1.0}}
    assert result["images"] == ["drawn"]


def test_a_moved_border_costs_what_it_covers() -> None:
    result = evaluate(OneImage([marked()]), Oracle(border=SIDE // 4))

    # Left: half of its pixels found, none wrong; right: all found, half as many again wrong.
    assert result["regions"]["Left"]["f1"] == pytest.approx(2 * 0.5 / 1.5)
    assert result["regions"]["Right"]["f1"] == pytest.approx(2 / (2 + 0.5))


@pytest.mark.parametrize(("complete", "precision"), [(True, 0.75), (False, 1.0)])
def test_a_cell_too_many_is_false_only_where_all_are_marked(complete: bool, precision: float) -> None:
    result = evaluate(OneImage([marked(complete=complete)]), Oracle(dots=(*DOTS, (80.5, 80.5))))

    assert result["cells"]["Dot"]["precision"] == precision
    assert result["cells"]["Dot"]["recall"] == 1.0


def test_ignored_areas_count_for_neither_task() -> None:
    hidden = PathObject(shapely.box(0, 60, SIDE, SIDE), path_class=PathClass(IGNORE))

    result = evaluate(OneImage([marked(extra=[hidden])]), Oracle(dots=(*DOTS[:2], (80.5, 80.5))))

    assert result["cells"]["Dot"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "ap": 1.0}


@pytest.mark.parametrize(("tolerance_px", "found"), [(3.5, 1.0), (2.5, 0.0)])
def test_the_tolerance_is_in_full_resolution_pixels(tolerance_px: float, found: float) -> None:
    # At 0.25 um/px the model's grid of 0.5 um is half as fine: 1.5 px there are 3 px here.
    image = marked()
    image = replace(
        image,
        pixels=np.full((2 * SIDE, 2 * SIDE, 3), 200, np.uint8),
        pixel_size_um=0.25,
        drawn=[
            replace(obj, geometry=shapely.transform(obj.geometry, lambda xy: 2 * xy)) for obj in image.drawn
        ],
    )
    moved = Oracle(dots=[(x + 1.5, y) for x, y in DOTS])

    result = evaluate(OneImage([image]), moved, EvaluationOptions(tolerance_px=tolerance_px))

    assert result["cells"]["Dot"]["recall"] == found


def test_the_split_decides_which_images_count() -> None:
    images = [replace(marked(), name="seen"), replace(marked(), name="kept")]
    project = OneImage(images, {"train": ["seen"], "test": ["kept"]})

    assert evaluate(project, Oracle())["images"] == ["kept"]
    assert evaluate(project, Oracle(), EvaluationOptions(split="train"))["images"] == ["seen"]
    with pytest.raises(UsageError, match="validation"):
        evaluate(project, Oracle(), EvaluationOptions(split="validation"))


def test_nothing_to_compare_with_is_said() -> None:
    with pytest.raises(AnnotationError, match="annotation"):
        evaluate(OneImage([replace(marked(), drawn=[])]), Oracle())
    foreign = [PathObject(shapely.box(0, 0, 9, 9), path_class=PathClass("Cartilage"))]
    with pytest.raises(ModelError, match="Cartilage"):
        evaluate(OneImage([replace(marked(), drawn=foreign)]), Oracle())
