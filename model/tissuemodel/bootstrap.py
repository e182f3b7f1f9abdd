"""How far a score would move with other images: percentile intervals from resampled images (or cases).

Used by `evaluation`. What is resampled is the unit that was sampled in truth, the image, or the case where cases are
known, never pixels or cells: those of one slide resemble each other, and intervals from them are far too narrow. Every
unit comes in as counts that add up, so that a resample is a weighted sum. Source: Efron and Tibshirani, An
Introduction to the Bootstrap (1993), chapter 13, doi:10.1201/9780429246593.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 2000
LEVEL: Final = 0.95
MIN_UNITS: Final = 3
"""Of fewer units nothing can be said about others."""

_MAX_LEVELS: Final = 2048
"""Average precision of resamples is computed at no more than so many different scores (see `average_precisions`)."""
_AT_ONCE: Final = 256


class Resampling:
    """The images as they are, and resampled by unit.

    Args:
        unit_of: Of each image the number of its unit, 0 to units - 1: its case, or its own number.
        resamples: Number of resamples.
        seed: The same seed draws the same.

    Attributes:
        weights: int64 (1 + resample, unit), how often each unit is drawn: once each in the first row, which is what
            was measured; in the others as many units as there are, with replacement.

    >>> Resampling(np.array([0, 1, 1]), resamples=3).sums(np.array([5, 2, 1]))[0].tolist()
    8
    """

    def __init__(self, unit_of: NDArray[np.intp], resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.unit_of = unit_of
        self.units = int(unit_of.max()) + 1 if len(unit_of) else 0
        random = np.random.default_rng(seed)
        drawn = random.multinomial(self.units, np.full(self.units, 1 / max(self.units, 1)), size=resamples)
        self.weights = np.concatenate([np.ones((1, self.units), np.int64), drawn.astype(np.int64)])

    def by_unit(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts of images, (image, ...), added up to those of units, (unit, ...)."""
        total = np.zeros((self.units, *counts.shape[1:]), np.int64)
        np.add.at(total, self.unit_of, counts)
        return total

    def sums(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Counts of images, (image, ...), added up to those of resamples, (1 + resample, ...)."""
        return np.tensordot(self.weights, self.by_unit(counts), axes=1)


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """One kind of score, of each class and of all classes, as measured (first row) and for each resample.

    Attributes:
        classes: (1 + resample, class), NaN where 0/0.
        support: (class,), number of units that have something true of the class.
        pooled: (1 + resample,), the score of all classes' counts together.
        pooled_support: Number of units that have something true of any class.
    """

    classes: NDArray[np.float64]
    support: NDArray[np.int64]
    pooled: NDArray[np.float64]
    pooled_support: int

    def of_class(self, index: int, key: str) -> dict[str, Any]:
        """The score of a class and its interval, as JSON values under the key and the key with "_interval"."""
        return _said(key, self.classes[:, index], int(self.support[index]))

    def micro(self, key: str) -> dict[str, Any]:
        """The score of all counts together; frequent classes decide it."""
        return _said(key, self.pooled, self.pooled_support)

    def macro(self, key: str) -> dict[str, Any]:
        """The mean over the classes that have a score; every class counts the same.

        A resample in which one of these classes has no score is left out of the interval.
        """
        known = ~np.isnan(self.classes[0])
        if not known.any():
            return {key: None, f"{key}_interval": None}
        return _said(key, self.classes[:, known].mean(axis=1), int(self.support[known].min()))


def _said(key: str, values: NDArray[np.float64], support: int) -> dict[str, Any]:
    point = None if np.isnan(values[0]) else float(values[0])
    known = point is not None and support >= MIN_UNITS
    return {key: point, f"{key}_interval": interval(values[1:]) if known else None}


def interval(samples: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile interval of a score's resamples.

    Args:
        samples: (resample,); NaN, where a resample has nothing to score (a rare class was not drawn), is left out.
        level: The interval's nominal coverage. With few units (below about 20) the true one is smaller.

    Returns:
        (low, high); None if no resample has a score.

    >>> [round(end, 3) for end in interval(np.arange(101) / 100)]
    [0.025, 0.975]
    """
    known = samples[~np.isnan(samples)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def average_precisions(
    weights: NDArray[np.int64],
    scores: Sequence[NDArray[np.floating[Any]]],
    is_tp: Sequence[NDArray[np.bool_]],
    n_truth: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Average precision (`metrics.average_precision`) of each resample.

    Where there are more than 2048 different scores, those between two of 2048 quantiles count as equal; that moves
    the average precision by less than 1e-3, far less than resampling does.

    Args:
        weights: (resample, unit), as in `Resampling`.
        scores: For each unit its predictions' scores.
        is_tp: For each unit whether each prediction found a true cell.
        n_truth: (unit,), number of true cells, found or not.

    Returns:
        (resample,), NaN where a resample has no true cell.

    >>> scores, is_tp = [np.array([0.9, 0.8]), np.array([0.3])], [np.array([True, False]), np.array([True])]
    >>> average_precisions(np.array([[1, 1], [2, 0]]), scores, is_tp, np.array([1, 1])).round(3).tolist()
    [0.833, 1.0]
    """
    tp, predicted = _cumulated(scores, is_tp)
    found = np.empty(len(weights))
    for start in range(0, len(weights), _AT_ONCE):
        drawn = weights[start : start + _AT_ONCE].astype(np.float64)
        with np.errstate(invalid="ignore"):
            recall = (drawn @ tp) / (drawn @ n_truth)[:, None]
        predictions = drawn @ predicted
        precision = (drawn @ tp) / np.maximum(predictions, 1)
        found[start : start + _AT_ONCE] = np.sum(np.diff(recall, axis=1, prepend=0.0) * precision, axis=1)
    return found


def _cumulated(
    scores: Sequence[NDArray[np.floating[Any]]], is_tp: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each unit true positives and predictions from each level of the score up: (unit, level), levels falling."""
    pooled = np.concatenate([np.zeros(0), *scores])
    levels = np.unique(pooled)
    if len(levels) > _MAX_LEVELS:
        steps = np.linspace(0, len(pooled) - 1, _MAX_LEVELS).astype(np.intp)
        levels = np.unique(np.sort(pooled)[steps])
    # One level at least, so that a unit without any prediction has an average precision of 0.
    shape = (len(scores), max(len(levels), 1))
    unit = np.repeat(np.arange(len(scores)), [len(part) for part in scores])
    place = unit * shape[1] + (shape[1] - np.searchsorted(levels, pooled, side="right"))
    hits = np.concatenate([np.zeros(0, np.bool_), *is_tp]).astype(np.float64)
    size = shape[0] * shape[1]
    tp = np.bincount(place, hits, minlength=size).reshape(shape)
    predicted = np.bincount(place, minlength=size).reshape(shape)
    return np.cumsum(tp, axis=1), np.cumsum(predicted, axis=1, dtype=np.float64)
