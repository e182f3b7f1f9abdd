"""Windows, against areas known by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from scipy import stats

from tissuebridge.errors import InputRefused
from tissuebridge.spatial.window import Window, inside, polygons_of

HOLED = shapely.Polygon(
    [(0, 0), (400, 20), (380, 300), (150, 330), (20, 200)],
    [[(100, 100), (220, 110), (200, 200), (120, 210)]],
)


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
    window = Window.of(HOLED)

    lattice = window.lattice(2.0)

    assert len(lattice.points) * 4 == pytest.approx(HOLED.area, rel=0.005)
    assert lattice.border_um == pytest.approx(window.border_distance(lattice.points))
    assert window.lattice(2.0) is lattice
