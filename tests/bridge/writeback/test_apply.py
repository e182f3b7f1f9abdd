"""Results into one image: whatever fails, the image is as before, and a person's objects are there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from fake_qupath import SOURCE, FakeStore, Slide, analysis, found_by, save_as_qupath
from tissuebridge.errors import Conflict, InputRefused, StorageError
from tissuebridge.objects import PathObject, object_digest
from tissuebridge.writeback.apply import Loaded, write_back
from tissuebridge.writeback.reconcile import Changes, Deleted, reconciled
from tissuebridge.writeback.runs import SAVING, WRITTEN, Runs


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    return Slide(tmp_path)


def test_results_come_beside_a_persons_objects_with_a_snapshot_of_before(slide: Slide) -> None:
    before = slide.store.files.data.read_bytes()

    record = slide.analyse("r1", (0, 0), (50, 50))

    assert len(slide.ids()) == 3
    assert slide.precious() == object_digest(slide.mine)
    assert record.images["1"].state == WRITTEN
    assert (slide.runs.place("r1", "1") / "data.qpdata").read_bytes() == before


def test_three_times_the_same_run_leaves_one_set_and_the_file_untouched(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    before = slide.store.files.data.read_bytes()

    for name in ("r2", "r3"):
        record = slide.analyse(name, (0, 0), (50, 50))
        assert record.images["1"].told["unchanged"] == 2

    assert slide.store.files.data.read_bytes() == before


def test_a_deleted_cell_stays_away_over_many_runs_and_comes_back_when_asked(slide: Slide) -> None:
    places = ((0, 0), (50, 50), (90, 90))
    slide.analyse("r1", *places)
    slide.store.delete(found_by("r1", (50, 50))[0].id)

    for name in ("r2", "r3"):
        slide.analyse(name, *places)
        assert len(slide.ids()) == 3

    new = found_by("r4", *places)
    slide.run("r4", lambda existing, _: reconciled(existing, new, SOURCE, Deleted(), {"T": 4.0}))
    assert len(slide.ids()) == 4


def test_a_deleted_cell_stays_away_from_a_retrained_model_too(slide: Slide) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    slide.store.delete(found_by("r1", (50, 50))[0].id)

    slide.analyse("r2", (0, 0), (51, 50), (200, 200))

    assert {obj.geometry.bounds[0] for obj in slide.store.objects()} == {1000, 0, 200}


def test_results_that_are_all_gone_are_written_anew_and_the_log_says_why(
    slide: Slide, caplog: pytest.LogCaptureFixture
) -> None:
    slide.analyse("r1", (0, 0), (50, 50))
    save_as_qupath(slide.store.files, [slide.mine])

    with caplog.at_level(logging.WARNING):
        slide.analyse("r2", (0, 0), (50, 50))

    assert len(slide.ids()) == 3
    assert "open in QuPath meanwhile" in caplog.text


def test_an_image_that_was_never_saved_gets_its_first_objects(tmp_path: Path) -> None:
    store, runs = FakeStore(tmp_path), Runs(tmp_path / "tissuebridge")

    write_back(store, runs, runs.begun("r1", "analyse", "net", ""), analysis(found_by("r1", (0, 0))))

    assert len(store.objects()) == 1


def test_another_programs_save_in_between_stays_and_is_a_conflict(slide: Slide) -> None:
    other = replace(slide.mine, id=UUID(int=2), name="drawn meanwhile")
    decide = analysis(found_by("r1", (0, 0)))

    def meanwhile(existing: Sequence[PathObject], deleted: Deleted) -> Changes:
        FakeStore(slide.store.files.folder.parent.parent).draw(other)
        return decide(existing, deleted)

    with pytest.raises(Conflict, match="saved by another program"):
        slide.run("r1", meanwhile)
    assert slide.ids() == {UUID(int=1), UUID(int=2)}

    slide.analyse("r2", (0, 0))
    assert len(slide.ids()) == 3


class Breaks(FakeStore):
    """Fails at one step, as Java or the disk would."""

    def __init__(self, project: Path, step: str, error: BaseException) -> None:
        super().__init__(project)
        self._step, self._error = step, error

    def change(self, changes: Changes, snapshot: Path | None) -> None:
        if self._step == "change":
            raise self._error
        super().change(changes, snapshot)

    def save(self) -> None:
        if self._step == "half a file":
            # What L3 and L4 saw: an Error is no IOException, so QuPath restores nothing.
            self.files.data.replace(self.files.backup)
            self.files.data.write_bytes(b"half")
            raise self._error
        if self._step == "not a byte":
            self.files.data.replace(self.files.backup)
            self.files.data.touch()
            raise self._error
        super().save()
        if self._step == "after":
            raise self._error

    def read(self) -> Loaded:
        found = super().read()
        return Loaded(found.objects[1:], found.count) if self._step == "verify" else found


@pytest.mark.parametrize("error", [StorageError("disk full"), MemoryError(), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("step", ["change", "half a file", "not a byte"])
def test_a_failed_save_leaves_the_image_as_it_was(slide: Slide, step: str, error: BaseException) -> None:
    slide.analyse("r1", (0, 0))
    before = slide.store.files.data.read_bytes()

    with pytest.raises(type(error)):
        slide.run(
            "r2", analysis(found_by("r2", (70, 70))), Breaks(slide.store.files.folder.parents[1], step, error)
        )

    assert slide.store.files.data.read_bytes() == before
    assert slide.store.files.trouble() is None
    slide.analyse("r3", (70, 70))
    assert len(slide.ids()) == 2


def test_interrupted_after_the_save_the_next_run_finds_its_objects(slide: Slide) -> None:
    broken = Breaks(slide.store.files.folder.parents[1], "after", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        slide.run("r1", analysis(found_by("r1", (0, 0))), broken)
    assert slide.runs.get("r1").images["1"].state == SAVING

    record = slide.analyse("r2", (0, 0))

    assert record.images["1"].told["unchanged"] == 1
    assert len(slide.ids()) == 2


def test_what_reads_back_otherwise_than_it_was_saved_is_taken_back(slide: Slide) -> None:
    before = slide.store.files.data.read_bytes()
    broken = Breaks(slide.store.files.folder.parents[1], "verify", KeyboardInterrupt())

    with pytest.raises(StorageError, match="missing after saving"):
        slide.run("r1", analysis(found_by("r1", (0, 0))), broken)

    assert slide.store.files.data.read_bytes() == before


def test_a_first_save_that_fails_leaves_no_file(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "tissuebridge")
    broken = Breaks(tmp_path, "half a file", MemoryError())
    broken.files.folder.mkdir(parents=True)
    broken.save = lambda: (broken.files.data.write_bytes(b"half"), (_ for _ in ()).throw(MemoryError()))  # type: ignore[method-assign]

    with pytest.raises(MemoryError):
        write_back(broken, runs, runs.begun("r1", "analyse", "net", ""), analysis(found_by("r1", (0, 0))))

    assert not broken.files.data.exists()
    assert broken.files.trouble() is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda files: files.backup.write_bytes(b"left behind"),
        lambda files: files.data.write_bytes(b""),
        lambda files: files.data.write_bytes(files.data.read_bytes()[:-1]),
        lambda files: files.data.unlink(),
        lambda files: files.summary.write_text('{"hierarchy": {"nObjects": 40002}}'),
    ],
    ids=["bkp left", "empty", "last byte missing", "data missing", "fewer than counted"],
)
def test_a_damaged_image_is_refused_and_not_touched(slide: Slide, harm: Callable[..., object]) -> None:
    harm(slide.store.files)
    before = {path.name: path.read_bytes() for path in slide.store.files.folder.iterdir()}

    with pytest.raises(InputRefused):
        slide.analyse("r1", (0, 0))

    assert {path.name: path.read_bytes() for path in slide.store.files.folder.iterdir()} == before


def test_only_the_last_snapshots_are_kept(slide: Slide) -> None:
    for number in range(8):
        slide.analyse(f"r{number}", (number * 20, 0))

    assert len(slide.runs.snapshots("1")) == 5
    assert len(slide.runs.all()) == 8
