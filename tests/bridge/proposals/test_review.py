"""A person's word on proposals: what it changes, what it leaves alone, and that it survives a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely.geometry import box

from tissuebridge.geojson import read_objects, write_objects
from tissuebridge.objects import (
    NOT_A_CELL,
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    is_persons,
    provenance,
    with_provenance,
)
from tissuebridge.proposals.review import METHOD, Decision, beside, decided, is_kept, proposed_name, state_of
from tissuebridge.vectorize import discs

RUN = Provenance("run-1", METHOD, "wavelet nuclei", "digest", "0.1")
NONE: frozenset[str] = frozenset()
STROMA = Decision({"colour 1": PathClass("Stroma", (0, 200, 0))}, NONE, NONE, "2026-01-31", "A. Person")
REJECT = Decision({}, frozenset(("Nucleus", "colour 1")), NONE, "2026-01-31")
UNDO = Decision({}, NONE, frozenset(("Nucleus", "colour 1")), "2026-02-01")


def region(*bounds: float, name: str = "Proposed: colour 1") -> PathObject:
    area = {"Area µm^2": float(box(*bounds).area)}
    return with_provenance(PathObject(box(*bounds), path_class=PathClass(name), measurements=area), RUN)


def nucleus(x: float, y: float) -> PathObject:
    (disc,) = discs(np.array([[x, y]]), 10.0)
    kind = PathClass("Proposed: Nucleus")
    return with_provenance(PathObject(disc, ObjectType.DETECTION, path_class=kind), RUN)


def test_a_proposal_is_nobodys_before_it_is_accepted() -> None:
    assert not is_persons(region(0, 0, 4, 4))
    assert not is_kept(region(0, 0, 4, 4))


def test_accepting_keeps_state_date_and_reviewer_through_a_file(tmp_path: Path) -> None:
    write_objects(tmp_path / "a.geojson", [decided(region(0, 0, 40, 40), STROMA)], about={"method": METHOD})

    (obj,) = read_objects(tmp_path / "a.geojson")

    origin = provenance(obj)
    assert origin is not None
    assert (obj.class_name, state_of(obj), proposed_name(obj)) == ("Stroma", "accepted", "colour 1")
    assert (origin.accepted, origin.reviewer, origin.run) == ("2026-01-31", "A. Person", "run-1")
    assert is_persons(obj)
    assert is_kept(obj)


def test_a_rejected_nucleus_is_a_hard_negative_and_a_rejected_region_nothing() -> None:
    cell, area = decided(nucleus(9, 9), REJECT), decided(region(0, 0, 4, 4), REJECT)

    assert (cell.class_name, state_of(cell), is_persons(cell)) == (NOT_A_CELL, "rejected", True)
    assert (area.class_name, state_of(area), is_persons(area)) == ("Proposed: colour 1", "rejected", False)
    assert is_kept(area)


@pytest.mark.parametrize("word", [STROMA, REJECT])
def test_undo_leaves_no_trace(word: Decision) -> None:
    before = region(0, 0, 4, 4)

    after = decided(decided(before, word), UNDO)

    assert after.metadata == before.metadata
    assert (after.class_name, state_of(after)) == ("Proposed: colour 1", "proposed")


def test_a_decision_can_be_changed() -> None:
    tumor = replace(STROMA, accept={"colour 1": PathClass("Tumor")})

    assert decided(decided(region(0, 0, 4, 4), STROMA), tumor).class_name == "Tumor"


@pytest.mark.parametrize(
    "touched",
    [
        replace(region(0, 0, 4, 4), geometry=box(0, 0, 4, 5)),
        replace(region(0, 0, 4, 4), path_class=PathClass("Vessel")),
        replace(region(0, 0, 4, 4), is_locked=True),
        PathObject(box(0, 0, 4, 4), path_class=PathClass("Proposed: colour 1")),
    ],
    ids=["reshaped", "re-classed", "locked", "drawn"],
)
def test_what_a_person_touched_is_left_alone(touched: PathObject) -> None:
    assert decided(touched, STROMA) is touched
    assert is_kept(touched)


def test_nuclei_are_not_proposed_where_one_is_settled() -> None:
    dots = PathObject(shapely.MultiPoint([(10, 10), (50, 50)]), path_class=PathClass("Mast cell"))
    rejected = decided(nucleus(90, 90), REJECT)

    left = beside([nucleus(12, 10), nucleus(30, 30), nucleus(92, 90)], [dots, rejected], 5.0)

    assert [obj.geometry.centroid.x for obj in left] == pytest.approx([30])


def test_regions_are_proposed_only_on_what_is_not_settled() -> None:
    drawn = PathObject(box(0, 0, 50, 100), path_class=PathClass("Tumor"))

    inside, across, apart = region(10, 10, 20, 20), region(40, 0, 60, 10), region(70, 0, 80, 10)
    left = beside([inside, across, apart], [drawn], 5.0)

    assert [obj.geometry.bounds for obj in left] == [(50, 0, 60, 10), (70, 0, 80, 10)]
    assert left[0].measurements["Area µm^2"] == pytest.approx(100)
    assert [state_of(obj) for obj in left] == ["proposed", "proposed"]


@pytest.mark.parametrize("name", ["Ignore*", "Region*", "Cells marked*", None])
def test_areas_that_say_no_class_settle_nothing(name: str | None) -> None:
    area = PathObject(box(0, 0, 100, 100), path_class=None if name is None else PathClass(name))

    assert beside([region(0, 0, 10, 10)], [area], 5.0) == [region(0, 0, 10, 10)]
