"""Distances to outlines against shapely, one point at a time, near and far, for outlines of every kind."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.borders import FAR_TOLERANCE_UM, NEAR_UM, TOLERANCE_UM, Border, edges_of
from tissuebridge.spatial.window import Window

HOLED: Final = shapely.Polygon(
    [(0, 0), (400, 20), (380, 300), (150, 330), (20, 200)],
    [[(100, 100), (220, 110), (200, 200), (120, 210)]],
)


def uniform(n: int, seed: int, side_um: float = 500) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-50, side_um, (n, 2))


def ring(radius_um: float, vertices: int, rough_um: float = 0.0) -> shapely.Polygon:
    """A blob with a radius of about so much round (250, 250), rough at every scale."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    radius = radius_um + rough_um * np.random.default_rng(5).uniform(0, 1, vertices)
    return shapely.Polygon(250 + np.c_[radius * np.cos(angle), radius * np.sin(angle)])


def staircase(side_um: float) -> shapely.Polygon:
    """What a label map's outline looks like: steps of one pixel."""
    steps = np.arange(0, 300, side_um)
    corners = np.stack([np.c_[steps, steps], np.c_[steps + side_um, steps]], axis=1).reshape(-1, 2)
    return shapely.Polygon([*corners, (0, 300)])


def off_um(border: BaseGeometry, points: NDArray[np.float64]) -> tuple[float, float]:
    """How far distances are off at most: up to `NEAR_UM`, and anywhere."""
    lines = border.boundary if border.geom_type.endswith("Polygon") else border
    exact = shapely.distance(lines, shapely.points(points))
    off = np.abs(Border.of(border).distance(points) - exact)
    return float(off[exact <= NEAR_UM].max(initial=0)), float(off.max())


@pytest.mark.parametrize(
    "outline",
    [
        HOLED,
        HOLED.boundary,
        ring(200, 3000, 3.0),
        ring(200, 20_000),
        ring(0.1, 30),
        ring(3000, 100, 500.0),
        staircase(0.5),
        shapely.box(0, 0, 1, 400),
        shapely.box(-9000, -9000, 9000, 9000),
        shapely.LineString([(0, 0), (1, 1)]),
        shapely.union_all([ring(0.1, 30), shapely.box(2000, 0, 2001, 1)]),
    ],
    ids=lambda outline: f"{outline.geom_type} of {shapely.get_num_coordinates(outline)}",
)
def test_distances_are_shapelys(outline: BaseGeometry) -> None:
    points = np.concatenate([uniform(2000, 1), uniform(1000, 2, 5000), np.array([[250.0, 250.0]])])

    near, anywhere = off_um(outline, points)

    assert near <= TOLERANCE_UM
    assert anywhere <= FAR_TOLERANCE_UM


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-300, 300), st.integers(-300, 300)), min_size=2, max_size=30, unique=True),
    st.sampled_from([0.01, 1.0, 30.0]),
    st.sampled_from([0.0, 1e6, -1e8]),
)
def test_any_zigzag_is_measured_to_as_by_shapely(
    corners: list[tuple[int, int]], scale: float, moved_um: float
) -> None:
    """Crossing, overlapping and closed lines too; points on corners, beside them, in one place and far away."""
    xy = np.array(corners) * scale + moved_um
    near, far = xy[0] + uniform(50, 0) * scale / 10, xy[0] + uniform(50, 1) * 20

    off = off_um(shapely.LineString(xy), np.concatenate([xy, np.repeat(near[:1], 20, axis=0), near, far]))

    # Floats at 1e8 are 1.5e-8 apart.
    assert off[0] <= TOLERANCE_UM + 1e-6
    assert off[1] <= FAR_TOLERANCE_UM


def test_distance_where_the_nearest_end_is_not_of_the_nearest_piece() -> None:
    """One long edge beside many short ones: the ends of the long one are far away."""
    comb = shapely.LineString([(0, 0), (10_000, 0)])
    short = shapely.MultiLineString([[(x, 5.0), (x + 0.1, 5.0)] for x in np.linspace(0, 10_000, 5000)])
    points = np.c_[np.linspace(3, 9997, 500), np.full(500, 2.4)]

    assert max(off_um(shapely.union_all([comb, short]), points)) <= TOLERANCE_UM


def test_distance_where_many_ends_are_as_near_as_the_nearest_piece() -> None:
    """Sixty-four ends and more do not settle it: the boxes of the pieces are asked."""
    long = shapely.LineString([(-400_000, 0), (400_000, 0)])
    crowd = shapely.MultiLineString([[(x, 4.0), (x, 4.001)] for x in np.linspace(-1, 1, 500)])
    points = np.c_[np.linspace(-1, 1, 20), np.full(20, 1.9)]

    assert max(off_um(shapely.union_all([long, crowd]), points)) <= TOLERANCE_UM


def test_a_point_that_many_pieces_share_takes_no_table_of_all_by_all() -> None:
    angle = np.linspace(0, 2 * np.pi, 30_001)[:-1]
    spokes = np.zeros((30_000, 4))
    spokes[:, 2:] = np.c_[np.cos(angle), np.sin(angle)]

    found = Border(spokes).distance(np.array([[0.0, 0.0], [0.5, 0.0], [4.0, 3.0]]))

    assert found == pytest.approx([0, 0, 4], abs=1e-6)


def test_pieces_in_any_order_are_as_far() -> None:
    pieces = edges_of(ring(200, 3000, 3.0))
    points = uniform(500, 3, 3000)

    mixed = Border(np.random.default_rng(0).permutation(pieces)).distance(points)

    assert mixed == pytest.approx(Border(pieces).distance(points), abs=FAR_TOLERANCE_UM)


def test_no_border_is_infinitely_far_and_no_points_have_no_distance() -> None:
    assert np.isinf(Border.of(shapely.Polygon()).distance(uniform(3, 0))).all()
    assert Border.of(HOLED).distance(np.zeros((0, 2))).shape == (0,)


def test_distances_are_the_same_whoever_else_is_asked_about() -> None:
    """Points are looked up in parts, in an order of their own."""
    points = uniform(1000, 4, 2000)
    border = Border.of(HOLED)

    assert border.distance(points[::-7]).tolist() == border.distance(points)[::-7].tolist()


def test_inside_is_on_the_left_of_every_edge() -> None:
    edges = edges_of(shapely.Polygon(HOLED.exterior.coords[::-1], [HOLED.interiors[0].coords]))
    middles, steps = (edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]
    left = middles + 1e-3 * np.c_[-steps[:, 1], steps[:, 0]] / np.hypot(*steps.T)[:, None]

    assert Window.of(HOLED).contains(left).all()
