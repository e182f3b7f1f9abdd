"""Intervals against a naive resampling that computes every resample anew."""

from __future__ import annotations

import numpy as np
import pytest

from tissuemodel import bootstrap
from tissuemodel.bootstrap import Resampling, Score, average_precisions, interval
from tissuemodel.metrics import average_precision

UNITS = np.array([0, 1, 1, 2, 3, 3, 3])


def test_the_first_row_is_what_was_measured_and_every_other_draws_as_many_units() -> None:
    draw = Resampling(UNITS, resamples=50)

    assert draw.weights.shape == (51, 4)
    assert draw.weights[0].tolist() == [1, 1, 1, 1]
    assert (draw.weights.sum(axis=1) == 4).all()
    assert len(np.unique(draw.weights, axis=0)) > 10


def test_sums_of_resamples_are_those_of_the_drawn_images() -> None:
    counts = np.random.default_rng(1).integers(0, 100, (len(UNITS), 2, 3))
    draw = Resampling(UNITS, resamples=20, seed=4)

    sums = draw.sums(counts)

    np.testing.assert_array_equal(sums[0], counts.sum(axis=0))
    for weights, total in zip(draw.weights, sums, strict=True):
        images = [image for image, unit in enumerate(UNITS) for _ in range(weights[unit])]
        np.testing.assert_array_equal(total, counts[images].sum(axis=0))


def test_units_are_drawn_equally_often_and_independently() -> None:
    weights = Resampling(np.arange(5), resamples=4000).weights[1:]

    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(weights.var(axis=0), 0.8, atol=0.08)  # binomial: n p (1 - p) = 5 * 1/5 * 4/5


def test_the_same_seed_draws_the_same() -> None:
    one, same, other = (Resampling(UNITS, seed=seed).weights for seed in (1, 1, 2))

    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_an_interval_leaves_out_what_has_no_score() -> None:
    samples = np.append(np.arange(101) / 100, [np.nan] * 30)

    assert interval(samples, 0.9) == pytest.approx((0.05, 0.95))
    assert interval(np.full(3, np.nan)) is None


@pytest.mark.parametrize("levels", [10, 100_000])
def test_average_precision_of_resamples_is_that_of_the_images_put_together(
    levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 7)
    random = np.random.default_rng(2)
    sizes = (30, 0, 12, 50)
    scores = [random.integers(0, levels, size) / levels for size in sizes]
    is_tp = [random.random(size) < score for size, score in zip(sizes, scores, strict=True)]
    truth = np.array([int(hits.sum()) + missed for hits, missed in zip(is_tp, (3, 2, 0, 9), strict=True)])
    weights = Resampling(np.arange(4), resamples=25).weights

    found = average_precisions(weights, scores, is_tp, truth)

    for drawn, value in zip(weights, found, strict=True):
        pooled = [
            np.concatenate([np.repeat(of, n) for of, n in zip(parts, drawn, strict=True)])
            for parts in (scores, is_tp)
        ]
        assert value == pytest.approx(average_precision(*pooled, int(drawn @ truth)))


def test_many_different_scores_are_put_together_at_almost_no_cost() -> None:
    random = np.random.default_rng(2)
    scores = [random.random(20_000), random.random(20_000)]
    is_tp = [random.random(20_000) < score for score in scores]
    truth = np.array([12_000, 12_000])

    found = average_precisions(np.ones((1, 2), np.int64), scores, is_tp, truth)

    exact = average_precision(np.concatenate(scores), np.concatenate(is_tp), 24_000)
    assert found[0] == pytest.approx(exact, abs=1e-3)


def test_without_a_prediction_average_precision_is_nothing_and_without_a_cell_there_is_none() -> None:
    none, no_hits = [np.zeros(0)] * 2, [np.zeros(0, bool)] * 2

    found = average_precisions(np.array([[1, 1], [2, 0]]), none, no_hits, np.array([0, 3]))

    np.testing.assert_array_equal(found, [0.0, np.nan])


def test_a_score_of_few_units_has_no_interval() -> None:
    samples = np.array([[0.5, 0.5], [0.4, 0.4], [0.6, 0.6]])
    score = Score(samples, np.array([2, 3]), samples[:, 0], 3)

    assert score.of_class(0, "f1") == {"f1": 0.5, "f1_interval": None}
    assert score.of_class(1, "f1") == {"f1": 0.5, "f1_interval": pytest.approx((0.405, 0.595))}
    assert score.micro("f1")["f1_interval"] is not None


def test_the_mean_over_classes_leaves_out_those_without_a_score() -> None:
    samples = np.array([[0.5, np.nan, 0.7], [0.3, np.nan, 0.5], [0.3, 0.9, np.nan]])
    score = Score(samples, np.array([5, 0, 3]), samples[:, 0], 5)

    said = score.macro("f1")

    assert said["f1"] == pytest.approx(0.6)
    # The second resample has no score of the third class: only the first counts.
    assert said["f1_interval"] == pytest.approx((0.4, 0.4))


def test_without_any_score_there_is_no_mean() -> None:
    nothing = Score(np.full((3, 2), np.nan), np.zeros(2, np.int64), np.full(3, np.nan), 0)

    assert nothing.macro("f1") == {"f1": None, "f1_interval": None}
    assert nothing.micro("f1") == {"f1": None, "f1_interval": None}
