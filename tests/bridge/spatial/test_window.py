"""Windows and distances to outlines, against shapely one point at a time and against areas known by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.errors import InputRefused
from tissuebridge.spatial.borders import FAR_TOLERANCE_UM, NEAR_UM, TOLERANCE_UM, Border, edges_of
from tissuebridge.spatial.window import Window, inside, polygons_of

HOLED = shapely.Polygon(
    [(0, 0), (400, 20), (380, 300), (150, 330), (20, 200)],
    [[(100, 100), (220, 110), (200, 200), (120, 210)]],
)


def uniform(n: int, seed: int, side_um: float = 500) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-50, side_um, (n, 2))


def ragged(vertices: int) -> shapely.Polygon:
    """A blob whose outline is rough at every scale."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    random = np.random.default_rng(5)
    radius = 200 + 20 * np.sin(7 * angle) + random.uniform(0, 3, vertices)
    return shapely.Polygon(250 + np.c_[radius * np.cos(angle), radius * np.sin(angle)])


@pytest.mark.parametrize(
    "outline",
    [HOLED, ragged(3000), shapely.box(0, 0, 1, 400), HOLED.boundary, shapely.LineString([(0, 0), (1, 1)])],
)
def test_distances_are_shapelys(outline: shapely.Geometry) -> None:
    points = uniform(2000, 1)
    border = outline.boundary if outline.geom_type == "Polygon" else outline

    found = Border.of(outline).distance(points)

    exact = shapely.distance(border, shapely.points(points))
    off = np.abs(found - exact)
    assert off[exact < NEAR_UM].max() <= TOLERANCE_UM
    assert off.max() <= FAR_TOLERANCE_UM


def test_distance_where_the_nearest_middle_is_not_of_the_nearest_piece() -> None:
    """One long edge beside many short ones: the middle of the long one is far away."""
    comb = shapely.LineString([(0, 0), (10_000, 0)])
    short = shapely.MultiLineString([[(x, 5.0), (x + 0.1, 5.0)] for x in np.linspace(0, 10_000, 5000)])
    both = shapely.union_all([comb, short])
    points = np.c_[np.linspace(3, 9997, 500), np.full(500, 2.4)]

    found = Border.of(both).distance(points)

    assert np.abs(found - shapely.distance(both, shapely.points(points))).max() <= TOLERANCE_UM


def test_no_border_is_infinitely_far() -> None:
    assert np.isinf(Border.of(shapely.Polygon()).distance(uniform(3, 0))).all()


def test_inside_is_on_the_left_of_every_edge() -> None:
    edges = edges_of(shapely.Polygon(HOLED.exterior.coords[::-1], [HOLED.interiors[0].coords]))
    middles, steps = (edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]
    left = middles + 1e-3 * np.c_[-steps[:, 1], steps[:, 0]] / np.hypot(*steps.T)[:, None]

    assert Window.of(HOLED).contains(left).all()


def test_area_leaves_out_holes_and_what_is_ignored() -> None:
    ignored = shapely.box(300, 0, 500, 500)

    window = Window.of(HOLED, [ignored])

    assert window.area_um2 == pytest.approx(HOLED.difference(ignored).area)
    assert window.area_mm2 == pytest.approx(window.area_um2 / 1e6)
    assert not window.contains(np.array([[150.0, 150.0], [310.0, 100.0]])).any()


@pytest.mark.parametrize(
    ("outline", "excluded"),
    [
        (shapely.Polygon(), []),
        (shapely.LineString([(0, 0), (1, 1)]), []),
        (HOLED, [shapely.box(-1, -1, 500, 500)]),
    ],
)
def test_a_window_without_area_is_refused(
    outline: shapely.Geometry, excluded: list[shapely.Geometry]
) -> None:
    with pytest.raises(InputRefused, match=r"epithelium: no area is left .* Draw one"):
        Window.of(outline, excluded, "epithelium")


def test_self_touching_outlines_keep_their_area() -> None:
    touching = shapely.Polygon([(0, 0), (4, 0), (4, 4), (2, 0), (0, 4)])  # touches itself at (2, 0)
    crossing = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    mixed = shapely.GeometryCollection([shapely.box(0, 0, 1, 1), shapely.Point(5, 5)])

    assert Window.of(touching).area_um2 == pytest.approx(8)
    assert Window.of(crossing).area_um2 == pytest.approx(2)
    assert polygons_of(mixed).area == 1


def test_cells_outside_are_counted_and_those_on_the_border_are_in() -> None:
    window = Window.of(shapely.box(0, 0, 10, 10))

    found = inside(window, np.array([[5.0, 5.0], [0.0, 3.0], [10.0, 10.0], [10.1, 3.0], [-4.0, 2.0]]))

    assert found.is_inside.tolist() == [True, True, True, False, False]
    assert (len(found.points), found.outside) == (3, 2)


def test_positions_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputRefused, match="not a finite number"):
        inside(Window.of(HOLED), np.array([[np.nan, 1.0]]))


def test_samples_are_uniform_inside() -> None:
    """Chi-square over strips of known area, one of them through the hole."""
    window = Window.of(HOLED)
    points = window.sample(20_000, np.random.default_rng(2))
    edges = np.linspace(0, 400, 21)
    areas = [HOLED.intersection(shapely.box(a, -10, b, 400)).area for a, b in pairwise(edges)]

    counts = np.histogram(points[:, 0], edges)[0]

    assert window.contains(points).all()
    assert stats.chisquare(counts, 20_000 * np.array(areas) / HOLED.area).pvalue > 0.001


def test_a_sliver_is_sampled_too() -> None:
    sliver = Window.of(shapely.Polygon([(0, 0), (1000, 1000), (1000, 1001)]))

    assert sliver.contains(sliver.sample(500, np.random.default_rng(0))).all()
    assert sliver.sample(0, np.random.default_rng(0)).shape == (0, 2)


def test_erosion_and_dilation_of_a_square_are_known() -> None:
    window = Window.of(shapely.box(0, 0, 100, 100))

    assert window.eroded(10).area == pytest.approx(80**2)
    assert window.dilated(10).area == pytest.approx(100**2 + 4 * 1000 + np.pi * 100, rel=1e-4)
    assert window.eroded(51).is_empty


def test_lattice_points_stand_for_the_area() -> None:
    assert len(Window.of(HOLED).lattice(2.0)) * 4 == pytest.approx(HOLED.area, rel=0.005)
