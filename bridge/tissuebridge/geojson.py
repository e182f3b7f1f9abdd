"""QuPath's GeoJSON, read and written: the format in which annotations come and results go without any Java.

Reading: a file in any of QuPath's dialects (0.2 to 0.7) comes in, `PathObject` values go out. A file is read
whole or refused with one error that names file, feature and cure; what QuPath itself leaves out (an empty
points annotation, a measurement that is NaN) is left out too, and logged. Writing is `geojson_write`, offered
here as well.
"""

from __future__ import annotations

import gc
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import GeoJSONError, ResourceLimit
from tissuebridge.geojson_geometry import GEOMETRY_TYPES, parse_geometry, valid_area
from tissuebridge.geojson_source import documents
from tissuebridge.geojson_write import about_of, default_color, write_objects
from tissuebridge.objects import ObjectType, PathClass, PathObject, Plane

__all__ = ["MAX_BYTES", "MAX_VERTICES", "about_of", "default_color", "read_objects", "write_objects"]

MAX_BYTES: Final = 64 * 2**20
MAX_VERTICES: Final = 100_000

_LONGEST_CLASS_NAME: Final = 1_000
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ROOT: Final = "root"
_OBJECT_TYPES: Final[Mapping[str, ObjectType | str]] = {
    "annotation": ObjectType.ANNOTATION,
    "unknown": ObjectType.ANNOTATION,
    "PathAnnotationObject": ObjectType.ANNOTATION,
    "detection": ObjectType.DETECTION,
    "PathDetectionObject": ObjectType.DETECTION,
    "cell": ObjectType.CELL,
    "PathCellObject": ObjectType.CELL,
    "tile": ObjectType.TILE,
    "PathTileObject": ObjectType.TILE,
    "tmaCore": ObjectType.TMA_CORE,
    "tma_core": ObjectType.TMA_CORE,
    "TMACoreObject": ObjectType.TMA_CORE,
    "root": _ROOT,
    "PathRootObject": _ROOT,
}
"""QuPath's names of its object types, of now and of 0.2 ("PathCellObject", there in the place of the id)."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def read_objects(
    path: Path, *, max_bytes: int = MAX_BYTES, max_vertices: int = MAX_VERTICES
) -> list[PathObject]:
    """Reads the objects of a GeoJSON file as QuPath would, or refuses it.

    Read are: a list of features, a FeatureCollection, one feature, a bare geometry; plain, gzip or zip;
    objects inside objects (``childObjects``), flattened. An ellipse becomes the ellipse in the bounds of its
    outline. An outline that crosses itself is repaired where its meaning is clear
    (`geojson_geometry.valid_area`), and logged.

    Args:
        path: The file.
        max_bytes: Most bytes, unpacked.
        max_vertices: Most vertices of one object.

    Returns:
        The objects in the file's order, coordinates in full-resolution pixels (x, y).

    Raises:
        GeoJSONError: Anything in the file that cannot be an object; names file, feature and cure.
        ResourceLimit: The file or an object is larger than the limits.
    """
    objects: list[PathObject] = []
    places: list[str] = []
    ids: dict[UUID, str] = {}
    with _collector_paused():
        for where, document in documents(path, max_bytes):
            notes: Counter[str] = Counter()
            for label, feature in _features(document, where):
                obj = _read_feature(feature, f"{where}: {label}", max_vertices, notes)
                if obj is not None:
                    _refuse_duplicate(obj.id, f"{where}: {label}", ids)
                    objects.append(obj)
                    places.append(f"{where}: {label}")
            for note, count in notes.items():
                _log.warning("%s: %d %s", where, count, note)
        return _with_valid_areas(objects, places)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Parsing makes millions of lists and no cycles; the cyclic collector would triple the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _refuse_duplicate(uuid: UUID | None, where: str, ids: dict[UUID, str]) -> None:
    if uuid is None:
        return
    if uuid in ids:
        raise GeoJSONError(
            f"{where}: the id {uuid} is also that of {ids[uuid]}. Give each object its own id, or none."
        )
    ids[uuid] = where


def _features(document: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every feature with its place ("feature 3 of 10, child 2"), depth first, in the file's order."""
    waiting = [("", document)] if type(document) is dict else _numbered("feature", document)
    if waiting is None:
        raise GeoJSONError(f"{where}: neither an object nor a list of objects. Export again from QuPath.")
    waiting.reverse()
    while waiting:
        label, value = waiting.pop()
        inner: list[tuple[str, Any]] | None = []
        if type(value) is dict and value.get("type") == "FeatureCollection":
            inner = _numbered("feature", value.get("features"), label)
            if inner is None:
                raise GeoJSONError(f'{where}: the member "features" is no list. Export again from QuPath.')
        else:
            yield label or "feature 1 of 1", value
            inner = _numbered("child", _children(value), label)
        waiting.extend(reversed(inner or []))


def _numbered(what: str, values: Any, label: str = "") -> list[tuple[str, Any]] | None:
    if type(values) is not list:
        return None
    start = f"{label}, {what}" if label else what
    return [(f"{start} {number} of {len(values)}", value) for number, value in enumerate(values, 1)]


def _children(feature: Any) -> Any:
    properties = feature.get("properties") if type(feature) is dict else None
    if type(properties) is not dict:
        return None
    return properties.get("childObjects", properties.get("children"))


def _read_feature(feature: Any, where: str, max_vertices: int, notes: Counter[str]) -> PathObject | None:
    """One feature to one object; None where there is none (an empty points annotation, the root)."""
    try:
        if type(feature) is not dict:
            raise GeoJSONError("it is no GeoJSON object. Export again from QuPath.")
        if feature.get("type") in GEOMETRY_TYPES:  # a bare geometry is an annotation
            feature = {"type": "Feature", "geometry": feature}
        return _object(feature, max_vertices, notes)
    except (GeoJSONError, ResourceLimit) as error:
        raise type(error)(f"{where}{_called(feature)}: {error}") from error


def _object(feature: dict[str, Any], max_vertices: int, notes: Counter[str]) -> PathObject | None:
    if feature.get("type") != "Feature":
        raise GeoJSONError('it is no "Feature" and no geometry. Export again from QuPath.')
    properties = _member(feature, "properties", dict) or {}
    object_type = _object_type(feature, properties)
    if object_type is None:
        return None
    geometry = parse_geometry(feature.get("geometry"), max_vertices)
    if geometry.is_empty:
        notes["points annotations without points were left out"] += 1
        return None
    nucleus = feature.get("nucleusGeometry")
    return PathObject(
        geometry=geometry,
        object_type=object_type,
        id=_uuid(feature.get("id")),
        path_class=_path_class(properties.get("classification")),
        name=_member(properties, "name", str),
        nucleus=None if nucleus is None else parse_geometry(nucleus, max_vertices),
        measurements=_measurements(properties.get("measurements"), notes),
        metadata=_metadata(properties, notes),
        is_locked=bool(_member(properties, "isLocked", bool)),
        is_ellipse=bool(_member(feature["geometry"], "isEllipse", bool)),
        plane=_plane(feature["geometry"]),
    )


def _member(holder: dict[str, Any], key: str, kind: type[_T]) -> _T | None:
    value = holder.get(key)
    if value is None or type(value) is kind:
        return value
    raise GeoJSONError(
        f'"{key}" is {_shown(value)}, which is no {kind.__name__}. Correct it or leave it out.'
    )


def _object_type(feature: dict[str, Any], properties: dict[str, Any]) -> ObjectType | None:
    """As QuPath: objectType, object_type, 0.2's name in id, else an annotation; None for the root."""
    for name in (properties.get("objectType"), properties.get("object_type")):
        if name is not None:
            found = _OBJECT_TYPES.get(name) if type(name) is str else None
            if found is None:
                raise GeoJSONError(
                    f"unknown objectType {_shown(name)}. Use annotation, detection, cell or tile."
                )
            break
    else:
        # "type" is an alias only since 0.5, and a common word: believed where it names a type.
        hints = [hint for hint in (properties.get("type"), feature.get("id")) if type(hint) is str]
        found = next((_OBJECT_TYPES[hint] for hint in hints if hint in _OBJECT_TYPES), ObjectType.ANNOTATION)
    return found if isinstance(found, ObjectType) else None


def _uuid(value: Any) -> UUID | None:
    """QuPath drops an id that is no UUID; Python alone would also take braces and URNs for one."""
    return UUID(value) if type(value) is str and _UUID.fullmatch(value) else None


def _with_valid_areas(objects: list[PathObject], places: list[str]) -> list[PathObject]:
    """Judges all outlines in bulk, and repairs the few that cross themselves."""
    outlines = np.array([obj.geometry for obj in objects], dtype=object)
    nuclei = np.array([obj.nucleus for obj in objects], dtype=object)
    broken = ~shapely.is_valid(outlines) | (shapely.is_geometry(nuclei) & ~shapely.is_valid(nuclei))
    for index in np.flatnonzero(broken):
        obj, where = objects[index], places[index]
        nucleus = obj.nucleus and _repaired(obj, obj.nucleus, where)
        objects[index] = replace(obj, geometry=_repaired(obj, obj.geometry, where), nucleus=nucleus)
    return objects


def _repaired(obj: PathObject, outline: BaseGeometry, where: str) -> BaseGeometry:
    known = [str(word) for word in (obj.id, obj.name and _shown(obj.name)) if word]
    called = f"{where} ({', '.join(known)})" if known else where
    try:
        geometry = valid_area(outline)
    except GeoJSONError as error:
        raise GeoJSONError(f"{called}: {error}") from error
    if geometry is not outline:
        _log.warning("%s: an outline crossing itself was repaired to %.1f px^2", called, geometry.area)
    return geometry


def _path_class(value: Any) -> PathClass | None:
    """A classification: null, "name", {name}, {names} or {name, parentClass}; color or colorRGB."""
    if value is None or value == {}:
        return None
    if type(value) is str:
        return _named_class(value, None)
    if type(value) is not dict:
        raise GeoJSONError(f"its classification is {_shown(value)}. Use an object with name and color.")
    names: list[Any] = value["names"] if type(value.get("names")) is list else []
    part: Any = value
    while not value.get("names") and type(part) is dict:  # 0.2 and 0.3: the child first, then its parents
        names.insert(0, part.get("name"))
        part = part.get("parentClass")
    if not names or not all(type(name) is str for name in names):
        raise GeoJSONError("its classification has no name. Give it one, or remove the classification.")
    return _named_class(":".join(names), _color(value))


@lru_cache(maxsize=4096)
def _named_class(text: str, color: tuple[int, int, int] | None) -> PathClass | None:
    if len(text) > _LONGEST_CLASS_NAME:
        raise GeoJSONError(f"its class name {_shown(text)} has {len(text):,} characters. Shorten it.")
    if _CONTROL.search(text):
        raise GeoJSONError(f"its class name {_shown(text)} has control characters. Rename the class.")
    name = ": ".join(part.strip() for part in text.split(":") if part.strip())
    return PathClass(name, color) if name else None


def _color(value: dict[str, Any]) -> tuple[int, int, int] | None:
    """[r, g, b] or [r, g, b, alpha], or Java's packed int, which is negative where alpha is 255."""
    color = value.get("color", value.get("colorRGB"))
    if type(color) is list and len(color) == 1:
        color = color[0]
    if color is None or color == []:
        return None
    if type(color) is int and -(2**31) <= color < 2**32:
        return (color >> 16 & 255, color >> 8 & 255, color & 255)
    if type(color) is list and len(color) in (3, 4) and all(type(c) is int and 0 <= c <= 255 for c in color):
        return (color[0], color[1], color[2])
    raise GeoJSONError(f"its class color is {_shown(color)}. Use [red, green, blue], each 0 to 255.")


def _measurements(value: Any, notes: Counter[str]) -> dict[str, float]:
    if value is None:
        return {}
    if type(value) is list and all(type(item) is dict and type(item.get("name")) is str for item in value):
        value = {item["name"]: item.get("value") for item in value}
    if type(value) is not dict:
        raise GeoJSONError(f'its "measurements" are {_shown(value)}. Use an object of names and numbers.')
    kept = {name: float(number) for name, number in value.items() if type(number) in (int, float)}
    if len(kept) < len(value):
        if odd := next((item for item in value.items() if item[1] is not None and item[0] not in kept), None):
            raise GeoJSONError(
                f"its measurement {_shown(odd[0])} is {_shown(odd[1])}, which is no number. Remove it."
            )
        notes["measurements without a value (NaN, Infinity or null) were left out"] += len(value) - len(kept)
    return kept


def _metadata(properties: dict[str, Any], notes: Counter[str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for key, value in (_member(properties, "metadata", dict) or {}).items():
        if isinstance(value, str):
            kept[key] = value
        elif isinstance(value, (bool, int, float)):
            kept[key] = str(value).lower()
        else:
            notes["metadata entries that are no text were left out, as QuPath does"] += 1
    return kept


def _plane(geometry: dict[str, Any]) -> Plane:
    plane = _member(geometry, "plane", dict)
    if plane is None:
        return Plane()
    c, z, t = (_member(plane, key, int) for key in "czt")
    return Plane(-1 if c is None else c, z or 0, t or 0)


def _called(feature: Any) -> str:
    """How a person may know the feature: its id and its name, as far as it has them."""
    if type(feature) is not dict:
        return ""
    properties = feature.get("properties")
    name = properties.get("name") if type(properties) is dict else None
    known = [
        f"{key} {_shown(value)}"
        for key, value in (("id", feature.get("id")), ("name", name))
        if value is not None
    ]
    return f" ({', '.join(known)})" if known else ""


def _shown(value: object) -> str:
    """A value from outside in a message: one line, and short."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
