"""GeoJSON coordinates to shapely geometries and back, strictly: what is no position is refused.

Below `geojson` and `geojson_write`. Parsed JSON comes in and geometries in full-resolution pixels (x, y) go
out, or the other way round in bulk. The errors raised here say what is wrong; the caller adds file and
feature.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any, Final, cast

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import GeoJSONError, ResourceLimit
from tissuebridge.objects import COORDINATE_STEP, is_area

Positions = NDArray[np.float64]

GEOMETRY_TYPES: Final = (
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
)
_WRITABLE: Final = (0, 1, 3, 4, 5, 6)
"""Shapely's numbers for all of these but the last; 2 is a bare ring, 7 a collection."""
LARGEST_COORDINATE: Final = 1e7
"""Pixels; no slide is larger."""

_QUPATH_ROUNDING: Final = 0.01
"""QuPath writes two decimals, so outlines may cross themselves by about so many pixels along their length."""
_DRAW_AGAIN: Final = "Draw it again in QuPath, or delete it, and export again"
_ELLIPSE_SEGMENTS: Final = 16


def parse_geometry(value: Any, max_vertices: int) -> BaseGeometry:
    """A shapely geometry of a GeoJSON geometry, not yet judged for validity.

    Args:
        value: The parsed ``geometry`` member.
        max_vertices: Most positions in it.

    Raises:
        GeoJSONError: Not a geometry that can stand for one object.
        ResourceLimit: More than `max_vertices` positions.

    >>> parse_geometry({"type": "Point", "coordinates": [1, 2.5]}, 10).wkt
    'POINT (1 2.5)'
    """
    if type(value) is not dict:
        raise GeoJSONError(f"it has no geometry. {_DRAW_AGAIN}.")
    kind, coordinates = value.get("type"), value.get("coordinates")
    if kind == "GeometryCollection":
        raise GeoJSONError(
            "a GeometryCollection cannot be one object. Make one feature of each of its parts."
        )
    if type(kind) is not str or kind not in GEOMETRY_TYPES:
        raise GeoJSONError(f"unknown geometry type {_short(kind)}. Use {', '.join(GEOMETRY_TYPES[:-1])}.")
    if type(coordinates) is not list:
        raise GeoJSONError(f"the coordinates of the {kind} are missing. {_DRAW_AGAIN}.")
    geometry = _build(kind, coordinates)
    if (count := shapely.get_num_coordinates(geometry)) > max_vertices:
        raise ResourceLimit(
            f"{count:,} vertices, more than {max_vertices:,}. Simplify or split it in QuPath."
        )
    if value.get("isEllipse") is True and is_area(geometry):
        return _ellipse(geometry)
    return geometry


def _build(kind: str, coordinates: list[Any]) -> BaseGeometry:
    match kind:
        case "Point":
            return shapely.Point(_positions([coordinates])[0])
        case "MultiPoint":
            return shapely.MultiPoint(_positions(coordinates) if coordinates else None)
        case "LineString":
            return shapely.LineString(_line(coordinates))
        case "MultiLineString":
            return shapely.MultiLineString([_line(line) for line in _parts(coordinates)])
        case "Polygon":
            return _polygon(coordinates)
        case _:
            return shapely.MultiPolygon([_polygon(part) for part in _parts(coordinates)])


def _positions(value: Any) -> Positions:
    """Checks and converts a list of positions to float64 (n, 2); a third number, the height, is left out."""
    if type(value) is not list or set(map(type, value)) != {list}:
        raise GeoJSONError(f"the coordinates are no list of positions [x, y]. {_DRAW_AGAIN}.")
    sizes = set(map(len, value))
    if sizes not in ({2}, {3}):
        raise GeoJSONError(f"a position has {max(sizes - {2})} numbers instead of x and y. {_DRAW_AGAIN}.")
    flat = list(chain.from_iterable(value))
    # `type`, not isinstance: True is an int in Python, and would become the coordinate 1.
    if not set(map(type, flat)) <= {int, float}:
        raise GeoJSONError(
            f"a coordinate is not a number (text, true, null, NaN or Infinity). {_DRAW_AGAIN}."
        )
    if max(flat) > LARGEST_COORDINATE or min(flat) < -LARGEST_COORDINATE:
        raise GeoJSONError(
            f"a coordinate lies beyond {LARGEST_COORDINATE:.0f} px. Use full-resolution pixels."
        )
    return np.array(flat, dtype=np.float64).reshape(-1, sizes.pop())[:, :2]


def _parts(value: Any) -> list[Any]:
    if type(value) is not list or not value:
        raise GeoJSONError(f"the coordinates are empty or no list. {_DRAW_AGAIN}.")
    return value


def _line(value: Any) -> Positions:
    positions = _positions(value)
    if len(positions) < 2:
        raise GeoJSONError(f"a line needs two positions. {_DRAW_AGAIN}.")
    return positions


def _ring(value: Any) -> Positions:
    positions = _positions(value)
    if len(positions) < 4:
        raise GeoJSONError(
            f"a ring of {len(positions)} positions encloses nothing (four are needed). {_DRAW_AGAIN}."
        )
    if value[0][:2] != value[-1][:2]:
        raise GeoJSONError(f"a ring is not closed: its last position must repeat its first. {_DRAW_AGAIN}.")
    return positions


def _polygon(value: Any) -> shapely.Polygon:
    shell, *holes = (_ring(ring) for ring in _parts(value))
    if holes:
        return shapely.Polygon(shell, holes)
    return cast("shapely.Polygon", shapely.polygons(shell))  # half the time


def _ellipse(geometry: BaseGeometry) -> BaseGeometry:
    """The ellipse in the bounds of `geometry`, whatever outline was written: that is how QuPath reads it."""
    left, top, right, bottom = geometry.bounds
    disc = shapely.Point(0, 0).buffer(1, quad_segs=_ELLIPSE_SEGMENTS)
    scale = np.array([right - left, bottom - top]) / 2
    return shapely.transform(disc, lambda xy: xy * scale + [(left + right) / 2, (top + bottom) / 2])


def valid_area(geometry: BaseGeometry) -> BaseGeometry:
    """The geometry itself where it is valid; else, for areas, the one area that its outline can mean.

    An outline that crosses itself has two readings: what it goes round at all, or what it goes round an odd
    number of times. Where both agree but for QuPath's rounding (a figure of eight; a brush stroke touching
    itself), that area is returned, nothing lost; where they differ, nobody can tell what was meant.
    `buffer(0)`, the usual cure, would silently drop half of a figure of eight.

    Raises:
        GeoJSONError: No area, a hole that is not inside, or an ambiguous outline.

    >>> valid_area(shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])).area
    50.0
    """
    if not is_area(geometry) or shapely.is_valid(geometry):
        return geometry
    repaired = shapely.union_all([_repaired(part) for part in shapely.get_parts(geometry)])
    if not is_area(repaired):
        raise GeoJSONError(f"its outline encloses no area. {_DRAW_AGAIN}.")
    return repaired


def _repaired(polygon: shapely.Polygon) -> BaseGeometry:
    shell = _repaired_ring(polygon.exterior)
    if not polygon.interiors:
        return shell
    holes = shapely.union_all([_repaired_ring(ring) for ring in polygon.interiors])
    if shapely.difference(holes, shell).area > _slack(polygon):
        raise GeoJSONError(f"a hole of the polygon is not inside its outline. {_DRAW_AGAIN}.")
    return shapely.difference(shell, holes)


def _repaired_ring(ring: shapely.LinearRing) -> BaseGeometry:
    polygon = shapely.Polygon(ring)
    odd = _areas_only(shapely.make_valid(polygon, method="linework"))
    any_times = _areas_only(shapely.make_valid(polygon, method="structure", keep_collapsed=False))
    if shapely.symmetric_difference(odd, any_times).area > _slack(polygon):
        raise GeoJSONError(f"its outline overlaps itself, so what lies inside is ambiguous. {_DRAW_AGAIN}.")
    return odd


def _slack(geometry: BaseGeometry) -> float:
    """How much area QuPath's rounding can account for, in px^2."""
    return float(geometry.length) * _QUPATH_ROUNDING


def _areas_only(geometry: BaseGeometry) -> BaseGeometry:
    return shapely.union_all([part for part in shapely.get_parts(geometry) if is_area(part)])


def on_grid(geometries: list[BaseGeometry], where: list[str]) -> tuple[list[BaseGeometry], list[int]]:
    """Rounds coordinates to multiples of `COORDINATE_STEP`, keeping every geometry valid.

    Args:
        geometries: At least one.
        where: For each what to call it in an error.

    Returns:
        The rounded geometries (x and y only), and the indices of those that plain rounding would have made
        invalid: these were fitted to the grid by snapping, or, where nothing would be left of them, kept as
        they were.

    Raises:
        GeoJSONError: A geometry is empty, not finite, a collection, or invalid beyond `valid_area`.

    >>> on_grid([shapely.Point(1.03, 2.5)], ["it"])[0][0].wkt
    'POINT (1 2.5)'
    """
    given = np.array(geometries, dtype=object)
    _refuse_unwritable(given, where)
    rounded = shapely.transform(given, lambda xy: np.round(xy / COORDINATE_STEP) * COORDINATE_STEP)
    areas = np.isin(shapely.get_type_id(given), (3, 6))
    broken = np.flatnonzero(areas & ~shapely.is_valid(rounded))
    for index in broken:
        try:
            rounded[index] = _snapped(valid_area(given[index]))
        except GeoJSONError as error:
            raise GeoJSONError(f"{where[index]}: {error}") from error
    return rounded.tolist(), broken.tolist()


def _refuse_unwritable(geometries: NDArray[np.object_], where: list[str]) -> None:
    known = np.isin(shapely.get_type_id(geometries), _WRITABLE)
    for index in np.flatnonzero(shapely.is_empty(geometries) | ~known):
        raise GeoJSONError(f"{where[index]}: QuPath has no object for {_short(geometries[index])}.")
    positions, owners = shapely.get_coordinates(geometries, return_index=True)
    for index in np.flatnonzero(~(np.abs(positions) <= LARGEST_COORDINATE).all(axis=1)):
        raise GeoJSONError(f"{where[owners[index]]}: a coordinate is NaN or beyond {LARGEST_COORDINATE:.0f}.")


def _snapped(geometry: BaseGeometry) -> BaseGeometry:
    snapped = _areas_only(shapely.set_precision(geometry, COORDINATE_STEP))
    lost = shapely.symmetric_difference(snapped, geometry).area
    return geometry if snapped.is_empty or lost > geometry.length * COORDINATE_STEP else snapped


def coordinates_of(geometries: list[BaseGeometry]) -> list[Any]:
    """The ``coordinates`` member of each geometry, as arrays and tuples that orjson writes.

    >>> coordinates_of([shapely.Point(1, 2)])
    [(1.0, 2.0)]
    """
    array = np.array(geometries, dtype=object)
    # Nearly all objects are polygons: their rings go through one array instead of one call each.
    is_polygon = shapely.get_type_id(array) == 3
    polygons = iter(_rings_of(array[is_polygon]))
    return [
        next(polygons) if plain else mapping(geometry)["coordinates"]
        for geometry, plain in zip(geometries, is_polygon.tolist(), strict=True)
    ]


def _rings_of(polygons: NDArray[np.object_]) -> list[list[NDArray[np.float64]]]:
    """The rings (points, 2) of each polygon, its outline first."""
    rings = shapely.get_rings(polygons)
    positions = shapely.get_coordinates(rings)
    ends = np.cumsum(shapely.get_num_coordinates(rings)).tolist()
    pieces = [positions[begin:end] for begin, end in pairwise([0, *ends])]
    lasts = np.cumsum(1 + shapely.get_num_interior_rings(polygons)).tolist()
    return [pieces[first:last] for first, last in pairwise([0, *lasts])]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
