"""Files that appear whole or not at all, whenever the process is killed; what `checkpoint` and `state` save through.

Bytes come in, files go out: written beside their final place, synced, renamed. Nothing passes through the system's
folder for temporary files, which may be another file system, where a rename becomes a copy. Imports no torch, so that
the bridge writes its files through it too.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

TEMPORARY_PREFIX: Final = ".tissuebridge-"
"""Temporary files start so and end in ``.tmp``; after a kill they may be deleted by hand."""

_LONGEST_NAME: Final = 40
"""Characters of the file's name that its temporary file repeats, so that the latter's name is never too long."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a binary file that appears at `path`, whose folder exists, only when the block ends without an error.

    Yields:
        The open file, for writing only.

    Raises:
        OSError: The file cannot be written; the old one is untouched and nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        # "x" instead of tempfile, whose mode 0600 would shut colleagues out of the results.
        with temporary.open("xb") as file:
            yield file
            _sync(file)
        temporary.replace(path)
    except BaseException:  # also Ctrl-C
        _remove(temporary)
        raise
    sync_folder(path.parent)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Replaces files that belong together, in the given order, once all of them are on the disk under other names.

    A kill before the first rename leaves the old files. One after it leaves the later files' temporaries, complete,
    where `leftovers` finds them. When all is done, temporaries of earlier, killed writers are removed.

    Args:
        contents: Path to content; all in one folder, which exists.

    Raises:
        OSError: Nothing was changed; or the first file was replaced and a later one could not be: then its
            temporary stays for `leftovers`.
    """
    temporaries = {path: _temporary(path) for path in contents}
    try:
        for path, content in contents.items():
            with temporaries[path].open("xb") as file:
                file.write(content)
                _sync(file)
        first = next(iter(contents))
        temporaries[first].replace(first)
    except BaseException:
        for temporary in temporaries.values():
            _remove(temporary)
        raise
    for path in [path for path in contents if path != first]:
        _put(temporaries[path], path, contents[path])
    sync_folder(first.parent)
    for path in contents:
        sweep(path)


def leftovers(path: Path) -> list[Path]:
    """Temporary files that killed writers of `path` left behind, or that one is writing now."""
    ours = re.compile(re.escape(_stem(path)) + "[0-9a-f]{16}[.]tmp")
    try:
        return sorted(entry for entry in path.parent.iterdir() if ours.fullmatch(entry.name))
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []


def sweep(path: Path) -> None:
    """Removes what killed writers of `path` left behind; only for files that one process at a time writes."""
    for leftover in leftovers(path):
        _remove(leftover)


def sync_folder(folder: Path) -> None:
    """Makes a rename survive a power loss; Windows has no such call, some network disks refuse it."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _stem(path: Path) -> str:
    return f"{TEMPORARY_PREFIX}{path.name[-_LONGEST_NAME:]}-"


def _temporary(path: Path) -> Path:
    return path.parent / f"{_stem(path)}{secrets.token_hex(8)}.tmp"


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _put(temporary: Path, path: Path, content: bytes) -> None:
    """The rename; a reader who found the temporary may have been quicker."""
    try:
        temporary.replace(path)
    except FileNotFoundError:
        if path.read_bytes() != content:
            raise


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
