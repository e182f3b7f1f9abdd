"""What is added up over images is what one would count by hand, and intervals what one would resample by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tissuemodel.bootstrap import RESAMPLES, Resampling
from tissuemodel.counts import RegionCounts, match_cells
from tissuemodel.evaluation import CellTally, Evaluation
from tissuemodel.metrics import average_precision, class_counts, rates

Predicted = list[tuple[float, float, int, float, bool]]
"""(x, y, class, score, countable) of each."""
True_ = list[tuple[float, float, int]]
"""(x, y, class) of each."""

NO_REGIONS = RegionCounts.none(1)


def columns(predicted: Predicted, truth: True_) -> tuple[Any, ...]:
    rows, true = np.array(predicted, float).reshape(-1, 5), np.array(truth, float).reshape(-1, 3)
    classes = rows[:, 2].astype(np.uint8), true[:, 2].astype(np.uint8)
    return rows[:, :2], classes[0], rows[:, 3], true[:, :2], classes[1], rows[:, 4] > 0, 8.0


def add(
    evaluation: Evaluation, image: str, predicted: Predicted, truth: True_, threshold: float = 0.5
) -> None:
    """Adds an image's cells: all are candidates, those from the threshold up are what the model gives."""
    evaluation.candidates.add(*columns(predicted, truth))
    kept = match_cells(*columns([call for call in predicted if call[3] >= threshold], truth))
    evaluation.add(image, NO_REGIONS, kept.confusion(len(evaluation.cell_classes)))


def of_cells(*classes: str) -> Evaluation:
    return Evaluation(["Tumor"], classes)


# ---- Candidates -------------------------------------------------------------------------------------------


def test_a_candidate_of_one_image_never_matches_a_cell_of_another() -> None:
    tally = CellTally(["T"])
    tally.add(*columns([(10, 10, 0, 0.9, True)], []))
    tally.add(*columns([], [(10, 10, 0)]))

    assert tally.best_thresholds() == {"T": (0.9, 0.0)}
    assert [axis.tolist() for axis in tally.curves()["T"]] == [[0.0], [0.0], [0.9]]


def test_a_mistake_where_cells_are_not_all_marked_does_not_count() -> None:
    tally = CellTally(["T"])
    tally.add(*columns([(50, 50, 0, 0.9, False), (10, 10, 0, 0.8, True)], [(10, 10, 0)]))

    assert tally.best_thresholds() == {"T": (0.8, 1.0)}


def test_curves_go_over_all_candidates_and_best_thresholds_lie_on_them() -> None:
    tally = CellTally(["T", "Mast"])
    tally.add(*columns([(10, 10, 0, 0.5, True), (40, 10, 0, 0.4, True)], [(10, 10, 0), (40, 10, 0)]))

    assert [axis.tolist() for axis in tally.curves()["T"]] == [[1, 1], [0.5, 1], [0.5, 0.4]]
    assert tally.best_thresholds() == {"T": (0.4, 1.0), "Mast": None}


# ---- Scores -----------------------------------------------------------------------------------------------


def test_cells_are_counted_over_images_and_per_class() -> None:
    evaluation = of_cells("T", "Mast")
    add(evaluation, "a", [(10, 10, 0, 0.9, True), (50, 50, 0, 0.8, True)], [(12, 10, 0), (90, 90, 1)])
    add(evaluation, "b", [(10, 10, 1, 0.7, True)], [(10, 11, 1), (40, 10, 0)])

    results = evaluation.results()

    t, mast = results["cells"]["T"], results["cells"]["Mast"]
    assert [t[key] for key in ("f1", "precision", "recall", "ap", "marked")] == [0.5, 0.5, 0.5, 0.5, 2]
    assert [mast[key] for key in ("precision", "recall", "ap")] == [1.0, 0.5, 0.5]
    assert mast["f1"] == pytest.approx(2 / 3)
    assert results["micro"]["cells"]["f1"] == pytest.approx(4 / 7)
    assert results["macro"]["cells"]["f1"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert results["images"]["a"]["cells"]["T"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
    }
    assert results["images"]["a"]["micro"] == {"regions": None, "cells": 0.5}


def test_average_precision_ranks_the_classes_together_for_micro_and_ignores_the_threshold() -> None:
    evaluation = of_cells("T", "Mast")
    calls: Predicted = [(10, 10, 0, 0.4, True), (50, 50, 1, 0.3, True), (90, 90, 1, 0.2, True)]
    add(evaluation, "a", calls, [(10, 10, 0), (90, 90, 1)])

    results = evaluation.results()

    assert results["cells"]["T"]["f1"] == 0
    assert (results["cells"]["T"]["ap"], results["cells"]["Mast"]["ap"]) == (1.0, 0.5)
    assert results["macro"]["cells"]["ap"] == 0.75
    assert results["micro"]["cells"]["ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_detection_is_of_the_right_place_whatever_the_class() -> None:
    evaluation = of_cells("T", "Mast")
    add(evaluation, "a", [(50, 50, 1, 0.9, True), (90, 90, 0, 0.8, True)], [(50, 50, 0), (10, 10, 0)])

    results = evaluation.results()

    assert results["cells"]["T"]["f1"] == 0
    assert [results["detection"][key] for key in ("precision", "recall", "f1")] == [0.5, 0.5, 0.5]
    assert results["confusion"]["cells"] == {
        "true": ["T", "Mast", "No cell"],
        "predicted": ["T", "Mast", "Missed"],
        "counts": [[0, 1, 1], [0, 0, 0], [1, 0, 0]],
        "shares": [[0, 0.5, 0.5], None, [1, 0, 0]],
    }


def regions_of(random: np.random.Generator) -> RegionCounts:
    labelled = random.integers(0, 50, (2, 3))
    border = labelled // 2
    return RegionCounts(labelled, border, border // 2)


def test_regions_add_up_and_bands_are_scored_by_themselves() -> None:
    evaluation = Evaluation(["Tumor", "Stroma"], [])
    parts = [regions_of(np.random.default_rng(seed)) for seed in (1, 2)]
    for place, part in enumerate(parts):
        evaluation.candidates.add(*columns([], []))
        evaluation.add(f"image {place}", part, np.zeros((1, 1), np.int64))

    results = evaluation.results()

    total = parts[0] + parts[1]
    for key, counts in (
        ("f1", total.labelled),
        ("border_f1", total.border),
        ("interface_f1", total.interface),
    ):
        for index, name in enumerate(("Tumor", "Stroma")):
            expected = rates(*class_counts(counts, 2)).f1[index]
            assert results["regions"][name][key] == pytest.approx(expected)
    assert results["regions"]["Tumor"]["border_pixels"] == total.border[0].sum()
    assert results["confusion"]["regions"]["counts"] == total.labelled.tolist()
    assert results["cells"] == {}
    assert results["macro"]["cells"]["ap"] is None


# ---- Intervals --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_images() -> list[tuple[RegionCounts, Predicted, True_]]:
    """Seven images of cells on a coarse lattice, some found, some called another class, some missed."""
    random, images = np.random.default_rng(8), []
    for _ in range(7):
        truth = [(20.0 * i, 20.0 * j, int(random.integers(2))) for i in range(6) for j in range(5)]
        calls: Predicted = []
        for x, y, kind in truth:
            called = kind if random.random() < 0.8 else 1 - kind
            calls.append(
                (x + random.integers(0, 12), y, called, float(random.random()), bool(random.random() < 0.9))
            )
        images.append((regions_of(random), calls, truth[: int(random.integers(10, 30))]))
    return images


def evaluated(images: list[tuple[RegionCounts, Predicted, True_]]) -> Evaluation:
    evaluation = Evaluation(["Tumor", "Stroma"], ["T", "Mast"])
    for place, (regions, predicted, truth) in enumerate(images):
        evaluation.candidates.add(*columns(predicted, truth))
        kept = match_cells(*columns([call for call in predicted if call[3] >= 0.5], truth))
        evaluation.add(f"image {place}", regions, kept.confusion(2))
    return evaluation


@pytest.mark.parametrize("cases", [None, {f"image {place}": f"case {place // 2}" for place in range(7)}])
def test_intervals_are_those_of_scores_computed_anew_for_each_resample(
    random_images: list[tuple[RegionCounts, Predicted, True_]],
    cases: dict[str, str] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Resampling.__init__, "__defaults__", (60, 0))
    evaluation = evaluated(random_images)

    results = evaluation.results(cases, seed=3)

    units = np.arange(7) // 2 if cases else np.arange(7)
    wanted: dict[str, list[float]] = {key: [] for key in ("region", "cell", "macro", "any", "ap")}
    for weights in Resampling(units, 60, 3).weights[1:]:
        drawn = [random_images[image] for image in range(7) for _ in range(weights[units[image]])]
        again = evaluated([]) if not drawn else evaluated(drawn)
        cells = sum((counts for counts in again._cells), np.zeros((3, 3), np.int64))
        regions = sum((counts.labelled for counts in again._regions), np.zeros((2, 3), np.int64))
        found, missed, false = cells[:2, :2].sum(), cells[:2, 2].sum(), cells[2, :2].sum()
        wanted["region"].append(rates(*class_counts(regions, 2)).f1[1])
        wanted["cell"].append(rates(*class_counts(cells, 2)).recall[0])
        wanted["macro"].append(rates(*class_counts(cells, 2)).f1.mean())
        wanted["any"].append(2 * found / (2 * found + missed + false))
        wanted["ap"].append(average_precision(*again.candidates.ranked[1].joined()) or np.nan)
    said = {
        "region": results["regions"]["Stroma"]["f1_interval"],
        "cell": results["cells"]["T"]["recall_interval"],
        "macro": results["macro"]["cells"]["f1_interval"],
        "any": results["detection"]["f1_interval"],
        "ap": results["cells"]["Mast"]["ap_interval"],
    }
    for key, samples in wanted.items():
        assert said[key] == pytest.approx(np.quantile(samples, [0.025, 0.975])), key
    assert results["intervals"]["unit"] == ("case" if cases else "image")
    assert results["intervals"]["units"] == (4 if cases else 7)
    assert results["images"]["image 3"].get("case") == ("case 1" if cases else None)


def test_an_image_without_a_case_is_a_case_of_its_own() -> None:
    evaluation = of_cells("T")
    for name in "abcd":
        add(evaluation, name, [(10, 10, 0, 0.9, True)], [(10, 10, 0)])

    results = evaluation.results({"a": "1", "b": "1"})

    assert results["intervals"]["units"] == 3
    assert results["intervals"]["resamples"] == RESAMPLES


def test_images_of_one_case_are_not_taken_for_independent_ones() -> None:
    evaluation = of_cells("T")
    for place in range(12):
        found: Predicted = [(10, 10, 0, 0.9, True)] if place < 6 else []
        add(evaluation, f"{place}", found, [(10, 10, 0)])

    (low, high), (low_of_cases, high_of_cases) = (
        evaluation.results(cases)["cells"]["T"]["recall_interval"]
        for cases in (None, {f"{place}": f"{place // 3}" for place in range(12)})
    )

    assert low_of_cases < low
    assert high < high_of_cases


def test_two_images_are_too_few_for_an_interval() -> None:
    evaluation = of_cells("T")
    for name in "ab":
        add(evaluation, name, [(10, 10, 0, 0.9, True)], [(10, 10, 0)])

    assert evaluation.results()["cells"]["T"]["f1_interval"] is None


# ---- Layout -----------------------------------------------------------------------------------------------


def test_the_layout_is_fixed_and_valid_json() -> None:
    evaluation = of_cells("T")
    add(evaluation, "empty", [], [])

    results = evaluation.results()

    plain = json.loads(json.dumps(results, allow_nan=False))
    assert plain["regions"]["Tumor"]["f1"] is None
    assert {key: plain["cells"]["T"][key] for key in ("f1", "precision", "recall", "ap")} == {
        "f1": None, "precision": None, "recall": None, "ap": None
    }  # fmt: skip
    assert plain["micro"]["cells"]["f1_interval"] is None


def test_images_without_their_candidates_are_refused() -> None:
    evaluation = of_cells("T")
    evaluation.add("a", NO_REGIONS, np.zeros((2, 2), np.int64))

    with pytest.raises(ValueError, match="1 images, but candidates of 0"):
        evaluation.results()
