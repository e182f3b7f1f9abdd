"""How good cells and regions are, as pure functions on arrays.

Used by `evaluation`, which adds up over images, and by `calibration`, which chooses thresholds. Predicted and
true cells come in as points, regions as label maps; counts, curves and scores go out. A score that is 0/0
(nothing true and nothing predicted) is never 0: a single one is None, one in an array NaN. Source: METHOD.md,
"Evaluation"; paper, Tables III-IV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

BORDER_UM: Final = 10.0
"""Labelled pixels this near to a border are scored by themselves too: about the width of a cell."""

Floats = NDArray[np.floating[Any]]
"""Any floating-point array."""


@dataclass(frozen=True, slots=True)
class Matches:
    """One-to-one matches of predicted with true cells.

    Attributes:
        truth: int64 (n,), for each prediction the index of the true cell it found, or -1.
        n_truth: Number of true cells.
    """

    truth: NDArray[np.int64]
    n_truth: int

    @property
    def is_tp(self) -> NDArray[np.bool_]:
        """Whether each prediction found a true cell, bool (n,)."""
        return self.truth >= 0

    @property
    def tp(self) -> int:
        """Predictions that found a true cell."""
        return int(self.is_tp.sum())

    @property
    def fn(self) -> int:
        """True cells that no prediction found."""
        return self.n_truth - self.tp


def match(predicted_xy: Floats, truth_xy: Floats, scores: Floats, tolerance: float) -> Matches:
    """Matches predictions to true cells one to one, greedily by score.

    In order of falling score (equal scores: in the order given) each prediction takes the nearest true cell
    that is still free and no farther than the tolerance (equally near: the first). So what a prediction gets
    depends only on those before it: one matching of all candidates serves every threshold on the score.

    Args:
        predicted_xy: (n, 2), centres (x, y).
        truth_xy: (m, 2), centres (x, y), in the same unit.
        scores: (n,), one for each prediction.
        tolerance: Largest distance of a match, in the unit of the centres.

    Raises:
        ValueError: Predictions and scores are not equally many.

    >>> predicted, truth = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> match(predicted, truth, np.array([0.5, 0.9]), tolerance=8.0).truth.tolist()
    [-1, 0]
    """
    if len(predicted_xy) != len(scores):
        raise ValueError(f"{len(predicted_xy)} predictions have {len(scores)} scores; give each one score")
    truth = np.full(len(predicted_xy), -1, np.int64)
    if len(predicted_xy) and len(truth_xy):
        free = [True] * len(truth_xy)
        for prediction, candidate in _pairs(predicted_xy, truth_xy, scores, tolerance):
            if truth[prediction] < 0 and free[candidate]:
                truth[prediction] = candidate
                free[candidate] = False
    return Matches(truth, len(truth_xy))


def _pairs(predicted_xy: Floats, truth_xy: Floats, scores: Floats, tolerance: float) -> list[tuple[int, int]]:
    """Pairs (prediction, true cell) within the tolerance: best prediction first, its nearest cell first."""
    near = cKDTree(predicted_xy).sparse_distance_matrix(cKDTree(truth_xy), tolerance, output_type="ndarray")
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    order = np.lexsort((near["j"], near["v"], rank[near["i"]]))
    return list(zip(near["i"][order].tolist(), near["j"][order].tolist(), strict=True))


def precision_recall_f1(tp: int, fp: int, fn: int) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1; None where there is none (0/0).

    >>> precision_recall_f1(6, 2, 4)
    (0.75, 0.6, 0.6666666666666666)
    >>> precision_recall_f1(0, 0, 3)
    (None, 0.0, 0.0)
    """
    return _ratio(tp, tp + fp), _ratio(tp, tp + fn), _ratio(2 * tp, 2 * tp + fp + fn)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def precision_recall_curve(
    scores: Floats, is_tp: NDArray[np.bool_], n_truth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall at each threshold that is some prediction's score, highest threshold first.

    Args:
        scores: (n,), one for each prediction that counts.
        is_tp: (n,), whether it found a true cell.
        n_truth: Number of true cells, found or not.

    Returns:
        precision, recall, thresholds, each (k,) for k different scores; empty without a true cell.

    >>> scores, is_tp = np.array([0.9, 0.8, 0.8, 0.3]), np.array([True, True, False, True])
    >>> precision, recall, thresholds = precision_recall_curve(scores, is_tp, n_truth=4)
    >>> precision.round(3).tolist(), recall.tolist(), thresholds.tolist()
    ([1.0, 0.667, 0.75], [0.25, 0.5, 0.75], [0.9, 0.8, 0.3])
    """
    if not n_truth:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    thresholds, tp, predicted = _cumulated(scores, is_tp)
    return tp / predicted, tp / n_truth, thresholds


def average_precision(scores: Floats, is_tp: NDArray[np.bool_], n_truth: int) -> float | None:
    """Area under the precision-recall curve, with all its points and nothing smoothed.

    AP = sum_k (R_k - R_{k-1}) P_k over the different scores, R_{-1} = 0: scikit-learn's definition. Pascal
    VOC's (since 2010) has the highest precision at a recall >= R_k in place of P_k and is never lower.

    Args:
        scores: (n,), one for each prediction that counts.
        is_tp: (n,), whether it found a true cell.
        n_truth: Number of true cells, found or not; those never found cost recall.

    Returns:
        A number in [0, 1]; None without a true cell.

    >>> average_precision(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]), n_truth=2)
    0.8333333333333333
    """
    if not n_truth:
        return None
    precision, recall, _ = precision_recall_curve(scores, is_tp, n_truth)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def best_threshold(scores: Floats, is_tp: NDArray[np.bool_], n_truth: int) -> tuple[float, float] | None:
    """The score from which on predictions should count for the highest F1, and that F1.

    Sound because `match` is greedy by score: leaving out the lower scores changes no match above. Of equally
    good thresholds the highest is taken.

    Args:
        scores: (n,), one for each prediction that counts.
        is_tp: (n,), whether it found a true cell.
        n_truth: Number of true cells, found or not.

    Returns:
        (threshold, F1): "score >= threshold" counts. None without a prediction or without a true cell.

    >>> best_threshold(np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, True, True, False]), n_truth=3)
    (0.3, 1.0)
    """
    if not n_truth or not len(scores):
        return None
    thresholds, tp, predicted = _cumulated(scores, is_tp)
    f1 = 2 * tp / (predicted + n_truth)
    best = int(f1.argmax())
    return float(thresholds[best]), float(f1[best])


def _cumulated(
    scores: Floats, is_tp: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Different scores, falling; true positives and predictions from each score up."""
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(np.float64)
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(falling) else order
    return falling[last], np.cumsum(is_tp[order], dtype=np.int64)[last], last.astype(np.int64) + 1


def confusion(
    labels_true: NDArray[np.integer[Any]], labels_pred: NDArray[np.integer[Any]], n_classes: int
) -> NDArray[np.int64]:
    """Counts labelled pixels by their true and their predicted class.

    Args:
        labels_true: Any shape; pixels without a label (`IGNORE_LABEL`, or any index beyond the classes) are
            left out.
        labels_pred: The same shape; a pixel that was not analysed (likewise) is a miss.
        n_classes: Number of region classes.

    Returns:
        int64 (true class, predicted class or, last, none).

    Raises:
        ValueError: The shapes differ.

    >>> confusion(np.array([0, 0, 1, 1, 255]), np.array([0, 1, 1, 255, 0]), n_classes=2).tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    if labels_true.shape != labels_pred.shape:
        raise ValueError(f"true labels {labels_true.shape} and predicted {labels_pred.shape} differ in shape")
    labelled = labels_true < n_classes
    true = labels_true[labelled].astype(np.intp)
    predicted = np.minimum(labels_pred[labelled], n_classes).astype(np.intp)
    counts = np.bincount(true * (n_classes + 1) + predicted, minlength=n_classes * (n_classes + 1))
    return counts.reshape(n_classes, n_classes + 1).astype(np.int64)


def border_bands(
    labels: NDArray[np.uint8], width_px: float, n_classes: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the labelled pixels near a border lie.

    People outline the inside of things and leave the borders out, where a model errs most; a score over all
    labelled pixels flatters it. Distances are between the centres of pixels, the image's edge is no border.

    Args:
        labels: uint8 (row, col), class index; any index beyond the classes: not labelled.
        width_px: How near is near.
        n_classes: Number of region classes.

    Returns:
        Two masks, bool (row, col), each of labelled pixels with another pixel no farther than the width: *border*,
        one that is not of its class, labelled or not (so within the width of the edge of what was drawn);
        *interface*, one that is labelled with another class, also across a gap. The second is part of the first;
        sparse annotations may have a border and no interface.

    >>> labels = np.array([[0, 0, 0, 0, 255, 255, 0, 0, 1, 1]], np.uint8)
    >>> border, interface = border_bands(labels, 1.0, n_classes=2)
    >>> np.flatnonzero(border).tolist(), np.flatnonzero(interface).tolist()
    ([3, 6, 7, 8], [7, 8])
    """
    border, interface = np.zeros(labels.shape, np.bool_), np.zeros(labels.shape, np.bool_)
    labelled = labels < n_classes
    is_sparse = not labelled.all()
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=n_classes)[:n_classes])
    for index in present if is_sparse or len(present) > 1 else ():
        own = labels == index
        border |= own & _near(~own, width_px)
        if is_sparse and len(present) > 1:
            interface |= own & _near(labelled & ~own, width_px)
    return border, interface if is_sparse else border


def _near(mask: NDArray[np.bool_], distance_px: float) -> NDArray[np.bool_]:
    """Which pixels have one of the mask's within the distance."""
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = far <= distance_px + 1e-3
    return near


class Rates(NamedTuple):
    """Precision, recall and F1 as arrays of one shape, NaN where 0/0."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def rates(tp: NDArray[np.integer[Any]], fp: NDArray[np.integer[Any]], fn: NDArray[np.integer[Any]]) -> Rates:
    """Precision, recall and F1 of many counts at once.

    Args:
        tp: True positives, any shape.
        fp: False positives, the same shape.
        fn: False negatives, the same shape.

    >>> rates(np.array([6, 0]), np.array([2, 0]), np.array([4, 3])).f1.round(3).tolist()
    [0.667, 0.0]
    """
    with np.errstate(invalid="ignore"):
        return Rates(
            np.true_divide(tp, tp + fp), np.true_divide(tp, tp + fn), np.true_divide(2 * tp, 2 * tp + fp + fn)
        )


def class_counts(
    confusion: NDArray[np.int64], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """True positives, false positives and false negatives of each class from a confusion matrix.

    Args:
        confusion: (..., true, predicted); the classes come first on both axes, and what lies behind them (not
            analysed, missed, false) is a mistake and no class.
        n_classes: Number of classes.

    Returns:
        tp, fp, fn, each (..., class).

    >>> [counts.tolist() for counts in class_counts(np.array([[3, 1, 0], [0, 2, 4]]), 2)]
    [[3, 2], [0, 1], [1, 4]]
    """
    tp = np.diagonal(confusion, axis1=-2, axis2=-1)[..., :n_classes]
    fp = confusion[..., :n_classes].sum(axis=-2) - tp
    fn = confusion[..., :n_classes, :].sum(axis=-1) - tp
    return tp, fp, fn


def micro_f1(confusion: NDArray[np.int64], n_classes: int) -> float | None:
    """F1 of the counts of all classes together; None where it is 0/0.

    Args:
        confusion: (true, predicted), as in `class_counts`.
        n_classes: Number of classes.

    >>> micro_f1(np.array([[3, 1, 0], [0, 2, 4]]), 2)
    0.625
    """
    return precision_recall_f1(*(int(count.sum()) for count in class_counts(confusion, n_classes)))[2]
