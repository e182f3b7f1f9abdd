"""From arrays to geometry: the label map's regions as polygons, cells as discs.

Stands between the journal and the objects: labels on the model's grid come in, shapely geometry in
full-resolution px (x, y) goes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes
from shapely.geometry import Polygon, box

from tissuemodel.labels import IGNORE_LABEL

MAX_VERTICES: Final = 100_000
"""QuPath gets slow with larger polygons: a region that has more is cut on the coarse grid."""

COARSE_BLOCK_PX: Final = 4096
"""Side of the coarse grid's blocks, in px of the model's grid, from its origin."""


@dataclass(frozen=True, slots=True)
class RegionPolygon:
    """One connected region, or the part of it in one block of the coarse grid.

    Attributes:
        class_index: Index of the region class.
        polygon: In full-resolution px (x, y), with holes.
        row: Row of its first pixel in row order, on the model's grid.
        col: Column of that pixel.
        area_px: Number of its pixels on the model's grid.
        block: "" for a whole region; "ROW,COL" of the coarse grid for a part of a split one.
    """

    class_index: int
    polygon: Polygon
    row: int
    col: int
    area_px: int
    block: str = ""


def polygonise(
    labels: NDArray[np.uint8],
    downsample: float,
    *,
    image_size: tuple[int, int] | None = None,
    min_area_px: float = 0.0,
    max_vertices: int = MAX_VERTICES,
    coarse_block_px: int = COARSE_BLOCK_PX,
) -> list[RegionPolygon]:
    """The connected regions of a label map, as valid polygons along pixel borders, with holes.

    Pixels are connected by their sides (4-connectivity), so that no ring touches itself. Rasterising the
    polygons by the pixel-centre rule gives the label map back, where no region was too small.

    Args:
        labels: uint8 (row, col), class index; `IGNORE_LABEL` pixels belong to no region.
        downsample: Full-resolution px per px of the label map; at least 0.25, so that rounding to
            `COORDINATE_STEP` keeps corners apart.
        image_size: (width, height) of the image in full-resolution px: the grid's last column and row may
            reach beyond it and are clipped. None: no clipping.
        min_area_px: Regions of fewer pixels of the label map are left out.
        max_vertices: A region with more is cut on the coarse grid.
        coarse_block_px: Side of the coarse grid's blocks in px of the label map.

    Returns:
        Regions sorted by their first pixel (row, col).

    >>> [region] = polygonise(np.array([[255, 0], [0, 0]], np.uint8), 2.0)
    >>> region.row, region.col, region.area_px, region.polygon.area
    (0, 1, 3, 12.0)
    """
    polygons, classes = _components(labels)
    wanted = shapely.area(polygons) >= min_area_px
    polygons, classes = polygons[wanted], classes[wanted]
    blocks = [""] * len(polygons)
    for place in np.flatnonzero(shapely.get_num_coordinates(polygons) > max_vertices)[::-1].tolist():
        parts = list(_on_coarse_grid(polygons[place], coarse_block_px))
        polygons = np.concatenate([polygons[:place], [part for _, part in parts], polygons[place + 1 :]])
        classes = np.concatenate([classes[:place], [classes[place]] * len(parts), classes[place + 1 :]])
        blocks[place : place + 1] = [block for block, _ in parts]
    return _regions(polygons, classes, blocks, downsample, image_size)


def _components(labels: NDArray[np.uint8]) -> tuple[NDArray[np.object_], NDArray[np.uint8]]:
    """The connected components as polygons in px of the label map, and their classes.

    Corners are gathered first and become polygons in one go: ten times faster than one polygon at a time.
    """
    corners: list[tuple[float, float]] = []
    ring_ends, polygon_ends, classes = [0], [0], []
    for geometry, value in shapes(labels, mask=labels != IGNORE_LABEL, connectivity=4):
        for ring in geometry["coordinates"]:
            corners.extend(ring)
            ring_ends.append(len(corners))
        polygon_ends.append(len(ring_ends) - 1)
        classes.append(int(value))
    flat = np.fromiter(chain.from_iterable(corners), np.float64, 2 * len(corners)).reshape(-1, 2)
    offsets = (np.array(ring_ends), np.array(polygon_ends))
    polygons = shapely.from_ragged_array(shapely.GeometryType.POLYGON, flat, offsets)
    return polygons, np.array(classes, np.uint8)


def _regions(
    polygons: NDArray[np.object_],
    classes: NDArray[np.uint8],
    blocks: list[str],
    downsample: float,
    image_size: tuple[int, int] | None,
) -> list[RegionPolygon]:
    """The regions in full-resolution px, clipped to the image; corners stay in order, so all stays valid."""
    limit = np.array(image_size or (np.inf, np.inf), np.float64)
    moved = shapely.transform(polygons, lambda xy: np.minimum(xy * downsample, limit))
    firsts, areas = _first_pixels(polygons), np.rint(shapely.area(polygons)).astype(int).tolist()
    regions = [
        RegionPolygon(kind, polygon, row, col, area, block)
        for kind, polygon, (row, col), area, block in zip(
            classes.tolist(), moved, firsts, areas, blocks, strict=True
        )
    ]
    return sorted(regions, key=lambda region: (region.row, region.col))


def _first_pixels(polygons: NDArray[np.object_]) -> list[tuple[int, int]]:
    """The first pixel of each polygon in row order: the one under the left end of its topmost border."""
    if len(polygons) == 0:
        return []
    corners, owner = shapely.get_coordinates(polygons, return_index=True)
    # One number that sorts by row, then by column.
    keys = np.rint(corners[:, 1]).astype(np.int64) << 32 | np.rint(corners[:, 0]).astype(np.int64)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    smallest = np.minimum.reduceat(keys, starts)
    return list(zip((smallest >> 32).tolist(), (smallest & 0xFFFFFFFF).tolist(), strict=True))


def _on_coarse_grid(polygon: Polygon, side: int) -> Iterator[tuple[str, Polygon]]:
    """The polygon's parts in the blocks of the coarse grid, each with its block's name.

    Cuts in two along the middle border of its blocks until one block is left: every cut halves the vertices.
    """
    left, top, right, bottom = (int(value) for value in polygon.bounds)
    first, last = np.array([top // side, left // side]), np.array([-(-bottom // side), -(-right // side)])
    axis = int(np.argmax(last - first))
    if (last - first)[axis] == 1:
        yield f"{first[0]},{first[1]}", polygon
        return
    middle = int((first + last)[axis] // 2 * side)
    if axis == 0:
        halves = box(left, top, right, middle), box(left, middle, right, bottom)
    else:
        halves = box(left, top, middle, bottom), box(middle, top, right, bottom)
    for half in halves:
        for part in shapely.get_parts(shapely.intersection(polygon, half)):
            if isinstance(part, Polygon):
                yield from _on_coarse_grid(part, side)


def discs(
    xy: NDArray[np.float64], diameter_px: NDArray[np.float64] | float, vertices: int = 16
) -> NDArray[np.object_]:
    """Discs as polygons, in bulk.

    Args:
        xy: float64 (n, 2), centres (x, y).
        diameter_px: Of all or, (n,), of each.
        vertices: Corners, all on the circle.

    Returns:
        n polygons, object array.

    >>> discs(np.array([[5.0, 5.0]]), 4.0)[0].bounds
    (3.0, 3.0, 7.0, 7.0)
    """
    angle = 2 * np.pi * np.arange(vertices) / vertices
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 2
    size = np.broadcast_to(np.asarray(diameter_px, np.float64), (len(xy),))
    corners = xy[:, None, :] + circle[None] * size[:, None, None]
    return np.asarray(shapely.polygons(np.concatenate([corners, corners[:, :1]], axis=1)), dtype=np.object_)
