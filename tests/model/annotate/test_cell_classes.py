import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from tissuemodel.annotate.cell_classes import NEGATIVE, Ring, classify, densities_round, threshold_of


def slow_means(densities: NDArray[np.float64], xy: NDArray[np.float64], ring: Ring) -> NDArray[np.float64]:
    """The rule, word by word."""
    rows, cols = np.mgrid[: densities.shape[1], : densities.shape[2]]
    means = []
    for x, y in np.floor(xy):
        away = np.hypot(rows - y, cols - x) * ring.pixel_size_um
        inside = (away >= ring.inner_um) & (away <= ring.outer_um)
        means.append([plane[inside].mean() if inside.any() else 0 for plane in densities])
    return np.array(means).reshape(-1, len(densities))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(0, 30), inner=st.floats(0, 3), width=st.floats(1, 4))
def test_means_are_the_slow_rule(seed: int, count: int, inner: float, width: float) -> None:
    rng = np.random.default_rng(seed)
    densities, xy = rng.random((2, 25, 31)), rng.random((count, 2)) * (31, 25)
    ring = Ring(inner, inner + width, 0.6)

    means = densities_round(densities, xy, ring)

    np.testing.assert_allclose(means, slow_means(densities, xy, ring), atol=1e-6)


def test_a_tile_with_the_reach_as_context_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    densities, xy = rng.random((3, 90, 90)).astype(np.float32), rng.uniform(30, 60, (50, 2))
    ring = Ring.round_nucleus(6.0, 2.5, 0.5)
    start = 30 - ring.reach_px

    tile = densities[:, start : 60 + ring.reach_px, start : 60 + ring.reach_px]

    assert np.array_equal(densities_round(tile, xy - start, ring), densities_round(densities, xy, ring))


def test_a_ring_leaves_the_nucleus_out() -> None:
    rows, cols = np.mgrid[:41, :41] - 20
    away = np.hypot(rows, cols) * 0.5
    densities = np.where(away < 2.9, 5.0, np.where(away < 5.1, 1.0, 0.0))[None]

    ring = densities_round(densities, np.array([[20.5, 20.5]]), Ring.round_nucleus(6.0, 2.0, 0.5))
    disc = densities_round(densities, np.array([[20.5, 20.5]]), Ring(0.0, 2.5, 0.5))

    assert (ring[0, 0], disc[0, 0]) == (1, 5)


def test_a_ring_smaller_than_a_pixel_is_the_pixel_itself() -> None:
    assert Ring(0.5, 0.6, 2.0).offsets().tolist() == [[0, 0]]


def test_centres_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="outside the densities of 9 x 9"):
        densities_round(np.zeros((1, 9, 9)), np.array([[9.0, 2.0]]), Ring(0.0, 2.0, 1.0))


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 0.5), (-1.0, 1.0, 0.5), (0.0, np.inf, 0.5), (0.0, 1.0, 0.0)])
def test_rings_that_make_no_sense_are_refused(sizes: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="pixel size must be positive"):
        Ring(*sizes)


def two_groups(seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.gamma(4, 0.05, 300), rng.normal(1.2, 0.2, 80)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_the_threshold_is_otsus(seed: int) -> None:
    density = two_groups(seed)

    threshold = threshold_of(density)

    # Scikit-image gives the centre of the last bin below; the cut is where that bin ends.
    expected = threshold_otsu(density, 64) + (density.max() - density.min()) / 64 / 2
    assert np.array_equal(density > threshold.value, density > expected)
    assert threshold.separation > 0.8
    assert threshold.counts.sum() == len(density)
    assert not threshold.is_given


def test_one_hump_is_told_by_its_separation() -> None:
    hump = threshold_of(np.random.default_rng(0).normal(1, 0.2, 2000))

    assert 0.6 < hump.separation < 0.7


def test_a_given_threshold_is_kept() -> None:
    threshold = threshold_of(two_groups(0), 0.5)

    assert (threshold.value, threshold.is_given) == (0.5, True)
    assert threshold.separation > 0.7


@pytest.mark.parametrize("density", [[], [0.3], [0.0, 0.0, 0.0], [0.7] * 5])
def test_without_two_different_densities_all_are_negative(density: list[float]) -> None:
    threshold = threshold_of(np.array(density))

    assert (threshold.value, threshold.separation) == (np.inf, 0)
    assert (threshold.counts.sum(), len(threshold.edges)) == (len(density), 65)
    assert (classify(np.array(density).reshape(-1, 1), [threshold.value]) == NEGATIVE).all()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        threshold_of(np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match="finite"):
        threshold_of(np.array([0.1]), np.inf)


def test_of_several_stains_the_one_farthest_above_its_threshold_counts() -> None:
    densities = np.array([[0.5, 0.3], [0.51, 0.3], [0.6, 0.9], [2.0, 0.9], [0.0, 0.0]])

    assert classify(densities, [0.5, 0.3]).tolist() == [NEGATIVE, 0, 1, 0, NEGATIVE]
    assert classify(densities[:0], [0.5, 0.3]).tolist() == []


@pytest.mark.parametrize("thresholds", [[0.5], [], [0.5, 0.0], [0.5, np.nan]])
def test_thresholds_must_fit_the_stains(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        classify(np.zeros((3, 2)), thresholds)
