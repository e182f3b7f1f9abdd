"""What a training set can teach is counted right, and what cannot be learnt is refused with the cure."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tissuebridge.errors import AnnotationError
from tissuebridge.learnable import CellSummary, RegionSummary, TrainingSummary, check_learnable
from tissuemodel.labels import IGNORE_LABEL, Example, LabelSet

CLASSES = LabelSet(("Tumor", "Stroma"), ("T", "Mast"), {})
GOOD = CellSummary(marked=40, complete_um2=900.0, hard_negatives=0, pieces=1)
LABELLED = RegionSummary(area_um2=100.0, pieces=1)


def piece() -> Example:
    """Two pixels of Tumor, two T in the picture and two outside it or ignored, one hard negative of two ignored."""
    ignored = np.zeros((2, 4), bool)
    ignored[:, 3] = True
    return Example(
        name="slide",
        image=np.zeros((2, 4, 3), np.uint8),
        regions=np.array([[0, 0, IGNORE_LABEL, IGNORE_LABEL], [IGNORE_LABEL] * 4], np.uint8),
        points=np.array([[0.5, 0.5], [2.9, 1.9], [3.5, 0.5], [-0.5, 0.5]], np.float32),
        point_classes=np.zeros(4, np.uint8),
        negatives=np.array([[1.5, 1.5], [3.5, 1.5]], np.float32),
        complete=np.array([[1, 1, 3, 3], [0, 0, 2, 2]], np.uint16),
        ignored=ignored,
    )


def test_what_lies_in_the_pieces_and_is_not_ignored_is_counted() -> None:
    summary = TrainingSummary.of([piece(), piece()], CLASSES, pixel_size_um=0.5)

    assert summary == TrainingSummary(
        pieces=2,
        regions={"Tumor": RegionSummary(4 * 0.25, 2), "Stroma": RegionSummary(0.0, 0)},
        cells={"T": CellSummary(4, 6 * 0.25, 2, 2), "Mast": CellSummary(0, 4 * 0.25, 2, 0)},
    )


def test_the_table_names_every_class_and_the_summary_is_json() -> None:
    summary = TrainingSummary(3, {"Tumor": RegionSummary(2.5e6, 2), "Stroma": LABELLED}, {"T": GOOD})

    assert summary.table().splitlines() == [
        "Region class  labelled area  pieces",
        "Tumor               2.5 mm²       2",
        "Stroma              100 µm²       1",
        "Cell class    marked  complete area  not a cell  pieces",
        "T                 40        900 µm²           0       1",
    ]
    assert json.loads(json.dumps(summary.as_dict()))["cells"]["T"]["marked"] == 40


@pytest.mark.parametrize(
    "cell", [GOOD, CellSummary(1, 0.0, 1, 1)], ids=["with a complete area", "with a hard negative"]
)
def test_cells_with_negatives_can_be_learnt_without_regions(cell: CellSummary) -> None:
    check_learnable(TrainingSummary(1, {}, {"T": cell}))


def test_two_regions_can_be_learnt_without_cells() -> None:
    check_learnable(TrainingSummary(1, {"Tumor": LABELLED, "Stroma": LABELLED}, {}))


def test_a_single_region_beside_cells_is_warned_about() -> None:
    summary = TrainingSummary(1, {"Tumor": LABELLED}, {"T": GOOD})

    check_learnable(summary)

    assert "call every place 'Tumor'" in summary.table().splitlines()[-1]


def test_nothing_annotated_is_refused() -> None:
    for summary in (TrainingSummary.of([], CLASSES, 0.5), TrainingSummary.of([], LabelSet((), (), {}), 0.5)):
        with pytest.raises(AnnotationError, match="outline regions or mark cells"):
            check_learnable(summary)


def test_a_single_region_class_alone_is_refused() -> None:
    with pytest.raises(AnnotationError, match="'Tumor' is the only class: outline a second"):
        check_learnable(TrainingSummary(1, {"Tumor": LABELLED}, {}))


def test_a_region_class_without_a_pixel_is_refused() -> None:
    with pytest.raises(AnnotationError, match="'Stroma' has no labelled pixel"):
        check_learnable(TrainingSummary(1, {"Tumor": LABELLED, "Stroma": RegionSummary(0.0, 0)}, {}))


def test_every_cell_class_without_cells_or_negatives_is_refused_by_name() -> None:
    cells = {"T": CellSummary(40, 0.0, 0, 1), "Mast": CellSummary(0, 10.0, 0, 0), "NK": GOOD}

    with pytest.raises(AnnotationError) as refusal:
        check_learnable(TrainingSummary(1, {}, cells))

    message = str(refusal.value)
    assert "'T' has 40 marked cells, but nothing says where there is none" in message
    assert "'Cells marked*'" in message
    assert "'Not a cell*'" in message
    assert "'Mast' has no marked cell" in message
    assert "NK" not in message
