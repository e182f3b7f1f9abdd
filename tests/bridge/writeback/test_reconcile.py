"""Which objects go, come and stay when a run meets what a person and earlier runs left."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
import shapely

from tissuebridge.objects import (
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    provenance,
    with_provenance,
)
from tissuebridge.writeback.reconcile import ROOT, Deleted, Source, parents_of, reconciled, removed, untouched

SOURCE = Source("analyse", "net")
DISTANCE = {"Tumor": 4.0}


def written(
    obj: PathObject, run: str = "r1", model: str = "net", method: str = "analyse", **decided: str
) -> PathObject:
    return with_provenance(obj, replace(Provenance(run, method, model, "digest", "0.1"), **decided))


def cell(x: float, y: float, name: str = "Tumor", **given: str) -> PathObject:
    shape = shapely.Point(x, y).buffer(5, quad_segs=2)
    on_grid = shapely.transform(shape, lambda xy: (xy * 16).round() / 16)
    return written(PathObject(on_grid, ObjectType.DETECTION, uuid4(), PathClass(name)), **given)


def region(x: float, y: float, side: float, name: str = "Stroma", **given: str) -> PathObject:
    return written(
        PathObject(shapely.box(x, y, x + side, y + side), id=uuid4(), path_class=PathClass(name)), **given
    )


def drawn(x: float, y: float, side: float, name: str | None = "Tumor") -> PathObject:
    return PathObject(
        shapely.box(x, y, x + side, y + side), id=uuid4(), path_class=PathClass(name) if name else None
    )


def test_a_first_run_only_adds() -> None:
    mine, new = drawn(0, 0, 9), [cell(50, 50), region(100, 100, 30)]

    changes = reconciled([mine], new, SOURCE, Deleted(), DISTANCE)

    assert (list(changes.gone), list(changes.added)) == ([], new)
    assert changes.told["added"] == 2


def test_the_same_results_change_nothing() -> None:
    before = [cell(50, 50), region(100, 100, 30)]
    again = [written(obj, run="r2") for obj in before]

    changes = reconciled([drawn(0, 0, 9), *before], again, SOURCE, Deleted(), DISTANCE)

    assert changes.is_nothing
    assert changes.told["unchanged"] == 2


def test_other_results_of_the_same_model_replace_untouched_ones() -> None:
    old, new = cell(50, 50), cell(80, 80, run="r2")

    changes = reconciled([old], [new], SOURCE, Deleted(), DISTANCE)

    assert (list(changes.gone), list(changes.added)) == ([old.id], [new])


def test_an_id_with_another_shape_replaces_the_untouched_one() -> None:
    old = region(0, 0, 30)
    grown = replace(region(0, 0, 40, run="r2"), id=old.id)

    changes = reconciled([old], [grown], SOURCE, Deleted(), DISTANCE)

    assert (list(changes.gone), list(changes.added)) == ([old.id], [grown])


@pytest.mark.parametrize(
    "touched",
    [
        lambda obj: replace(obj, geometry=shapely.transform(obj.geometry, lambda xy: xy + 1)),
        lambda obj: replace(obj, path_class=PathClass("Immune")),
        lambda obj: replace(obj, name="look at this"),
        lambda obj: replace(obj, is_locked=True),
        lambda obj: replace(obj, metadata={**obj.metadata, "tissuebridge:accepted": "2026-11-25"}),
        lambda obj: replace(obj, metadata={**obj.metadata, "tissuebridge:rejected": "2026-11-25"}),
    ],
    ids=["moved", "re-classed", "named", "locked", "accepted", "rejected"],
)
def test_what_a_person_touched_stays_and_holds_the_new_cell_back(touched: object) -> None:
    old = cell(50, 50)
    kept = touched(old)  # type: ignore[operator]
    near = cell(51, 50, run="r2")

    changes = reconciled([kept], [replace(old), near], SOURCE, Deleted(), DISTANCE)

    assert changes.is_nothing
    assert changes.told["held back"] == 2


def test_a_persons_own_dot_does_not_hold_a_prediction_back() -> None:
    dot = PathObject(shapely.Point(50, 50), id=uuid4(), path_class=PathClass("Tumor"))

    changes = reconciled([dot], [cell(50, 50)], SOURCE, Deleted(), DISTANCE)

    assert len(changes.added) == 1


def test_results_of_another_model_or_method_stay_and_hold_nothing_back() -> None:
    other, proposal = cell(50, 50, model="immune"), region(0, 0, 30, "Proposed: colour 1", method="propose")

    changes = reconciled([other, proposal], [cell(50, 50, run="r2")], SOURCE, Deleted(), DISTANCE)

    assert (list(changes.gone), len(changes.added)) == ([], 1)


def test_new_regions_are_clipped_by_kept_ones_and_marked_as_written_so() -> None:
    kept = replace(region(20, 0, 20), is_locked=True)
    new = region(0, 0, 30, run="r2")

    changes = reconciled([kept], [new], SOURCE, Deleted(), DISTANCE)

    (added,) = changes.added
    assert added.geometry.equals(shapely.box(0, 0, 30, 30).difference(kept.geometry))
    assert untouched([added]) == [True]
    assert changes.told["clipped"] == 1


def test_a_region_that_a_kept_one_covers_is_held_back() -> None:
    kept = replace(region(0, 0, 50), is_locked=True)

    changes = reconciled([kept], [region(10, 10, 5, run="r2")], SOURCE, Deleted(), DISTANCE)

    assert changes.is_nothing


@pytest.mark.parametrize(
    ("name", "stays"),
    [("Region*", True), ("Cells marked*", True), (None, True), ("Tumor", False), ("Ignore*", False)],
)
def test_proposals_keep_off_what_a_person_drew_but_not_off_where_to_look(
    name: str | None, stays: bool
) -> None:
    proposed = region(10, 10, 20, name="Proposed: colour 1", method="propose")

    changes = reconciled([drawn(0, 0, 100, name)], [proposed], Source("propose", "net"), Deleted(), DISTANCE)

    assert bool(changes.added) == stays


def test_what_was_deleted_stays_away_by_id_and_by_place() -> None:
    known, moved, far = cell(50, 50), cell(91, 90), cell(200, 200)
    deleted = Deleted(frozenset([known.id or UUID(int=1)]), {"Tumor": np.array([[90.0, 90.0]])})

    changes = reconciled(
        [], [known, moved, far, cell(90, 90, "Immune")], SOURCE, deleted, {**DISTANCE, "Immune": 4}
    )

    assert [obj.class_name for obj in changes.added] == ["Tumor", "Immune"]
    assert changes.told["held back"] == 2


def test_removal_takes_untouched_objects_of_the_runs_only() -> None:
    one, two, mine = cell(1, 1, run="r1"), cell(50, 50, run="r2"), drawn(0, 0, 9)
    edited = replace(cell(90, 90, run="r1"), name="mine now")

    assert list(removed([one, two, mine, edited], {"r1"}).gone) == [one.id]
    everything = removed([one, two, mine, edited])
    assert list(everything.gone) == [one.id, two.id]
    assert everything.told == {"removed": 2, "kept": 1}


def test_objects_lie_below_their_core_else_below_the_area_that_was_drawn_to_be_analysed() -> None:
    core = PathObject(shapely.Point(50, 50).buffer(40), ObjectType.TMA_CORE, uuid4())
    area = drawn(0, 0, 200, "Region*")
    cells = [cell(50, 50), cell(150, 150), cell(300, 300)]

    assert parents_of(cells, [area, core]) == [core.id, area.id, ROOT]
    assert parents_of(cells, [drawn(0, 0, 200, "Tumor")]) == [ROOT] * 3


def test_added_objects_keep_their_provenance() -> None:
    changes = reconciled([], [cell(1, 1)], SOURCE, Deleted(), DISTANCE)

    assert provenance(changes.added[0]) is not None
