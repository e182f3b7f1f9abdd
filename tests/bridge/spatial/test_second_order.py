"""K, L, g, G and F against brute force, against R's spatstat, and against what is known of random patterns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.spatial import pairs as pairs_module
from tissuebridge.spatial.edges import Correction, EdgeWeights
from tissuebridge.spatial.intensity import intensity
from tissuebridge.spatial.nearest import Estimator, empty_space_f, nearest_g
from tissuebridge.spatial.pair_correlation import pair_correlation
from tissuebridge.spatial.pairs import pairs_within
from tissuebridge.spatial.ripley import as_l, ripley_k
from tissuebridge.spatial.window import Window

REFERENCE: dict[str, Any] = json.loads(Path(__file__).with_name("spatstat.json").read_text())
RECTANGLE = Window.of(shapely.box(0, 0, 400, 300))
HOLED = Window.of(
    shapely.Polygon(
        [(0, 0), (400, 20), (380, 300), (150, 330), (20, 200)],
        [[(120, 210), (200, 200), (220, 110), (100, 100)]],
    )
)
R = np.arange(10.0, 61, 10)


def reference(name: str) -> tuple[Window, NDArray[np.float64], NDArray[np.float64], dict[str, Any]]:
    known = REFERENCE[name]
    points, others = np.c_[known["x"], known["y"]], np.c_[known["other_x"], known["other_y"]]
    return (RECTANGLE if "rectangle" in name else HOLED), points, others, known


@pytest.mark.parametrize("correction", list(Correction))
@pytest.mark.parametrize("name", REFERENCE)
def test_k_is_spatstats(name: str, correction: Correction) -> None:
    window, points, others, known = reference(name)
    # The area in common with the moved polygon is interpolated here and exact there.
    tolerance = 2e-5 if window is HOLED and correction is Correction.TRANSLATION else 1e-6

    own = ripley_k(points, window, R, correction=correction).values
    cross = ripley_k(points, window, R, others, correction=correction).values

    np.testing.assert_allclose(own, known[f"K {correction}"], rtol=tolerance)
    np.testing.assert_allclose(cross, known[f"cross-K {correction}"], rtol=tolerance)


@pytest.mark.parametrize("correction", [Correction.ISOTROPIC, Correction.BORDER])
@pytest.mark.parametrize("name", REFERENCE)
def test_inhomogeneous_k_is_spatstats(name: str, correction: Correction) -> None:
    window, points, _, known = reference(name)
    density = 0.001 + points[:, 0] * 1e-6

    found = ripley_k(points, window, R, correction=correction, intensity=(density, density)).values

    np.testing.assert_allclose(found, known[f"inhomogeneous K {correction}"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", REFERENCE)
def test_g_is_spatstats(name: str) -> None:
    """There the kernel's sum is taken on a grid by Fourier transform, and areas in common on pixels; here exactly."""
    window, points, _, known = reference(name)

    for correction in (Correction.TRANSLATION, Correction.ISOTROPIC):
        found = pair_correlation(points, window, R, correction=correction).values
        np.testing.assert_allclose(found, known[f"g {correction}"], rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize("name", REFERENCE)
def test_nearest_distributions_are_spatstats(name: str) -> None:
    """F: there the distances are those of pixels to pixels (0.5 um), here exact; Hanisch's area: interpolated here."""
    window, points, others, known = reference(name)

    own = nearest_g(points, window, R, estimator=Estimator.BORDER).values
    cross = nearest_g(points, window, R, others, estimator=Estimator.BORDER).values
    hanisch = nearest_g(points, window, R, estimator=Estimator.HANISCH).values
    space = empty_space_f(points, window, R, Estimator.BORDER, 100_000).values

    np.testing.assert_allclose(own, known["G border"], rtol=1e-6)
    np.testing.assert_allclose(cross, known["cross-G border"], rtol=1e-6)
    np.testing.assert_allclose(hanisch, known["G hanisch"], atol=2e-3)
    np.testing.assert_allclose(space, known["F border"], atol=0.01)


# ---- Brute force -----------------------------------------------------------------------------------------


def pairs_by_hand(
    points: NDArray[np.float64], others: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    targets = points if others is None else others
    offsets = targets[None] - points[:, None]
    distances = np.hypot(*np.moveaxis(offsets, 2, 0))
    if others is None:
        np.fill_diagonal(distances, np.inf)
    return distances, offsets


def arc_by_hand(window: Window, centre: NDArray[np.float64], radius: float) -> float:
    angle = (np.arange(20_000) + 0.5) * 2 * np.pi / 20_000
    return float(window.contains(centre + radius * np.c_[np.cos(angle), np.sin(angle)]).mean())


def test_translation_weights_are_areas_in_common() -> None:
    offsets = np.random.default_rng(0).normal(0, 30, (60, 2))
    by_hand = [
        HOLED.area_um2 / HOLED.area.intersection(shapely.affinity.translate(HOLED.area, *offset)).area
        for offset in offsets
    ]

    assert EdgeWeights(HOLED, 120).translation(offsets) == pytest.approx(np.array(by_hand), rel=5e-5)


@pytest.mark.parametrize("window", [HOLED, RECTANGLE], ids=["polygon", "rectangle"])
def test_isotropic_weights_are_arcs_inside(window: Window) -> None:
    random = np.random.default_rng(1)
    points = window.sample(60, random)
    owner = np.arange(60)
    # A pair's second point lies in the window: so does a part of its circle.
    distances = np.hypot(*(points - points[::-1]).T)

    weights = EdgeWeights(window, 500).isotropic(points, owner, distances)

    by_hand = np.array([arc_by_hand(window, *pair) for pair in zip(points, distances, strict=True)])
    assert 1 / weights == pytest.approx(np.maximum(by_hand, 0.01), abs=3e-4)
    assert (by_hand < 0.9).sum() > 20


def test_a_circle_through_corners_is_counted_once() -> None:
    square = Window.of(shapely.box(0, 0, 10, 10))
    centre = np.array([[5.0, 5.0]])

    through_corners = EdgeWeights(square, 8).isotropic(centre, np.array([0]), np.array([np.sqrt(50)]))
    touching = EdgeWeights(square, 8).isotropic(centre, np.array([0]), np.array([5.0]))

    assert touching == pytest.approx(1)
    assert through_corners == pytest.approx(100) or through_corners == pytest.approx(1)


def test_disc_areas_are_shapelys() -> None:
    points = HOLED.sample(80, np.random.default_rng(3))

    found = EdgeWeights(HOLED, 60).disc_areas(points, 50.0)

    discs = shapely.buffer(shapely.points(points), 50, quad_segs=400)
    assert found == pytest.approx(shapely.area(shapely.intersection(discs, HOLED.area)), rel=1e-4)


def test_rough_outlines_are_taken_as_they_are() -> None:
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    out = 2000 + np.random.default_rng(12).normal(0, 3, (400, 50)).cumsum(axis=1).ravel()
    rough = Window.of(shapely.Polygon(out[:, None] * np.c_[np.cos(angle), np.sin(angle)]))
    points = shapely.get_coordinates(shapely.segmentize(rough.area.boundary, 50))[::200]
    points = points[rough.contains(points)]

    found = EdgeWeights(rough, 50).disc_areas(points, 50.0)
    shares = 1 / EdgeWeights(rough, 50).isotropic(points, np.arange(len(points)), np.full(len(points), 50.0))

    discs = shapely.buffer(shapely.points(points), 50, quad_segs=400)
    assert len(points) > 50
    assert found == pytest.approx(shapely.area(shapely.intersection(discs, rough.area)), rel=1e-4)
    by_hand = np.array([arc_by_hand(rough, point, 50.0) for point in points[:20]])
    assert shares[:20] == pytest.approx(np.maximum(by_hand, 0.01), abs=1e-3)


@pytest.mark.parametrize("is_cross", [False, True])
def test_border_k_is_its_definition(is_cross: bool) -> None:
    random = np.random.default_rng(4)
    points, others = HOLED.sample(80, random), HOLED.sample(60, random) if is_cross else None
    distances, _ = pairs_by_hand(points, others)
    border = shapely.distance(HOLED.area.boundary, shapely.points(points))
    density = (60 if is_cross else 80) / HOLED.area_um2

    found = ripley_k(points, HOLED, R, others, correction=Correction.BORDER).values

    by_hand = [(distances[border >= r] <= r).sum() / (border >= r).sum() / density for r in R]
    assert found == pytest.approx(by_hand)


@pytest.mark.parametrize("at_once", [1, 300, 10_000])
def test_pairs_are_the_same_however_many_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    points = HOLED.sample(90, np.random.default_rng(8))
    distances, offsets = pairs_by_hand(points, None)
    weights = EdgeWeights(HOLED, 60.0)
    by_hand = weights.translation(offsets.reshape(-1, 2)).reshape(90, 90)[distances <= 60].sum()
    monkeypatch.setattr(pairs_module, "_AT_ONCE", at_once)

    found = list(pairs_within(points, None, weights, Correction.TRANSLATION))

    pairs = [frozenset(pair) for some in found for pair in zip(some.i.tolist(), some.j.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs) == (distances <= 60).sum() / 2
    assert sum(some.weight.sum() for some in found) == pytest.approx(by_hand)


def test_g_is_its_definition() -> None:
    points = HOLED.sample(80, np.random.default_rng(5))
    distances, offsets = pairs_by_hand(points, None)
    weights = EdgeWeights(HOLED, 80).translation(offsets.reshape(-1, 2)).reshape(80, 80)
    kernel = 0.75 / 8 * np.maximum(1 - ((R[:, None, None] - distances) / 8) ** 2, 0)

    found = pair_correlation(points, HOLED, R, half_width_um=8.0).values

    by_hand = HOLED.area_um2 / (80 * 79) * (kernel * weights).sum((1, 2)) / (2 * np.pi * R)
    assert found == pytest.approx(by_hand, rel=2e-4)


def test_kaplan_meier_is_its_definition() -> None:
    points = HOLED.sample(80, np.random.default_rng(6))
    nearest = pairs_by_hand(points, None)[0].min(axis=1)
    border = shapely.distance(HOLED.area.boundary, shapely.points(points))
    survival = 1.0
    for s in np.unique(nearest[(nearest <= border) & (nearest <= 15)]):
        survival *= 1 - ((nearest == s) & (s <= border)).sum() / ((nearest >= s) & (border >= s)).sum()

    found = nearest_g(points, HOLED, np.array([15.0])).values

    assert found[0] == pytest.approx(1 - survival)


# ---- What is known of random patterns --------------------------------------------------------------------


@pytest.mark.parametrize("correction", list(Correction))
def test_random_patterns_have_the_closed_forms(correction: Correction) -> None:
    """Means over 60 patterns lie within four standard errors of pi r^2, r, 1 and 1 - exp(-l pi r^2)."""
    random = np.random.default_rng(7)
    r = np.array([10.0, 30.0, 50.0])
    weights = EdgeWeights(HOLED, 55)
    curves: dict[str, list[NDArray[np.float64]]] = {"K": [], "cross": [], "g": [], "G": [], "F": []}
    for _ in range(60):
        points, others = HOLED.sample(150, random), HOLED.sample(100, random)
        curves["K"].append(
            ripley_k(points, HOLED, r, correction=correction, weights=weights).values / (np.pi * r**2)
        )
        cross = ripley_k(points, HOLED, r, others, correction=correction, weights=weights)
        curves["cross"].append(cross.values / (np.pi * r**2))
        if correction is not Correction.BORDER:
            g = pair_correlation(points, HOLED, r, correction=correction, half_width_um=5.0, weights=weights)
            curves["g"].append(g.values)
        else:
            near = np.array([5.0, 10.0, 15.0])
            share = np.pi * near**2 / HOLED.area_um2
            g_curve, f_curve = nearest_g(points, HOLED, near), empty_space_f(points, HOLED, near, places=3000)
            # n points in a window, not a Poisson number: a cell has n - 1 others.
            curves["G"].append(g_curve.values / (1 - (1 - share) ** 149))
            curves["F"].append(f_curve.values / (1 - (1 - share) ** 150))
    for name, found in curves.items():
        if found:
            mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)
            assert (np.abs(mean - 1) < 4 * error + 0.02 * (name in "GF")).all(), (name, mean, error)


def test_l_of_a_random_pattern_is_the_distance() -> None:
    curve = as_l(ripley_k(RECTANGLE.sample(4000, np.random.default_rng(8)), RECTANGLE, R))

    assert curve.values == pytest.approx(R, rel=0.02)
    assert (curve.random == R).all()


def test_inhomogeneous_forms_take_a_gradient_away() -> None:
    random = np.random.default_rng(9)
    points = RECTANGLE.sample(8000, random)
    points = points[random.random(len(points)) < points[:, 0] / 400]
    true = points[:, 0] / 400 * (len(points) / (RECTANGLE.area_um2 / 2))
    smooth = intensity(points, RECTANGLE, 60.0)

    plain = ripley_k(points, RECTANGLE, R).values / (np.pi * R**2)
    known = ripley_k(points, RECTANGLE, R, intensity=(true, true)).values / (np.pi * R**2)
    estimated = ripley_k(points, RECTANGLE, R, intensity=(smooth, smooth)).values / (np.pi * R**2)

    assert plain.min() > 1.2
    assert known == pytest.approx(1, abs=0.08)
    # Plugging in a density that was estimated from the same cells takes a little of K along (Baddeley et al. 2000).
    assert estimated == pytest.approx(1, abs=0.08)


def test_the_smoothed_density_sums_to_the_cells() -> None:
    points = HOLED.sample(300, np.random.default_rng(10))
    lattice = HOLED.lattice(3.0).points

    assert intensity(points, HOLED, 40.0, lattice).sum() * 9 == pytest.approx(300, rel=0.02)


# ---- Little or odd input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_cells_are_not_defined(n: int) -> None:
    points = np.full((n, 2), 100.0)

    assert np.isnan(ripley_k(points, RECTANGLE, R).values).all()
    assert np.isnan(pair_correlation(points, RECTANGLE, R).values).all()
    assert np.isnan(nearest_g(points, RECTANGLE, R).values).all()
    assert np.isnan(ripley_k(points, RECTANGLE, R, np.zeros((0, 2))).values).all()


@pytest.mark.parametrize("correction", list(Correction))
def test_cells_all_in_one_place_are_pairs_at_distance_zero(correction: Correction) -> None:
    points = np.full((5, 2), 150.0)

    found = ripley_k(points, RECTANGLE, np.array([0.0, 10.0]), correction=correction).values

    assert found == pytest.approx(RECTANGLE.area_um2 * (0.8 if correction is Correction.BORDER else 1))


@pytest.mark.parametrize("r", [[], [5, 3], [-1, 2], [0, 170], [0, np.nan]])
def test_impossible_radii_are_refused(r: list[float]) -> None:
    with pytest.raises(UsageError, match="radii"):
        ripley_k(np.zeros((3, 2)), RECTANGLE, np.array(r))
