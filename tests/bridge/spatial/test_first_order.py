"""Densities, distances, bands and neighbours against what a drawing by hand says."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import stats

from tissuebridge.spatial.bands import Bands, bands_round_cells
from tissuebridge.spatial.density import count_interval, densities, density
from tissuebridge.spatial.distances import censored, signed_distance
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


def test_a_cell_on_a_border_is_counted_once() -> None:
    found = densities({"CD3": np.array([[500.0, 100.0]])}, {"Tumor": TUMOR, "Stroma": STROMA})

    assert [one.count for one in found] == [1, 0]


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


def test_distances_beyond_the_windows_edge_are_censored() -> None:
    points = np.array([[450.0, 500.0], [100.0, 500.0], [450.0, 20.0]])
    distances = points[:, 0] - 500

    assert censored(TISSUE, distances, points).tolist() == [False, True, True]


def test_counts_fall_into_bands_with_their_outer_edge() -> None:
    bands = Bands(np.array([-10.0, 0.0, 10.0]), np.ones((1, 2)))

    assert bands.counts(np.array([-11, -10, -5, 0, 5, 10, 11.0])).tolist() == [2, 2]


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
