"""Covered shares of pixels against shapely's intersections."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from tissuebridge.spatial.borders import edges_of
from tissuebridge.spatial.coverage import Coverage

ROUGH = shapely.Point(12.3, 9.1).buffer(8, quad_segs=9).difference(shapely.Point(12, 9).buffer(2.7))


def test_pixels_are_covered_exactly() -> None:
    covered = Coverage.of(edges_of(shapely.box(1.25, 0.5, 3.0, 2.0)))

    assert covered.rows(0, 2, 5).tolist() == [[0, 0.375, 0.5, 0, 0], [0, 0.75, 1, 0, 0]]


def test_a_polygon_with_a_hole_is_covered_as_shapely_says() -> None:
    covered = Coverage.of(edges_of(ROUGH))
    height, width = covered.shape
    col, row = (part.ravel() for part in np.meshgrid(np.arange(width), np.arange(height)))

    shares = shapely.area(shapely.intersection(ROUGH, shapely.box(col, row, col + 1, row + 1)))

    assert covered.rows(0, height, width).ravel() == pytest.approx(shares, abs=1e-9)
    # Any rows alone are those of the whole.
    assert covered.rows(5, 9, width).ravel() == pytest.approx(shares[5 * width : 9 * width], abs=1e-9)
