"""What a person says of proposals: accepted as a class, rejected, undone; and what a new proposal must leave alone.

Objects come in and go out, with state, date and reviewer in their metadata, where QuPath and GeoJSON keep them. An
accepted proposal is the person's from then on: it trains, and nothing of ours changes or removes it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import shapely
from scipy.spatial import KDTree

from tissuebridge.classes import RESERVED
from tissuebridge.objects import (
    NOT_A_CELL,
    PROPOSED,
    ObjectType,
    PathClass,
    PathObject,
    cell_marks,
    is_area,
    object_digest,
    provenance,
    with_provenance,
)

METHOD: Final = "propose"

State = Literal["proposed", "accepted", "rejected", "edited"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says of all proposals of a class.

    Attributes:
        accept: Name of the class as it was proposed ("colour 3"), to the class that it is.
        reject: Classes that are wrong: nuclei become `Not a cell*`, regions stay what they are and are never used.
        undo: Classes that become proposals again.
        date: Of the decision (ISO).
        reviewer: Who decides; "" leaves it open.
    """

    accept: Mapping[str, PathClass]
    reject: frozenset[str]
    undo: frozenset[str]
    date: str
    reviewer: str = ""

    @property
    def named(self) -> set[str]:
        """The proposed classes that it speaks of."""
        return {*self.accept, *self.reject, *self.undo}


def decided(obj: PathObject, decision: Decision) -> PathObject:
    """An object after a decision; the same object where the decision does not speak of it.

    What a person has edited, re-classed or locked is left alone.

    >>> from shapely.geometry import box
    >>> from tissuebridge.objects import Provenance, is_persons
    >>> drawn = PathObject(box(0, 0, 4, 4), path_class=PathClass("Proposed: colour 1"))
    >>> proposal = with_provenance(drawn, Provenance("run", METHOD, "colour quantisation", "digest", "0.1"))
    >>> stroma = Decision({"colour 1": PathClass("Stroma")}, frozenset(), frozenset(), "2026-01-31")
    >>> accepted = decided(proposal, stroma)
    >>> accepted.class_name, state_of(accepted), is_persons(accepted)
    ('Stroma', 'accepted', True)
    """
    origin, name = provenance(obj), proposed_name(obj)
    if origin is None or name is None or state_of(obj) == "edited" or obj.is_locked:
        return obj
    if name in decision.undo and state_of(obj) != "proposed":
        back = replace(origin, accepted=None, rejected=None, proposed=None, reviewer=None)
        return with_provenance(replace(obj, path_class=PathClass(PROPOSED + name)), back)
    said = replace(origin, accepted=None, rejected=None, proposed=name, reviewer=decision.reviewer or None)
    if name in decision.accept:
        accepted = replace(said, accepted=decision.date)
        return with_provenance(replace(obj, path_class=decision.accept[name]), accepted)
    if name in decision.reject:
        is_cell = obj.object_type in (ObjectType.DETECTION, ObjectType.CELL) or not is_area(obj.geometry)
        kind = PathClass(NOT_A_CELL) if is_cell else PathClass(PROPOSED + name)
        return with_provenance(replace(obj, path_class=kind), replace(said, rejected=decision.date))
    return obj


def proposed_name(obj: PathObject) -> str | None:
    """The class that an object was proposed with, without "Proposed: "; None for what was never proposed."""
    origin, name = provenance(obj), obj.class_name or ""
    if origin is None or origin.method != METHOD:
        return None
    if origin.proposed is not None:
        return origin.proposed
    return name.removeprefix(PROPOSED) if name.startswith(PROPOSED) else None


def state_of(obj: PathObject) -> State:
    """Where the review of a proposal stands; "edited" where its class or outline was changed since."""
    origin = provenance(obj)
    if origin is None or origin.digest != object_digest(obj):
        return "edited"
    if origin.accepted is not None:
        return "accepted"
    return "rejected" if origin.rejected is not None else "proposed"


def is_kept(obj: PathObject) -> bool:
    """Whether a new proposal must leave an object alone: decided, edited, locked, or not a proposal at all."""
    origin = provenance(obj)
    is_proposal = origin is not None and origin.method == METHOD
    return not is_proposal or obj.is_locked or state_of(obj) != "proposed"


def beside(proposals: Iterable[PathObject], kept: Sequence[PathObject], radius_px: float) -> list[PathObject]:
    """Proposals that do not say again what a person has decided.

    A nucleus within the radius of a cell that is kept is left out; a region is what kept regions leave of it.

    Args:
        proposals: Of a new run.
        kept: What a person drew, decided, edited or locked in the same image.
        radius_px: In full-resolution px.
    """
    settled = [obj for obj in kept if obj.class_name is not None]
    cells, regions = _Cells(settled, radius_px), _Regions(settled)
    found = []
    for obj in proposals:
        if obj.object_type is not ObjectType.ANNOTATION:
            if not cells.has_near(obj):
                found.append(obj)
        elif (left := regions.leave_of(obj)) is not None:
            found.append(left)
    return found


class _Cells:
    """The cells, and things that are none, that a person has settled."""

    def __init__(self, kept: Sequence[PathObject], radius_px: float) -> None:
        marks = [mark for obj in kept for mark in cell_marks(obj)]
        self._tree = KDTree(shapely.get_coordinates(shapely.centroid(marks)).reshape(-1, 2))
        self._radius_px = radius_px

    def has_near(self, obj: PathObject) -> bool:
        """Whether a nucleus lies near one of them."""
        centre = shapely.get_coordinates(shapely.centroid(obj.geometry))[0]
        return bool(self._tree.query(centre)[0] <= self._radius_px)


class _Regions:
    """The areas that a person has settled."""

    def __init__(self, kept: Sequence[PathObject]) -> None:
        self._areas = [
            shapely.make_valid(obj.geometry)
            for obj in kept
            if obj.object_type is ObjectType.ANNOTATION
            and is_area(obj.geometry)
            and obj.class_name not in RESERVED
        ]
        self._tree = shapely.STRtree(self._areas)

    def leave_of(self, obj: PathObject) -> PathObject | None:
        """What these areas leave of a region; None for nothing."""
        over = self._tree.query(obj.geometry, predicate="intersects")
        if not len(over):
            return obj
        covered = shapely.union_all([self._areas[index] for index in over.tolist()])
        parts = shapely.get_parts(shapely.difference(obj.geometry, covered))
        areas = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
        if not areas:
            return None
        left = areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)
        if left.equals(obj.geometry):
            return obj
        um2 = {name: value * left.area / obj.geometry.area for name, value in obj.measurements.items()}
        origin = provenance(obj)
        assert origin is not None  # noqa: S101 - what is proposed has its run's mark
        return with_provenance(replace(obj, geometry=left, measurements=um2), origin)
