"""From arrays to geometry: the label map's regions as polygons, cells as discs.

Stands between the journal and the objects: labels on the model's grid come in, shapely geometry in
full-resolution px (x, y) goes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Final, Self

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon

from tissuebridge.outlines import Rings, cut_corners, on_frame, simplify, trace, unite
from tissuebridge.seams import Seam, regions_of
from tissuemodel.labels import IGNORE_LABEL

MAX_VERTICES: Final = 100_000
"""QuPath gets slow with larger polygons: a region that has more is cut on the coarse grid."""

COARSE_BLOCK_PX: Final = 4096
"""Side of the coarse grid's blocks, in px of the model's grid, from its origin."""

MIN_SIMPLIFY_PX: Final = 0.5
"""Outlines with cut corners have no triangles smaller than the square of this."""


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
    simplify_px: float = 0.0,
    max_vertices: int = MAX_VERTICES,
    coarse_block_px: int = COARSE_BLOCK_PX,
) -> list[RegionPolygon]:
    """The connected regions of a label map, as valid polygons with holes, block by block of the coarse grid.

    Pixels are connected by their sides (4-connectivity), so that no ring touches itself. Borders run along
    pixel borders with their steps cut (`outlines.cut_corners`): at most 0.36 px away from them. Rasterising the
    polygons by the pixel-centre rule gives the label map back, where no region was too small and nothing was
    simplified. Neighbours have neither gaps nor overlaps between them.

    Args:
        labels: uint8 (row, col), class index; `IGNORE_LABEL` pixels belong to no region. Read once, by blocks.
        downsample: Full-resolution px per px of the label map; at least 0.25, so that rounding to
            `COORDINATE_STEP` keeps corners apart.
        image_size: (width, height) of the image in full-resolution px: the grid's last column and row may
            reach beyond it and are clipped. None: no clipping.
        min_area_px: Regions of fewer pixels of the label map are left out.
        simplify_px: Corners are left out whose triangle with their neighbours has less than the square of
            this as its area, in px of the label map; below 0.5 it changes nothing.
        max_vertices: A region with more is cut on the coarse grid.
        coarse_block_px: Side of the coarse grid's blocks in px of the label map.

    Returns:
        Regions sorted by their first pixel (row, col).

    >>> [region] = polygonise(np.array([[255, 0], [0, 0]], np.uint8), 2.0)
    >>> region.row, region.col, region.area_px, region.polygon.area
    (0, 1, 3, 12.5)
    """
    blocks = (
        _parts(labels, row, col, coarse_block_px, simplify_px, min_area_px, downsample)
        for row in range(0, labels.shape[0], coarse_block_px)
        for col in range(0, labels.shape[1], coarse_block_px)
    )
    regions = _regions(_Parts.joined(list(blocks)), min_area_px, max_vertices)
    regions.sort(key=lambda region: (region.row, region.col))
    return regions if image_size is None else _clipped(regions, np.array(image_size, np.float64))


def _clipped(regions: list[RegionPolygon], limit: NDArray[np.float64]) -> list[RegionPolygon]:
    """The regions with their coordinates at most at the limit (x, y); most are inside, and stay as they are."""
    bounds = shapely.bounds([region.polygon for region in regions]).reshape(-1, 4)
    for index in np.flatnonzero((bounds[:, 2:] > limit).any(axis=1)).tolist():
        polygon = shapely.transform(regions[index].polygon, lambda xy: np.minimum(xy, limit))
        regions[index] = replace(regions[index], polygon=polygon)
    return regions


@dataclass(frozen=True, slots=True)
class _Parts:
    """Connected components inside blocks, n of them.

    Attributes:
        polygons: Object array (n,), in full-resolution px: a slide's are gigabytes, and are made once.
        vertices: int64 (n,), of each.
        classes: uint8 (n,).
        blocks: int64 (n, 2), (row, col) of the block.
        firsts: int64 (n, 2), (row, col) of the first pixel.
        areas: int64 (n,), px.
        seams: Their pieces of borders between blocks, for lines of constant x and of constant y.
    """

    polygons: NDArray[np.object_]
    vertices: NDArray[np.int64]
    classes: NDArray[np.uint8]
    blocks: NDArray[np.int64]
    firsts: NDArray[np.int64]
    areas: NDArray[np.int64]
    seams: tuple[Seam, Seam]

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        names = ("polygons", "vertices", "classes", "blocks", "firsts", "areas")
        fields = {name: np.concatenate([getattr(parts, name) for parts in several]) for name in names}
        counts = np.array([len(parts.classes) for parts in several], np.int64)
        x, y = (
            Seam.joined(blocks, counts) for blocks in zip(*(parts.seams for parts in several), strict=True)
        )
        return cls(**fields, seams=(x, y))

    def regions(self, wanted: NDArray[np.bool_], in_blocks: bool) -> Iterator[RegionPolygon]:
        """Parts as regions of their own.

        Args:
            wanted: bool (n,).
            in_blocks: They are parts of regions that were split.
        """
        blocks = [",".join(map(str, block)) if in_blocks else "" for block in self.blocks[wanted].tolist()]
        return map(
            RegionPolygon,
            self.classes[wanted].tolist(),
            self.polygons[wanted].tolist(),
            *self.firsts[wanted].T.tolist(),
            self.areas[wanted].tolist(),
            blocks,
        )


def _parts(
    labels: NDArray[np.uint8],
    row: int,
    col: int,
    side: int,
    simplify_px: float,
    min_area_px: float,
    downsample: float,
) -> _Parts:
    """The components inside the block that begins at (row, col), without what is too small and ends there."""
    block = np.ascontiguousarray(labels[row : row + side, col : col + side])
    simplified = simplify_px >= MIN_SIMPLIFY_PX
    traced, classes = trace(block, also_ignored=simplified)
    outlines = simplify(traced, block, simplify_px) if simplified else cut_corners(traced, block)
    areas = np.rint(traced.areas()).astype(np.int64)
    wanted = (classes != IGNORE_LABEL) & ((areas >= min_area_px) | on_frame(outlines, block.shape))
    traced, outlines, classes, areas = (
        traced.take(wanted),
        outlines.take(wanted),
        classes[wanted],
        areas[wanted],
    )
    origin = np.array([row, col])
    outlines = replace(outlines, xy=outlines.xy + origin[::-1])
    return _Parts(
        replace(outlines, xy=outlines.xy * downsample).polygons(),
        outlines.points + outlines.counts,  # rings are written closed
        classes,
        np.tile(origin // side, (len(classes), 1)),
        _first_pixels(traced) + origin,
        areas,
        (Seam.of(outlines, (col, row), side, axis=0), Seam.of(outlines, (col, row), side, axis=1)),
    )


def _regions(parts: _Parts, min_area_px: float, max_vertices: int) -> list[RegionPolygon]:
    """The parts that belong together as one region, or each for itself where they have too many vertices."""
    numbers = regions_of(parts.seams, parts.classes)
    is_wanted = (np.bincount(numbers, parts.areas) >= min_area_px)[numbers]
    is_split = (np.bincount(numbers, parts.vertices) > max_vertices)[numbers]
    is_alone = (np.bincount(numbers) == 1)[numbers]
    return [
        *parts.regions(is_wanted & is_split, in_blocks=True),
        *parts.regions(is_wanted & is_alone & ~is_split, in_blocks=False),
        *_united(parts, numbers, is_wanted & ~is_alone & ~is_split),
    ]


def _united(parts: _Parts, numbers: NDArray[np.int64], wanted: NDArray[np.bool_]) -> Iterator[RegionPolygon]:
    by_number = sorted(
        zip(numbers[wanted].tolist(), parts.regions(wanted, in_blocks=False), strict=True), key=itemgetter(0)
    )
    for _, members in groupby(by_number, key=itemgetter(0)):
        regions = [region for _, region in members]
        row, col = min((region.row, region.col) for region in regions)
        yield RegionPolygon(
            regions[0].class_index,
            unite([region.polygon for region in regions]),
            row,
            col,
            sum(region.area_px for region in regions),
        )


def _first_pixels(rings: Rings) -> NDArray[np.int64]:
    """The first pixel (row, col) of each polygon in row order: the one under the left end of its topmost border."""
    # One number that sorts by row, then by column.
    keys = rings.xy[:, 1].astype(np.int64) << 32 | rings.xy[:, 0].astype(np.int64)
    if len(keys):
        keys = np.minimum.reduceat(keys, np.cumsum(rings.points) - rings.points)
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1)


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
