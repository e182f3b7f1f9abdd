"""Puts a run's results into an image of a QuPath project, so that nothing of a person's is ever lost.

QuPath's own saving loses data when it is stopped twice, runs out of memory, or meets another writer. So, per image:
the files are looked at, kept as a snapshot, loaded, counted, changed in memory, saved once, synced, read again from the
disk and counted again; anything amiss brings the snapshot back. `reconcile` decides what changes, `runs` keeps the
books; `ObjectStore` is who reads and writes (QuPath, through paquo). Results are in our journal before any of it, so a
failure here never costs the analysis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import numpy as np

from tissuebridge.errors import Conflict, StorageError
from tissuebridge.files import atomic_write
from tissuebridge.geojson_geometry import on_grid
from tissuebridge.objects import PathObject, provenance, with_provenance
from tissuebridge.project.entry_files import EntryFiles, FileState, repaired, restored, synced
from tissuebridge.project.flat import halves, uuids
from tissuebridge.writeback.reconcile import Changes, Deleted
from tissuebridge.writeback.remembered import Memory
from tissuebridge.writeback.runs import FAILED, SAVING, WRITTEN, ImageRecord, RunRecord, Runs, sha256_of

MEMORY: Final = "memory.npz"
REPLACED: Final = "replaced.npy"
LOST: Final = "put aside"
"""Folder, below ours, for files that a repair took away."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An image's objects.

    Attributes:
        objects: Those that have a shape.
        count: Of all, as QuPath counts them.
    """

    objects: Sequence[PathObject]
    count: int


class ObjectStore(Protocol):
    """An image's objects where a person keeps them, as QuPath saves them."""

    @property
    def entry_id(self) -> str:
        """Number of the image in its project."""
        ...

    @property
    def name(self) -> str:
        """The image's name, for people."""
        ...

    @property
    def files(self) -> EntryFiles:
        """Where the objects lie."""
        ...

    def check(self, new: int) -> None:
        """Refuses a change that cannot succeed, before anything is touched.

        Args:
            new: How many objects will be added.

        Raises:
            ImageError: The image's own file is gone; QuPath could not save.
            ResourceLimit: Java's memory would not suffice.
        """
        ...

    def load(self) -> Loaded:
        """Loads the objects for a change."""
        ...

    def change(self, changes: Changes, snapshot: Path | None) -> None:
        """Changes the loaded objects; objects that return come from the snapshot, with all they were."""
        ...

    def save(self) -> None:
        """Saves them over the old file."""
        ...

    def read(self) -> Loaded:
        """Reads the objects from the disk, not from memory."""
        ...

    def forget(self) -> None:
        """Releases what was loaded."""
        ...


Decide = Callable[[Sequence[PathObject], Deleted], Changes]
"""What changes, of the image's objects and what a person deleted."""


def write_back(
    store: ObjectStore,
    runs: Runs,
    record: RunRecord,
    decide: Decide,
    *,
    expected: int = 0,
    snapshot: Path | None = None,
) -> RunRecord:
    """Changes one image's objects; on any failure the image is as before.

    Args:
        store: The image.
        runs: The project's runs; somebody holds their lock.
        record: This run.
        decide: What changes.
        expected: How many objects will about be added, for the check of memory.
        snapshot: Where objects come back from, if any do.

    Returns:
        The run's record with the image in it.

    Raises:
        InputRefused: A save broke off earlier, or not all objects can be read: nothing was touched.
        Conflict: Somebody else saved the image meanwhile: theirs stays.
        ResourceLimit: Java's memory does not suffice; the image is as before.
        StorageError: The disk refused; the image is as before.
        ImageError: The image's own file is gone.
    """
    files, entry_id = store.files, store.entry_id
    recover(store, runs)
    files.check(store.name)
    store.check(expected)
    before = FileState.of(files.data)
    try:
        found = store.load()
        files.check_count(store.name, found.count)
        deleted = last_memory(runs, entry_id).noticed(found.objects, store.name)
        changes = decide(found.objects, deleted.as_deleted())
        place = runs.place(record.run, entry_id)
        objects: Sequence[PathObject] = found.objects
        if not changes.is_nothing:
            runs.take_snapshot(record.run, entry_id, files)
            save_ids(place / REPLACED, changes.gone)
            record = runs.with_image(record, entry_id, ImageRecord(store.name, SAVING, changed=True))
            store.change(changes, snapshot)
            _save(store, before, place)
            # A million objects in Java twice would be too many.
            store.forget()
            objects = _verified(store, _ids_after(found, changes), place)
    finally:
        store.forget()
    Memory.of(objects, deleted).save(place / MEMORY)
    image = ImageRecord(
        store.name, WRITTEN, sha256_of(files.data), not changes.is_nothing, dict(changes.told)
    )
    record = runs.with_image(record, entry_id, image)
    runs.drop_old(entry_id)
    return record


def recover(store: ObjectStore, runs: Runs) -> str | None:
    """Puts right what a run of ours left that was killed while it saved; tells what was done.

    Raises:
        StorageError: A file could not be moved.
    """
    record = runs.broken_off(store.entry_id)
    if record is None or store.files.trouble() is None:
        return None
    return bring_back(store.files, runs.place(record.run, store.entry_id))


def bring_back(files: EntryFiles, snapshot: Path) -> str | None:
    """The files as they were before a save of ours that broke off; tells what was done, None where they are whole.

    Raises:
        StorageError: A file could not be moved.
    """
    aside = snapshot / LOST
    if files.trouble() is None:
        return None
    if not files.backup.is_file() and not (snapshot / files.data.name).is_file():
        # There were no objects before.
        restored(files, snapshot, aside)
        return "the first save broke off; nothing was lost"
    return repaired(files, [snapshot / files.data.name], aside)


def last_memory(runs: Runs, entry_id: str, before: int | None = None) -> Memory:
    """What is remembered of an image; of a run that was killed while it saved, only the deletions before it.

    Args:
        runs: The project's.
        entry_id: The image.
        before: Only runs with smaller numbers; None for all.
    """
    written = [
        record
        for record in runs.all()
        if entry_id in record.images
        and record.images[entry_id].state != FAILED
        and (before is None or record.number < before)
    ]
    for record in reversed(written):
        path = runs.place(record.run, entry_id) / MEMORY
        if path.is_file():
            memory = Memory.load(path)
            is_last = record is written[-1] and record.images[entry_id].state != SAVING
            return memory if is_last else Memory({}, memory.deleted)
    return Memory()


def as_written(objects: Iterable[PathObject]) -> list[PathObject]:
    """Objects with coordinates on the grid of 1/16 px, as they are written everywhere, and their digests with them."""
    given = list(objects)
    geometries, snapped = on_grid([obj.geometry for obj in given], [str(obj.id) for obj in given])
    fitted = [replace(obj, geometry=geometry) for obj, geometry in zip(given, geometries, strict=True)]
    for place in snapped:
        if (origin := provenance(fitted[place])) is not None:
            fitted[place] = with_provenance(fitted[place], origin)
    return fitted


def save_ids(path: Path, ids: Sequence[UUID]) -> None:
    """Keeps ids, int64 (n, 2).

    Raises:
        StorageError: They could not be written.
    """
    with atomic_write(path) as file:
        np.save(file, halves(ids), allow_pickle=False)


def load_ids(path: Path) -> list[UUID]:
    """What `save_ids` kept; none where there is no file."""
    return uuids(np.load(path, allow_pickle=False)) if path.is_file() else []


def _save(store: ObjectStore, before: FileState, place: Path) -> None:
    files = store.files
    if FileState.of(files.data) != before:
        raise Conflict(
            f"{store.name}: its objects were saved by another program while they were being changed; that save stays. "
            "Close the image in QuPath, and run the same command again."
        )
    try:
        store.save()
        synced(files.data)
    except BaseException:  # also Ctrl-C
        bring_back(files, place)
        raise


def _verified(store: ObjectStore, wanted: set[UUID], place: Path) -> Sequence[PathObject]:
    """The objects as the disk has them now.

    Raises:
        StorageError: They are not what was saved; the snapshot is back.
    """
    found = store.read()
    have = {obj.id for obj in found.objects}
    if have != wanted:
        restored(store.files, place, place / LOST)
        raise StorageError(
            f"{store.name}: {len(wanted - have):,} objects are missing after saving, {len(have - wanted):,} are there "
            "that should not be. The objects are as before; run again, and report this if it happens twice."
        )
    return found.objects


def _ids_after(found: Loaded, changes: Changes) -> set[UUID]:
    ids = {obj.id for obj in found.objects if obj.id is not None} - set(changes.gone)
    return ids | {obj.id for obj in changes.added if obj.id is not None} | set(changes.returned)
