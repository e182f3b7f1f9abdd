"""An image's objects, sorted for statistics: one source of cells, regions that do not overlap, and the window.

Comes in from `project` (QuPath's objects in px), goes out in um to `measure`. Only one source of cells counts: the
latest analysis with a person's edits, or a person's own; a dot and the prediction of the same cell would be two cells
that attract each other. Proposals never count, nor what a person rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.classes import RESERVED
from tissuebridge.errors import InputRefused
from tissuebridge.objects import (
    CELLS_MARKED,
    IGNORE,
    PROPOSED,
    REGION_OF_INTEREST,
    ObjectType,
    PathObject,
    are_persons,
    cell_marks,
    is_area,
    provenance,
)
from tissuebridge.spatial.settings import SpatialSettings, Whose
from tissuebridge.spatial.window import Window, inside, polygons_of

TISSUE: Final = "tissue"
"""In tables, the whole window, beside its region classes."""

WHOLE: Final = "image"
"""The only region where none is drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """Cells and regions of one image, in um.

    Attributes:
        cells: Class to positions in the window, float64 (n, 2).
        index: Class to the place of each of its cells in the list of objects, int (n,).
        regions: Region class to its area; they do not overlap and make up the window.
        window: All tissue that was looked at.
        outside: Class to how many of its cells lie outside the window.
        excluded_um2: Area cut out: `Ignore*`, and classes that are no tissue.
        cells_from: Whose cells these are, in words.
        regions_from: Whose regions these are, in words.
    """

    cells: Mapping[str, NDArray[np.float64]]
    index: Mapping[str, NDArray[np.intp]]
    regions: Mapping[str, Window]
    window: Window
    outside: Mapping[str, int]
    excluded_um2: float
    cells_from: str
    regions_from: str


def tissue_of(
    objects: Sequence[PathObject],
    pixel_size_um: float,
    width_px: int,
    height_px: int,
    settings: SpatialSettings | None = None,
) -> Tissue:
    """Sorts the objects of an image.

    The window is made of the region classes that are tissue (the whole image where there are none), inside `Region*`
    if that is drawn, without `Ignore*`; of a person's dots only inside `Cells marked*` if that is drawn, since
    elsewhere not every cell is marked.

    Args:
        objects: All of the image, in full-resolution px.
        pixel_size_um: Of a full-resolution pixel.
        width_px: Of the image.
        height_px: Of the image.
        settings: None: the defaults.

    Raises:
        InputRefused: No area is left in the window.

    >>> from tissuebridge.objects import PathClass
    >>> dot = PathObject(shapely.Point(4, 4), path_class=PathClass("CD3"))
    >>> found = tissue_of([dot], 0.5, 10, 10)
    >>> found.cells["CD3"].tolist(), found.window.area_um2
    ([[2.0, 2.0]], 25.0)
    """
    settings = settings or SpatialSettings()
    is_area_of = [obj.object_type is ObjectType.ANNOTATION and is_area(obj.geometry) for obj in objects]
    of_cells, cells_from = source_of(objects, settings.cells, lambda k: bool(cell_marks(objects[k])))
    of_regions, regions_from = source_of(
        objects, settings.regions, lambda k: is_area_of[k] and objects[k].class_name not in RESERVED
    )
    areas = [(objects[k].class_name or "", _in_um(objects[k].geometry, pixel_size_um)) for k in of_regions]
    marks = _reserved(objects, is_area_of, pixel_size_um)
    image = shapely.box(0, 0, width_px * pixel_size_um, height_px * pixel_size_um)
    limits = [marks[REGION_OF_INTEREST]] if marks[REGION_OF_INTEREST] else []
    if cells_from == _PERSONS and marks[CELLS_MARKED]:
        limits.append(marks[CELLS_MARKED])
    frame: BaseGeometry = image
    for limit in limits:
        frame = polygons_of(shapely.intersection(frame, shapely.union_all(limit)))
    regions, every, excluded = _regions(areas, frame, marks[IGNORE], settings)
    if regions:
        window = Window.of(every, name="tissue")
    else:
        window = Window.of(frame, excluded, "tissue")
        regions, regions_from = {WHOLE: Window(window.area, WHOLE)}, "none: the whole image"
    cells, index, outside = _cells(objects, of_cells, pixel_size_um, window)
    cut_um2 = float(shapely.intersection(frame, shapely.union_all(excluded)).area) if excluded else 0.0
    return Tissue(cells, index, regions, window, outside, cut_um2, cells_from, regions_from)


_PERSONS: Final = "a person's"


def source_of(
    objects: Sequence[PathObject], whose: Whose, is_wanted: Callable[[int], bool]
) -> tuple[list[int], str]:
    """Which of the objects count, and whose they are.

    Args:
        objects: All of the image.
        whose: A person's or the analysis's.
        is_wanted: Whether the object at this place is of the kind that is asked for.

    Returns:
        Their places in the list, and whose they are in words.
    """
    wanted = [
        k
        for k, obj in enumerate(objects)
        if obj.class_name not in (None, *RESERVED)
        and not (obj.class_name or "").startswith(PROPOSED)
        and is_wanted(k)
    ]
    origins = {k: provenance(objects[k]) for k in wanted}
    analysed = {
        k: origin for k, origin in origins.items() if origin is not None and origin.method == "analyse"
    }
    if whose is Whose.ANALYSIS or (whose is Whose.LATEST and analysed):
        if not analysed:
            return [], "an analysis's: there is none"
        # Runs are added behind those before.
        last = list(analysed.values())[-1]
        kept = [k for k, origin in analysed.items() if origin.run == last.run and origin.rejected is None]
        edited = sum(are_persons([objects[k] for k in kept]))
        return kept, f"analysis {last.run} with {last.model}, {edited} accepted or edited by a person"
    decided = zip(origins.items(), are_persons([objects[k] for k in wanted]), strict=True)
    kept = [k for (k, origin), is_one in decided if is_one and (origin is None or origin.rejected is None)]
    return kept, _PERSONS


def _cells(
    objects: Sequence[PathObject], chosen: Sequence[int], pixel_size_um: float, window: Window
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.intp]], dict[str, int]]:
    marks: dict[str, list[tuple[BaseGeometry, int]]] = {}
    for k in chosen:
        marks.setdefault(objects[k].class_name or "", []).extend((mark, k) for mark in cell_marks(objects[k]))
    cells, index, outside = {}, {}, {}
    for name in sorted(marks):
        geometries = np.empty(len(marks[name]), object)
        geometries[:] = [mark for mark, _ in marks[name]]
        xy = shapely.get_coordinates(shapely.centroid(geometries)) * pixel_size_um
        if len(xy) < len(geometries):
            raise InputRefused(
                f"a cell of class {name!r} has no position. Remove empty objects and export again."
            )
        found = inside(window, xy)
        cells[name], outside[name] = found.points, found.outside
        index[name] = np.array([k for _, k in marks[name]], np.intp)[found.is_inside]
    return cells, index, outside


def _reserved(
    objects: Sequence[PathObject], is_area_of: Sequence[bool], pixel_size_um: float
) -> dict[str, list[BaseGeometry]]:
    """The areas of reserved classes, um; a person draws them."""
    found: dict[str, list[BaseGeometry]] = {name: [] for name in RESERVED}
    for obj, is_one in zip(objects, is_area_of, strict=True):
        if is_one and obj.class_name in found:
            found[obj.class_name].append(polygons_of(_in_um(obj.geometry, pixel_size_um)))
    return found


def _regions(
    areas: Sequence[tuple[str, BaseGeometry]],
    frame: BaseGeometry,
    ignored: Sequence[BaseGeometry],
    settings: SpatialSettings,
) -> tuple[dict[str, Window], BaseGeometry, list[BaseGeometry]]:
    """Region classes without overlap, without what is ignored or no tissue; their union; and what is left out."""
    unions, every = _without_overlap(areas)
    excluded = [*ignored, *(area for name, area in unions.items() if name.casefold() in settings.not_tissue)]
    cut = shapely.union_all(excluded) if excluded else shapely.Polygon()

    def left(area: BaseGeometry) -> BaseGeometry:
        return polygons_of(shapely.difference(shapely.intersection(area, frame), cut))

    kept = {name: left(area) for name, area in unions.items() if name.casefold() not in settings.not_tissue}
    found = {name: Window(area, name) for name, area in kept.items() if area.area > 0}
    return found, left(every), excluded


def _without_overlap(
    areas: Sequence[tuple[str, BaseGeometry]],
) -> tuple[dict[str, BaseGeometry], BaseGeometry]:
    """The area of each class, and all together; where drawings overlap, the smaller one is on top, as in training."""
    names = sorted({name for name, _ in areas})
    # Areas of one class are mostly apart, and are then put together in a thirtieth of the time.
    unions = {
        name: shapely.disjoint_subset_union_all([polygons_of(a) for n, a in areas if n == name])
        for name in names
    }
    every = shapely.union_all(list(unions.values()))
    if sum(union.area for union in unions.values()) <= every.area * (1 + 1e-6):
        return unions, every
    taken: BaseGeometry = shapely.Polygon()
    parts: dict[str, list[BaseGeometry]] = {name: [taken] for name in names}
    for name, area in sorted(areas, key=lambda one: (one[1].area, one[0])):
        parts[name].append(shapely.difference(polygons_of(area), taken))
        taken = shapely.union(taken, polygons_of(area))
    return {name: polygons_of(shapely.union_all(parts[name])) for name in names}, every


def _in_um(geometry: BaseGeometry, pixel_size_um: float) -> BaseGeometry:
    return shapely.transform(geometry, lambda xy: xy * pixel_size_um)
