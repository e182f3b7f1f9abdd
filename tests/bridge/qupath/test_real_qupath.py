"""A real QuPath project, read and written: the same pixels and objects as from a folder, and nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import pytest
import shapely

from tissuebridge.errors import ImageError
from tissuebridge.objects import (
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    object_digest,
    object_digests,
    provenance,
    with_provenance,
)
from tissuebridge.project.folder import FolderProject
from tissuebridge.project.qupath_project import QuPathImage, QuPathPixels, QuPathProject
from tissuebridge.qupath.export import folder_of_project
from tissuebridge.qupath.store import QuPathStore
from tissuebridge.vectorize import discs
from tissuebridge.writeback.apply import Decide, as_written, write_back
from tissuebridge.writeback.reconcile import Changes, Source, reconciled
from tissuebridge.writeback.runs import UNDO, Runs
from tissuebridge.writeback.undo import undo_image

pytestmark = pytest.mark.qupath

SOURCE = Source("analyse", "net")


@pytest.fixture
def image(project: QuPathProject) -> QuPathImage:
    return named(project, "section 1 ä")


def named(project: QuPathProject, name: str) -> QuPathImage:
    return next(image for image in project.images if image.name == name)


def found_by(run: str, count: int, seed: int = 0, size: float = 500) -> list[PathObject]:
    """Cells as an analysis writes them, and a region."""
    origin = Provenance(run, "analyse", "net", "digest", "0.1")
    xy = np.random.default_rng(seed).random((count, 2)) * size
    tumor = PathClass("Tumor", (200, 0, 0))
    cells = [
        PathObject(
            shape,
            ObjectType.DETECTION,
            uuid5(UUID(int=3), f"{seed}|{number}"),
            tumor,
            measurements={"tissuebridge: score Tumor": 0.5, "tissuebridge: score Other": 0.25},
            metadata={"tissuebridge:region": "Stroma"},
        )
        for number, shape in enumerate(discs(xy, np.full(count, 10.0)))
    ]
    region = PathObject(
        shapely.box(16, 16, 48, 80), id=uuid5(UUID(int=3), f"{seed}|region"), path_class=tumor
    )
    return as_written(with_provenance(obj, origin) for obj in [*cells, region])


def analysis(new: Sequence[PathObject]) -> Decide:
    return lambda existing, deleted: reconciled(existing, new, SOURCE, deleted, {"Tumor": 4.0})


def write(image: QuPathImage, run: str, decide: Decide) -> Runs:
    runs = Runs(image.entry.folder.parents[1] / "tissuebridge")
    write_back(QuPathStore(image), runs, runs.begun(run, "analyse", "net", run), decide)
    return runs


def by_id(image: QuPathImage) -> dict[UUID | None, PathObject]:
    return {obj.id: obj for obj in image.objects()}


# ---- Reading ----------------------------------------------------------------------------------------------


def test_objects_are_those_of_the_folder_with_all_they_have(
    folder: FolderProject, image: QuPathImage
) -> None:
    wanted = {obj.id: obj for obj in folder.images[1].objects() if obj.plane.z == 0}

    found = by_id(image)

    assert set(found) == set(wanted)
    for key, obj in found.items():
        other = wanted[key]
        assert object_digest(obj) == object_digest(other)
        assert (obj.path_class, obj.name, obj.is_locked, obj.is_ellipse) == (
            other.path_class, other.name, other.is_locked, other.is_ellipse,
        )  # fmt: skip
        assert obj.metadata == other.metadata
        assert obj.measurements == pytest.approx(dict(other.measurements))


def test_identity_and_pixels_are_those_of_the_folder(folder: FolderProject, project: QuPathProject) -> None:
    for bare in folder.images:
        image = named(project, bare.name)
        assert image.identity == bare.identity
        with image.open_pixels() as ours, bare.open_pixels() as theirs:
            assert np.array_equal(
                ours.read_block(0, 30, 40, 300, 200), theirs.read_block(0, 30, 40, 300, 200)
            )


def test_qupaths_own_server_gives_the_same_pixels_on_every_level(project: QuPathProject) -> None:
    for image in project.images:
        with (
            QuPathPixels(image.name, image.open_entry) as through_qupath,
            image.open_pixels() as through_python,
        ):
            full = through_python.levels[0]
            whole = through_qupath.read_block(0, 0, 0, full.width, full.height)
            assert np.array_equal(whole, through_python.read_block(0, 0, 0, full.width, full.height))
            for level, size in enumerate(through_qupath.levels[: len(through_python.levels)]):
                box = (level, size.width - 111, size.height - 77, 111, 77)
                assert np.array_equal(through_qupath.read_block(*box), through_python.read_block(*box))


def test_a_missing_file_is_told_with_its_place(
    project: QuPathProject, image: QuPathImage, tmp_path: Path
) -> None:
    gone = replace(image.entry, uris=((tmp_path / "gone.tif").as_uri(),))

    with pytest.raises(ImageError, match=r"gone\.tif.*Update URIs"):
        QuPathImage(gone, project).open_pixels()


# ---- Writing ----------------------------------------------------------------------------------------------


def test_written_objects_read_back_as_written_below_the_root_with_classes_in_the_project(
    image: QuPathImage,
) -> None:
    new = found_by("r1", 500)

    write(image, "r1", analysis(new))

    found = by_id(image)
    for obj in new:
        back = found[obj.id]
        assert provenance(back) == provenance(obj)
        assert object_digest(back) == (provenance(obj) or Provenance("", "", "", "", "")).digest
        assert back.metadata == obj.metadata
        assert back.measurements == pytest.approx(dict(obj.measurements))


def test_a_person_objects_survive_three_runs_and_the_file_is_not_even_touched(image: QuPathImage) -> None:
    before = {key: object_digest(obj) for key, obj in by_id(image).items()}
    write(image, "r1", analysis(found_by("r1", 300)))
    saved = image.entry.files.data.read_bytes()

    for run in ("r2", "r3"):
        write(image, run, analysis(found_by(run, 300)))

    assert image.entry.files.data.read_bytes() == saved
    now = {key: object_digest(obj) for key, obj in by_id(image).items()}
    assert before.items() <= now.items()
    assert len(now) == len(before) + 301


def test_undo_brings_the_bytes_back_and_object_by_object_what_was_replaced(image: QuPathImage) -> None:
    original = image.entry.files.data.read_bytes()
    runs = write(image, "r1", analysis(found_by("r1", 50)))
    first = by_id(image)
    write(image, "r2", analysis(found_by("r2", 60, seed=1)))
    note = PathObject(shapely.box(1, 1, 4, 4), id=UUID(int=99), name="since")
    write(image, "note", lambda existing, _: Changes([], [note], [UUID(int=0)], {"added": 1}))
    # As QuPath's own save would: no run of ours.
    (runs.folder / "runs" / "note.json").unlink()

    undo_image(QuPathStore(image), runs, runs.begun("u2", UNDO, "", ""), runs.get("r2"))
    returned = by_id(image)

    assert set(returned) == {*first, note.id}
    assert all(returned[key] == obj for key, obj in first.items())

    write(image, "gone", lambda existing, _: Changes([UUID(int=99)], [], [], {}))
    (runs.folder / "runs" / "gone.json").unlink()
    undo_image(QuPathStore(image), runs, runs.begun("u1", UNDO, "", ""), runs.get("r1"))
    assert {key: object_digest(obj) for key, obj in by_id(image).items()} == {
        key: object_digest(obj) for key, obj in first.items() if provenance(obj) is None
    }
    fresh = write(image, "r3", analysis(found_by("r3", 5, seed=2)))
    saved = (fresh.place("r3", image.entry.id) / "data.qpdata").read_bytes()
    undo_image(QuPathStore(image), fresh, fresh.begun("u3", UNDO, "", ""), fresh.get("r3"))
    assert image.entry.files.data.read_bytes() == saved
    assert len(original) > 0


def test_children_of_a_replaced_region_stay(image: QuPathImage) -> None:
    write(image, "r1", analysis(found_by("r1", 5)))
    region = next(
        obj for obj in image.objects() if obj.object_type is ObjectType.ANNOTATION and provenance(obj)
    )
    child = PathObject(shapely.box(20, 20, 30, 30), id=UUID(int=5), name="inside")
    write(image, "child", lambda existing, _: Changes([], [child], [region.id or UUID(int=0)], {}))

    write(image, "r2", analysis(found_by("r2", 5, seed=4)))

    found = by_id(image)
    assert UUID(int=5) in found
    assert region.id not in found


def test_a_folder_comes_back_as_it_was(folder: FolderProject, project: QuPathProject, tmp_path: Path) -> None:
    folder_of_project(project.images, tmp_path / "back", lambda done, total: None)

    back = FolderProject(tmp_path / "back")
    assert [image.name for image in back.images] == [image.name for image in folder.images]
    for ours, theirs in zip(back.images, folder.images, strict=True):
        wanted = [obj for obj in theirs.objects() if obj.plane.z == 0]
        assert sorted(object_digests(ours.objects())) == sorted(object_digests(wanted))
        assert ours.identity == theirs.identity
