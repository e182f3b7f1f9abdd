"""What is added up over images is what one would count by hand."""

import json

import numpy as np
import pytest

from tissuemodel.evaluation import CellTally, RegionTally, evaluation


def add(
    tally: CellTally,
    predicted: list[tuple[float, float, int, float, bool]],
    truth: list[tuple[float, float, int]],
) -> None:
    """Adds an image of predictions (x, y, class, score, countable) and true cells (x, y, class)."""
    rows = np.array(predicted, float).reshape(-1, 5)
    true = np.array(truth, float).reshape(-1, 3)
    tally.add(
        rows[:, :2],
        rows[:, 2].astype(int),
        rows[:, 3],
        true[:, :2],
        true[:, 2].astype(int),
        rows[:, 4] > 0,
        8.0,
    )


def test_cells_are_counted_over_images_and_per_class() -> None:
    tally = CellTally(["T", "Mast"])
    add(tally, [(10, 10, 0, 0.9, True), (50, 50, 0, 0.8, True)], [(12, 10, 0), (90, 90, 1)])
    add(tally, [(10, 10, 1, 0.7, True)], [(10, 11, 1), (40, 10, 0)])

    counts = tally.counts([0.5, 0.5])
    results = tally.results([0.5, 0.5])

    assert counts == {"T": {"tp": 1, "fp": 1, "fn": 1}, "Mast": {"tp": 1, "fp": 0, "fn": 1}}
    assert results["T"] == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "ap": 0.5}
    assert results["Mast"] == {"f1": pytest.approx(2 / 3), "precision": 1.0, "recall": 0.5, "ap": 0.5}


def test_a_cell_of_one_image_never_matches_a_cell_of_another() -> None:
    tally = CellTally(["T"])
    add(tally, [(10, 10, 0, 0.9, True)], [])
    add(tally, [], [(10, 10, 0)])

    assert tally.counts([0.5]) == {"T": {"tp": 0, "fp": 1, "fn": 1}}


def test_a_mistake_where_cells_are_not_all_marked_does_not_count() -> None:
    tally = CellTally(["T"])
    add(tally, [(50, 50, 0, 0.9, False), (90, 50, 0, 0.8, True)], [])

    assert tally.counts([0.5]) == {"T": {"tp": 0, "fp": 1, "fn": 0}}


def test_a_found_cell_counts_wherever_it_lies() -> None:
    tally = CellTally(["T"])
    add(tally, [(50, 50, 0, 0.9, False)], [(50, 50, 0)])

    assert tally.results([0.5])["T"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "ap": 1.0}


def test_a_call_of_the_wrong_class_is_a_mistake_and_a_miss() -> None:
    tally = CellTally(["T", "Mast"])
    add(tally, [(50, 50, 1, 0.9, True)], [(50, 50, 0)])

    assert tally.counts([0.5, 0.5]) == {"T": {"tp": 0, "fp": 0, "fn": 1}, "Mast": {"tp": 0, "fp": 1, "fn": 0}}


def test_the_threshold_includes_its_score_and_average_precision_ignores_it() -> None:
    tally = CellTally(["T"])
    add(tally, [(10, 10, 0, 0.5, True), (40, 10, 0, 0.4, True)], [(10, 10, 0), (40, 10, 0)])

    assert tally.counts([0.5])["T"] == {"tp": 1, "fp": 0, "fn": 1}
    assert tally.results([0.6])["T"]["ap"] == 1.0
    assert tally.best_thresholds() == {"T": (0.4, 1.0)}
    assert [axis.tolist() for axis in tally.curves()["T"]] == [[1, 1], [0.5, 1], [0.5, 0.4]]


def test_regions_add_up_over_pieces() -> None:
    whole, pieces = RegionTally(["a", "b"]), RegionTally(["a", "b"])
    true = np.array([[0, 0, 1, 255], [1, 1, 0, 0]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [1, 255, 0, 1]], np.uint8)

    whole.add(true, predicted)
    for row in range(2):
        pieces.add(true[row : row + 1], predicted[row : row + 1])

    assert whole.results() == pieces.results()
    assert whole.results()["a"]["f1"] == pytest.approx(4 / 6)
    assert whole.results()["b"]["f1"] == pytest.approx(4 / 7)


def test_the_layout_is_fixed_and_valid_json() -> None:
    report = evaluation(RegionTally(["a"]), CellTally(["T"]), [0.5])

    nothing = {"f1": None, "precision": None, "recall": None, "ap": None}
    assert json.loads(json.dumps(report, allow_nan=False)) == {
        "regions": {"a": {"f1": None}},
        "cells": {"T": nothing},
    }
