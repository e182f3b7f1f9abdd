"""Graphs of cells, what surrounds them, and enrichment against labels exchanged by chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.errors import UsageError
from tissuebridge.spatial.enrichment import count_edges, enrichment
from tissuebridge.spatial.graph import Graph, composition, delaunay, k_nearest, local_density, within_radius
from tissuebridge.spatial.window import Window

SQUARE = Window.of(shapely.box(0, 0, 200, 200))


def cells(n: int, seed: int = 0) -> NDArray[np.float64]:
    return SQUARE.sample(n, np.random.default_rng(seed))


def distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hypot(*np.moveaxis(points[:, None] - points[None], 2, 0))


def as_set(graph: Graph) -> set[tuple[int, int]]:
    assert (graph.edges[:, 0] < graph.edges[:, 1]).all()
    found = {(int(i), int(j)) for i, j in graph.edges}
    assert len(found) == len(graph.edges)
    return found


def test_radius_is_brute_force() -> None:
    points = cells(150)

    near = np.argwhere(np.triu(distances(points) <= 25, 1))
    assert as_set(within_radius(points, 25)) == {(int(i), int(j)) for i, j in near}


def test_k_nearest_is_brute_force() -> None:
    points = cells(80)
    order = np.argsort(distances(points) + np.diag(np.full(80, np.inf)), axis=1)[:, :5]

    expected = {(min(i, int(j)), max(i, int(j))) for i in range(80) for j in order[i]}
    assert as_set(k_nearest(points, 5)) == expected


def test_delaunay_circles_are_empty() -> None:
    """Gabriel's edges (an empty circle on the edge) are a part of it, and it is planar: at most 3 n - 6 edges."""
    points = cells(60)
    apart = distances(points)
    found = as_set(delaunay(points, 1e9))

    middle = (points[:, None] + points[None]) / 2
    to_middle = np.hypot(*np.moveaxis(middle[:, :, None] - points[None, None], 3, 0))
    gabriel = np.triu((to_middle >= apart[:, :, None] / 2 - 1e-9).all(axis=2), 1)
    assert {(int(i), int(j)) for i, j in np.argwhere(gabriel)} <= found
    assert len(found) <= 3 * 60 - 6
    short = as_set(delaunay(points, 20))
    assert short == {(i, j) for i, j in found if apart[i, j] <= 20}
    assert len(short) < len(found)


@pytest.mark.parametrize(
    "points", [np.zeros((0, 2)), np.ones((1, 2)), np.ones((4, 2)), np.c_[np.arange(5.0), np.ones(5)]]
)
@pytest.mark.parametrize(
    "make", [lambda p: delaunay(p, 50.0), lambda p: k_nearest(p, 3), lambda p: within_radius(p, 9.0)]
)
def test_few_equal_and_collinear_cells_have_graphs_too(
    points: NDArray[np.float64], make: Callable[[NDArray[np.float64]], Graph]
) -> None:
    graph = make(points)

    as_set(graph)
    touched = {int(i) for i in graph.edges.ravel()}
    assert len(touched) == (len(points) if len(points) > 1 else 0)


@pytest.mark.parametrize(
    "make", [lambda p: delaunay(p, 0), lambda p: k_nearest(p, 0), lambda p: within_radius(p, -1)]
)
def test_impossible_neighbours_are_refused(make: Callable[[NDArray[np.float64]], Graph]) -> None:
    with pytest.raises(UsageError, match="take"):
        make(cells(5))


def test_composition_counts_neighbours_by_class() -> None:
    points, labels = cells(100), np.random.default_rng(1).integers(0, 3, 100)
    near = (distances(points) <= 25) & ~np.eye(100, dtype=bool)

    found = composition(within_radius(points, 25), labels, 3)

    assert (found == np.stack([near[:, labels == c].sum(axis=1) for c in range(3)], axis=1)).all()


def test_local_density_is_right_at_the_border_too() -> None:
    """Mean over many random patterns; in the corner only a quarter of the disc lies inside."""
    random = np.random.default_rng(2)
    places = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0]])

    found = np.mean(
        [local_density(places, SQUARE, 30.0, SQUARE.sample(400, random)) for _ in range(300)], axis=0
    )

    assert found == pytest.approx(400 / SQUARE.area_mm2, rel=0.05)
    own = local_density(np.array([[100.0, 100.0], [110.0, 100.0]]), SQUARE, 30.0)
    assert own == pytest.approx(1e6 / (np.pi * 900))


def test_enrichment_counts_edges() -> None:
    points, labels = cells(100), np.random.default_rng(3).integers(0, 2, 100)
    near = np.triu(distances(points) <= 25, 1)

    counts = count_edges(within_radius(points, 25), labels, 2)

    assert counts[0, 0] == near[np.ix_(labels == 0, labels == 0)].sum()
    assert counts[0, 1] == counts[1, 0] == near.sum() - counts[0, 0] - counts[1, 1]


def test_enrichment_is_found_named_and_corrected() -> None:
    points = cells(300)
    labels = (points[:, 0] > 100).astype(np.intp)

    found = {
        (e.cell_class, e.other): e
        for e in enrichment(delaunay(points, 30), labels, ("A", "B"), permutations=199)
    }

    assert found["A", "A"].ratio is not None
    assert found["A", "A"].ratio > 1.5
    assert found["A", "B"].z is not None
    assert found["A", "B"].z < -5
    assert found["A", "B"].p.value == found["A", "B"].q == 0.01
    assert found["A", "A"].p.null == "random labelling of all nuclei"


def test_classes_that_only_share_a_region_are_not_enriched_within_strata() -> None:
    points = cells(400)
    stratum = (points[:, 0] > 100).astype(np.intp)
    random = np.random.default_rng(4)
    plain, within = [], []
    for seed in range(40):
        labels = (random.random(400) < np.where(stratum == 1, 0.6, 0.1)).astype(np.intp)
        graph = within_radius(points, 15)
        plain.append(enrichment(graph, labels, ("A", "B"), permutations=39, seed=seed)[1].p.value or 0)
        within.append(
            enrichment(graph, labels, ("A", "B"), stratum, permutations=39, seed=seed)[1].p.value or 0
        )

    assert np.mean(np.array(plain) <= 0.05) > 0.9
    assert stats.kstest(within, "uniform").pvalue > 0.001


def test_one_class_alone_has_no_p_value() -> None:
    found = enrichment(within_radius(cells(50), 30), np.zeros(50, np.intp), ("A",), permutations=19)

    assert (found[0].p.value, found[0].q, found[0].z, found[0].ratio) == (None, None, None, 1.0)
