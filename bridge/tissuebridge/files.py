"""Files that are whole or not there: every result that must survive a crash is written through here.

Stands below everything that writes (GeoJSON, label maps, journal, reports). Bytes come in, one file goes out,
put in place by a single rename, so that a reader never meets half of it and a failure leaves the old file as
it was.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from tissuebridge.errors import Conflict, StorageError, TissuebridgeError
from tissuemodel.atomic import TEMPORARY_PREFIX, whole_file

__all__ = ["TEMPORARY_PREFIX", "atomic_write", "not_ours", "storage_error"]

_CURES: Final = {
    errno.ENOSPC: "Free some space on that disk and run again",
    errno.EDQUOT: "Your quota on that disk is used up; free some space and run again",
    errno.EACCES: "Choose a folder you may write to, and close the file in other programs",
    errno.EPERM: "Choose a folder you may write to, and close the file in other programs",
    errno.EROFS: "That disk is read-only; choose another folder",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a binary file that appears at `path` only when the block ends without an error.

    Missing folders are made. The bytes go to a temporary file in the same folder, reach the disk (fsync), and
    take the name in one step; then the folder is synced too where the system can.

    Args:
        path: Where the file shall be; a link is followed, so that what it points to is replaced.

    Yields:
        The open file, for writing only.

    Raises:
        StorageError: The disk is full, the folder may not be written to, ...; the old file is untouched.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder, "new", "a.txt")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(folder, "new", "a.txt").read_bytes()
    b'whole'
    """
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as file:
            yield file
    except OSError as error:
        if isinstance(error, TissuebridgeError):
            raise
        raise storage_error(path, error) from error


def not_ours(path: Path) -> Conflict:
    """What to raise where a person's file has the name of one of ours."""
    return Conflict(
        f"{path}: not written by tissuebridge, so it stays. Move it away or choose another --output."
    )


def storage_error(path: Path, error: OSError) -> StorageError:
    """What an operating system's error on writing `path` means for a person, with the cure.

    >>> str(storage_error(Path("a.geojson"), OSError(28, "No space left on device")))
    'a.geojson: cannot be written: No space left on device. Free some space on that disk and run again.'
    """
    cure = _CURES.get(error.errno or 0, "Check the folder and run again")
    return StorageError(f"{path}: cannot be written: {error.strerror or error}. {cure}.")
