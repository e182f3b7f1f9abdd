"""One writer at a time in a folder: an advisory lock that the operating system takes back when its holder dies.

Stands beside `files`, below everything that writes a folder over time (training, proposals' review). A crash leaves no
lock behind, at most an empty hidden file that means nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tissuebridge.errors import Conflict
from tissuebridge.files import storage_error

LOCK_FILE: Final = ".tissuebridge.lock"

_HELD: Final = frozenset((errno.EACCES, errno.EAGAIN, errno.EDEADLK))
_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Holds a folder's lock.

    On a file system that knows no locks (some network drives) nothing is held, and the log says so.

    Args:
        folder: Made if it is missing.
        what: What is done there, for the message to others: "a training".

    Raises:
        Conflict: Another process (or this one) holds it.
        StorageError: The folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder), "a test"):
    ...     Path(folder, LOCK_FILE).exists()
    True
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _own(path)
    except OSError as error:
        if error.errno not in _HELD:
            raise storage_error(path, error) from error
        raise Conflict(
            f"{folder}: {what} is already under way here. Wait for its end, or choose another folder."
        ) from error
    try:
        yield
    finally:
        # Removed while it is still held, so that nobody's else is removed; where that cannot be, it means nothing.
        with suppress(OSError):
            path.unlink()
        os.close(file)


def _own(path: Path) -> int:
    """The open lock file; the one that lies there, not one that its holder has just removed."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(file, path)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, path: Path) -> None:
    """Locks without waiting.

    Raises:
        OSError: Somebody holds it.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise
        _log.warning("%s: cannot be locked (%s); let nobody else write there meanwhile", path, error.strerror)
