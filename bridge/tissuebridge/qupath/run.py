"""A run over the images of a QuPath project: one lock, one record, image after image written back safely.

The command line gives results of `pipeline.analyse` or `proposals`; `writeback` puts each image's into the project.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tissuebridge.analysis import Analysis
from tissuebridge.errors import InputRefused, TissuebridgeError, UsageError
from tissuebridge.files import storage_error
from tissuebridge.lock import locked
from tissuebridge.objects import PathObject
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.qupath.store import QuPathStore, classes_of
from tissuebridge.writeback.apply import as_written, write_back
from tissuebridge.writeback.reconcile import Changes, Deleted, Source, measurements, reconciled
from tissuebridge.writeback.runs import FAILED, UNDO, WRITTEN, ImageRecord, RunRecord, Runs
from tissuebridge.writeback.undo import remove_image, undo_image

CLASSES: Final = ("classifiers", "classes.json")

_log = logging.getLogger(__name__)


class ProjectRun:
    """One run over a project that is locked for it; made by `open_run`.

    Args:
        project: The project.
        record: What is known of the run; that of an interrupted one goes on.
    """

    def __init__(self, project: QuPathProject, record: RunRecord) -> None:
        self._project = project
        self._record = record
        self.runs = Runs(project.folder)

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._record.run

    @property
    def can_be_undone(self) -> bool:
        """Whether it is no undoing itself."""
        return self._record.command != UNDO

    def is_done(self, image: QuPathImage) -> bool:
        """Whether the run has written the image already, before it was interrupted."""
        done = self._record.images.get(image.entry.id)
        return done is not None and done.state == WRITTEN

    def journal(self, image: QuPathImage) -> Path:
        """Where an image's computing is kept until its objects are in the project."""
        return self._project.folder / "journal" / image.entry.id

    def write(
        self, image: QuPathImage, found: Sequence[Analysis], *, restore_deleted: bool = False
    ) -> Mapping[str, int]:
        """Puts the objects found in an image into the project; gives counts, by what became of them.

        Args:
            image: The image.
            found: Of one image; each replaces only what the same method and model wrote.
            restore_deleted: Write also what a person deleted after an earlier run.

        Raises:
            TissuebridgeError: As for `apply.write_back`; the image is as before.
        """
        new = {Source(one.method, one.model.name): as_written(one.objects()) for one in found}
        distances = {source: _distances_px(one) for source, one in zip(new, found, strict=True)}
        classes: dict[str, tuple[int, int, int] | None] = {}
        for objects in new.values():
            classes |= dict(classes_of(objects))
        # Before the objects: theirs are the colours that the project has for these classes.
        self._project.opened.add_classes(classes)

        def decide(existing: Sequence[PathObject], deleted: Deleted) -> Changes:
            avoided = Deleted() if restore_deleted else deleted
            return _together(
                [reconciled(existing, new[source], source, avoided, distances[source]) for source in new]
            )

        expected = sum(map(len, new.values()))
        self._record = write_back(QuPathStore(image), self.runs, self._record, decide, expected=expected)
        return self._record.images[image.entry.id].told

    def measure(self, image: QuPathImage, wanted: Sequence[PathObject]) -> Mapping[str, int]:
        """Puts measurements on an image's objects, by id; gives counts. Nothing else of them changes.

        Raises:
            TissuebridgeError: As for `apply.write_back`; the image is as before.
        """
        self._record = write_back(
            QuPathStore(image), self.runs, self._record, lambda existing, _: measurements(existing, wanted)
        )
        return self._record.images[image.entry.id].told

    def failed(self, image: QuPathImage, error: TissuebridgeError) -> None:
        """Notes that an image failed; the same command tries it again.

        Raises:
            StorageError: The note could not be written.
        """
        note = ImageRecord(image.entry.entry_name, FAILED, error=str(error))
        self._record = self.runs.with_image(self._record, image.entry.id, note)

    def undo(self, image: QuPathImage, run: str) -> Mapping[str, int]:
        """Undoes what a run did to an image; gives counts.

        Raises:
            TissuebridgeError: As for `undo.undo_image`.
        """
        self._record = undo_image(QuPathStore(image), self.runs, self._record, self.runs.get(run))
        done = self._record.images.get(image.entry.id)
        return {} if done is None else done.told

    def remove(self, image: QuPathImage, of_runs: Sequence[str] | None) -> Mapping[str, int]:
        """Removes what runs wrote to an image and nobody has touched; gives counts.

        Raises:
            TissuebridgeError: As for `apply.write_back`.
        """
        self._record = remove_image(QuPathStore(image), self.runs, self._record, of_runs)
        return self._record.images[image.entry.id].told

    def finish(self) -> None:
        """Closes the run's record, unless an image failed: then the same command goes on with it.

        Raises:
            StorageError: It could not be written.
        """
        has_failed = any(image.state == FAILED for image in self._record.images.values())
        self._record = replace(self._record, finished=not has_failed)
        self.runs.write(self._record)


def unfinished(project: QuPathProject, decides: Mapping[str, object]) -> frozenset[str]:
    """Entry ids of the images that an interrupted run of the same command has written already."""
    every = Runs(project.folder).all()
    if not every or every[-1].finished or every[-1].decides != digest_of(decides):
        return frozenset()
    return frozenset(key for key, image in every[-1].images.items() if image.state == WRITTEN)


def digest_of(decides: Mapping[str, object]) -> str:
    """What makes two commands the same, in short."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


@contextmanager
def open_run(
    project: QuPathProject,
    run_id: str,
    command: str,
    model: str = "",
    decides: Mapping[str, object] | None = None,
) -> Iterator[ProjectRun]:
    """Locks a project for a run; an interrupted run of the same command goes on under its own id.

    Args:
        project: The project.
        run_id: The id of a new run.
        command: Such as "analyse".
        model: The model's name.
        decides: What makes the command the same; None where it never resumes.

    Raises:
        Conflict: Another process of ours writes to the project.
        StorageError: The project's folder cannot be written.
    """
    with locked(project.folder, "a run over this project"):
        runs = Runs(project.folder)
        digest = "" if decides is None else digest_of(decides)
        record = runs.begun(run_id, command, model, digest)
        _keep_project_files(project, project.folder / "backup" / record.run)
        run = ProjectRun(project, record)
        yield run
        run.finish()


def chosen_images(project: QuPathProject, pattern: str | None) -> list[QuPathImage]:
    """The images whose name fits a pattern, as in a shell; all without one.

    Raises:
        UsageError: None fits.
        InputRefused: Two of them are the same image: their objects would have the same ids.
    """
    chosen = [
        image
        for image in project.images
        if pattern is None or fnmatchcase(image.name, pattern) or fnmatchcase(image.entry.entry_name, pattern)
    ]
    if not chosen:
        names = ", ".join(image.name for image in project.images[:5])
        raise UsageError(f"--images {pattern}: no image of the project has such a name; there are {names}")
    return chosen


def check_identities(images: Sequence[QuPathImage]) -> None:
    """Refuses two entries that are the same image: their objects would have the same ids.

    Raises:
        InputRefused: Names both.
    """
    seen: dict[str, str] = {}
    for image in images:
        try:
            key = image.identity.key()
        except TissuebridgeError:  # told when its turn comes
            continue
        if key in seen:
            raise InputRefused(
                f"{seen[key]} and {image.entry.entry_name} are the same image, twice in the project. Choose one with "
                "--images, or remove one in QuPath."
            )
        seen[key] = image.entry.entry_name


def _together(parts: Sequence[Changes]) -> Changes:
    told: dict[str, int] = {}
    for part in parts:
        for key, count in part.told.items():
            told[key] = told.get(key, 0) + count
    # Each part counts all kept objects of runs.
    told["kept"] = max((part.told.get("kept", 0) for part in parts), default=0)
    return Changes(
        [gone for part in parts for gone in part.gone],
        [obj for part in parts for obj in part.added],
        [parent for part in parts for parent in part.parents],
        told,
    )


def _distances_px(found: Analysis) -> dict[str, float]:
    """Within which distance two cells of a class are one: the least distance of two peaks, or a radius if more."""
    model = found.model
    return {
        name: max(distance, diameter / 2) / found.image.pixel_size_um
        for name, distance, diameter in zip(
            model.cell_classes, model.min_distance_um, model.cell_diameters_um, strict=True
        )
    }


def _keep_project_files(project: QuPathProject, place: Path) -> None:
    """Copies the project's own small files; QuPath keeps just one older version, and no list of classes."""
    folder = project.file.parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path in (project.file, folder.joinpath(*CLASSES)):
            if path.is_file() and not (place / path.name).exists():
                with suppress(FileNotFoundError):
                    shutil.copy2(path, place / path.name)
    except OSError as error:
        raise storage_error(place, error) from error
