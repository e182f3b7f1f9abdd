"""Which objects a run takes away, which it adds, and which stay: a person's work wins over a run's, always.

An image's objects and a run's new ones come in, ids to remove and objects to add go out; `writeback` carries it out.
Nothing here touches a file. Whose an object is, `objects` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from tissuebridge.objects import (
    CELLS_MARKED,
    REGION_OF_INTEREST,
    ObjectType,
    PathObject,
    Provenance,
    cell_marks,
    is_area,
    measurement_table,
    object_digest,
    object_digests,
    provenance,
    with_provenance,
)

ROOT: Final = UUID(int=0)
PROPOSE: Final = "propose"
"""The method whose objects are only suggestions."""


@dataclass(frozen=True, slots=True)
class Source:
    """What wrote an object; a re-run of the same source replaces its objects.

    Attributes:
        method: "analyse" or "propose".
        model: The model's name; two models of different names stand side by side.
    """

    method: str
    model: str

    @classmethod
    def of(cls, origin: Provenance) -> Source:
        """The source of an object with that provenance."""
        return cls(origin.method, origin.model)


@dataclass(frozen=True, slots=True, eq=False)
class Deleted:
    """Objects of runs that a person deleted; they stay away.

    Attributes:
        ids: Their ids.
        cells: Class to float64 (n, 2), places of deleted cells in full-resolution px: another model's cell there is
            the same cell.
    """

    ids: frozenset[UUID] = frozenset()
    cells: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Numbers for objects that stay what they are.

    Attributes:
        ids: Of n objects.
        names: Of m measurements.
        values: float64 (n, m); NaN leaves an object's own.
    """

    ids: Sequence[UUID]
    names: Sequence[str]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What becomes of an image's objects.

    Attributes:
        gone: Ids of objects to take away.
        added: Objects to add.
        parents: Id of the object that each added one lies below; `ROOT` for none.
        told: Counts for people: "added", "replaced", "unchanged", "kept", "held back", "clipped".
        returned: Ids of objects of a snapshot that come back as they were.
        measured: Measurements that objects get; nothing else of them changes.
    """

    gone: Sequence[UUID]
    added: Sequence[PathObject]
    parents: Sequence[UUID]
    told: Mapping[str, int]
    returned: Sequence[UUID] = ()
    measured: Measured | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether the objects are as they should be already."""
        is_measured = self.measured is not None and len(self.measured.ids) > 0
        return not (self.gone or self.added or self.returned or is_measured)


def measurements(existing: Sequence[PathObject], wanted: Sequence[PathObject]) -> Changes:
    """What measuring objects changes: measurements alone, of those whose numbers are not so already.

    Args:
        existing: The image's objects.
        wanted: The same with measurements, by id; those without an id, and those that are gone, are left out.
    """
    by_id = {obj.id: obj.measurements for obj in wanted if obj.id is not None}
    changed = {
        obj.id: new
        for obj in existing
        if obj.id is not None and (new := _news(obj.measurements, by_id.get(obj.id, {})))
    }
    told = {"measured": len(changed), "unchanged": len(existing) - len(changed)}
    return Changes([], [], [], told, measured=Measured(*measurement_table(changed)))


def _news(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """Numbers that differ, beyond QuPath's float32."""
    return {
        name: value
        for name, value in new.items()
        if not np.isnan(value) and (name not in old or not np.isclose(old[name], value, rtol=1e-6, atol=1e-6))
    }


def untouched(objects: Sequence[PathObject]) -> list[bool]:
    """Of each object, whether a run of ours wrote it and nobody has edited, accepted, rejected or locked it since."""
    digests = iter(object_digests([obj for obj in objects if provenance(obj) is not None]))
    return [_is_as_written(obj, next(digests)) if provenance(obj) is not None else False for obj in objects]


def reconciled(
    existing: Sequence[PathObject],
    new: Sequence[PathObject],
    source: Source,
    deleted: Deleted,
    distance_px: Mapping[str, float],
) -> Changes:
    """What a run's results change.

    Of the same source, untouched objects go, unless they are found again just so: those stay as they are. A new object
    is held back where its id, or a kept cell within the matching distance, is there already, or where a person deleted
    it. New regions are clipped by kept ones of runs. What is only proposed also keeps off a person's own objects.

    Args:
        existing: All objects of the image.
        new: What the run found, coordinates on the grid of 1/16 px.
        source: Of the run.
        deleted: What a person deleted.
        distance_px: Class to the distance within which two cells are one, in full-resolution px.
    """
    of_source: list[PathObject] = []
    kept: list[PathObject] = []
    for obj, is_untouched in zip(existing, untouched(existing), strict=True):
        origin = provenance(obj)
        if origin is None:
            continue
        (of_source if is_untouched and Source.of(origin) == source else kept).append(obj)
    before = {obj.id: obj for obj in of_source}
    taken = {obj.id for obj in existing} - set(before)
    avoided = [obj for obj in kept if Source.of(_origin(obj)) == source or _is_decided(obj)]
    if source.method == PROPOSE:
        avoided += [obj for obj in existing if provenance(obj) is None]
    near = _Near(avoided, deleted, distance_px)
    told: Counter[str] = Counter(kept=len(kept))
    added, stays = [], set()
    digests = object_digests(new)
    for obj, digest, is_held in zip(new, digests, near.held(new), strict=True):
        if obj.id in taken or obj.id in deleted.ids or is_held:
            told["held back"] += 1
            continue
        fitted = near.clipped(obj)
        if fitted is None:
            told["held back"] += 1
            continue
        told["clipped"] += fitted is not obj
        same = before.get(obj.id)
        if same is not None and _origin(same).digest == (digest if fitted is obj else object_digest(fitted)):
            stays.add(obj.id)
        else:
            added.append(fitted)
    gone = [obj.id for obj in of_source if obj.id is not None and obj.id not in stays]
    told.update({"added": len(added), "replaced": len(gone), "unchanged": len(stays)})
    return Changes(gone, added, parents_of(added, existing), dict(told))


def removed(existing: Sequence[PathObject], runs: Collection[str] | None = None) -> Changes:
    """What taking results away changes: untouched objects of some runs, or of all, go; all else stays."""
    of_runs = [
        origin is not None and (runs is None or origin.run in runs) for origin in map(provenance, existing)
    ]
    going = [ours and as_written for ours, as_written in zip(of_runs, untouched(existing), strict=True)]
    gone = [obj.id for obj, goes in zip(existing, going, strict=True) if goes and obj.id is not None]
    return Changes(gone, [], [], {"removed": len(gone), "kept": sum(of_runs) - len(gone)})


def parents_of(objects: Sequence[PathObject], existing: Sequence[PathObject]) -> list[UUID]:
    """The TMA core that each object lies in, else a person's `Region*` area, else the root."""
    found = [ROOT] * len(objects)
    if not objects:
        return found
    places = shapely.centroid(np.array([obj.geometry for obj in objects], np.object_))
    for outer in _containers(existing):
        shapely.prepare(outer.geometry)
        for place in np.nonzero(shapely.contains(outer.geometry, places))[0]:
            if found[place] == ROOT and outer.id is not None:
                found[place] = outer.id
    return found


def _containers(existing: Sequence[PathObject]) -> list[PathObject]:
    cores = [obj for obj in existing if obj.object_type is ObjectType.TMA_CORE and is_area(obj.geometry)]
    drawn = [
        obj
        for obj in existing
        if obj.class_name == REGION_OF_INTEREST and provenance(obj) is None and is_area(obj.geometry)
    ]
    return [*cores, *drawn]


def _is_as_written(obj: PathObject, digest: str) -> bool:
    origin = _origin(obj)
    return origin.digest == digest and not obj.is_locked and not _is_decided(obj)


def _is_region(obj: PathObject) -> bool:
    return obj.object_type is ObjectType.ANNOTATION and is_area(obj.geometry)


def _says_what_is_there(obj: PathObject) -> bool:
    """Whether an area tells of the tissue below it: not one that only says where to look, or has no class at all."""
    return obj.class_name not in (None, REGION_OF_INTEREST, CELLS_MARKED)


def _is_decided(obj: PathObject) -> bool:
    origin = _origin(obj)
    return origin.accepted is not None or origin.rejected is not None


def _origin(obj: PathObject) -> Provenance:
    origin = provenance(obj)
    if origin is None:
        raise ValueError("an object of no run")
    return origin


class _Near:
    """What a new object may not be on: kept cells, deleted cells, kept regions."""

    def __init__(
        self, kept: Sequence[PathObject], deleted: Deleted, distance_px: Mapping[str, float]
    ) -> None:
        self._distance_px = distance_px
        marks = [mark for obj in kept for mark in cell_marks(obj)]
        self._cells = _tree(shapely.get_coordinates(shapely.centroid(marks)) if marks else None)
        self._deleted = {name: _tree(xy) for name, xy in deleted.cells.items()}
        areas = [obj.geometry for obj in kept if _is_region(obj) and _says_what_is_there(obj)]
        self._area: BaseGeometry | None = shapely.union_all(shapely.make_valid(areas)) if areas else None
        if self._area is not None:
            shapely.prepare(self._area)

    def held(self, objects: Sequence[PathObject]) -> NDArray[np.bool_]:
        """Of each object, whether it is a cell that is kept, or was deleted."""
        held = np.zeros(len(objects), np.bool_)
        of_class: dict[str, list[int]] = {}
        for place, obj in enumerate(objects):
            if not _is_region(obj):
                of_class.setdefault(obj.class_name or "", []).append(place)
        for name, places in of_class.items():
            trees = [tree for tree in (self._cells, self._deleted.get(name)) if tree is not None]
            geometries = np.array([objects[place].geometry for place in places], np.object_)
            xy = shapely.get_coordinates(shapely.centroid(geometries)) if trees else None
            for tree in trees:
                held[places] |= tree.query(xy)[0] <= self._distance_px.get(name, 0.0)
        return held

    def clipped(self, obj: PathObject) -> PathObject | None:
        """A region without what kept regions cover, or None where nothing is left of it; all else as it is."""
        if self._area is None or not _is_region(obj) or not self._area.intersects(obj.geometry):
            return obj
        left = shapely.difference(obj.geometry, self._area, grid_size=1 / 16)
        polygons = [part for part in shapely.get_parts(left) if part.geom_type == "Polygon" and part.area > 0]
        if not polygons:
            return None
        rest = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
        if rest.equals(obj.geometry):
            return obj
        return with_provenance(replace(obj, geometry=rest), _origin(obj))


def _tree(xy: NDArray[np.float64] | None) -> cKDTree | None:
    return None if xy is None or not len(xy) else cKDTree(xy)
