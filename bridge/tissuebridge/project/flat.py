"""Objects as a struct of arrays: how many of them cross into QuPath's JVM and back at once.

`PathObject` values come in and go out; `objects.groovy` has the same arrays on the other side, by the same
names. Texts and classes are in tables, each once, however many objects have it; what an object has several of
(measurements, metadata) lies end to end, and `..._ends` tells where each object's part ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.objects import MISSING_CORE, ObjectType, PathClass, PathObject, Plane

KINDS: Final = (
    ObjectType.ANNOTATION,
    ObjectType.DETECTION,
    ObjectType.CELL,
    ObjectType.TILE,
    ObjectType.TMA_CORE,
)
LOCKED: Final = 1
ELLIPSE: Final = 2
MISSING: Final = 4
"""QuPath's flag of a TMA core that is not on the slide."""

_OPAQUE: Final = 0xFF000000
_DEFAULT_PLANE: Final = Plane()
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, eq=False)
class FlatObjects:
    """n objects; names as in `objects.groovy`.

    Attributes:
        ids: int64 (n, 2), the most and the least significant half of each UUID.
        kind: uint8 (n,), index into `KINDS`.
        flags: uint8 (n,), `LOCKED`, `ELLIPSE`, `MISSING`.
        path_class: int32 (n,), index into `classes`; -1 for none.
        name: int32 (n,), index into `strings`; -1 for none.
        parent: int32 (n,), the index of the object above; -1 for the root.
        plane: int32 (n, 3): c, z, t.
        classes: Names of classes.
        class_colors: int32, QuPath's packed colour of each class; 0 for none.
        strings: All other texts.
        metadata_ends: int32 (n,).
        metadata_keys: int32, indices into `strings`.
        metadata_values: int32, indices into `strings`.
        measurement_ends: int32 (n,).
        measurement_names: int32, indices into `strings`.
        measurement_values: float64.
        geometries: object (n,), shapely geometries in full-resolution px; None of an object without a shape.
        nuclei: object (n,), shapely geometries; None where there is none.
    """

    ids: NDArray[np.int64]
    kind: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    path_class: NDArray[np.int32]
    name: NDArray[np.int32]
    parent: NDArray[np.int32]
    plane: NDArray[np.int32]
    classes: Sequence[str]
    class_colors: NDArray[np.int32]
    strings: Sequence[str]
    metadata_ends: NDArray[np.int32]
    metadata_keys: NDArray[np.int32]
    metadata_values: NDArray[np.int32]
    measurement_ends: NDArray[np.int32]
    measurement_names: NDArray[np.int32]
    measurement_values: NDArray[np.float64]
    geometries: NDArray[np.object_]
    nuclei: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.kind)


def flattened(objects: Iterable[PathObject]) -> FlatObjects:
    """Objects as arrays; one without an id gets a random one, as in QuPath.

    >>> flat = flattened([PathObject(shapely.Point(1, 2), path_class=PathClass("Tumor", (200, 0, 0)))])
    >>> flat.classes, hex(int(flat.class_colors.view(np.uint32)[0])), unflattened(flat)[0].geometry
    (['Tumor'], '0xffc80000', <POINT (1 2)>)
    """
    every = list(objects)
    classes: dict[PathClass, int] = {}
    strings: dict[str, int] = {}
    kinds = {kind: number for number, kind in enumerate(KINDS)}
    keys, texts, metadata_ends = list[int](), list[int](), list[int]()
    names, values, measurement_ends = list[int](), list[float](), list[int]()
    number = strings.setdefault
    for obj in every:
        for key, text in obj.metadata.items():
            keys.append(number(key, len(strings)))
            texts.append(number(text, len(strings)))
        metadata_ends.append(len(keys))
        for key, value in obj.measurements.items():
            names.append(number(key, len(strings)))
            values.append(value)
        measurement_ends.append(len(names))
    return FlatObjects(
        ids=halves(obj.id or uuid4() for obj in every),
        kind=np.array([kinds[obj.object_type] for obj in every], np.uint8),
        flags=np.array([LOCKED * obj.is_locked + ELLIPSE * obj.is_ellipse for obj in every], np.uint8),
        path_class=_int32(
            -1 if obj.path_class is None else _number(classes, obj.path_class) for obj in every
        ),
        name=_int32(-1 if obj.name is None else _number(strings, obj.name) for obj in every),
        parent=np.full(len(every), -1, np.int32),
        plane=_int32(part for obj in every for part in (obj.plane.c, obj.plane.z, obj.plane.t)).reshape(
            -1, 3
        ),
        classes=[path_class.name for path_class in classes],
        class_colors=np.array([_packed(path_class.color) for path_class in classes], np.uint32).view(
            np.int32
        ),
        strings=list(strings),
        metadata_ends=np.array(metadata_ends, np.int32),
        metadata_keys=np.array(keys, np.int32),
        metadata_values=np.array(texts, np.int32),
        measurement_ends=np.array(measurement_ends, np.int32),
        measurement_names=np.array(names, np.int32),
        measurement_values=np.array(values, np.float64),
        geometries=_array([obj.geometry for obj in every]),
        nuclei=_array([obj.nucleus for obj in every]),
    )


def unflattened(flat: FlatObjects) -> list[PathObject]:
    """The objects; those without a shape are left out, and measurements that are not finite."""
    classes = [
        PathClass(name, _unpacked(int(color)))
        for name, color in zip(flat.classes, flat.class_colors.view(np.uint32), strict=True)
    ]
    strings = flat.strings
    ids = uuids(flat.ids)
    keys = [strings[number] for number in flat.metadata_keys.tolist()]
    texts = [strings[number] for number in flat.metadata_values.tolist()]
    names = [strings[number] for number in flat.measurement_names.tolist()]
    finite = np.isfinite(flat.measurement_values).tolist()
    values = flat.measurement_values.tolist()
    metadata = _parts(flat.metadata_ends)
    measured = _parts(flat.measurement_ends)
    kinds, flags = flat.kind.tolist(), flat.flags.tolist()
    class_of, name_of = flat.path_class.tolist(), flat.name.tolist()
    planes = [_DEFAULT_PLANE if tuple(part) == (-1, 0, 0) else Plane(*part) for part in flat.plane.tolist()]
    objects = []
    for i, geometry in enumerate(flat.geometries):
        if geometry is None:
            continue
        told = {keys[k]: texts[k] for k in metadata[i]}
        if flags[i] & MISSING:
            told[MISSING_CORE] = "true"
        objects.append(
            PathObject(
                geometry,
                KINDS[kinds[i]],
                ids[i],
                None if class_of[i] < 0 else classes[class_of[i]],
                None if name_of[i] < 0 else strings[name_of[i]],
                flat.nuclei[i],
                {names[k]: values[k] for k in measured[i] if finite[k]},
                told,
                bool(flags[i] & LOCKED),
                bool(flags[i] & ELLIPSE),
                planes[i],
            )
        )
    return objects


def halves(ids: Iterable[UUID]) -> NDArray[np.int64]:
    """UUIDs as int64 (n, 2): most and least significant half, as Java has them."""
    raw = b"".join(given.bytes for given in ids)
    return np.frombuffer(raw, ">i8").astype(np.int64).reshape(-1, 2)


def uuids(ids: NDArray[np.int64]) -> list[UUID]:
    """The UUIDs of `halves`."""
    raw = np.ascontiguousarray(ids, np.int64).astype(">i8").tobytes()
    return [UUID(bytes=raw[place : place + 16]) for place in range(0, len(raw), 16)]


def encoded(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Texts as UTF-8 end to end, and where each ends."""
    return joined([text.encode("utf-8", "surrogatepass") for text in texts])


def decoded(raw: bytes, ends: NDArray[np.int32]) -> list[str]:
    """The texts of `encoded`."""
    return [part.decode("utf-8", "replace") for part in split(raw, ends)]


def joined(parts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Bytes end to end, and where each part ends.

    Raises:
        OverflowError: More than 2 GiB, the most that a Java array holds.
    """
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    if len(ends) and ends[-1] >= 2**31:
        raise OverflowError(f"{int(ends[-1]):,} bytes are more than a Java array holds")
    return np.frombuffer(b"".join(parts), np.uint8), ends.astype(np.int32)


def split(raw: bytes, ends: NDArray[np.int32]) -> list[bytes]:
    """The parts of `joined`."""
    stops = ends.tolist()
    return [raw[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]


def geometries_of(raw: bytes, ends: NDArray[np.int32]) -> NDArray[np.object_]:
    """Shapely geometries from WKB end to end; None where a part is empty."""
    starts = np.concatenate([np.zeros(1, np.int32), ends])[: len(ends)]
    (given,) = np.nonzero(ends > starts)
    found = np.full(len(ends), None, np.object_)
    if len(given):
        parts = [raw[a:b] for a, b in zip(starts[given].tolist(), ends[given].tolist(), strict=True)]
        found[given] = shapely.from_wkb(np.array(parts, np.object_))
    return found


def wkb_of(geometries: NDArray[np.object_]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Little-endian WKB of geometries end to end, and where each ends; None takes no bytes.

    Raises:
        OverflowError: More than 2 GiB, the most that a Java array holds.
    """
    (given,) = np.nonzero(~shapely.is_missing(geometries))
    raw, ends = joined(list(shapely.to_wkb(geometries[given], byte_order=1)))
    counts = np.zeros(len(geometries), np.int64)
    counts[given] = np.diff(ends, prepend=np.int32(0))
    return raw, np.cumsum(counts).astype(np.int32)


def rings_of(flat: FlatObjects) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.object_]]:
    """Outlines without holes of detections and cells as bare vertices, which QuPath takes three times faster.

    Returns:
        float32 (m, 2), vertices end to end, without the first again; int32 (n,), where each object's end; the
        geometries of all others, None where the outline is among the vertices.
    """
    is_ring = np.isin(flat.kind, [KINDS.index(ObjectType.DETECTION), KINDS.index(ObjectType.CELL)])
    is_ring &= shapely.get_type_id(flat.geometries) == shapely.GeometryType.POLYGON
    is_ring &= (shapely.get_num_interior_rings(flat.geometries) == 0) & (flat.flags & ELLIPSE == 0)
    is_ring &= ~shapely.is_empty(flat.geometries)
    xy, owner = shapely.get_coordinates(flat.geometries[is_ring], return_index=True)
    is_last = np.append(owner[1:] != owner[:-1], True)[: len(owner)]
    counts = np.zeros(len(flat), np.int64)
    counts[is_ring] = np.bincount(owner, minlength=int(is_ring.sum())) - 1
    others = flat.geometries.copy()
    others[is_ring] = None
    return xy[~is_last].astype(np.float32), np.cumsum(counts).astype(np.int32), others


def with_rings(
    geometries: NDArray[np.object_], rings: NDArray[np.float32], ends: NDArray[np.int32]
) -> NDArray[np.object_]:
    """The geometries, with polygons from the vertices of `rings_of` in their places."""
    counts = np.diff(ends, prepend=np.int32(0))
    # Two points enclose nothing, and no ring can be made of them; QuPath lets a script write such objects.
    (places,) = np.nonzero(counts > 2)
    owner = np.repeat(np.arange(len(counts)), counts)
    xy = rings.reshape(-1, 2)[counts[owner] > 2].astype(np.float64)
    kept = np.repeat(np.arange(len(places)), counts[places])
    found = geometries.copy()
    if len(places):
        found[places] = shapely.polygons(shapely.linearrings(xy, indices=kept))
    for place in np.nonzero((counts > 0) & (counts <= 2))[0]:
        found[place] = shapely.LineString(
            rings.reshape(-1, 2)[[ends[place] - counts[place], ends[place] - 1]]
        )
    return found


def _number(known: dict[_Key, int], key: _Key) -> int:
    return known.setdefault(key, len(known))


def _parts(ends: NDArray[np.int32]) -> list[range]:
    stops = ends.tolist()
    return [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def _int32(numbers: Iterable[int]) -> NDArray[np.int32]:
    return np.fromiter(numbers, np.int32)


def _array(geometries: Sequence[BaseGeometry | None]) -> NDArray[np.object_]:
    out: NDArray[Any] = np.empty(len(geometries), np.object_)
    out[:] = geometries
    return out


def _packed(color: tuple[int, int, int] | None) -> int:
    return 0 if color is None else _OPAQUE | color[0] << 16 | color[1] << 8 | color[2]


def _unpacked(color: int) -> tuple[int, int, int] | None:
    return None if color == 0 else (color >> 16 & 255, color >> 8 & 255, color & 255)
