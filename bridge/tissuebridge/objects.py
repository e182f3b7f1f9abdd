"""The values that travel: QuPath's objects as frozen data, and whose objects they are.

Comes in from `geojson` and `project`, goes out to `targets`, `pipeline` and back to `geojson`. Coordinates are
full-resolution pixels (x, y), origin at the outer corner of the top-left pixel, as in QuPath.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

IGNORE: Final = "Ignore*"
CELLS_MARKED: Final = "Cells marked*"
NOT_A_CELL: Final = "Not a cell*"
REGION_OF_INTEREST: Final = "Region*"
PROPOSED: Final = "Proposed: "
MISSING_CORE: Final = "tissuebridge:missing core"
"""Metadata that a TMA core which is not on the slide is read with; never written."""
COORDINATE_STEP: Final = 1 / 16
"""Written coordinates are multiples of this many pixels: exact in QuPath's float32 up to 2^20 px."""

_METADATA: Final = "tissuebridge:"
PARAMETERS: Final = _METADATA + "parameters"
"""Metadata of a proposal: what decided it, in one line."""
_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
_NO_MEASUREMENTS: Final[Mapping[str, float]] = MappingProxyType({})


class ObjectType(StrEnum):
    """QuPath's kinds of objects, as its GeoJSON spells them in `objectType`."""

    ANNOTATION = "annotation"
    DETECTION = "detection"
    CELL = "cell"
    TILE = "tile"
    TMA_CORE = "tma_core"


@dataclass(frozen=True, slots=True)
class PathClass:
    """A QuPath classification: its full name ("Immune: CD3") and its colour (red, green, blue), if any."""

    name: str
    color: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Plane:
    """Which plane of a stack an object lies on: channel (-1 for all), z and t."""

    c: int = -1
    z: int = 0
    t: int = 0


@dataclass(frozen=True, slots=True)
class PathObject:
    """One QuPath object: an annotation, a detection or a cell.

    Attributes:
        geometry: The ROI in full-resolution pixels (x, y).
        object_type: What QuPath calls it.
        id: QuPath's UUID; None where the file gave none.
        path_class: The classification, or None.
        name: The name a person gave.
        nucleus: A cell's nucleus, in the same coordinates.
        measurements: Name to number, in QuPath's names.
        metadata: Text beside the object; ours is prefixed with ``tissuebridge:``.
        is_locked: QuPath's lock; says nothing about being edited.
        is_ellipse: The geometry is the bounding box's ellipse, as QuPath draws it.
        plane: Channel, z and t.
    """

    geometry: BaseGeometry
    object_type: ObjectType = ObjectType.ANNOTATION
    id: UUID | None = None
    path_class: PathClass | None = None
    name: str | None = None
    nucleus: BaseGeometry | None = None
    measurements: Mapping[str, float] = field(default_factory=lambda: _NO_MEASUREMENTS)
    metadata: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    is_locked: bool = False
    is_ellipse: bool = False
    plane: Plane = Plane()

    @property
    def class_name(self) -> str | None:
        """The name of the classification, or None."""
        return self.path_class.name if self.path_class else None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a run of ours writes on each of its objects.

    Attributes:
        run: The run's id.
        method: "analyse" or "propose".
        model: The model's name.
        model_digest: The model's digest.
        version: The version of tissuebridge.
        digest: `object_digest` of the object as written.
        accepted: When (ISO date) a person accepted it, or None.
        rejected: When (ISO date) a person rejected it, or None.
        proposed: Name of the class it was proposed with, once a person has decided; or None.
        reviewer: Who decided, where that was said; or None.
    """

    run: str
    method: str
    model: str
    model_digest: str
    version: str
    digest: str = ""
    accepted: str | None = None
    rejected: str | None = None
    proposed: str | None = None
    reviewer: str | None = None

    def as_metadata(self) -> dict[str, str]:
        """The metadata that says so on an object.

        >>> Provenance("r1", "analyse", "m", "d", "0.1").as_metadata()["tissuebridge:run"]
        'r1'
        """
        pairs = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {_METADATA + name: value for name, value in pairs.items() if value}


def provenance(obj: PathObject) -> Provenance | None:
    """Who wrote an object: the run of ours, or None where it is a person's (or another program's)."""
    values = {
        key.removeprefix(_METADATA): value for key, value in obj.metadata.items() if key.startswith(_METADATA)
    }
    if "run" not in values:
        return None
    texts = {name: values.get(name, "") for name in Provenance.__dataclass_fields__ if name not in _DECIDED}
    decided: dict[str, Any] = {name: values.get(name) for name in _DECIDED}
    return replace(Provenance(**texts), **decided)


_DECIDED: Final = ("accepted", "rejected", "proposed", "reviewer")
"""What a person's decision adds to an object's provenance."""


def object_digest(obj: PathObject) -> str:
    """A digest of what a person can change: type, class, name and geometry.

    Geometry is compared on the grid of 1/16 px and in a canonical form, so that what QuPath does in passing does
    not make an object look edited: float32, two decimals, its own ring order, dropped vertices inside straight
    edges, and its own outline of an ellipse (seen on 0.6 and 0.7).

    >>> from shapely.geometry import box
    >>> a, b = PathObject(box(0, 0, 4, 4)), PathObject(box(0, 0, 4, 4.01))
    >>> object_digest(a) == object_digest(b), object_digest(a) == object_digest(PathObject(box(0, 0, 4, 5)))
    (True, False)
    """
    return object_digests([obj])[0]


def object_digests(objects: Sequence[PathObject]) -> list[str]:
    """`object_digest` of many, ten times faster."""
    outlines = _canonical(
        [shapely.box(*obj.geometry.bounds) if obj.is_ellipse else obj.geometry for obj in objects]
    )
    inner = {place: obj.nucleus for place, obj in enumerate(objects) if obj.nucleus is not None}
    nuclei = dict(zip(inner, _canonical(list(inner.values())), strict=True))
    digests = []
    for place, obj in enumerate(objects):
        digest = hashlib.sha256()
        for text in (obj.object_type.value, obj.class_name or "", obj.name or ""):
            part = text.encode("utf-8", "surrogatepass")
            digest.update(len(part).to_bytes(8, "little") + part)
        for shape in (outlines[place], nuclei.get(place)):
            if shape is not None:
                digest.update(len(shape).to_bytes(8, "little") + shape)
        digests.append(digest.hexdigest()[:32])
    return digests


def _canonical(geometries: Sequence[BaseGeometry]) -> list[bytes]:
    """WKB that is the same for the same shape on the grid."""
    every = np.empty(len(geometries), np.object_)
    every[:] = geometries
    on_grid = shapely.transform(every, lambda xy: (xy / COORDINATE_STEP).round())
    # Normalised first: the ring then starts at a corner, which simplifying must not drop.
    corners = shapely.simplify(shapely.normalize(on_grid), 0, preserve_topology=False)
    return list(shapely.to_wkb(shapely.normalize(corners), byte_order=1))


def with_provenance(obj: PathObject, origin: Provenance) -> PathObject:
    """The object, marked as written by a run of ours; an earlier mark is replaced."""
    return all_with_provenance([obj], origin)[0]


def all_with_provenance(
    objects: Sequence[PathObject], origin: Provenance, ids: Sequence[UUID] | None = None
) -> list[PathObject]:
    """`with_provenance` of many objects of one run, ten times faster.

    Args:
        objects: Any number of them.
        origin: The run.
        ids: New ids for them; None: they keep theirs.
    """
    told, ours = origin.as_metadata(), {_METADATA + name for name in Provenance.__dataclass_fields__}
    kept = [obj.id for obj in objects] if ids is None else ids
    marked = []
    for obj, own_id, digest in zip(objects, kept, object_digests(objects), strict=True):
        others = {key: value for key, value in obj.metadata.items() if key not in ours}
        marked.append(replace(obj, id=own_id, metadata={**others, **told, _METADATA + "digest": digest}))
    return marked


def is_persons(obj: PathObject) -> bool:
    """Whether an object counts as a person's: drawn, or written by a run and then accepted, rejected or edited.

    Proposals (class ``Proposed: ...``) never count, whoever wrote them.
    """
    return are_persons([obj])[0]


def are_persons(objects: Sequence[PathObject]) -> list[bool]:
    """`is_persons` of many, faster.

    >>> from shapely.geometry import box
    >>> drawn = PathObject(box(0, 0, 4, 4))
    >>> written = with_provenance(drawn, Provenance("r1", "analyse", "m", "d", "0.1"))
    >>> are_persons([written, drawn, replace(written, geometry=box(0, 0, 4, 5)), written])
    [False, True, True, False]
    """
    origins = [provenance(obj) for obj in objects]
    undecided = [
        place
        for place, origin in enumerate(origins)
        if origin is not None and origin.accepted is None and origin.rejected is None
    ]
    digests = object_digests([objects[place] for place in undecided]) if undecided else []
    edited = {
        place: digest != objects[place].metadata.get(_METADATA + "digest", "")
        for place, digest in zip(undecided, digests, strict=True)
    }
    return [
        not (obj.class_name or "").startswith(PROPOSED) and edited.get(place, True)
        for place, obj in enumerate(objects)
    ]


def of_other_runs(objects: Iterable[PathObject], drawn: Iterable[PathObject]) -> list[PathObject]:
    """Objects of a results' file, without the runs whose objects are among a person's annotations.

    What went through QuPath comes back with the annotations: of a run that is found there, these are the reviewed
    ones, deletions included.

    Args:
        objects: Of files that runs of ours wrote.
        drawn: Of the image's annotations.
    """
    reviewed = {origin.run for obj in drawn if (origin := provenance(obj)) is not None}
    return [obj for obj in objects if (origin := provenance(obj)) is None or origin.run not in reviewed]


def cell_marks(obj: PathObject) -> list[BaseGeometry]:
    """The geometries that stand for one cell each: points, a detection, a cell's nucleus; none for areas."""
    if obj.geometry.geom_type in ("Point", "MultiPoint"):
        return list(shapely.get_parts(obj.geometry))
    if obj.object_type in (ObjectType.DETECTION, ObjectType.CELL):
        return [obj.geometry if obj.nucleus is None else obj.nucleus]
    return []


def is_area(geometry: BaseGeometry) -> bool:
    """Whether a geometry encloses an area (polygons, not points or lines)."""
    return geometry.geom_type in ("Polygon", "MultiPolygon")


def measurement_table(
    measured: Mapping[UUID, Mapping[str, float]],
) -> tuple[list[UUID], list[str], NDArray[np.float64]]:
    """Measurements of objects as a table: ids (n), names (m), and float64 (n, m) with NaN for what an object lacks.

    >>> one, other = UUID(int=1), UUID(int=2)
    >>> measurement_table({one: {"a": 1.0}, other: {"b": 2.0}})[1:]
    (['a', 'b'], array([[ 1., nan], [nan,  2.]]))
    """
    names = list(dict.fromkeys(name for numbers in measured.values() for name in numbers))
    column = {name: place for place, name in enumerate(names)}
    values = np.full((len(measured), len(names)), np.nan)
    for row, numbers in enumerate(measured.values()):
        for name, value in numbers.items():
            values[row, column[name]] = value
    return list(measured), names, values
