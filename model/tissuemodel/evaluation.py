"""Adds up over images how well cells and regions were found, and says it per class, with intervals.

Stands at the end: the bridge's `evaluation` gives counts image by image, and a dictionary goes out whose
``{"regions": {CLASS: {"f1"}}, "cells": {CLASS: {"f1", "precision", "recall", "ap"}}}`` is fixed. All scores but average
precision follow from confusion matrices, which add up over images; that is what makes the intervals cheap.
Source: METHOD.md, "Evaluation".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuemodel import bootstrap, metrics
from tissuemodel.counts import RegionCounts

Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Precision, recall and thresholds, each (k,)."""

NOT_ANALYSED: Final = "Not analysed"
MISSED: Final = "Missed"
NO_CELL: Final = "No cell"


@dataclass(slots=True)
class _Ranked:
    """Of one cell class: the candidates that count, image by image, and how many true cells there are."""

    scores: list[NDArray[np.float64]] = field(default_factory=list)
    is_tp: list[NDArray[np.bool_]] = field(default_factory=list)
    n_truth: list[int] = field(default_factory=list)

    def joined(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
        scores = np.concatenate([np.zeros(0), *self.scores])
        return scores, np.concatenate([np.zeros(0, np.bool_), *self.is_tp]), sum(self.n_truth)

    def by_unit(self, unit_of: NDArray[np.intp], units: int) -> _Ranked:
        """The same with the images of each unit put together."""
        merged = _Ranked([np.zeros(0)] * units, [np.zeros(0, np.bool_)] * units, [0] * units)
        for unit in range(units):
            own = np.flatnonzero(unit_of == unit)
            merged.scores[unit] = np.concatenate([self.scores[place] for place in own])
            merged.is_tp[unit] = np.concatenate([self.is_tp[place] for place in own])
            merged.n_truth[unit] = sum(self.n_truth[place] for place in own)
        return merged


class CellTally:
    """Candidates over images: matched once in each image, scored at any threshold.

    A prediction that found a true cell is a true positive wherever it lies. One that found none is a false
    positive only where every cell of its class is marked; elsewhere nobody knows, and it is left out.

    Args:
        classes: Names of the cell classes.

    >>> tally = CellTally(["Lymphocyte"])
    >>> cells, marked = np.array([[5.0, 5.0], [90.0, 5.0]]), np.array([True, False])
    >>> one, two = np.array([0]), np.array([0, 0])
    >>> tally.add(cells, two, np.array([0.9, 0.8]), np.array([[6.0, 5.0]]), one, marked, tolerance=8.0)
    >>> tally.best_thresholds()
    {'Lymphocyte': (0.9, 1.0)}
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.ranked = [_Ranked() for _ in self.classes]
        self.images = 0

    def add(
        self,
        predicted_xy: metrics.Floats,
        predicted_classes: NDArray[np.integer[Any]],
        scores: metrics.Floats,
        truth_xy: metrics.Floats,
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
        self.images += 1
        for index, ranked in enumerate(self.ranked):
            mine, true = predicted_classes == index, truth_classes == index
            found = metrics.match(predicted_xy[mine], truth_xy[true], scores[mine], tolerance)
            counts = found.is_tp | countable[mine]
            ranked.scores.append(scores[mine][counts].astype(np.float64))
            ranked.is_tp.append(found.is_tp[counts])
            ranked.n_truth.append(found.n_truth)

    def together(self) -> _Ranked:
        """The candidates of all classes as if they were one."""
        no_scores, no_hits, images = np.zeros(0), np.zeros(0, np.bool_), range(self.images)
        return _Ranked(
            [np.concatenate([no_scores, *(of.scores[place] for of in self.ranked)]) for place in images],
            [np.concatenate([no_hits, *(of.is_tp[place] for of in self.ranked)]) for place in images],
            [sum(of.n_truth[place] for of in self.ranked) for place in images],
        )

    def curves(self) -> dict[str, Curve]:
        """Precision, recall and thresholds of each class (`metrics.precision_recall_curve`)."""
        return {
            name: metrics.precision_recall_curve(*ranked.joined())
            for name, ranked in zip(self.classes, self.ranked, strict=True)
        }

    def best_thresholds(self) -> dict[str, tuple[float, float] | None]:
        """The threshold of highest F1 and that F1 of each class (`metrics.best_threshold`)."""
        return {
            name: metrics.best_threshold(*ranked.joined())
            for name, ranked in zip(self.classes, self.ranked, strict=True)
        }


# ---- All images -------------------------------------------------------------------------------------------


class Evaluation:
    """Scores over images, each with its interval.

    Args:
        region_classes: Names of the region classes.
        cell_classes: Names of the cell classes.

    Attributes:
        candidates: All candidates, for curves and average precision.

    >>> evaluation = Evaluation(["Tumor", "Stroma"], [])
    >>> labelled = np.array([[3, 1, 0], [0, 4, 0]])
    >>> nobody, no_class = np.zeros((0, 2)), np.zeros(0, np.uint8)
    >>> evaluation.candidates.add(nobody, no_class, np.zeros(0), nobody, no_class, np.zeros(0, bool), 8.0)
    >>> evaluation.add("slide 1", RegionCounts(labelled, labelled, labelled), np.zeros((1, 1), np.int64))
    >>> scores = evaluation.results()["regions"]["Tumor"]
    >>> round(scores["f1"], 3), scores["f1_interval"]
    (0.857, None)
    """

    def __init__(self, region_classes: Sequence[str], cell_classes: Sequence[str]) -> None:
        self.region_classes = tuple(region_classes)
        self.cell_classes = tuple(cell_classes)
        self.candidates = CellTally(cell_classes)
        self.images: list[str] = []
        self._regions: list[RegionCounts] = []
        self._cells: list[NDArray[np.int64]] = []

    def add(self, image: str, regions: RegionCounts, cells: NDArray[np.int64]) -> None:
        """Adds one image; its candidates are added to `candidates`, in the same order of images.

        Args:
            image: Its name.
            regions: Its labelled pixels.
            cells: The confusion matrix of its cells (`MatchedCells.confusion`).
        """
        self.images.append(image)
        self._regions.append(regions)
        self._cells.append(cells)

    def results(self, cases: Mapping[str, str] | None = None, seed: int = 0) -> dict[str, Any]:
        """All scores as plain JSON values; a score that is 0/0 is None.

        Args:
            cases: Image name to case, where cases are known; otherwise each image is a unit of its own.
            seed: Of the resampling.

        Returns:
            "regions" and "cells" per class, "micro" (all counts together) and "macro" (mean over the classes that
            have a score) of both kinds, "detection" (cells in the right place, whatever their class), "confusion",
            "images" and "intervals" (how they were made). Beside each score S stands "S_interval", [low, high], or
            None where fewer than `bootstrap.MIN_UNITS` images (or cases) have something of the class.

        Raises:
            ValueError: Images and their candidates are not equally many.
        """
        if self.candidates.images != len(self.images):
            raise ValueError(f"{len(self.images)} images, but candidates of {self.candidates.images}")
        names = [(cases or {}).get(image, image) for image in self.images]
        units = np.unique(np.array(names, dtype=str), return_inverse=True)[1]
        draw = bootstrap.Resampling(units, seed=seed)
        regions, pixels = self._region_scores(draw)
        cells, marked = self._cell_scores(draw)
        any_class = _rated(draw, [_any_class(counts) for counts in self._cells], 1)
        return {
            "regions": _by_class(self.region_classes, regions, pixels),
            "cells": _by_class(self.cell_classes, cells, marked),
            "micro": {"regions": _micro(regions), "cells": _micro(cells)},
            "macro": {"regions": _macro(regions), "cells": _macro(cells)},
            "detection": _micro(any_class),
            "confusion": self._confusions(),
            "images": {
                image: self._image_results(place) | ({"case": names[place]} if cases else {})
                for place, image in enumerate(self.images)
            },
            "intervals": {
                "level": bootstrap.LEVEL,
                "method": "percentile bootstrap",
                "resamples": bootstrap.RESAMPLES,
                "unit": "case" if cases else "image",
                "units": draw.units,
                "seed": seed,
            },
        }

    def _region_scores(self, draw: bootstrap.Resampling) -> tuple[_Scores, dict[str, NDArray[np.int64]]]:
        """Scores of the regions, and how many labelled pixels each class has."""
        n = len(self.region_classes)
        scores: _Scores = {}
        pixels: dict[str, NDArray[np.int64]] = {}
        for prefix, matrices in (
            ("", [counts.labelled for counts in self._regions]),
            ("border_", [counts.border for counts in self._regions]),
            ("interface_", [counts.interface for counts in self._regions]),
        ):
            rated = _rated(draw, matrices, n)
            scores |= {f"{prefix}{key}": score for key, score in rated.items() if not prefix or key == "f1"}
            pixels[f"{prefix}pixels"] = _summed(matrices, (n, n + 1)).sum(axis=1)
        return scores, pixels

    def _cell_scores(self, draw: bootstrap.Resampling) -> tuple[_Scores, dict[str, NDArray[np.int64]]]:
        """Scores of the cells, and how many marked cells each class has."""
        n = len(self.cell_classes)
        scores = _rated(draw, self._cells, n) | {"ap": self._average_precision(draw)}
        return scores, {"marked": _summed(self._cells, (n + 1, n + 1)).sum(axis=1)}

    def _average_precision(self, draw: bootstrap.Resampling) -> bootstrap.Score:
        """Of each class, and of the candidates of all classes ranked together."""
        of_class = [_ranked(draw, ranked) for ranked in self.candidates.ranked]
        pooled, support = _ranked(draw, self.candidates.together())
        return bootstrap.Score(
            np.stack([values for values, _ in of_class], axis=1) if of_class else np.zeros((len(pooled), 0)),
            np.array([units for _, units in of_class], np.int64),
            pooled,
            support,
        )

    def _confusions(self) -> dict[str, Any]:
        regions, cells = self.region_classes, self.cell_classes
        pixels = _summed([counts.labelled for counts in self._regions], (len(regions), len(regions) + 1))
        return {
            "regions": _table(pixels, regions, (*regions, NOT_ANALYSED)),
            "cells": _table(_summed(self._cells, (len(cells) + 1,) * 2), (*cells, NO_CELL), (*cells, MISSED)),
        }

    def _image_results(self, place: int) -> dict[str, Any]:
        result: dict[str, Any] = {"micro": {}}
        for kind, names, matrix in (
            ("regions", self.region_classes, self._regions[place].labelled),
            ("cells", self.cell_classes, self._cells[place]),
        ):
            rates = metrics.rates(*metrics.class_counts(matrix, len(names)))
            result[kind] = {
                name: {key: _number(values[index]) for key, values in rates._asdict().items()}
                for index, name in enumerate(names)
            }
            result["micro"][kind] = metrics.micro_f1(matrix, len(names))
        return result


_Scores = dict[str, bootstrap.Score]


def _rated(draw: bootstrap.Resampling, matrices: Sequence[NDArray[np.int64]], n: int) -> _Scores:
    """F1, precision and recall from the images' confusion matrices of n classes."""
    stacked = np.array(matrices, np.int64).reshape(len(matrices), -1, n + 1)
    counts = metrics.class_counts(draw.sums(stacked), n)
    of_class = metrics.rates(*counts)._asdict()
    pooled = metrics.rates(*(count.sum(axis=-1) for count in counts))._asdict()
    true = draw.by_unit(stacked)[:, :n].sum(axis=2) > 0
    return {
        key: bootstrap.Score(of_class[key], true.sum(axis=0), pooled[key], int(true.any(axis=1).sum()))
        for key in ("f1", "precision", "recall")
    }


def _ranked(draw: bootstrap.Resampling, ranked: _Ranked) -> tuple[NDArray[np.float64], int]:
    """Average precision as measured and of each resample; how many units have a true cell."""
    ranked = ranked.by_unit(draw.unit_of, draw.units)
    truth = np.array(ranked.n_truth, np.int64)
    values = bootstrap.average_precisions(draw.weights, ranked.scores, ranked.is_tp, truth)
    exact = metrics.average_precision(*ranked.joined())
    values[0] = np.nan if exact is None else exact
    return values, int((truth > 0).sum())


def _any_class(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """A confusion matrix of cells with all classes taken for one."""
    found, missed, false = counts[:-1, :-1].sum(), counts[:-1, -1].sum(), counts[-1, :-1].sum()
    return np.array([[found, missed], [false, 0]])


def _summed(matrices: Iterable[NDArray[np.int64]], shape: tuple[int, int]) -> NDArray[np.int64]:
    return sum(matrices, np.zeros(shape, np.int64))


def _by_class(
    names: Sequence[str], scores: _Scores, counts: Mapping[str, NDArray[np.int64]]
) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {name: {} for name in names}
    for index, entry in enumerate(entries.values()):
        for key, score in scores.items():
            entry |= score.of_class(index, key)
        entry |= {key: int(count[index]) for key, count in counts.items()}
    return entries


def _micro(scores: _Scores) -> dict[str, Any]:
    return {key: value for name, score in scores.items() for key, value in score.micro(name).items()}


def _macro(scores: _Scores) -> dict[str, Any]:
    return {key: value for name, score in scores.items() for key, value in score.macro(name).items()}


def _table(counts: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """A confusion matrix as JSON values; "shares" are of each row, None where the row is empty."""
    total = counts.sum(axis=1, keepdims=True)
    shares = [
        [value / of for value in row] if of else None
        for row, [of] in zip(counts.tolist(), total.tolist(), strict=True)
    ]
    return {"true": list(rows), "predicted": list(columns), "counts": counts.tolist(), "shares": shares}


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
