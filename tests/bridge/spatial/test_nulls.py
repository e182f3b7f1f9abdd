"""What each null keeps and what it leaves to chance; whole functions tested against it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.errors import InputRefused, UsageError
from tissuebridge.spatial.edges import EdgeWeights
from tissuebridge.spatial.envelopes import compare_with_null
from tissuebridge.spatial.multiple import benjamini_hochberg, monte_carlo_p
from tissuebridge.spatial.nulls import (
    CompleteRandomness,
    IntensityWeighted,
    Null,
    Pattern,
    RandomLabelling,
    RandomShift,
    Stratified,
    check_simulations,
    drawn,
)
from tissuebridge.spatial.ripley import Curve, as_l, ripley_k
from tissuebridge.spatial.window import Window

TUMOR = Window.of(shapely.box(0, 0, 300, 400), name="Tumor")
STROMA = Window.of(shapely.box(300, 0, 400, 400), name="Stroma")
TISSUE = Window.of(shapely.box(0, 0, 400, 400))
R = np.arange(5.0, 51, 5)
WEIGHTS = EdgeWeights(TISSUE, 50)


def mixed(seed: int, tumor: int = 40, stroma: int = 60) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return np.concatenate([TUMOR.sample(tumor, random), STROMA.sample(stroma, random)])


def cross_l(pattern: Pattern) -> Curve:
    weights = WEIGHTS if pattern.window is TISSUE else None
    return as_l(ripley_k(pattern.points, pattern.window, R, pattern.others, weights=weights))


SEEN = Pattern(mixed(0), mixed(1), TISSUE)
NULLS: dict[str, Null] = {
    "random": CompleteRandomness(SEEN),
    "stratified": Stratified(SEEN, [TUMOR, STROMA]),
    "intensity": IntensityWeighted(SEEN, 60.0),
    "shift": RandomShift(SEEN, 100.0),
    "labelling": RandomLabelling(SEEN, mixed(2), [TUMOR, STROMA]),
}


@pytest.mark.parametrize("name", NULLS)
def test_the_same_seed_draws_the_same(name: str) -> None:
    once, again = ([drawn(NULLS[name], 3, index) for index in range(19)] for _ in range(2))

    assert all((a.points == b.points).all() for a, b in zip(once, again, strict=True))
    assert not np.array_equal(once[0].points, once[1].points)
    # A later one does not depend on what comes before.
    assert (drawn(NULLS[name], 3, 18).points == once[18].points).all()


@pytest.mark.parametrize("name", NULLS)
def test_draws_lie_in_their_window_and_name_their_null(name: str) -> None:
    for pattern in (drawn(NULLS[name], 0, index) for index in range(19)):
        assert pattern.window.contains(pattern.points).all()
    assert NULLS[name].name
    assert NULLS[name].is_descriptive == (name == "random")


def test_stratified_keeps_the_counts_of_region_classes() -> None:
    for pattern in (drawn(NULLS["stratified"], 0, index) for index in range(19)):
        assert (TUMOR.contains(pattern.points).sum(), STROMA.contains(pattern.points).sum()) == (40, 60)


def test_cells_in_no_stratum_are_refused() -> None:
    with pytest.raises(InputRefused, match="60 of 100 cells lie in no region class"):
        Stratified(SEEN, [TUMOR]).draw(np.random.default_rng(0))


def test_intensity_weighted_keeps_the_gradient() -> None:
    shares = [
        STROMA.contains(pattern.points).mean()
        for pattern in (drawn(NULLS["intensity"], 0, index) for index in range(99))
    ]

    # 60 % of the cells lie in a quarter of the area; smoothing takes some over the border.
    assert 0.42 < np.mean(shares) < 0.6


def test_a_shift_moves_all_cells_by_one_vector() -> None:
    pattern = NULLS["shift"].draw(np.random.default_rng(4))
    offsets = pattern.points[:, None] - SEEN.points[None]
    steps, counts = np.unique(offsets.reshape(-1, 2).round(6), axis=0, return_counts=True)

    assert counts.max() == len(pattern.points)
    assert np.hypot(*steps[counts.argmax()]) <= 100
    assert pattern.window.area_um2 < TISSUE.area_um2


def test_labelling_keeps_every_nucleus_and_the_counts_of_strata() -> None:
    nuclei = np.concatenate([SEEN.points, SEEN.others, mixed(2)])
    for pattern in (drawn(NULLS["labelling"], 0, index) for index in range(19)):
        labelled = {tuple(point) for point in np.concatenate([pattern.points, pattern.others])}
        assert labelled <= {tuple(point) for point in nuclei}
        assert STROMA.contains(pattern.points).sum() == 60


def test_too_few_simulations_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 19"):
        check_simulations(18)


def rejections(make_null: Callable[[Pattern], Null], runs: int) -> float:
    """How often two independent classes, both four and a half times denser in stroma, are called dependent at 5 %."""
    p = []
    for run in range(runs):
        seen = Pattern(mixed(1000 + run), mixed(5000 + run), TISSUE)
        p.append(compare_with_null(cross_l, seen, make_null(seen), simulations=39, seed=run).mad.value or 0)
    return float(np.mean(np.array(p) <= 0.05))


def test_randomness_calls_independent_classes_coupled_and_strata_do_not() -> None:
    """METHOD.md's reason for the defaults, again on 40 runs: chance of 7 or more at 5 % is 0.003."""
    assert rejections(CompleteRandomness, 20) > 0.7
    assert rejections(lambda seen: Stratified(seen, [TUMOR, STROMA]), 40) <= 6 / 40


def test_attraction_is_found_and_its_null_is_named() -> None:
    random = np.random.default_rng(5)
    others = mixed(6)
    near = TISSUE.contains(moved := others + random.normal(0, 6, others.shape))
    seen = Pattern(moved[near], others, TISSUE)

    found = compare_with_null(cross_l, seen, Stratified(seen, [TUMOR, STROMA]), simulations=99)

    assert found.mad.value == found.dclf.value == 0.01
    assert found.mad.null == "random within each region class"
    assert found.mad.how == "99 simulations"
    assert found.half_width is not None
    assert (found.curve.values - found.mean).max() > found.half_width


def test_tests_start_above_the_suppression_distance() -> None:
    """Hard cores show below their distance and are not what is asked."""
    random = np.random.default_rng(7)
    kept: list[NDArray[np.float64]] = []
    while len(kept) < 150:
        point = random.uniform(0, 400, 2)
        if all(np.hypot(*(point - other)) > 12 for other in kept):
            kept.append(point)
    seen = Pattern(np.array(kept), np.zeros((0, 2)), TISSUE)

    def own_k(pattern: Pattern) -> Curve:
        return as_l(ripley_k(pattern.points, TISSUE, R, weights=WEIGHTS))

    found = compare_with_null(own_k, seen, CompleteRandomness(seen), simulations=99, from_um=0)
    above = compare_with_null(own_k, seen, CompleteRandomness(seen), simulations=99, from_um=35)

    assert found.mad.value == 0.01
    assert found.mad.is_descriptive
    assert above.interval_um == (35.0, 50.0)
    with pytest.raises(UsageError, match="no radius"):
        compare_with_null(own_k, seen, CompleteRandomness(seen), simulations=99, from_um=60)


def test_what_is_not_defined_has_no_p_value() -> None:
    seen = Pattern(np.array([[10.0, 10.0]]), np.zeros((0, 2)), TISSUE)

    found = compare_with_null(cross_l, seen, CompleteRandomness(seen), simulations=19)

    assert (found.mad.value, found.half_width) == (None, None)


def test_monte_carlo_p_is_a_rank_and_never_zero() -> None:
    assert monte_carlo_p(10.0, np.zeros(99)) == 0.01
    assert monte_carlo_p(0.0, np.zeros(99)) == 1.0


def test_benjamini_hochberg_is_scipys() -> None:
    p = np.random.default_rng(8).uniform(size=40) ** 2

    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
