"""Objects to QuPath GeoJSON: fast, whole or not at all, and never over a person's file.

`PathObject` values come in, one FeatureCollection goes out that every QuPath from 0.4 imports: a colour on
each class, valid closed outlines, UUID ids. Coordinates are multiples of 1/16 px, so that QuPath's float32
and its two decimals give the same object back. An extra member "tissuebridge" before the features says which
run wrote the file.
"""

from __future__ import annotations

import colorsys
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import orjson
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import GeoJSONError
from tissuebridge.files import atomic_write, not_ours
from tissuebridge.geojson_geometry import coordinates_of, on_grid
from tissuebridge.objects import (
    ObjectType,
    PathClass,
    PathObject,
    Plane,
    object_digest,
    provenance,
    with_provenance,
)

_CHUNK: Final = 8192
_DEFAULT_PLANE: Final = Plane()
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY
_HEAD_BEGINS: Final = b'{"type":"FeatureCollection",'
_HEAD_ENDS: Final = b'"features":[\n'
_LONGEST_HEAD: Final = 2**20
_NAMELESS: Final = UUID("6f1c5a0e-8f0b-5d0a-9c65-0d8f4f1f7f10")
"""Namespace of the ids of objects that come without one."""
_WRITTEN_TYPES: Final = {kind: kind.value for kind in ObjectType} | {ObjectType.TMA_CORE: "tmaCore"}


def write_objects(
    path: Path, objects: Iterable[PathObject], *, about: Mapping[str, object] | None = None
) -> None:
    """Writes objects as a FeatureCollection; the file appears whole, or the old one stays.

    An object without an id gets one that depends on its place and content. Where rounding to 1/16 px alone
    would make an outline cross itself, it is snapped to the grid, and our own mark on the object is renewed
    with it.

    Args:
        path: The file, ending in ``.geojson``.
        objects: Taken once, a few thousand at a time.
        about: What to say of the run (JSON values); without it, the file counts as a person's from then on.

    Raises:
        GeoJSONError: An object that QuPath could not import: NaN, an invalid outline, a doubled id.
        Conflict: `path` is a file without our member "tissuebridge": a person's.
        StorageError: It cannot be written.
    """
    refuse_a_persons_file(path)
    head = _head(path, about)
    with atomic_write(path) as file:
        file.write(head)
        between = b""
        for chunk in _fragments(objects, path):
            file.write(between + b",\n".join(chunk))
            between = b",\n"
        file.write(b"\n]}\n")


def about_of(path: Path) -> dict[str, Any] | None:
    """What the run that wrote a file says of itself; None where the file is missing or not written by us.

    Only the first line is read. A file that QuPath exported anew has lost the member, and is a person's.

    Raises:
        GeoJSONError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.readline(_LONGEST_HEAD)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GeoJSONError(
            f"{path}: cannot be read: {error.strerror or error}. Check its permissions."
        ) from error
    if not (head.startswith(_HEAD_BEGINS) and head.endswith(_HEAD_ENDS)):
        return None
    try:
        about = orjson.loads(head + b"]}").get("tissuebridge")
    except orjson.JSONDecodeError:
        return None
    return about if isinstance(about, dict) else None


def default_color(name: str) -> tuple[int, int, int]:
    """A colour (red, green, blue) for a class that has none: always the same for the same name.

    >>> default_color("Tumor") == default_color("Tumor"), default_color("Tumor") == default_color("Stroma")
    (True, False)
    """
    digest = hashlib.sha256(name.encode()).digest()
    red, green, blue = colorsys.hsv_to_rgb(digest[0] / 256, 0.55 + digest[1] / 640, 0.65 + digest[2] / 768)
    return round(red * 255), round(green * 255), round(blue * 255)


def refuse_a_persons_file(path: Path) -> None:
    """Refuses a place where a result would take that of something else.

    Raises:
        Conflict: There is a folder, or a file without our member "tissuebridge".
        GeoJSONError: There is a file that cannot be read.
    """
    if path.is_dir() or (path.exists() and about_of(path) is None):
        raise not_ours(path)


def _head(path: Path, about: Mapping[str, object] | None) -> bytes:
    try:
        member = b"" if about is None else b'"tissuebridge":' + orjson.dumps(dict(about)) + b","
    except orjson.JSONEncodeError as error:
        raise GeoJSONError(
            f"{path}: what to say of the run is not JSON: {error}. Use text and numbers."
        ) from error
    head = _HEAD_BEGINS + member + _HEAD_ENDS
    if len(head) >= _LONGEST_HEAD:
        raise GeoJSONError(f"{path}: what to say of the run has {len(member):,} bytes. Say less than a MiB.")
    return head


def _fragments(objects: Iterable[PathObject], path: Path) -> Iterator[list[bytes]]:
    """The features as JSON, in chunks: arrays are quick in bulk, and memory stays small."""
    remaining, first = iter(objects), 1
    ids: set[UUID] = set()
    classes: dict[PathClass, orjson.Fragment] = {}
    while chunk := list(islice(remaining, _CHUNK)):
        where = [f"{path}: object {number}" for number in range(first, first + len(chunk))]
        chunk, outlines, nuclei = _fitted(chunk, where)
        yield [
            _feature(obj, outlines[index], nuclei.get(index), classes, ids, where[index])
            for index, obj in enumerate(chunk)
        ]
        first += len(chunk)


def _fitted(
    chunk: list[PathObject], where: list[str]
) -> tuple[list[PathObject], list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """The objects, and their outlines and nuclei (by index) as GeoJSON with coordinates on the grid."""
    count = len(chunk)
    inner = {index: obj.nucleus for index, obj in enumerate(chunk) if obj.nucleus is not None}
    owners = [*range(count), *inner]
    given = [*(obj.geometry for obj in chunk), *inner.values()]
    geometries, snapped = on_grid(given, [where[owner] for owner in owners])
    nuclei = dict(zip(inner, geometries[count:], strict=True))
    for index in {owners[index] for index in snapped}:
        chunk[index] = _renewed(chunk[index], geometries[index], nuclei.get(index))
    written = [
        {"type": geometry.geom_type, "coordinates": coordinates}
        for geometry, coordinates in zip(geometries, coordinates_of(geometries), strict=True)
    ]
    return chunk, written[:count], dict(zip(inner, written[count:], strict=True))


def _renewed(obj: PathObject, geometry: BaseGeometry, nucleus: BaseGeometry | None) -> PathObject:
    """The object with an outline that was changed by more than rounding, its mark changed with it."""
    new = replace(obj, geometry=geometry, nucleus=nucleus)
    origin = provenance(obj)
    as_written = origin is not None and origin.digest == object_digest(obj)
    return with_provenance(new, origin) if origin and as_written else new


def _feature(
    obj: PathObject,
    outline: dict[str, Any],
    nucleus: dict[str, Any] | None,
    classes: dict[PathClass, orjson.Fragment],
    ids: set[UUID],
    where: str,
) -> bytes:
    """One feature as JSON, members in QuPath's order."""
    feature: dict[str, Any] = {"type": "Feature", "id": _id(obj, where, ids), "geometry": outline}
    if obj.is_ellipse:
        outline["isEllipse"] = True
    if nucleus is not None:
        feature["nucleusGeometry"] = nucleus
    if obj.plane != _DEFAULT_PLANE:
        plane = {"c": obj.plane.c, "z": obj.plane.z, "t": obj.plane.t}
        outline["plane"] = plane
        if nucleus is not None:
            nucleus["plane"] = plane
    feature["properties"] = _properties(obj, classes, where)
    try:
        return orjson.dumps(feature, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        raise GeoJSONError(
            f"{where}: not JSON: {error}. Check its name, measurements and metadata."
        ) from error


def _id(obj: PathObject, where: str, ids: set[UUID]) -> UUID:
    uuid = obj.id or uuid5(_NAMELESS, f"{len(ids)}/{object_digest(obj)}")
    if uuid in ids:
        raise GeoJSONError(f"{where}: the id {uuid} is written twice. Give each object its own id.")
    ids.add(uuid)
    return uuid


def _properties(obj: PathObject, classes: dict[PathClass, orjson.Fragment], where: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": _WRITTEN_TYPES[obj.object_type]}
    if obj.name is not None:
        properties["name"] = obj.name
    if obj.path_class is not None:
        if obj.path_class not in classes:
            classes[obj.path_class] = _classification(obj.path_class)
        properties["classification"] = classes[obj.path_class]
    if obj.is_locked:
        properties["isLocked"] = True
    if obj.measurements:
        # orjson would write NaN as null, which QuPath cannot read as a number.
        if not all(map(math.isfinite, obj.measurements.values())):
            raise GeoJSONError(
                f"{where}: a measurement is NaN or infinite. Leave it out where it has no value."
            )
        properties["measurements"] = dict(obj.measurements)
    if obj.metadata:
        properties["metadata"] = dict(obj.metadata)
    return properties


def _classification(path_class: PathClass) -> orjson.Fragment:
    """QuPath's spelling: one name or, derived, several; always a colour, without which import stops."""
    names = [part.strip() for part in path_class.name.split(":")]
    written: dict[str, Any] = {"name": names[0]} if len(names) == 1 else {"names": names}
    written["color"] = path_class.color or default_color(path_class.name)
    return orjson.Fragment(orjson.dumps(written))
