"""Takes a run back: byte for byte where nobody saved since, else object by object, with all of a person's work kept.

`undo` and `remove` on the command line; both are runs themselves, with a snapshot, so that they can be undone too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from tissuebridge.errors import Conflict, UsageError
from tissuebridge.objects import PathObject
from tissuebridge.project.entry_files import DATA, restored
from tissuebridge.writeback.apply import (
    MEMORY,
    REPLACED,
    ObjectStore,
    last_memory,
    load_ids,
    recover,
    write_back,
)
from tissuebridge.writeback.reconcile import Changes, removed
from tissuebridge.writeback.runs import (
    DROPPED,
    SAVING,
    UNDONE,
    WRITTEN,
    ImageRecord,
    RunRecord,
    Runs,
    sha256_of,
)


def undo_image(store: ObjectStore, runs: Runs, undoing: RunRecord, undone: RunRecord) -> RunRecord:
    """Undoes what a run did to one image.

    If the file is as the run left it, the snapshot comes back byte for byte. Otherwise the run's untouched objects go,
    those it replaced return from the snapshot, and everything else stays.

    Args:
        store: The image.
        runs: The project's runs; somebody holds their lock.
        undoing: The record of this undoing.
        undone: The run to undo.

    Returns:
        The record of this undoing, with the image in it.

    Raises:
        Conflict: A later run changed the image: that one has to be undone first.
        UsageError: Its snapshot was dropped.
        TissuebridgeError: As for `write_back`.
    """
    entry_id, image = store.entry_id, undone.images[store.entry_id]
    recover(store, runs)
    latest = runs.latest(entry_id)
    if image.changed and latest is not None and latest.run != undone.run:
        raise Conflict(
            f"{store.name}: run {latest.run} ({latest.command}) changed it after {undone.run}. Undo that one first."
        )
    snapshot = runs.place(undone.run, entry_id)
    replaced = load_ids(snapshot / REPLACED)
    if image.changed and image.after and image.after == sha256_of(store.files.data):
        _check_kept(store, undone, snapshot, is_needed=True)
        undoing = _put_back(store, runs, undoing, undone)
    elif image.changed:
        _check_kept(store, undone, snapshot, is_needed=bool(replaced))
        undoing = write_back(
            store,
            runs,
            undoing,
            lambda existing, _: _taken_back(existing, undone.run, replaced),
            expected=len(replaced),
            snapshot=snapshot / DATA,
        )
    # Read anew: it has the state of the images before this one.
    runs.with_image(runs.get(undone.run), entry_id, replace(image, state=UNDONE))
    return undoing


def remove_image(
    store: ObjectStore, runs: Runs, record: RunRecord, of_runs: Sequence[str] | None
) -> RunRecord:
    """Removes untouched objects of some runs (None: of all) from one image.

    Raises:
        TissuebridgeError: As for `write_back`.
    """
    return write_back(store, runs, record, lambda existing, _: removed(existing, of_runs))


def _check_kept(store: ObjectStore, undone: RunRecord, snapshot: Path, *, is_needed: bool) -> None:
    """Refuses where the snapshot was dropped; a run whose image had no objects before never had one."""
    if is_needed and (snapshot / DROPPED).exists():
        raise UsageError(
            f"{store.name}: the snapshot of run {undone.run} was dropped, since newer runs have theirs; "
            "`tissuebridge remove` takes its results away"
        )


def _put_back(store: ObjectStore, runs: Runs, undoing: RunRecord, undone: RunRecord) -> RunRecord:
    """The file as it was before the run, to the byte."""
    entry_id, files = store.entry_id, store.files
    place = runs.take_snapshot(undoing.run, entry_id, files)
    undoing = runs.with_image(undoing, entry_id, ImageRecord(store.name, SAVING, changed=True))
    restored(files, runs.place(undone.run, entry_id), None)
    last_memory(runs, entry_id, before=undone.number).save(place / MEMORY)
    told = {"byte for byte": 1}
    image = ImageRecord(store.name, WRITTEN, sha256_of(files.data), changed=True, told=told)
    return runs.with_image(undoing, entry_id, image)


def _taken_back(existing: Sequence[PathObject], run: str, replaced: Sequence[UUID]) -> Changes:
    """The run's untouched objects go; what they replaced returns, unless a person has it already."""
    without = removed(existing, {run})
    have = {obj.id for obj in existing} - set(without.gone)
    returned = [replaced_id for replaced_id in replaced if replaced_id not in have]
    return replace(without, returned=returned, told={**without.told, "returned": len(returned)})
