"""The area that a window has in common with itself moved, against shapely's intersections."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial import covariance as module
from tissuebridge.spatial.covariance import Covariance

HOLED: Final = shapely.Polygon(
    [(0, 0), (400, 20), (380, 300), (150, 330), (20, 200)],
    [[(100, 100), (220, 110), (200, 200), (120, 210)]],
)


def rough(vertices: int, rough_um: float) -> BaseGeometry:
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    radius = 200 + 20 * np.sin(7 * angle) + np.random.default_rng(5).uniform(0, rough_um, vertices)
    return shapely.Polygon(np.c_[radius * np.cos(angle), radius * np.sin(angle)])


def islands() -> BaseGeometry:
    """Squares along the axes, as a label map has them: edges that slide along each other's lines."""
    corner = np.random.default_rng(1).integers(0, 100, (150, 2)) / 2
    return shapely.union_all(shapely.box(*corner.T, *(corner + 3).T))


def off(area: BaseGeometry, reach_um: float) -> float:
    """The largest difference, as a share of the area, over offsets of every length."""
    random = np.random.default_rng(0)
    angle, length = random.uniform(0, 2 * np.pi, 100), random.uniform(0, reach_um, 100)
    steps = np.c_[length * np.cos(angle), length * np.sin(angle)]
    moved = [shapely.affinity.translate(area, *step) for step in steps]
    common = Covariance.of(area, reach_um).at(steps)
    return float(np.abs(common - shapely.area(shapely.intersection(area, moved))).max() / area.area)


@pytest.mark.parametrize(
    ("area", "reach_um", "most"),
    [
        (HOLED, 100, 1e-4),
        (shapely.affinity.scale(HOLED, 0.01, 0.01), 1, 1e-4),
        (shapely.affinity.translate(HOLED, 1e7, -1e7), 100, 1e-4),
        (shapely.affinity.rotate(shapely.box(0, 0, 400, 300), 20), 75, 1e-4),
        (rough(3000, 3.0), 60, 1e-4),
        (islands(), 15, 3e-3),
        (shapely.union_all([HOLED, shapely.affinity.translate(HOLED, 5000, 7000)]), 100, 1e-3),
    ],
    ids=["holed", "small", "far from 0", "turned rectangle", "rough", "islands", "far apart"],
)
def test_areas_in_common_are_shapelys(area: BaseGeometry, reach_um: float, most: float) -> None:
    assert off(area, reach_um) < most


@pytest.mark.parametrize("reach_um", [1e-3, 40.0, 700.0])
def test_any_reach_is_told(reach_um: float) -> None:
    """Far below a pixel, beyond the coarsest one, and beyond the window, where nothing is in common."""
    assert off(rough(300, 3.0), reach_um) < 1e-4


def test_strips_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = np.array([[9.0, 3.0], [-8.0, 18.0]])
    monkeypatch.setattr(module, "_PIXELS", 20_000)
    whole = Covariance.of(HOLED, 20.0).at(offsets)
    monkeypatch.setattr(module, "_AT_ONCE", 1000)

    assert Covariance.of(HOLED, 20.0).at(offsets) == pytest.approx(whole, rel=1e-9)


def test_moved_by_nothing_is_the_whole_window() -> None:
    assert Covariance.of(HOLED, 50.0).at(np.zeros((1, 2))) == pytest.approx(HOLED.area, rel=1e-12)
