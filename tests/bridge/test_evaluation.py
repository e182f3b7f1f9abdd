"""Scores against what a person drew, with a predictor that knows the truth, or a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import shapely

import oracle
from drawn_tissue import ArrayImage
from tissuebridge.errors import AnnotationError, ModelError, UsageError
from tissuebridge.evaluation import EvaluationOptions, evaluate, images_of_split, measure, seen_in_training
from tissuebridge.objects import CELLS_MARKED, IGNORE, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.predictor.base import ModelDescription

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
class Oracle(oracle.Says):
    """Says that regions meet at a column, and that there are cells at some points."""

    border: int = SIDE // 2
    dots: Sequence[tuple[float, float]] = DOTS
    description: ModelDescription = MODEL


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

    assert [entry["f1"] for entry in result["regions"].values()] == [1.0, 1.0]
    assert [result["cells"]["Dot"][key] for key in ("f1", "precision", "recall", "ap")] == [1.0] * 4
    assert result["regions"]["Left"]["pixels"] == SIDE * SIDE // 2
    assert result["cells"]["Dot"]["marked"] == len(DOTS)
    assert list(result["images"]) == ["drawn"]
    assert result["warnings"] == []


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

    assert [result["cells"]["Dot"][key] for key in ("f1", "precision", "recall", "ap")] == [1.0] * 4
    assert result["cells"]["Dot"]["marked"] == 2
    assert result["regions"]["Left"]["pixels"] == 60 * SIDE // 2


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (EvaluationOptions(tolerance_px=3.5), 1.0),
        (EvaluationOptions(tolerance_px=2.5), 0.0),
        (EvaluationOptions(tolerance_px=2.5, tolerance_um=0.8), 1.0),
        (EvaluationOptions(tolerance_px=3.5, tolerance_um=0.7), 0.0),
    ],
    ids=["3.5 px", "2.5 px", "0.8 um", "0.7 um"],
)
def test_the_tolerance_is_in_full_resolution_pixels_or_um(options: EvaluationOptions, found: float) -> None:
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

    result = evaluate(OneImage([image]), moved, options)

    assert result["cells"]["Dot"]["recall"] == found


def test_the_split_decides_which_images_count() -> None:
    images = [replace(marked(), name="seen"), replace(marked(), name="kept")]
    project = OneImage(images, {"train": ["seen"], "test": ["kept"]})

    assert list(evaluate(project, Oracle())["images"]) == ["kept"]
    assert evaluate(project, Oracle())["settings"]["split"] == "test"
    assert list(evaluate(project, Oracle(), EvaluationOptions(split="train"))["images"]) == ["seen"]
    with pytest.raises(UsageError, match=r"'validation' is not in splits.json .it has: train, test"):
        evaluate(project, Oracle(), EvaluationOptions(split="validation"))


def test_all_means_all_images_whatever_the_splits() -> None:
    images = [replace(marked(), name=name) for name in "ab"]

    for splits in (None, {"train": ["a"], "test": []}):
        assert images_of_split(OneImage(images, splits), "all") == images
    assert images_of_split(OneImage(images), None) == images
    with pytest.raises(UsageError, match="'test' is empty"):
        images_of_split(OneImage(images, {"train": ["a"], "test": []}), None)


def test_nothing_to_compare_with_is_said() -> None:
    with pytest.raises(AnnotationError, match="annotation"):
        evaluate(OneImage([replace(marked(), drawn=[])]), Oracle())
    foreign = [PathObject(shapely.box(0, 0, 9, 9), path_class=PathClass("Cartilage"))]
    with pytest.raises(ModelError, match="Cartilage"):
        evaluate(OneImage([replace(marked(), drawn=foreign)]), Oracle())


def test_what_a_run_of_ours_wrote_is_no_truth() -> None:
    ours = Provenance("run", "analyse", "oracle", "oracle", "0")
    found = [with_provenance(obj, ours) for obj in marked().drawn]

    with pytest.raises(AnnotationError, match="annotation"):
        evaluate(OneImage([replace(marked(), drawn=found)]), Oracle())


# ---- Warnings ---------------------------------------------------------------------------------------------


def test_images_that_the_model_has_seen_are_told() -> None:
    images = [replace(marked(), name=name) for name in "abc"]
    learnt_from = {"train": ["a", "x"], "validation": ["c"]}

    result = evaluate(OneImage(images), Oracle(), EvaluationOptions(learnt_from=learnt_from))

    assert result["seen_in_training"] == {"train": ["a"], "validation": ["c"]}
    assert len(result["warnings"]) == 2
    assert "1 (a) of 3 images: the model learnt from these" in result["warnings"][0]
    assert "1 (c) of 3 images: the model's thresholds were chosen on these" in result["warnings"][1]


def test_a_long_list_of_names_is_cut() -> None:
    names = [f"{place}" for place in range(9)]
    images = [replace(marked(), name=name) for name in names]

    result = evaluate(OneImage(images), Oracle(), EvaluationOptions(learnt_from={"train": names}))

    assert result["warnings"][0].startswith("9 (0, 1, 2, 3, 4, ...) of 9 images")
    assert seen_in_training({}, names) == {"train": [], "validation": []}


def test_cells_that_are_nowhere_all_marked_are_told() -> None:
    (warning,) = evaluate(OneImage([marked(complete=False)]), Oracle())["warnings"]

    assert "1 (Dot) without an area 'Cells marked*'" in warning


def test_classes_and_images_that_are_left_out_are_told() -> None:
    foreign = PathObject(shapely.box(0, 0, 9, 9), path_class=PathClass("Cartilage"))
    images = [marked(extra=[foreign]), replace(marked(), name="foreign", drawn=[foreign])]

    result = evaluate(OneImage(images), Oracle())

    assert list(result["images"]) == ["drawn"]
    assert result["without_annotations"] == ["foreign"]
    assert [text.split(")")[0] for text in result["warnings"]] == ["1 (Cartilage: 2", "1 (foreign"]


def test_an_image_unlike_those_learnt_from_is_told() -> None:
    image = replace(marked(), pixel_size_um=0.8)

    result = evaluate(OneImage([image]), Oracle())

    assert "0.8 um a pixel" in result["images"]["drawn"]["warnings"][0]
    assert "1 (drawn) of 1 images: unlike those that the model learnt from" in result["warnings"][0]


# ---- What a page shows besides ----------------------------------------------------------------------------


def test_each_image_is_shown_once_it_is_compared_and_curves_go_over_all() -> None:
    images, seen = [replace(marked(), name=name) for name in "ab"], []

    measured = measure(
        OneImage(images), Oracle(dots=DOTS[:2]), progress=lambda done, of: seen.append((done, of)),
        seen=lambda compared: seen.append(compared.image.name),
    )  # fmt: skip

    assert seen == ["a", (1, 2), "b", (2, 2)]
    precision, recall, _ = measured.curves["Dot"]
    assert (precision[-1], recall[-1]) == (1.0, pytest.approx(2 / 3))
    assert measured.model == MODEL


def test_intervals_are_over_cases_where_these_are_known() -> None:
    images = [replace(marked(), name=name) for name in "abcd"]
    cases = {"a": "1", "b": "1", "c": "2", "d": "3"}

    result = evaluate(OneImage(images), Oracle(), EvaluationOptions(cases=cases))

    assert (result["intervals"]["unit"], result["intervals"]["units"]) == ("case", 3)
    assert result["cells"]["Dot"]["f1_interval"] == (1.0, 1.0)
