"""The window: where a cell could have been seen. Every statistic is relative to one.

A polygon with holes, in um. Comes in from outlines (`tissue`), goes out to all other files. What is ignored, and what
is no tissue, is cut out of it; a cell outside belongs to no statistic and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import InputRefused
from tissuebridge.spatial.borders import Border

UM2_PER_MM2: Final = 1e6

_GRID: Final = 64
"""Sampling looks only into those of 64 x 64 boxes that the window touches."""


@dataclass(frozen=True, eq=False)
class Window:
    """An area in which cells are counted.

    Attributes:
        area: Polygon or MultiPolygon with holes, valid and not empty, um.
        name: What it is called in tables.
    """

    area: BaseGeometry
    name: str = "window"

    @staticmethod
    def of(outline: BaseGeometry, excluded: Sequence[BaseGeometry] = (), name: str = "window") -> Window:
        """A window from what a person or a network drew.

        Self-touching and self-crossing outlines are made valid (shapely's structure method: the area that is
        enclosed). Lines and points carry no area and are dropped.

        Args:
            outline: The outline, um.
            excluded: What is cut out (`Ignore*`, white, necrosis), um.
            name: For tables and messages.

        Raises:
            InputRefused: Nothing is left: the outline is empty, without area, or wholly excluded.

        >>> Window.of(shapely.box(0, 0, 10, 10), [shapely.box(0, 0, 5, 10)]).area_um2
        50.0
        """
        area = polygons_of(outline)
        if excluded:
            area = polygons_of(
                shapely.difference(area, shapely.union_all([polygons_of(e) for e in excluded]))
            )
        if area.is_empty or area.area <= 0:
            raise InputRefused(
                f"{name}: no area is left in this window. Draw one that is not wholly ignored, or exclude less."
            )
        return Window(area, name)

    @cached_property
    def area_um2(self) -> float:
        """The area in um^2."""
        return float(self.area.area)

    @property
    def area_mm2(self) -> float:
        """The area in mm^2."""
        return self.area_um2 / UM2_PER_MM2

    @cached_property
    def border(self) -> Border:
        """Its outline, holes too."""
        return Border.of(self.area)

    @cached_property
    def is_rectangle(self) -> bool:
        """Whether it is a rectangle along the axes."""
        return self.area.geom_type == "Polygon" and bool(
            shapely.equals(self.area, shapely.box(*self.area.bounds))
        )

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points lie inside or on the border.

        Args:
            points: float64 (n, 2), um.
        """
        if not len(points):
            return np.zeros(0, np.bool_)
        shapely.prepare(self.area)
        return np.asarray(shapely.intersects_xy(self.area, points[:, 0], points[:, 1]), np.bool_)

    def border_distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance of each point to the border, not signed, um."""
        return self.border.distance(points)

    def sample(self, n: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Independent uniform points.

        Returns:
            float64 (n, 2), um.

        >>> window = Window.of(shapely.box(0, 0, 1, 1))
        >>> window.sample(5, np.random.default_rng(0)).shape
        (5, 2)
        """
        boxes, chances, is_whole = self._boxes
        parts: list[NDArray[np.float64]] = []
        missing = n
        while missing > 0:
            # A little more than needed, so that one round is mostly enough.
            drawn = random.choice(len(boxes), int(missing * 1.1) + 16, p=chances)
            low, high = boxes[drawn, :2], boxes[drawn, 2:]
            points = low + random.random((len(drawn), 2)) * (high - low)
            kept = is_whole[drawn]
            kept[~kept] = self.contains(points[~kept])
            parts.append(points[kept])
            missing -= int(kept.sum())
        return np.concatenate([np.zeros((0, 2)), *parts])[:n]

    @cached_property
    def _boxes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Boxes that cover the window, their shares of the drawing, and whether each lies wholly inside."""
        left, top, right, bottom = self.area.bounds
        x, y = np.linspace(left, right, _GRID + 1), np.linspace(top, bottom, _GRID + 1)
        corners = np.stack(np.meshgrid(x[:-1], y[:-1]), -1).reshape(-1, 2)
        boxes = np.hstack([corners, corners + np.array([x[1] - x[0], y[1] - y[0]])])
        outlines = shapely.box(*boxes.T)
        shapely.prepare(self.area)
        touched = shapely.intersects(self.area, outlines)
        boxes, outlines = boxes[touched], outlines[touched]
        # The boxes are equally large.
        return boxes, np.full(len(boxes), 1 / len(boxes)), shapely.contains_properly(self.area, outlines)

    def eroded(self, distance_um: float) -> BaseGeometry:
        """What lies at least this far from the border, inside; may be empty."""
        return shapely.buffer(self.area, -distance_um, quad_segs=32)

    def dilated(self, distance_um: float) -> BaseGeometry:
        """What lies inside or at most this far outside."""
        return shapely.buffer(self.area, distance_um, quad_segs=32)

    def lattice(self, spacing_um: float) -> Lattice:
        """The points of a square lattice that lie inside; each stands for ``spacing_um ** 2`` of the area.

        Made once, since every class of cells asks for the same one.
        """
        if spacing_um not in self._lattices:
            left, top, right, bottom = self.area.bounds
            x = np.arange(left + spacing_um / 2, right, spacing_um)
            y = np.arange(top + spacing_um / 2, bottom, spacing_um)
            points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
            self._lattices[spacing_um] = Lattice(points[self.contains(points)], self.border)
        return self._lattices[spacing_um]

    @cached_property
    def _lattices(self) -> dict[float, Lattice]:
        return {}


@dataclass(frozen=True, eq=False)
class Lattice:
    """Places all over a window.

    Attributes:
        points: float64 (n, 2), um.
        border: The window's.
    """

    points: NDArray[np.float64]
    border: Border

    @cached_property
    def border_um(self) -> NDArray[np.float64]:
        """The distance of each point to the border, (n,), um."""
        return self.border.distance(self.points)


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """Points of a window, and how many were not.

    Attributes:
        points: float64 (n, 2), um.
        is_inside: bool, of all points given.
        outside: How many lay outside and belong to no statistic.
    """

    points: NDArray[np.float64]
    is_inside: NDArray[np.bool_]
    outside: int


def inside(window: Window, points: NDArray[np.float64]) -> Inside:
    """Keeps the points of the window and counts the others.

    Args:
        window: Where.
        points: float64 (n, 2), um.

    Raises:
        InputRefused: A coordinate is not finite.
    """
    if not np.isfinite(points).all():
        raise InputRefused(
            f"{window.name}: a cell's position is not a finite number. Check pixel size and export."
        )
    kept = window.contains(points)
    return Inside(points[kept], kept, int(len(points) - kept.sum()))


def polygons_of(geometry: BaseGeometry) -> BaseGeometry:
    """The areas of a geometry, valid; what has no area is dropped.

    >>> bowtie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    >>> polygons_of(bowtie).area
    2.0
    """
    if not geometry.is_valid:
        geometry = shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [geometry]
    while any(part.geom_type.startswith(("Multi", "Geometry")) for part in parts):
        parts = [inner for part in parts for inner in shapely.get_parts(part)]
    return shapely.union_all([part for part in parts if part.geom_type == "Polygon"] or [shapely.Polygon()])
