"""Matching against a brute-force matcher, curves against scikit-learn, counts by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.metrics import (
    average_precision,
    best_threshold,
    confusion,
    f1_per_class,
    match,
    precision_recall_curve,
    precision_recall_f1,
)


def match_by_brute_force(
    predicted: np.ndarray, truth: np.ndarray, scores: np.ndarray, tolerance: float
) -> list[int]:
    found = [-1] * len(predicted)
    for prediction in sorted(range(len(predicted)), key=lambda index: -scores[index]):
        near = [
            (np.hypot(*(predicted[prediction] - cell)), index)
            for index, cell in enumerate(truth)
            if index not in found and np.hypot(*(predicted[prediction] - cell)) <= tolerance
        ]
        if near:
            found[prediction] = min(near)[1]
    return found


# Whole numbers, so that ties, coincident cells and distances of exactly the tolerance do occur.
cells = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=15).map(
    lambda xy: np.array(xy, float).reshape(-1, 2)
)
tenths = st.integers(0, 10).map(lambda tenth: tenth / 10)


@st.composite
def matchings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    predicted = draw(cells)
    scores = np.array(draw(st.lists(tenths, min_size=len(predicted), max_size=len(predicted))))
    return predicted, draw(cells), scores, float(draw(st.integers(0, 6)))


@settings(max_examples=200, deadline=None)
@given(matchings())
def test_matching_equals_brute_force(case: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> None:
    matches = match(*case)

    assert matches.truth.tolist() == match_by_brute_force(*case)
    assert matches.tp + matches.fn == len(case[1])
    taken = matches.truth[matches.is_tp]
    assert len(set(taken.tolist())) == len(taken)


@settings(max_examples=100, deadline=None)
@given(matchings(), tenths)
def test_one_matching_serves_every_threshold(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, float], threshold: float
) -> None:
    predicted, truth, scores, tolerance = case
    kept = scores >= threshold

    of_all = match(*case).truth[kept]
    of_kept = match(predicted[kept], truth, scores[kept], tolerance).truth

    assert of_all.tolist() == of_kept.tolist()


def test_the_better_score_takes_the_cell_though_another_is_nearer() -> None:
    matches = match(np.array([[0.0, 0.0], [5.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([0.2, 0.3]), 8)

    assert matches.truth.tolist() == [-1, 0]
    assert (matches.tp, matches.fn) == (1, 0)


def test_a_cell_at_the_tolerance_counts_and_beyond_it_does_not() -> None:
    truth, score = np.array([[0.0, 0.0]]), np.array([1.0])

    assert match(np.array([[8.0, 0.0]]), truth, score, 8.0).tp == 1
    assert match(np.array([[8.01, 0.0]]), truth, score, 8.0).tp == 0


def test_a_prediction_without_a_score_is_refused() -> None:
    with pytest.raises(ValueError, match="1 predictions have 0 scores"):
        match(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(0), 8.0)


def test_scores_that_are_nothing_by_nothing_are_none() -> None:
    assert precision_recall_f1(0, 0, 0) == (None, None, None)
    assert precision_recall_f1(0, 2, 0) == (0.0, None, 0.0)
    assert average_precision(np.array([0.5]), np.array([False]), 0) is None
    assert best_threshold(np.zeros(0), np.zeros(0, bool), 3) is None
    assert best_threshold(np.array([0.5]), np.array([False]), 0) is None


def test_a_curve_without_a_true_cell_is_empty() -> None:
    assert [len(axis) for axis in precision_recall_curve(np.array([0.5]), np.array([False]), 0)] == [0, 0, 0]


def test_true_cells_that_nobody_found_cost_average_precision() -> None:
    assert average_precision(np.array([0.9]), np.array([True]), 2) == 0.5
    assert average_precision(np.zeros(0), np.zeros(0, bool), 2) == 0.0


predictions = st.lists(st.tuples(tenths, st.booleans()), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(predictions, st.integers(0, 5))
def test_average_precision_is_scikit_learns(pairs: list[tuple[float, bool]], missed: int) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    scores, is_tp = (np.array(column) for column in zip(*pairs, strict=True))
    if not is_tp.any():
        return

    ours = average_precision(scores, is_tp, int(is_tp.sum()) + missed)

    # scikit-learn knows no true cells without a prediction; they scale the recall.
    theirs = reference.average_precision_score(is_tp, scores) * is_tp.sum() / (is_tp.sum() + missed)
    assert ours == pytest.approx(theirs)


@settings(max_examples=100, deadline=None)
@given(predictions, st.integers(0, 5))
def test_the_best_threshold_is_no_worse_than_any_other(pairs: list[tuple[float, bool]], missed: int) -> None:
    scores, is_tp = (np.array(column) for column in zip(*pairs, strict=True))
    n_truth = int(is_tp.sum()) + missed

    best = best_threshold(scores, is_tp, n_truth)

    if not n_truth:
        assert best is None
        return
    assert best is not None

    def f1_from(threshold: float) -> float:
        tp, kept = int(is_tp[scores >= threshold].sum()), int((scores >= threshold).sum())
        return precision_recall_f1(tp, kept - tp, n_truth - tp)[2] or 0.0

    assert best[1] == pytest.approx(f1_from(best[0]))
    assert all(f1_from(tenth / 10) <= best[1] + 1e-12 for tenth in range(11))


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    # F1 = 2/3 with one of two cells alone, and again with both cells and two mistakes.
    scores, is_tp = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, False, True])

    assert best_threshold(scores, is_tp, 2) == (0.9, pytest.approx(2 / 3))


def test_confusion_counts_labelled_pixels_by_row_true_and_column_predicted() -> None:
    true = np.array([[0, 0, 1], [1, 2, IGNORE_LABEL]], np.uint8)
    predicted = np.array([[0, 1, 1], [IGNORE_LABEL, 0, 2]], np.uint8)

    counts = confusion(true, predicted, 3)

    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]]


def test_a_labelled_pixel_that_was_not_analysed_is_a_miss() -> None:
    counts = confusion(np.array([0, 0], np.uint8), np.array([0, IGNORE_LABEL], np.uint8), 1)

    assert f1_per_class(counts) == [pytest.approx(2 / 3)]


def test_a_class_that_occurs_nowhere_has_no_f1() -> None:
    assert f1_per_class(np.array([[2, 0, 0], [0, 0, 0]])) == [1.0, None]


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 1)


def test_more_than_eleven_classes_do_not_overflow_their_bytes() -> None:
    labels = np.arange(200, dtype=np.uint8)

    np.testing.assert_array_equal(confusion(labels, labels, 200)[:, :200], np.eye(200))
