"""Matching and bands against brute force, curves and rates against scikit-learn and torchmetrics, counts by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.metrics import (
    average_precision,
    best_threshold,
    border_bands,
    class_counts,
    confusion,
    match,
    micro_f1,
    precision_recall_curve,
    precision_recall_f1,
    rates,
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


@settings(max_examples=60, deadline=None)
@given(predictions)
def test_curve_and_average_precision_are_torchmetrics(pairs: list[tuple[float, bool]]) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    scores, is_tp = (np.array(column) for column in zip(*pairs, strict=True))
    if not is_tp.any():
        return
    theirs = torch.from_numpy(scores), torch.from_numpy(is_tp).long()

    precision, recall, thresholds = precision_recall_curve(scores, is_tp, int(is_tp.sum()))

    # torchmetrics: rising thresholds, and an end of its own at recall 0.
    expected = [axis.numpy()[::-1] for axis in reference.binary_precision_recall_curve(*theirs)]
    np.testing.assert_allclose(precision, expected[0][1:], rtol=1e-6)
    np.testing.assert_allclose(recall, expected[1][1:], rtol=1e-6)
    np.testing.assert_allclose(thresholds, expected[2], rtol=1e-6)
    ap = average_precision(scores, is_tp, int(is_tp.sum()))
    assert ap == pytest.approx(float(reference.binary_average_precision(*theirs)), rel=1e-5)


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

    assert rates(*class_counts(counts, 1)).f1.tolist() == [pytest.approx(2 / 3)]


def test_a_class_that_occurs_nowhere_has_no_f1() -> None:
    f1 = rates(*class_counts(np.array([[2, 0, 0], [0, 0, 0]]), 2)).f1

    np.testing.assert_array_equal(f1, [1.0, np.nan])


def test_what_lies_behind_the_classes_is_a_mistake_and_no_class() -> None:
    cells = np.array([[5, 1, 2], [0, 3, 4], [6, 7, 0]])  # the last row: false; the last column: missed

    tp, fp, fn = class_counts(cells, 2)

    assert (tp.tolist(), fp.tolist(), fn.tolist()) == ([5, 3], [6, 8], [3, 4])


def test_counts_of_many_matrices_are_those_of_each() -> None:
    many = np.random.default_rng(0).integers(0, 9, (4, 3, 3, 4))

    tp, fp, fn = class_counts(many, 3)

    for place in np.ndindex(4, 3):
        one = class_counts(many[place], 3)
        np.testing.assert_array_equal((tp[place], fp[place], fn[place]), one)


def test_micro_f1_is_of_all_counts_together() -> None:
    assert micro_f1(np.array([[3, 1, 0], [0, 2, 4]]), 2) == pytest.approx(2 * 5 / (2 * 5 + 1 + 5))
    assert micro_f1(np.zeros((2, 3), np.int64), 2) is None


@pytest.fixture
def called() -> tuple[np.ndarray, np.ndarray]:
    """True and called classes of 500 pixels; the second class is never called."""
    random = np.random.default_rng(3)
    true = random.integers(0, 4, 500)
    wrong = random.choice([0, 2, 3], 500)
    return true, np.where((random.random(500) < 0.7) & (true != 1), true, wrong)


def test_confusion_and_rates_are_scikit_learns(called: tuple[np.ndarray, np.ndarray]) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    true, predicted = called

    counts = confusion(true, predicted, 4)
    ours = rates(*class_counts(counts, 4))

    np.testing.assert_array_equal(counts[:, :4], reference.confusion_matrix(true, predicted))
    theirs = reference.precision_recall_fscore_support(true, predicted, zero_division=np.nan)
    np.testing.assert_allclose((ours.precision, ours.recall), theirs[:2])
    np.testing.assert_allclose(ours.f1, reference.f1_score(true, predicted, average=None))
    assert micro_f1(counts, 4) == pytest.approx(reference.f1_score(true, predicted, average="micro"))


def test_confusion_and_rates_are_torchmetrics(called: tuple[np.ndarray, np.ndarray]) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    true, predicted = called
    theirs = torch.from_numpy(predicted), torch.from_numpy(true)

    counts = confusion(true, predicted, 4)
    ours = rates(*class_counts(counts, 4))

    np.testing.assert_array_equal(
        counts[:, :4], reference.multiclass_confusion_matrix(*theirs, num_classes=4)
    )
    f1 = reference.multiclass_f1_score(*theirs, num_classes=4, average=None)
    np.testing.assert_allclose(ours.f1, f1, rtol=1e-6)


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 1)


def test_more_than_eleven_classes_do_not_overflow_their_bytes() -> None:
    labels = np.arange(200, dtype=np.uint8)

    np.testing.assert_array_equal(confusion(labels, labels, 200)[:, :200], np.eye(200))


def bands_by_brute_force(labels: np.ndarray, width: float, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    border, interface = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    places = list(np.ndindex(*labels.shape))
    for place in (place for place in places if labels[place] < n_classes):
        near = [other for other in places if np.hypot(*np.subtract(place, other)) <= width]
        others = {int(labels[other]) for other in near} - {int(labels[place])}
        border[place] = bool(others)
        interface[place] = any(other < n_classes for other in others)
    return border, interface


@pytest.mark.parametrize("width", [1.0, 1.4, 1.5, 2.0, 3.7])
@pytest.mark.parametrize("unlabelled", [0.0, 0.4, 1.0])
def test_bands_equal_brute_force(width: float, unlabelled: float) -> None:
    random = np.random.default_rng(5)
    labels = np.repeat(np.repeat(random.integers(0, 3, (4, 5)), 4, axis=0), 3, axis=1).astype(np.uint8)
    labels[np.repeat(random.random((8, 5)), 2, axis=0).repeat(3, axis=1) < unlabelled] = IGNORE_LABEL

    border, interface = border_bands(labels, width, 3)

    expected = bands_by_brute_force(labels, width, 3)
    assert expected[0].any() != (unlabelled == 1)
    np.testing.assert_array_equal(border, expected[0])
    np.testing.assert_array_equal(interface, expected[1])


def test_an_images_edge_is_no_border_and_the_edge_of_what_was_drawn_is() -> None:
    whole = np.zeros((6, 6), np.uint8)
    part = np.full((6, 6), IGNORE_LABEL, np.uint8)
    part[:, :4] = 0

    for labels, columns in ((whole, []), (part, [3])):
        border, interface = border_bands(labels, 1.0, 1)

        assert np.flatnonzero(border.any(axis=0)).tolist() == columns
        assert not interface.any()
