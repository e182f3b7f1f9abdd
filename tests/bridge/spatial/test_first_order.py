"""Densities, distances, bands and neighbours against what a drawing by hand says."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import stats

from tissuebridge.errors import UsageError
from tissuebridge.spatial.bands import Bands, bands_of, bands_round_cells, profile
from tissuebridge.spatial.density import count_interval, densities, density
from tissuebridge.spatial.distances import censored, distance_to_interface, interface, signed_distance
from tissuebridge.spatial.neighbours import nearest, nearest_neighbours
from tissuebridge.spatial.window import Window

TUMOR = Window.of(shapely.box(0, 0, 500, 1000), name="Tumor")
STROMA = Window.of(shapely.box(500, 0, 1000, 1000), name="Stroma")
TISSUE = Window.of(shapely.box(0, 0, 1000, 1000))


def test_densities_are_cells_per_square_millimetre() -> None:
    cells = {"CD3": np.array([[100.0, 100], [600, 100], [700, 100]]), "CD8": np.zeros((0, 2))}

    found = {(d.cell_class, d.region): d for d in densities(cells, {"Tumor": TUMOR, "Stroma": STROMA})}

    assert [found["CD3", region].per_mm2 for region in ("Tumor", "Stroma")] == [2.0, 4.0]
    assert found["CD8", "Tumor"].count == 0
    assert found["CD8", "Tumor"].high == pytest.approx(3.689 / 0.5, rel=1e-3)


def test_a_density_without_area_is_not_defined() -> None:
    assert density("CD3", "Tumor", 0, 0.0).per_mm2 is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Exact intervals hold it in at least 95 % of the counts: summed over all counts, not sampled."""
    for mean in (0.5, 3.0, 20.0):
        counts = np.arange(100)
        holds = [low <= mean <= high for low, high in (count_interval(int(n)) for n in counts)]
        assert stats.poisson.pmf(counts, mean)[holds].sum() >= 0.95


def test_distances_are_negative_inside() -> None:
    points = np.array([[100.0, 500.0], [530.0, 500.0], [540.0, -30.0]])

    assert signed_distance(TUMOR, points).tolist() == [-100, 30, 50]


def test_interfaces_leave_out_glass_and_the_edge() -> None:
    line = interface(TUMOR.area, STROMA.area)

    assert line.length == pytest.approx(1000, abs=5)
    # Towards the slide's edge, which is nearer, nothing is measured.
    assert distance_to_interface(TUMOR, line, np.array([[100.0, 500.0]])).tolist() == pytest.approx(
        [-400], abs=2
    )


def test_hand_drawn_gaps_are_still_an_interface() -> None:
    apart = shapely.box(501.5, 0, 1000, 1000)

    assert interface(TUMOR.area, apart, 2.0).length == pytest.approx(1000, abs=5)
    assert interface(TUMOR.area, apart, 1.0).is_empty


def test_distances_beyond_the_windows_edge_are_censored() -> None:
    points = np.array([[450.0, 500.0], [100.0, 500.0], [450.0, 20.0]])
    distances = distance_to_interface(TUMOR, shapely.LineString([(500, 0), (500, 1000)]), points)

    assert censored(TISSUE, distances, points).tolist() == [False, True, True]


def test_band_areas_are_known_of_a_disc() -> None:
    disc = shapely.Point(500, 500).buffer(200, quad_segs=256)

    bands = bands_of(disc, disc.boundary, [TISSUE.area], [-50, -20, 0, 30, 60])

    radii = np.array([150, 180, 200, 230, 260])
    assert bands.areas[0] == pytest.approx(np.pi * np.diff(radii**2), rel=3e-3)


def test_band_areas_stop_at_the_windows_edge_and_strata_add_up() -> None:
    line = shapely.LineString([(500, 0), (500, 1000)])

    both = bands_of(TUMOR.area, line, [TUMOR.area, STROMA.area], [-30, -10, 10, 600])

    assert both.areas[0] == pytest.approx([20_000, 10_000, 0], rel=5e-3, abs=1)
    assert both.areas[1] == pytest.approx([0, 10_000, 490_000], rel=5e-3, abs=1)


@pytest.mark.parametrize("edges", [[], [5], [3, 1], [0, np.nan], [1, 1]])
def test_bands_that_do_not_increase_are_refused(edges: list[float]) -> None:
    with pytest.raises(UsageError, match="increasing"):
        bands_of(TUMOR.area, TUMOR.area.boundary, [TISSUE.area], edges)


def test_counts_fall_into_bands_with_their_outer_edge() -> None:
    bands = Bands(np.array([-10.0, 0.0, 10.0]), np.ones((1, 2)))

    assert bands.counts(np.array([-11, -10, -5, 0, 5, 10, 11.0])).tolist() == [2, 2]


def test_an_infiltration_curve_is_flat_for_uniform_cells() -> None:
    points = TISSUE.sample(20_000, np.random.default_rng(0))
    bands = bands_of(TUMOR.area, interface(TUMOR.area, STROMA.area), [TISSUE.area], [-200, -100, 0, 100, 200])
    distances = distance_to_interface(TUMOR, interface(TUMOR.area, STROMA.area), points)

    curve = profile("CD3", "Tumor", bands, distances)

    assert [(low, high) for low, high, _ in curve] == [(-200, -100), (-100, 0), (0, 100), (100, 200)]
    assert [d.per_mm2 for *_, d in curve] == pytest.approx([20_000] * 4, rel=0.08)


def test_bands_round_cells_are_discs() -> None:
    bands = bands_round_cells(np.array([[250.0, 500.0], [750.0, 500.0]]), [TUMOR, STROMA], [0, 50, 100])

    assert bands.areas == pytest.approx(np.pi * np.array([[2500, 7500], [2500, 7500]]), rel=0.01)


def test_nearest_neighbours_by_pairs_of_classes() -> None:
    cells = {"A": np.array([[0.0, 0], [0, 30]]), "B": np.array([[40.0, 0]]), "C": np.zeros((0, 2))}

    found = {(n.cell_class, n.other): n for n in nearest_neighbours(cells, TISSUE)}

    assert found["A", "A"].mean_um == 30
    assert found["A", "B"].quartiles_um == (42.5, 47.5)
    assert found["B", "A"].median_um == 40
    assert found["B", "A"].censored == 1.0
    assert found["B", "B"].median_um is None
    assert found["A", "C"].median_um is None
    assert found["C", "A"].count == 0


def test_nearest_is_brute_force() -> None:
    random = np.random.default_rng(1)
    a, b = random.uniform(0, 100, (200, 2)), random.uniform(0, 100, (50, 2))
    a[7] = a[3]

    distances = np.hypot(*np.moveaxis(a[:, None] - a[None], 2, 0)) + np.diag(np.full(200, np.inf))
    assert nearest(a) == pytest.approx(distances.min(axis=1))
    assert nearest(a, b) == pytest.approx(np.hypot(*np.moveaxis(a[:, None] - b[None], 2, 0)).min(axis=1))
