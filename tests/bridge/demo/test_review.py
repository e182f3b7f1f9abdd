"""The demo's review: which proposals its annotations confirm, and what is left to be drawn by hand."""

from __future__ import annotations

import numpy as np
import shapely

from tissuebridge.demo.review import REVIEWER, reviewed
from tissuebridge.objects import (
    CELLS_MARKED,
    NOT_A_CELL,
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    is_persons,
    provenance,
    with_provenance,
)
from tissuebridge.proposals.review import METHOD, state_of
from tissuebridge.vectorize import discs

RUN = Provenance("run", METHOD, "test", "digest", "0.1")


def nucleus(x: float, y: float) -> PathObject:
    (disc,) = discs(np.array([[x, y]]), 16.0)
    kind = PathClass("Proposed: Nucleus")
    return with_provenance(PathObject(disc, ObjectType.DETECTION, path_class=kind), RUN)


def region(*bounds: float) -> PathObject:
    return with_provenance(PathObject(shapely.box(*bounds), path_class=PathClass("Proposed: colour 1")), RUN)


def drawn(geometry: shapely.Geometry, name: str) -> PathObject:
    return PathObject(geometry, path_class=PathClass(name))


DOTS = drawn(shapely.MultiPoint([(20, 20), (60, 20), (90, 90)]), "Mast cell")
COMPLETE = drawn(shapely.box(0, 0, 70, 70), CELLS_MARKED)


def test_a_nucleus_on_a_dot_is_accepted_and_its_dot_is_no_longer_drawn() -> None:
    result = reviewed([nucleus(21, 20)], [DOTS, COMPLETE])

    (obj,) = result.objects
    assert (obj.class_name, state_of(obj), is_persons(obj)) == ("Mast cell", "accepted", True)
    assert getattr(provenance(obj), "reviewer") == REVIEWER  # noqa: B009
    left = next(obj for obj in result.by_hand if obj.class_name == "Mast cell")
    assert shapely.get_coordinates(left.geometry).tolist() == [[60, 20], [90, 90]]
    assert result.counts["nuclei"]["dotted by hand"] == 2


def test_a_nucleus_on_nothing_is_rejected_only_where_dots_are_complete() -> None:
    inside, outside = reviewed([nucleus(40, 50), nucleus(200, 50)], [DOTS, COMPLETE]).objects

    assert (inside.class_name, state_of(inside)) == (NOT_A_CELL, "rejected")
    assert (outside.class_name, state_of(outside)) == ("Proposed: Nucleus", "proposed")


def test_a_nucleus_beside_a_dot_is_left_and_the_dot_stays() -> None:
    result = reviewed([nucleus(27, 20)], [DOTS, COMPLETE])

    assert [state_of(obj) for obj in result.objects] == ["proposed"]
    assert DOTS in result.by_hand


def test_of_two_nuclei_on_one_dot_one_is_accepted() -> None:
    result = reviewed([nucleus(19, 20), nucleus(22, 20)], [DOTS, COMPLETE])

    assert [state_of(obj) for obj in result.objects] == ["accepted", "proposed"]


def test_a_region_is_accepted_inside_an_area_of_one_class() -> None:
    stroma = drawn(shapely.box(0, 0, 50, 50), "Stroma")

    inside, across = reviewed([region(5, 5, 45, 45), region(30, 5, 70, 45)], [stroma]).objects

    assert (inside.class_name, is_persons(inside)) == ("Stroma", True)
    assert (across.class_name, is_persons(across)) == ("Proposed: colour 1", False)
