"""Flat arrays into Java and back; the names are those of `FlatObjects` and of `objects.groovy`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.project.flat import (
    FlatObjects,
    decoded,
    encoded,
    geometries_of,
    rings_of,
    with_rings,
    wkb_of,
)

_ARRAYS: Final = {
    "ids": np.int64,
    "kind": np.int8,
    "flags": np.int8,
    "path_class": np.int32,
    "name": np.int32,
    "plane": np.int32,
    "class_colors": np.int32,
    "metadata_ends": np.int32,
    "metadata_keys": np.int32,
    "metadata_values": np.int32,
    "measurement_ends": np.int32,
    "measurement_names": np.int32,
    "measurement_values": np.float64,
}


def flat_of(packed: Any) -> FlatObjects:
    """The objects that `pack` of `objects.groovy` gave, copied out of Java."""

    def array(name: str) -> NDArray[Any]:
        return np.array(packed.get(name))

    def raw(name: str) -> tuple[bytes, NDArray[np.int32]]:
        return array(name).tobytes(), array(f"{name}_ends")

    return FlatObjects(
        ids=array("ids").reshape(-1, 2),
        kind=array("kind").view(np.uint8),
        flags=array("flags").view(np.uint8),
        path_class=array("path_class"),
        name=array("name"),
        parent=array("parent"),
        plane=array("plane").reshape(-1, 3),
        classes=decoded(*raw("classes")),
        class_colors=array("class_colors"),
        strings=decoded(*raw("strings")),
        metadata_ends=array("metadata_ends"),
        metadata_keys=array("metadata_keys"),
        metadata_values=array("metadata_values"),
        measurement_ends=array("measurement_ends"),
        measurement_names=array("measurement_names"),
        measurement_values=array("measurement_values"),
        geometries=with_rings(geometries_of(*raw("geometries")), array("rings"), array("rings_ends")),
        nuclei=geometries_of(*raw("nuclei")),
    )


def map_of(flat: FlatObjects) -> Any:
    """Objects as `unpack` of `objects.groovy` takes them: a Java map of arrays.

    Raises:
        OverflowError: More than a Java array holds.
    """
    from jpype import JClass

    out = JClass("java.util.HashMap")()
    for name, dtype in _ARRAYS.items():
        array = getattr(flat, name)
        out.put(name, java_array(array.view(dtype) if array.dtype.itemsize == 1 else array.astype(dtype)))
    _put(out, "classes", *encoded(flat.classes))
    _put(out, "strings", *encoded(flat.strings))
    rings, ends, others = rings_of(flat)
    out.put("rings", java_array(rings))
    out.put("rings_ends", java_array(ends))
    _put(out, "geometries", *wkb_of(others))
    _put(out, "nuclei", *wkb_of(flat.nuclei))
    return out


def _put(out: Any, name: str, raw: NDArray[np.uint8], ends: NDArray[np.int32]) -> None:
    out.put(name, java_array(raw.view(np.int8)))
    out.put(f"{name}_ends", java_array(ends))


def java_array(array: NDArray[Any]) -> Any:
    """A Java array of the numbers, row by row."""
    import jpype

    kinds: dict[Any, Any] = {
        np.int8: jpype.JByte,
        np.int32: jpype.JInt,
        np.int64: jpype.JLong,
        np.float32: jpype.JFloat,
        np.float64: jpype.JDouble,
    }
    kind = kinds[array.dtype.type]
    flat = np.ascontiguousarray(array).ravel()
    return jpype.JArray(kind)(flat) if flat.size else jpype.JArray(kind)(0)
