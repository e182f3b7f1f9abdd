"""Distances of up to 10^6 cells to a border of 10^5 vertices, beside OpenCV's exact distance transform; run by hand.

python tests/benchmarks/spatial_distances.py
"""

from __future__ import annotations

import statistics
from time import process_time

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.spatial.borders import NEAR_UM, Border


def blob(vertices: int) -> shapely.Polygon:
    """A star-shaped region of some mm whose outline is rough."""
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    random = np.random.default_rng(0)
    radius = 1800 + 300 * np.sin(9 * angle) + 80 * np.sin(101 * angle) + random.uniform(0, 0.5, vertices)
    return shapely.Polygon(2500 + np.c_[radius * np.cos(angle), radius * np.sin(angle)])


def transformed(outline: shapely.Polygon) -> None:
    """The distances of all pixels of 1 um, inside and outside."""
    mask = np.zeros((5000, 5000), np.uint8)
    cv2.fillPoly(mask, [np.round(shapely.get_coordinates(outline)).astype(np.int32)], 1)
    cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def cells(outline: shapely.Polygon, n: int) -> dict[str, NDArray[np.float64]]:
    """Cells anywhere, and cells all of which lie some 30 um from the border."""
    random = np.random.default_rng(1)
    corners = shapely.get_coordinates(outline)
    along = corners[random.integers(0, len(corners), n)] + random.normal(0, 30, (n, 2))
    return {"anywhere": random.uniform(0, 5000, (n, 2)), "along the border": along}


def main() -> None:
    outline = blob(100_000)
    for n in (10_000, 100_000, 1_000_000):
        for where, points in cells(outline, n).items():
            own, other = beside_transform(outline, points)
            print(f"{n:9,} cells {where}: {own:.2f} CPU-s, {own / other:.1f} times the transform")
            tell_accuracy(outline, points[:2000])


def beside_transform(outline: shapely.Polygon, points: NDArray[np.float64]) -> tuple[float, float]:
    """Median CPU-s of our distances, the border made anew, and of the transform; alternately."""
    took: list[tuple[float, float]] = []
    for _ in range(3):
        started = process_time()
        Border.of(outline).distance(points)
        middle = process_time()
        transformed(outline)
        took.append((middle - started, process_time() - middle))
    own, other = (statistics.median(times) for times in zip(*took, strict=True))
    return own, other


def tell_accuracy(outline: shapely.Polygon, points: NDArray[np.float64]) -> None:
    exact = shapely.distance(outline.boundary, shapely.points(points))
    off = np.abs(Border.of(outline).distance(points) - exact)
    near = exact <= NEAR_UM
    told = f"up to {NEAR_UM:g} um: {off[near].max():.1e} um; farther: {off[~near].max(initial=0):.1e} um"
    print(f"{'':9} largest difference from shapely on {len(points):,} of them {told}")


if __name__ == "__main__":
    main()
