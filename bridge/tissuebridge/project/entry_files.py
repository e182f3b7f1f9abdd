"""The files in which QuPath keeps one image's objects, and whether a save of them broke off.

QuPath moves `data.qpdata` to `data.qpdata.bkp`, writes the new one in place, deletes the copy, then writes
`summary.json`. Stopped in between, it leaves half a file; the next save moves that over the good copy, and everything
is lost. So nothing here is saved over before the files were looked at, and nothing is ever thrown away: what is put
aside keeps a place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from tissuebridge.errors import InputRefused
from tissuebridge.files import storage_error
from tissuemodel.atomic import sync_folder

DATA: Final = "data.qpdata"
BACKUP: Final = "data.qpdata.bkp"
SUMMARY: Final = "summary.json"

_ENDS: Final = b"\x74\x00\x03EOF"
"""The serialised string "EOF" that every QuPath writes last."""


@dataclass(frozen=True, slots=True)
class EntryFiles:
    """Where QuPath keeps an image's objects.

    Attributes:
        folder: `data/NUMBER` in the project.
    """

    folder: Path

    @property
    def data(self) -> Path:
        """The objects."""
        return self.folder / DATA

    @property
    def backup(self) -> Path:
        """What QuPath moves them to while it saves."""
        return self.folder / BACKUP

    @property
    def summary(self) -> Path:
        """QuPath's count of them."""
        return self.folder / SUMMARY

    def trouble(self) -> str | None:
        """What is wrong with the files, so that nothing may be saved over them; None where all is well.

        An image that was never saved has no files, and no trouble.
        """
        has_data, has_backup = self.data.is_file(), self.backup.is_file()
        if has_data and not is_whole(self.data):
            left = (
                f"; {BACKUP} is {'whole' if is_whole(self.backup) else 'damaged too'}" if has_backup else ""
            )
            return f"{DATA} is incomplete: a save broke off{left}"
        if has_backup:
            state = "is whole" if has_data else "is missing"
            return f"{BACKUP} was left behind: a save broke off ({DATA} {state})"
        count = self.saved_count()
        if not has_data and count:
            return f"{DATA} is missing, though {SUMMARY} counts {count:,} objects"
        return None

    def saved_count(self) -> int | None:
        """How many objects there were when QuPath last saved (without the root); None where it is not told.

        A summary older than the data is that of an earlier save: QuPath was stopped between the two.
        """
        try:
            if self.data.is_file() and self.summary.stat().st_mtime_ns < self.data.stat().st_mtime_ns:
                return None
            count = orjson.loads(self.summary.read_bytes())["hierarchy"]["nObjects"]
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            return None
        return count - 1 if isinstance(count, int) else None

    def check(self, what: str) -> None:
        """Refuses to go on where a save broke off.

        Raises:
            InputRefused: Says what is wrong, and the cure.
        """
        if trouble := self.trouble():
            raise InputRefused(
                f"{what}: {trouble}. Close the project in QuPath, then run `tissuebridge repair PROJECT`; "
                "until then nothing is read from it or written to it."
            )

    def check_count(self, what: str, loaded: int) -> None:
        """Refuses objects that are not as many as QuPath saved: what could not be read would be saved away.

        Raises:
            InputRefused: Says both numbers, and the cure.
        """
        saved = self.saved_count()
        if saved is not None and saved != loaded:
            raise InputRefused(
                f"{what}: {loaded:,} objects were read, but QuPath's {SUMMARY} counts {saved:,}. Nothing is written. "
                "Open the image in QuPath: if all objects are there, save it once; if not, run "
                "`tissuebridge doctor PROJECT`."
            )


def repaired(files: EntryFiles, snapshots: Sequence[Path], aside: Path) -> str | None:
    """Puts the newest whole objects back in their place; what is damaged or left over is put aside, never deleted.

    Args:
        files: Of an image.
        snapshots: Whole copies that runs took, the latest last; asked where QuPath's own copy is no good.
        aside: Folder for what is taken away.

    Returns:
        What was done, or None where nothing was wrong.

    Raises:
        InputRefused: There is no whole copy anywhere.
        StorageError: A file could not be moved.
    """
    trouble = files.trouble()
    if trouble is None:
        return None
    if is_whole(files.data):
        put_aside(files.backup, aside)
        return f"{trouble}; kept {DATA}, put {BACKUP} into {aside}"
    if is_whole(files.backup):
        _put_aside_if_there(files.data, aside)
        linked(files.backup, files.data)
        files.backup.unlink()
        return f"{trouble}; {BACKUP} is {DATA} again"
    if not snapshots:
        raise InputRefused(
            f"{files.folder}: {trouble}, and there is no whole copy. Restore {DATA} from your own backup."
        )
    restored(files, snapshots[-1].parent, aside)
    return f"{trouble}; restored from the snapshot of run {snapshots[-1].parent.parent.name}"


def restored(files: EntryFiles, snapshot: Path, aside: Path | None) -> None:
    """Puts a snapshot's files back, byte for byte; an image that had none before has none again.

    Args:
        files: Of an image.
        snapshot: The folder with the copies.
        aside: Where the present files go; None where they are nothing to keep.

    Raises:
        StorageError: A file could not be moved.
    """
    if aside is not None:
        _put_aside_if_there(files.data, aside)
        _put_aside_if_there(files.backup, aside)
    # The summary first: stopped in between, it is older than the data, and counts for nothing.
    for path, place in ((files.summary, copied), (files.data, linked)):
        if (snapshot / path.name).is_file():
            place(snapshot / path.name, path)
        else:
            path.unlink(missing_ok=True)
    files.backup.unlink(missing_ok=True)


def _put_aside_if_there(path: Path, aside: Path) -> None:
    if path.is_file():
        put_aside(path, aside)


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one state of a file from another without reading it; zeros where there is no file."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The file's state now."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return cls(0, 0, 0)
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def is_whole(data: Path) -> bool:
    """Whether a `data.qpdata` was written to its end."""
    try:
        with data.open("rb") as file:
            file.seek(-len(_ENDS), os.SEEK_END)
            return file.read() == _ENDS
    except OSError:  # missing, or shorter than the mark
        return False


def linked(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where links cannot be (exFAT, network drives); the target is whole at once.

    Only for files that are replaced, never written in place: QuPath moves `data.qpdata` before it writes a new one.

    Raises:
        StorageError: It could not be made.
    """
    _placed(source, target, may_link=True)


def copied(source: Path, target: Path) -> None:
    """A copy of a file, with its times; the target is whole at once.

    Raises:
        StorageError: It could not be made.
    """
    _placed(source, target, may_link=False)


def _placed(source: Path, target: Path, *, may_link: bool) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        if not (may_link and _link(source, temporary)):
            shutil.copy2(source, temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        # Renaming over another name of the same file does nothing, and leaves the temporary name.
        if target.exists() and target.samefile(temporary):
            temporary.unlink()
        else:
            temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error(target, error) from error


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def put_aside(path: Path, folder: Path) -> Path:
    """Moves a file into a folder, under a name that is free there.

    Raises:
        StorageError: It could not be moved.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target, number = folder / path.name, 1
        while target.exists():
            number += 1
            target = folder / f"{path.name}.{number}"
        path.replace(target)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    return target


def synced(path: Path) -> None:
    """Makes sure that a file, and its name, are on the disk.

    Raises:
        StorageError: The disk refused.
    """
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
