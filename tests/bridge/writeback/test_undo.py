"""Undoing and removing: byte for byte where nobody saved since, else object by object; a person's work stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import shapely

from fake_qupath import Slide, found_by
from tissuebridge.errors import Conflict, UsageError
from tissuebridge.objects import PathObject, object_digest, provenance
from tissuebridge.writeback.runs import UNDO, UNDONE, RunRecord
from tissuebridge.writeback.undo import remove_image, undo_image

NOTE = PathObject(shapely.box(0, 500, 10, 510), id=UUID(int=2), name="drawn since")


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    return Slide(tmp_path)


def undo(slide: Slide, run: str) -> RunRecord:
    undoing = slide.runs.begun(f"undo-{run}", UNDO, "", "")
    return undo_image(slide.store, slide.runs, undoing, slide.runs.get(run))


def test_undone_at_once_the_file_is_as_before_to_the_byte(slide: Slide) -> None:
    files = slide.store.files
    before = files.data.read_bytes(), files.summary.read_bytes()
    slide.analyse("r1", (0, 0), (50, 50))

    record = undo(slide, "r1")

    assert (files.data.read_bytes(), files.summary.read_bytes()) == before
    assert record.images["1"].told == {"byte for byte": 1}
    assert slide.runs.get("r1").images["1"].state == UNDONE


def test_undone_after_work_in_qupath_only_the_runs_objects_go(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    edited = replace(slide.store.objects()[-1], name="this one is right")
    slide.store.edit(edited)
    slide.store.draw(NOTE)

    undo(slide, "r1")

    assert slide.ids() == {slide.mine.id, NOTE.id, edited.id}
    assert slide.precious() == object_digest(slide.mine)


def test_what_the_run_replaced_returns_just_as_it_was(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    first = {obj.id: obj for obj in slide.store.objects()}
    slide.analyse("r2", (300, 300))
    slide.store.draw(NOTE)

    undo(slide, "r2")

    now = {obj.id: obj for obj in slide.store.objects()}
    assert set(now) == {*first, NOTE.id}
    assert all(now[key] == obj for key, obj in first.items())
    assert {origin.run for obj in now.values() if (origin := provenance(obj))} == {"r1"}


def test_runs_are_undone_from_the_last_on(slide: Slide) -> None:
    before = slide.store.files.data.read_bytes()
    slide.analyse("r1", (0, 0))
    slide.analyse("r2", (50, 50))

    with pytest.raises(Conflict, match="Undo that one first"):
        undo(slide, "r1")
    undo(slide, "r2")
    undo(slide, "r1")

    assert slide.store.files.data.read_bytes() == before


def test_a_run_that_changed_nothing_is_not_in_the_way(slide: Slide) -> None:
    slide.analyse("r1", (0, 0))
    slide.analyse("r2", (0, 0))

    undo(slide, "r1")

    assert slide.ids() == {slide.mine.id}


def test_after_an_undo_nothing_counts_as_deleted_by_a_person(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    undo(slide, "r1")

    slide.analyse("r2", (0, 0), (50, 50))

    assert len(slide.ids()) == 3


def test_deletions_before_the_undone_run_are_remembered(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    slide.store.delete(found_by("r1", (50, 50))[0].id)
    slide.analyse("r2", (0, 0), (50, 50), (90, 90))
    undo(slide, "r2")

    slide.analyse("r3", (0, 0), (50, 50), (90, 90))

    assert found_by("r1", (50, 50))[0].id not in slide.ids()
    assert len(slide.ids()) == 3


def test_a_dropped_snapshot_is_told(slide: Slide) -> None:
    for number in range(7):
        slide.analyse(f"r{number}", (number * 20, 0))
    for number in range(6, 1, -1):
        undo(slide, f"r{number}")

    with pytest.raises(UsageError, match="was dropped"):
        undo(slide, "r1")
    assert len(slide.ids()) == 2


def test_removing_takes_what_nobody_touched_and_can_be_undone(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    before = slide.store.files.data.read_bytes()
    record = slide.runs.begun("gone", "remove", "", "")

    told = remove_image(slide.store, slide.runs, record, None).images["1"].told

    assert (slide.ids(), told["removed"]) == ({slide.mine.id}, 2)
    undo(slide, "gone")
    assert slide.store.files.data.read_bytes() == before


def test_removed_results_come_back_with_the_next_run(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    remove_image(slide.store, slide.runs, slide.runs.begun("gone", "remove", "", ""), None)

    slide.analyse("r2", (0, 0), (50, 50))

    assert len(slide.ids()) == 3
