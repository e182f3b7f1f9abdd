"""What each run did to a QuPath project, so that it can be undone, and what a person did since be noticed.

Below `<project>/tissuebridge/`: `runs/RUN.json` tells what a run did to which image; `backup/RUN/ENTRY/` has the
image's files as they were before (hard links, which cost nothing until QuPath saves anew), the ids of replaced
objects, and what the run remembers of its own (`remembered`). Every file is whole or not there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

from tissuebridge.errors import InputRefused, StorageError, UsageError
from tissuebridge.files import atomic_write
from tissuebridge.project.entry_files import DATA, EntryFiles, copied, is_whole, linked

KEPT_SNAPSHOTS: Final = 5
"""Of each image; older ones go when a newer run is done. Each holds as much disk as the image's objects."""
DROPPED: Final = "dropped"
"""An empty file where a snapshot was."""
SAVING: Final = "saving"
WRITTEN: Final = "written"
UNDONE: Final = "undone"
UNDO: Final = "undo"
"""The command whose runs are not undone themselves."""
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a run did to one image.

    Attributes:
        name: The image's, for people.
        state: `SAVING` from before the save on, `WRITTEN` once it was read back, `UNDONE`, or `FAILED`.
        after: SHA-256 of the objects' file as the run left it.
        changed: Whether the run changed the file.
        told: Counts, as `reconcile.Changes.told`.
        error: Why it failed.
    """

    name: str
    state: str
    after: str = ""
    changed: bool = False
    told: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run did.

    Attributes:
        run: Its id.
        number: Runs of a project are numbered; a later one has a greater number, whatever the clock says.
        command: What was run, such as "analyse" or "undo".
        model: The model's name, or "".
        decides: What decided its results, so that the same command resumes it.
        started: When, for people (ISO, UTC).
        finished: Whether all images were gone through.
        images: By entry id.
    """

    run: str
    number: int
    command: str
    model: str
    decides: str
    started: str
    finished: bool = False
    images: Mapping[str, ImageRecord] = field(default_factory=dict)


class Runs:
    """The runs of a project.

    Args:
        folder: `<project>/tissuebridge`; made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[RunRecord]:
        """Every run, the latest last.

        Raises:
            InputRefused: A record is damaged.
        """
        return sorted(
            map(self._read, (self.folder / "runs").glob("*.json")), key=lambda record: record.number
        )

    def get(self, run: str) -> RunRecord:
        """One run, by its id or the beginning of it.

        Raises:
            UsageError: There is none, or several; lists them.
        """
        every = self.all()
        found = [record for record in every if record.run.startswith(run)]
        if len(found) == 1:
            return found[0]
        known = "; ".join(
            f"{record.run} ({record.command}, {record.started})" for record in (found or every)[-5:]
        )
        raise UsageError(
            f"{run}: {'several runs begin so' if found else 'no such run'}. Known: {known or 'none'}"
        )

    def begun(self, run: str, command: str, model: str, decides: str) -> RunRecord:
        """A new run's record, or that of the unfinished run of the same command, which goes on.

        Raises:
            StorageError: It could not be written.
        """
        every = self.all()
        if every and not every[-1].finished and decides and every[-1].decides == decides:
            return every[-1]
        number = 1 + (every[-1].number if every else 0)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = RunRecord(run, number, command, model, decides, started)
        self.write(record)
        return record

    def write(self, record: RunRecord) -> None:
        """Puts a run's record on the disk.

        Raises:
            StorageError: It could not be written.
        """
        with atomic_write(self.folder / "runs" / f"{record.run}.json") as file:
            file.write(orjson.dumps(asdict(record), option=orjson.OPT_INDENT_2))

    def with_image(self, record: RunRecord, entry_id: str, image: ImageRecord) -> RunRecord:
        """The record with what became of an image, on the disk too.

        Raises:
            StorageError: It could not be written.
        """
        changed = replace(record, images={**record.images, entry_id: image})
        self.write(changed)
        return changed

    def latest(self, entry_id: str) -> RunRecord | None:
        """The last run that changed an image and was not undone."""
        for record in reversed(self.all()):
            image = record.images.get(entry_id)
            if image is not None and image.changed and image.state != UNDONE and record.command != UNDO:
                return record
        return None

    def broken_off(self, entry_id: str) -> RunRecord | None:
        """The last run, if it was killed while it saved an image."""
        for record in reversed(self.all()):
            if (image := record.images.get(entry_id)) is not None and image.changed:
                return record if image.state == SAVING else None
        return None

    def place(self, run: str, entry_id: str) -> Path:
        """Where a run keeps what it needs to be undone, for an image."""
        return self.folder / "backup" / run / entry_id

    def take_snapshot(self, run: str, entry_id: str, files: EntryFiles) -> Path:
        """Keeps an image's files as they are, before the first change; gives the folder.

        Raises:
            StorageError: They could not be kept.
        """
        place = self.place(run, entry_id)
        place.mkdir(parents=True, exist_ok=True)
        # QuPath writes the summary in place: a link to it would change with it.
        for path, keep in ((files.summary, copied), (files.data, linked)):
            if path.is_file() and not (place / path.name).exists():
                keep(path, place / path.name)
        return place

    def snapshots(self, entry_id: str) -> list[Path]:
        """Whole snapshots of an image's objects, the latest last."""
        places = [self.place(record.run, entry_id) / DATA for record in self.all()]
        return [path for path in places if is_whole(path)]

    def drop_old(self, entry_id: str) -> None:
        """Drops snapshots beyond the number that is kept; records stay."""
        for path in self.snapshots(entry_id)[:-KEPT_SNAPSHOTS]:
            path.with_name(DROPPED).touch()
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> RunRecord:
        try:
            given = orjson.loads(path.read_bytes())
            images = {key: ImageRecord(**value) for key, value in given.pop("images").items()}
            return RunRecord(**given, images=images)
        except OSError as error:
            raise StorageError(f"{path}: cannot be read: {error.strerror}. Check its permissions.") from error
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise InputRefused(f"{path}: this record of a run is damaged ({error}). Move it away.") from error


def sha256_of(path: Path) -> str:
    """The digest of a file; "" where there is none.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}. Check its permissions.") from error
