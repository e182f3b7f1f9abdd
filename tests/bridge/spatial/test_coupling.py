"""Coupling: exact tails, uniform p-values under each null, and planted coupling recovered."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.spatial.bands import Bands, bands_round_cells
from tissuebridge.spatial.coupling import Coupling, coupling, upper_tail
from tissuebridge.spatial.interfaces import Interface
from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.shifting import shift_test
from tissuebridge.spatial.window import Window

SIDE = 1000.0
X = np.linspace(0, SIDE, 60)
WAVE = np.c_[X, 500 + 120 * np.sin(X / 80)]
TUMOR = Window.of(
    shapely.Polygon([(0, 0), *map(tuple, WAVE[:1]), *map(tuple, WAVE), (SIDE, 0)]), name="Tumor"
)
TISSUE = Window.of(shapely.box(0, 0, SIDE, SIDE))
STROMA = Window.of(TISSUE.area, [TUMOR.area], "Stroma")
LINE = shapely.LineString(WAVE)
EDGES = np.array([-60.0, -40, -20, -10, 0, 10, 20, 40, 60])
STRATA = [TUMOR, STROMA]
AREAS = [TUMOR.area_um2, STROMA.area_um2]
[MET] = Interface.of(STRATA, EDGES.tolist())
BANDS = MET.bands


def to_line(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return MET.distance(points)


def measured(points: NDArray[np.float64], seed: int = 0, simulations: int = 999) -> Coupling:
    stratum, distances = stratum_of(STRATA, points), to_line(points)
    return coupling(
        BANDS, [distances[stratum == s] for s in (0, 1)], AREAS, simulations=simulations, seed=seed
    )


def independent(seed: int, tumor: int = 150, stroma: int = 450) -> NDArray[np.float64]:
    """Three times denser in stroma, and otherwise by chance."""
    random = np.random.default_rng(seed)
    return np.concatenate([TUMOR.sample(tumor, random), STROMA.sample(stroma, random)])


def planted(seed: int, share: float, n: int = 600) -> NDArray[np.float64]:
    """A share of the cells within 20 um outside the border."""
    random = np.random.default_rng(seed)
    band = Window.of(STROMA.area.intersection(LINE.buffer(20)))
    coupled = int(share * n)
    return np.concatenate(
        [band.sample(coupled, random), independent(seed + 1, (n - coupled) // 4, 3 * (n - coupled) // 4)]
    )


def test_expected_counts_and_variances_are_those_of_simulations() -> None:
    counts = []
    for seed in range(400):
        points = independent(seed)
        counts.append(BANDS.counts(to_line(points)))
    found = measured(independent(0))

    expected = np.array([band.expected for band in found.bands])
    variance = np.array([band.variance for band in found.bands])
    assert (np.abs(np.mean(counts, axis=0) - expected) < 4 * np.sqrt(variance / 400)).all()
    assert np.var(counts, axis=0) == pytest.approx(variance, rel=0.3)


def test_tails_are_exact_for_one_and_for_several_strata() -> None:
    random = np.random.default_rng(0)
    cells, shares = np.array([30, 8, 5]), np.array([0.01, 0.3, 0.2])
    drawn = random.binomial(cells, shares, (200_000, 3)).sum(axis=1)

    assert upper_tail(2, np.array([30]), np.array([0.01])) == pytest.approx(stats.binom.sf(1, 30, 0.01))
    for count in range(9):
        simulated = (drawn >= count).mean()
        assert upper_tail(count, cells, shares) == pytest.approx(simulated, abs=5 * np.sqrt(0.25 / 200_000))
    assert upper_tail(0, np.array([0]), np.array([0.5])) == 1.0
    assert upper_tail(1, np.array([5]), np.array([0.0])) == 0.0


def test_rare_cells_are_not_called_coupled_36_times_too_often() -> None:
    """METHOD.md: 30 cells, a band of 1 %; two cells in it already have z > 3.09, and p = 0.036."""
    bands = Bands(np.array([0.0, 1.0]), np.array([[0.01]]))

    found = coupling(bands, [np.r_[0.5, 0.5, np.full(28, 5.0)]], [1.0])

    assert found.bands[0].z is not None
    assert found.bands[0].z > 3.09
    assert found.bands[0].p.value == pytest.approx(0.036, abs=0.001)


def test_p_values_are_uniform_where_nothing_is_planted() -> None:
    """Band counts are discrete: their exact p is spread evenly over what one count spans."""
    random = np.random.default_rng(1)
    largest, spread = [], []
    for seed in range(300):
        found = measured(independent(seed), seed, 199)
        largest.append(found.p.value)
        band = found.bands[4]
        shares = BANDS.areas[:, 4] / AREAS
        more = upper_tail(band.count + 1, np.array([150, 450]), shares)
        spread.append(more + random.uniform() * ((band.p.value or 0) - more))

    assert stats.kstest(largest, "uniform").pvalue > 0.01
    assert stats.kstest(spread, "uniform").pvalue > 0.01


def test_planted_coupling_is_found_and_its_fraction_recovered() -> None:
    found = [measured(planted(seed, 0.2), seed) for seed in range(0, 40, 2)]

    assert all(one.p.value == 0.001 for one in found)
    fractions = np.array([one.fraction for one in found])
    assert np.abs(fractions.mean() - 0.2) < 0.02
    assert (np.abs(fractions - 0.2) < 0.05).mean() >= 0.9
    assert np.median([one.distance_um for one in found]) == 20
    held = [one.interval[0] <= 0.2 <= one.interval[1] for one in found if one.interval]
    assert np.mean(held) >= 0.75


def test_without_coupling_none_is_reported() -> None:
    found = measured(independent(3))

    assert (found.p.value or 0) > 0.05
    assert (found.distance_um, found.fraction, found.interval) == (None, 0.0, None)
    assert not any(band.is_coupled for band in found.bands)
    assert found.p.null == "random within each region class"
    assert found.bands[0].p.how == "exact"


def test_no_cells_are_no_result() -> None:
    found = coupling(BANDS, [np.zeros(0), np.zeros(0)], AREAS)

    assert (found.p.value, found.fraction, found.cells) == (None, None, 0)


def clustered(seed: int) -> NDArray[np.float64]:
    """Clusters of about 15 cells, within 25 um of a centre that lies anywhere."""
    random = np.random.default_rng(seed)
    centres = random.uniform(-50, SIDE + 50, (40, 2))
    points = np.repeat(centres, random.poisson(15, 40), axis=0)
    points = points + random.normal(0, 12, points.shape)
    return points[TISSUE.contains(points)]


def hard_core(seed: int) -> NDArray[np.float64]:
    """Cells that keep 15 um apart: of a crowd that reaches past the window, those older than all their neighbours."""
    random = np.random.default_rng(seed)
    points, age = random.uniform(-30, SIDE + 30, (1685, 2)), random.random(1685)
    apart = np.hypot(*np.moveaxis(points[:, None] - points[None], 2, 0)) < 15
    oldest = np.where(apart, age[None], 1).min(axis=1) >= age
    return points[oldest & TISSUE.contains(points)]


@pytest.mark.parametrize("pattern", [clustered, hard_core, independent])
def test_a_random_shift_is_fair_to_any_pattern(pattern: object) -> None:
    """30 patterns, KS test; the strata test alone calls clusters coupled far too often. More: benchmarks."""
    assert callable(pattern)
    p = [
        shift_test(STRATA, to_line, EDGES, pattern(seed), 150.0, simulations=19, seed=seed).value
        for seed in range(30)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    if pattern is clustered:
        assert (
            np.mean([(measured(clustered(seed), seed, 99).p.value or 0) <= 0.05 for seed in range(30)]) > 0.3
        )


def test_a_random_shift_finds_planted_coupling() -> None:
    found = [
        shift_test(STRATA, to_line, EDGES, planted(seed, 0.2), 150.0, simulations=99, seed=seed)
        for seed in range(0, 10, 2)
    ]

    # Moves along the border, and short ones, leave the coupling as it is.
    assert all((one.value or 1) <= 0.05 for one in found)
    assert found[0].null == "random shift"


def test_two_classes_of_cells_are_coupled_as_planted() -> None:
    random = np.random.default_rng(9)
    others = independent(20, 50, 50)
    edges = [0, 5, 10, 15, 20, 30]
    near = others[random.integers(0, 100, 60)] + random.uniform(-6, 6, (60, 2))
    points = np.concatenate([near[TISSUE.contains(near)], independent(21, 60, 180)])
    bands = bands_round_cells(others, STRATA, edges)
    stratum = stratum_of(STRATA, points)

    found = coupling(bands, [nearest(points[stratum == s], others) for s in (0, 1)], AREAS)
    chance = coupling(bands, [nearest(s.sample(150, random), others) for s in STRATA], AREAS)

    assert found.p.value == 0.001
    assert found.fraction == pytest.approx(0.2, abs=0.05)
    assert (chance.p.value or 0) > 0.05
