"""Adds up over images how well cells and regions were found, and says it per class.

Stands at the end: `evaluate` gives predictions and ground truth image by image, and a dictionary in the fixed
layout ``{"regions": {CLASS: {"f1"}}, "cells": {CLASS: {"f1", "precision", "recall", "ap"}}}`` goes out.
Source: METHOD.md, "Evaluation".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tissuemodel import metrics

Score = float | None
"""A score, or None where it is 0/0."""


@dataclass(slots=True)
class _ClassTally:
    """Of one cell class: the predictions that count, image by image, and how many true cells there are."""

    scores: list[NDArray[np.float64]] = field(default_factory=lambda: [np.zeros(0)])
    is_tp: list[NDArray[np.bool_]] = field(default_factory=lambda: [np.zeros(0, np.bool_)])
    n_truth: int = 0

    def joined(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
        return np.concatenate(self.scores), np.concatenate(self.is_tp), self.n_truth


class CellTally:
    """Cells over images: matched once in each image, scored at any threshold.

    A prediction that found a true cell is a true positive wherever it lies. One that found none is a false
    positive only where every cell of its class is marked; elsewhere nobody knows, and it is left out.

    Args:
        classes: Names of the cell classes.

    >>> tally = CellTally(["Lymphocyte"])
    >>> cells, marked = np.array([[5.0, 5.0], [90.0, 5.0]]), np.array([True, False])
    >>> one, two = np.array([0]), np.array([0, 0])
    >>> tally.add(cells, two, np.array([0.9, 0.8]), np.array([[6.0, 5.0]]), one, marked, tolerance=8.0)
    >>> tally.results([0.5])["Lymphocyte"]
    {'f1': 1.0, 'precision': 1.0, 'recall': 1.0, 'ap': 1.0}
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._tallies = [_ClassTally() for _ in self.classes]

    def add(
        self,
        predicted_xy: NDArray[np.floating[Any]],
        predicted_classes: NDArray[np.integer[Any]],
        scores: NDArray[np.floating[Any]],
        truth_xy: NDArray[np.floating[Any]],
        truth_classes: NDArray[np.integer[Any]],
        countable: NDArray[np.bool_],
        tolerance: float,
    ) -> None:
        """Adds one image.

        Args:
            predicted_xy: (n, 2), all candidates (x, y), also those below the threshold.
            predicted_classes: (n,), class index of each.
            scores: (n,), score of each.
            truth_xy: (m, 2), true cells (x, y) in the same unit.
            truth_classes: (m,), class index of each.
            countable: (n,), whether the prediction lies where every cell of its own class is marked.
            tolerance: Largest distance of a match, in the unit of the centres.
        """
        for index, tally in enumerate(self._tallies):
            mine, true = predicted_classes == index, truth_classes == index
            found = metrics.match(predicted_xy[mine], truth_xy[true], scores[mine], tolerance)
            counts = found.is_tp | countable[mine]
            tally.scores.append(scores[mine][counts].astype(np.float64))
            tally.is_tp.append(found.is_tp[counts])
            tally.n_truth += found.n_truth

    def counts(self, thresholds: Sequence[float]) -> dict[str, dict[str, int]]:
        """True positives, false positives and false negatives of each class at its threshold."""
        return {
            name: _counts(*tally.joined(), threshold)
            for name, tally, threshold in zip(self.classes, self._tallies, thresholds, strict=True)
        }

    def results(self, thresholds: Sequence[float]) -> dict[str, dict[str, Score]]:
        """F1, precision and recall of each class at its threshold; average precision over all candidates.

        Args:
            thresholds: One for each class; a cell counts from this score.
        """
        results: dict[str, dict[str, Score]] = {}
        for tally, (name, counts) in zip(self._tallies, self.counts(thresholds).items(), strict=True):
            precision, recall, f1 = metrics.precision_recall_f1(**counts)
            ap = metrics.average_precision(*tally.joined())
            results[name] = {"f1": f1, "precision": precision, "recall": recall, "ap": ap}
        return results

    def curves(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
        """Precision, recall and thresholds of each class (`metrics.precision_recall_curve`)."""
        return {
            name: metrics.precision_recall_curve(*tally.joined())
            for name, tally in zip(self.classes, self._tallies, strict=True)
        }

    def best_thresholds(self) -> dict[str, tuple[float, float] | None]:
        """The threshold of highest F1 and that F1 of each class (`metrics.best_threshold`)."""
        return {
            name: metrics.best_threshold(*tally.joined())
            for name, tally in zip(self.classes, self._tallies, strict=True)
        }


def _counts(
    scores: NDArray[np.float64], is_tp: NDArray[np.bool_], n_truth: int, threshold: float
) -> dict[str, int]:
    kept = is_tp[scores >= threshold]
    tp = int(kept.sum())
    return {"tp": tp, "fp": len(kept) - tp, "fn": n_truth - tp}


class RegionTally:
    """Regions over images, or over pieces of images: labelled pixels by true and predicted class.

    Args:
        classes: Names of the region classes.

    >>> tally = RegionTally(["Tumor", "Stroma"])
    >>> tally.add(np.array([[0, 0, 1, 255]]), np.array([[0, 1, 1, 1]]))
    >>> tally.results()
    {'Tumor': {'f1': 0.6666666666666666}, 'Stroma': {'f1': 0.6666666666666666}}
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.confusion = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)
        """int64 (true class, predicted class or, last, not analysed)."""

    def add(self, labels_true: NDArray[np.integer[Any]], labels_pred: NDArray[np.integer[Any]]) -> None:
        """Adds an image or a piece of one: (row, col) class indices, `IGNORE_LABEL` for none."""
        self.confusion += metrics.confusion(labels_true, labels_pred, len(self.classes))

    def results(self) -> dict[str, dict[str, Score]]:
        """F1 of each class."""
        f1 = metrics.f1_per_class(self.confusion)
        return {name: {"f1": value} for name, value in zip(self.classes, f1, strict=True)}


def evaluation(
    regions: RegionTally, cells: CellTally, thresholds: Sequence[float]
) -> dict[str, dict[str, dict[str, Score]]]:
    """What `evaluate --json` prints; scores that are 0/0 are None.

    Args:
        regions: The regions' tally.
        cells: The cells' tally.
        thresholds: One for each cell class.

    >>> evaluation(RegionTally(["Tumor"]), CellTally([]), [])
    {'regions': {'Tumor': {'f1': None}}, 'cells': {}}
    """
    return {"regions": regions.results(), "cells": cells.results(thresholds)}
