"""What one image adds to an evaluation: labelled pixels and matched cells as confusion matrices.

Comes in from the bridge's `evaluation`, image by image; `tissuemodel.evaluation` adds them up. Every score of regions
and of cells at their thresholds follows from these matrices. Source: METHOD.md, "Evaluation".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tissuemodel import metrics


@dataclass(frozen=True, slots=True, eq=False)
class RegionCounts:
    """Labelled pixels of one image by their true and predicted class, int64 (class, class or, last, not analysed).

    Attributes:
        labelled: All.
        border: Those near the edge of what was drawn (`metrics.border_bands`).
        interface: Those near a pixel labelled with another class.
    """

    labelled: NDArray[np.int64]
    border: NDArray[np.int64]
    interface: NDArray[np.int64]

    @staticmethod
    def of(
        labels_true: NDArray[np.uint8],
        labels_pred: NDArray[np.uint8],
        n_classes: int,
        *,
        band_px: float,
        inner: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> RegionCounts:
        """Counts a piece of an image.

        Args:
            labels_true: uint8 (row, col), class index, `IGNORE_LABEL` where nobody labelled.
            labels_pred: uint8 (row, col), class index, `IGNORE_LABEL` where it was not analysed.
            n_classes: Number of region classes.
            band_px: Width of the bands along borders.
            inner: Which part is counted; what lies round it only says where borders are.

        >>> left, right = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8)
        >>> counts = RegionCounts.of(left, right, 2, band_px=1)
        >>> counts.labelled.tolist(), counts.border.tolist()
        ([[1, 1, 0], [0, 2, 0]], [[0, 1, 0], [0, 1, 0]])
        """
        bands = metrics.border_bands(labels_true, band_px, n_classes)
        true, predicted = labels_true[inner], labels_pred[inner]
        border, interface = (
            metrics.confusion(true[band[inner]], predicted[band[inner]], n_classes) for band in bands
        )
        return RegionCounts(metrics.confusion(true, predicted, n_classes), border, interface)

    @staticmethod
    def none(n_classes: int) -> RegionCounts:
        """Of an image without a label."""
        return RegionCounts(*(np.zeros((n_classes, n_classes + 1), np.int64) for _ in range(3)))

    def __add__(self, other: RegionCounts) -> RegionCounts:
        """The counts of two pieces together."""
        return RegionCounts(
            self.labelled + other.labelled, self.border + other.border, self.interface + other.interface
        )


@dataclass(frozen=True, slots=True, eq=False)
class MatchedCells:
    """The cells that a model gave for one image against the marked ones.

    Attributes:
        found: int64 (n,), for each predicted cell the index of the marked one on which it stands, or -1.
        counts: bool (n,), False for a cell that stands on none where nobody marked all: neither right nor wrong.
        predicted_classes: (n,), class index of each.
        truth_classes: (m,), class index of each marked cell.
    """

    found: NDArray[np.int64]
    counts: NDArray[np.bool_]
    predicted_classes: NDArray[np.integer[Any]]
    truth_classes: NDArray[np.integer[Any]]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether each predicted cell stands on a marked one of its own class, bool (n,)."""
        right = self.found >= 0
        right[right] = self.truth_classes[self.found[right]] == self.predicted_classes[right]
        return right

    @property
    def is_missed(self) -> NDArray[np.bool_]:
        """Whether no predicted cell of any class stands on each marked one, bool (m,)."""
        missed = np.ones(len(self.truth_classes), np.bool_)
        missed[self.found[self.found >= 0]] = False
        return missed

    def confusion(self, n_classes: int) -> NDArray[np.int64]:
        """Counts cells by true class (or, last, false: there is none) and predicted class (or, last, missed)."""
        predicted = self.predicted_classes[self.counts].astype(np.intp)
        true = np.append(self.truth_classes, n_classes).astype(np.intp)[self.found[self.counts]]
        missed = self.truth_classes[self.is_missed].astype(np.intp)
        side = n_classes + 1
        places = np.concatenate([true * side + predicted, missed * side + n_classes])
        return np.bincount(places, minlength=side * side).reshape(side, side).astype(np.int64)


def match_cells(
    predicted_xy: metrics.Floats,
    predicted_classes: NDArray[np.integer[Any]],
    scores: metrics.Floats,
    truth_xy: metrics.Floats,
    truth_classes: NDArray[np.integer[Any]],
    countable: NDArray[np.bool_],
    tolerance: float,
) -> MatchedCells:
    """Matches one image's cells: first within each class, then what is left across classes.

    The first round is what precision, recall and F1 of a class are made of. The second tells a cell that was seen
    but called another class from one that was missed. A prediction that found none of its class is wrong only where
    every cell of its class is marked; elsewhere nobody knows, and it takes no part in the second round.

    Args:
        predicted_xy: (n, 2), cells that the model gives (x, y).
        predicted_classes: (n,), class index of each.
        scores: (n,), score of each.
        truth_xy: (m, 2), marked cells (x, y) in the same unit.
        truth_classes: (m,), class index of each.
        countable: (n,), whether the prediction lies where every cell of its own class is marked.
        tolerance: Largest distance of a match, in the unit of the centres.

    >>> cells, marked = np.array([[5.0, 5.0], [40.0, 5.0]]), np.array([[6.0, 5.0], [41.0, 5.0]])
    >>> zeros, mixed, all_marked = np.array([0, 0]), np.array([0, 1]), np.array([True, True])
    >>> match_cells(cells, zeros, np.array([0.9, 0.8]), marked, mixed, all_marked, 8.0).confusion(2).tolist()
    [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    """
    found = np.full(len(predicted_xy), -1, np.int64)

    def match(mine: NDArray[np.intp], true: NDArray[np.intp]) -> None:
        matches = metrics.match(predicted_xy[mine], truth_xy[true], scores[mine], tolerance)
        found[mine[matches.is_tp]] = true[matches.truth[matches.is_tp]]

    for index in np.unique(predicted_classes):
        match(np.flatnonzero(predicted_classes == index), np.flatnonzero(truth_classes == index))
    counts = (found >= 0) | countable
    match(np.flatnonzero(counts & (found < 0)), np.setdiff1d(np.arange(len(truth_xy)), found))
    return MatchedCells(found, counts, predicted_classes, truth_classes)
