"""Distances of 10^6 cells to a border of 10^5 vertices, beside OpenCV's exact distance transform; run by hand.

python tests/benchmarks/spatial_distances.py
"""

from __future__ import annotations

import statistics
from time import process_time

import cv2
import numpy as np
import shapely

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


def main() -> None:
    outline = blob(100_000)
    for n in (10_000, 100_000, 1_000_000):
        points = np.random.default_rng(1).uniform(0, 5000, (n, 2))
        took: dict[str, list[float]] = {"ours": [], "transform": []}
        for _ in range(3):
            started = process_time()
            found = Border.of(outline).distance(points)
            middle = process_time()
            transformed(outline)
            took["ours"].append(middle - started)
            took["transform"].append(process_time() - middle)
        own, other = (statistics.median(times) for times in took.values())
        print(f"{n:9,} cells: {own:.2f} CPU-s, {own / other:.1f} times an exact distance transform at 1 um")
    some = np.random.default_rng(2).integers(0, n, 2000)
    exact = shapely.distance(outline.boundary, shapely.points(points[some]))
    near = exact <= NEAR_UM
    for what, which in ((f"up to {NEAR_UM:g} um", near), ("farther", ~near)):
        off = np.abs(found[some] - exact)[which].max()
        print(f"largest difference from shapely on 2,000 cells, {what}: {off:.1e} um")


if __name__ == "__main__":
    main()
