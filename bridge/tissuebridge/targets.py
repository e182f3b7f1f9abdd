"""What a person drew becomes what a network learns: labels, cells and where they are complete.

Comes in from `project` (a person's QuPath objects, pixels), goes out as `tissuemodel.labels.Example`s to
training and evaluation. `annotated_windows` says which pieces of an image are worth reading; `annotations_of`
sorts its objects once, and `example_of` makes a piece an example. Rules: METHOD.md, "Annotations to targets".
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import AnnotationError
from tissuebridge.objects import (
    CELLS_MARKED,
    IGNORE,
    NOT_A_CELL,
    REGION_OF_INTEREST,
    ObjectType,
    PathObject,
    cell_marks,
    is_area,
    is_persons,
)
from tissuemodel.labels import IGNORE_LABEL, MAX_CELL_CLASSES, Example, LabelSet

_log = logging.getLogger(__name__)

Window = tuple[int, int, int, int]
"""(row, col, height, width) in px of the model's grid."""

_AUTOMATIC_NAME: Final = re.compile(
    r"(annotation|area|cells marked\*?|ellipse|geometry|object|polygon|rectangle|roi|tile)?"
    r"\s*(\(\w+\))?[\s#_-]*\d*",
    re.IGNORECASE,
)
"""A name that a program gave ("Annotation 3", "Rectangle", "7"), not a person who names classes."""

_CLIP_FROM_VERTICES: Final = 1000
"""Larger outlines are cut to the window first: rasterising costs 8 us a vertex, wherever it lies."""


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """A person's annotations of one image, sorted; full-resolution px, (x, y).

    Attributes:
        regions: (n,) outlines of region annotations, in the order of drawing: the last one is on top.
        region_classes: uint8 (n,), index of each one's region class.
        complete: (k,) outlines of `Cells marked*`.
        complete_bits: uint16 (k,), bit c set where every cell of class c is marked.
        ignored: (i,) outlines of `Ignore*`.
        points: float64 (p, 2), centres of cells.
        point_classes: uint8 (p,), index of each one's cell class.
        negatives: float64 (q, 2), centres of things that are no cell.
    """

    regions: NDArray[np.object_]
    region_classes: NDArray[np.uint8]
    complete: NDArray[np.object_]
    complete_bits: NDArray[np.uint16]
    ignored: NDArray[np.object_]
    points: NDArray[np.float64]
    point_classes: NDArray[np.uint8]
    negatives: NDArray[np.float64]


def annotations_of(
    objects: Iterable[PathObject], classes: LabelSet, name: str, *, explicit_priority: bool = False
) -> Annotations:
    """Sorts an image's objects by what they say; leaves out all that is not a person's.

    Args:
        objects: The image's objects, their classes named as in `classes` (aliases resolved).
        classes: Region and cell classes. An object of another class says nothing.
        name: The image's name, for messages.
        explicit_priority: Of overlapping regions the one whose class comes first in `classes.regions` is on
            top; otherwise the smaller annotation.

    Raises:
        AnnotationError: The name of a `Cells marked*` annotation is no list of cell classes, or there are
            more cell classes than an example can hold.

    >>> from tissuebridge.objects import PathClass
    >>> tumor = PathObject(shapely.box(0, 0, 4, 4), path_class=PathClass("Tumor"))
    >>> annotations_of([tumor], LabelSet(("Tumor",), (), {}), "slide 1").region_classes.tolist()
    [0]
    """
    if len(classes.cells) > MAX_CELL_CLASSES:
        raise AnnotationError(
            f"{len(classes.cells)} cell classes ({', '.join(classes.cells)}) are more than the {MAX_CELL_CLASSES} "
            "that one model can tell apart; merge some with a class map (--classes)"
        )
    persons = _persons(objects)
    areas = _areas(persons)
    regions, region_classes = _regions(areas, classes, explicit_priority)
    complete = [obj for obj in areas if obj.class_name == CELLS_MARKED]
    points, point_classes = _centres(persons, classes.cells)
    return Annotations(
        regions=regions,
        region_classes=region_classes,
        complete=_geometries([obj.geometry for obj in complete]),
        complete_bits=np.array(
            [_complete_bits(obj.name, classes.cells, name) for obj in complete], np.uint16
        ),
        ignored=_geometries([obj.geometry for obj in areas if obj.class_name == IGNORE]),
        points=points,
        point_classes=point_classes,
        negatives=_centres(persons, (NOT_A_CELL,))[0],
    )


def example_of(
    annotations: Annotations,
    window: Window,
    downsample: float,
    image: NDArray[np.uint8],
    name: str,
    *,
    margin_px: float = 0.0,
    image_name: str = "",
) -> Example:
    """A piece of an annotated image as arrays.

    A pixel belongs to an outline if its centre does. Pixels that nobody labelled are `IGNORE_LABEL`.

    Args:
        annotations: Of the whole image.
        window: The piece, in px of the model's grid.
        downsample: Full-resolution px per grid px.
        image: uint8 (row, col, 3), the window's pixels.
        name: Image and place, for messages.
        margin_px: Cells this far outside the window, in grid px, still come along: their heat reaches into it.
        image_name: The image's name alone; empty: the piece is an image of its own.

    Raises:
        ValueError: The image's size is not the window's.

    >>> from tissuebridge.objects import PathClass
    >>> tumor = PathObject(shapely.box(2, 0, 8, 4), path_class=PathClass("Tumor"))
    >>> annotations = annotations_of([tumor], LabelSet(("Tumor",), (), {}), "slide 1")
    >>> pixels = np.zeros((1, 3, 3), np.uint8)
    >>> example_of(annotations, (0, 0, 1, 3), 2.0, pixels, "slide 1").regions.tolist()
    [[255, 0, 0]]
    """
    if image.shape != (*window[2:], 3):
        raise ValueError(f"{name}: image {image.shape} is not of the size of window {window}")
    labels, complete, ignored = _rasters(annotations, window, downsample)
    points = _in_grid(annotations.points, window, downsample)
    negatives = _in_grid(annotations.negatives, window, downsample)
    near = _inside(points, window, margin_px)
    return Example(
        name=name,
        image=image,
        regions=labels,
        points=points[near].astype(np.float32),
        point_classes=annotations.point_classes[near],
        negatives=negatives[_inside(negatives, window, margin_px)].astype(np.float32),
        complete=complete,
        ignored=ignored,
        image_name=image_name,
    )


def annotated_windows(
    objects: Iterable[PathObject],
    grid_width: int,
    grid_height: int,
    downsample: float,
    size_px: int = 1024,
    context_px: int = 0,
) -> list[Window]:
    """The pieces of an image that hold something to learn, so that of a large slide only these are read.

    They are blocks of a fixed grid, each grown by the context on every side and clipped to the image; with a
    context, neighbours overlap and both carry the labels there. An image of at most two blocks a side is one
    piece. `Ignore*` and `Region*` alone are nothing to learn. An outline that ends exactly on the centres of a
    block's outermost pixels counts as touching them.

    Args:
        objects: The image's objects.
        grid_width: Width of the image in grid px.
        grid_height: Height of the image in grid px.
        downsample: Full-resolution px per grid px.
        size_px: Side of a block in grid px.
        context_px: How much of the surroundings is read with a block, in grid px.

    Returns:
        Windows (row, col, height, width) in grid px, in row order.

    >>> from tissuebridge.objects import PathClass
    >>> cell = PathObject(shapely.Point(5000, 100), path_class=PathClass("T"))
    >>> annotated_windows([cell], 20_000, 10_000, downsample=2.0)
    [(0, 2048, 1024, 1024)]
    """
    if max(grid_width, grid_height) <= 2 * size_px:
        size_px = 2 * size_px
    places = [(row, col) for row in range(0, grid_height, size_px) for col in range(0, grid_width, size_px)]
    top, left = np.array(places).reshape(-1, 2).T
    bottom, right = np.minimum(top + size_px, grid_height), np.minimum(left + size_px, grid_width)
    found = _annotated(_persons(objects), np.stack([left, top, right, bottom]), downsample)
    top, left = np.maximum(top - context_px, 0)[found], np.maximum(left - context_px, 0)[found]
    bottom = np.minimum(bottom + context_px, grid_height)[found]
    right = np.minimum(right + context_px, grid_width)[found]
    return list(
        zip(top.tolist(), left.tolist(), (bottom - top).tolist(), (right - left).tolist(), strict=True)
    )


# ---- Sorting objects --------------------------------------------------------------------------------------


def _persons(objects: Iterable[PathObject]) -> list[PathObject]:
    return [obj for obj in objects if obj.class_name is not None and is_persons(obj)]


def _areas(objects: Sequence[PathObject]) -> list[PathObject]:
    return [obj for obj in objects if obj.object_type is ObjectType.ANNOTATION and is_area(obj.geometry)]


def _regions(
    areas: Sequence[PathObject], classes: LabelSet, explicit_priority: bool
) -> tuple[NDArray[np.object_], NDArray[np.uint8]]:
    """Outlines and classes of region annotations in the order of drawing."""
    index = {name: place for place, name in enumerate(classes.regions)}
    drawn = [(obj.geometry, index[obj.class_name]) for obj in areas if obj.class_name in index]
    # Equally large ones: by class, so that the order in the file never decides.
    drawn.sort(key=lambda region: (0.0 if explicit_priority else -region[0].area, -region[1]))
    return _geometries([outline for outline, _ in drawn]), np.array([place for _, place in drawn], np.uint8)


def _centres(
    objects: Sequence[PathObject], names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Every point of objects drawn as points, and the centroid of every detection and cell (of its nucleus)."""
    index = {name: place for place, name in enumerate(names)}
    marks = [
        (mark, index[obj.class_name])
        for obj in objects
        if obj.class_name in index
        for mark in cell_marks(obj)
    ]
    centroids = shapely.centroid(_geometries([mark for mark, _ in marks]))
    some = ~shapely.is_empty(centroids)
    xy = np.stack([shapely.get_x(centroids[some]), shapely.get_y(centroids[some])], axis=1)
    return xy, np.array([place for _, place in marks], np.uint8)[some]


def _complete_bits(name: str | None, cells: Sequence[str], image: str) -> int:
    """For which classes a `Cells marked*` annotation is complete: all, unless its name narrows it."""
    if not cells:
        return 0
    label = (name or "").strip()
    index = {cell.casefold(): place for place, cell in enumerate(cells)}
    parts = [label] if label.casefold() in index else re.split(r"\s*[,;]\s*", label)
    named = [part for part in parts if part.casefold() in index]
    if not named:
        if _AUTOMATIC_NAME.fullmatch(label):
            return (1 << len(cells)) - 1
        raise AnnotationError(
            f"{image}: an annotation '{CELLS_MARKED}' is named {label!r}, which is none of the cell classes "
            f"({', '.join(cells)}); clear its name if all are marked there, or name those that are, with commas"
        )
    unknown = [part for part in parts if part and part not in named]
    if unknown:
        _log.warning("%s: '%s' named %r: no cell class %s", image, CELLS_MARKED, label, ", ".join(unknown))
    return sum({1 << index[part.casefold()] for part in named})


def _geometries(outlines: Sequence[BaseGeometry]) -> NDArray[np.object_]:
    """An array of geometries; numpy would take multi-geometries for sequences."""
    array = np.empty(len(outlines), object)
    array[:] = outlines
    return array


# ---- From full resolution to a window ---------------------------------------------------------------------


def _rasters(
    annotations: Annotations, window: Window, downsample: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.bool_]]:
    """Region labels, bits of completeness and what is ignored, in a window."""
    ignored = _burnt(annotations.ignored, repeat(1), window, downsample).astype(np.bool_)
    labels = _burnt(annotations.regions, annotations.region_classes, window, downsample, fill=IGNORE_LABEL)
    labels[ignored] = IGNORE_LABEL
    complete = np.zeros(window[2:], np.uint16)
    for bits in np.unique(annotations.complete_bits):
        outlines = annotations.complete[annotations.complete_bits == bits]
        complete |= bits * _burnt(outlines, repeat(1), window, downsample)
    return labels, complete, ignored


def _burnt(
    outlines: NDArray[np.object_], values: Iterable[int], window: Window, downsample: float, fill: int = 0
) -> NDArray[np.uint8]:
    """Outlines drawn one over the other by the pixel-centre rule: uint8 (row, col)."""
    row, col, height, width = window
    # One grid px more on every side than the window, so that clipping touches no pixel's centre.
    left, top = (col - 1) * downsample, (row - 1) * downsample
    right, bottom = (col + width + 1) * downsample, (row + height + 1) * downsample
    extent = shapely.bounds(outlines).reshape(-1, 4).T
    near = (extent[0] < right) & (extent[2] > left) & (extent[1] < bottom) & (extent[3] > top)
    outlines = outlines[near]
    large = shapely.get_num_coordinates(outlines) > _CLIP_FROM_VERTICES
    outlines[large] = shapely.clip_by_rect(outlines[large], left, top, right, bottom)
    # Clipping may leave lines or nothing, which rasterio would warn about.
    drawn = [
        (part, int(value))
        for outline, value in zip(outlines, compress(values, near), strict=True)
        for part in shapely.get_parts(outline)
        if is_area(part) and not part.is_empty
    ]
    if not drawn:
        return np.full((height, width), fill, np.uint8)
    to_full = Affine(downsample, 0, col * downsample, 0, downsample, row * downsample)
    burnt = rasterize(drawn, (height, width), fill=fill, transform=to_full, all_touched=False, dtype="uint8")
    return np.asarray(burnt, np.uint8)


def _in_grid(points: NDArray[np.float64], window: Window, downsample: float) -> NDArray[np.float64]:
    """Full-resolution points (x, y) in px of the window."""
    return points / downsample - np.array([window[1], window[0]], np.float64)


def _inside(points: NDArray[np.float64], window: Window, margin_px: float) -> NDArray[np.bool_]:
    """Which points, in px of the window, lie in it or in the margin round it."""
    x, y = points.T
    far_x, far_y = window[3] + margin_px, window[2] + margin_px
    inside: NDArray[np.bool_] = (x >= -margin_px) & (x < far_x) & (y >= -margin_px) & (y < far_y)
    return inside


def _annotated(
    objects: Sequence[PathObject], blocks: NDArray[np.int64], downsample: float
) -> NDArray[np.bool_]:
    """Which blocks (left | top | right | bottom, block) hold an annotated pixel's centre, a cell or a negative."""
    outlines = [obj.geometry for obj in _areas(objects) if obj.class_name not in (IGNORE, REGION_OF_INTEREST)]
    marks = shapely.centroid(_geometries([mark for obj in objects for mark in cell_marks(obj)]))
    found = np.zeros(blocks.shape[1], np.bool_)
    # From the centre of a block's first to the centre of its last pixel: touching a block is not holding it.
    inner = blocks + np.array([[0.5], [0.5], [-0.5], [-0.5]])
    for geometries, boxes in ((_geometries(outlines), inner), (marks, blocks)):
        tree = shapely.STRtree(np.asarray(shapely.box(*(boxes * downsample))))
        found[tree.query(geometries, predicate="intersects")[1]] = True
    return found
