"""A QuPath project as its files tell it, without Java: which images it has, where they are, what they measure.

`project.qpproj` (JSON) comes in, `Entry` values go out. Objects are in each entry's `data.qpdata`, which only QuPath
reads (`paquo`); whether that file is whole can be told here. Listing, `--dry-run` and `doctor` need no more than this.
"""

from __future__ import annotations

import json
import math
import ntpath
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import orjson

from tissuebridge.errors import InputRefused, UsageError
from tissuebridge.project.base import Level
from tissuebridge.project.entry_files import EntryFiles
from tissuebridge.project.folder import IMAGE_SUFFIXES, name_of

PROJECT_SUFFIX: Final = ".qpproj"
PROJECT_FILE: Final = "project.qpproj"
_NO_FILE_NAME: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_UM: Final = frozenset(("µm", "μm", "um"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a QuPath project.

    Attributes:
        id: The entry's number in the project, as text; never changes.
        name: For people and files: QuPath's name without the extension, unique in the project.
        entry_name: QuPath's name of the image.
        folder: Where QuPath keeps what belongs to it.
        uris: Where its pixels come from.
        series: Which image of the file.
        transform: How QuPath changes the file's pixels (crop, rotation), as text; "" for not at all.
        levels: Full resolution first; empty where the project does not tell.
        pixel_size_um: (width, height) of a pixel; None without a calibration.
        is_rgb: Whether it is 8-bit RGB; None where the project does not tell.
        planes: Number of planes (z times t).
        metadata: What a person entered.
    """

    id: str
    name: str
    entry_name: str
    folder: Path
    uris: Sequence[str]
    series: int
    transform: str
    levels: Sequence[Level]
    pixel_size_um: tuple[float, float] | None
    is_rgb: bool | None
    planes: int
    metadata: Mapping[str, str]

    @property
    def files(self) -> EntryFiles:
        """The files in its folder."""
        return EntryFiles(self.folder)

    @property
    def path(self) -> Path | None:
        """The image file, where it is a file on this machine; it need not be there."""
        return path_of_uri(self.uris[0]) if len(self.uris) == 1 else None


def is_project(path: Path) -> bool:
    """Whether a SOURCE is a QuPath project: a `.qpproj` file, or a folder with one called `project.qpproj`.

    >>> is_project(Path("cohort/project.qpproj")), is_project(Path("cohort.geojson"))
    (True, False)
    """
    return path.suffix.lower() == PROJECT_SUFFIX or (path / PROJECT_FILE).is_file()


def project_file(path: Path) -> Path:
    """The `.qpproj` of a SOURCE.

    Raises:
        UsageError: There is none.
        InputRefused: It is missing, yet QuPath's own copy is there: a save of the project broke off.
    """
    file = path / PROJECT_FILE if path.is_dir() else path
    if file.is_file():
        return file
    left = [
        copy
        for copy in (file.with_name(f"{file.name}.backup"), file.with_name(f"{file.name}.tmp"))
        if copy.is_file()
    ]
    if left:
        raise InputRefused(
            f"{file}: missing, but {left[0].name} is there: QuPath was stopped while it saved the project. "
            f"Run `tissuebridge repair {file.parent}`."
        )
    raise UsageError(f"{file}: no such file")


def read_entries(file: Path) -> tuple[Entry, ...]:
    """The images of a project, in its own order.

    Raises:
        InputRefused: The file is damaged, or of a version that cannot be read.
    """
    try:
        content = orjson.loads(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        images = content["images"]
        found = [_entry(given, file.parent) for given in images]
    except OSError as error:
        raise InputRefused(f"{file}: cannot be read: {error.strerror}. Check its permissions.") from error
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputRefused(
            f"{file}: this is no QuPath project that can be read ({error}). Open it in QuPath; a copy of it may lie "
            f"beside it as {file.name}.backup."
        ) from error
    doubled = {entry_id for entry_id, count in Counter(entry.id for entry in found).items() if count > 1}
    if doubled:
        raise InputRefused(
            f"{file}: several images have the entry ID {min(doubled)}. Save the project in QuPath."
        )
    return tuple(_uniquely_named(found))


def path_of_uri(uri: str, *, windows: bool = os.name == "nt") -> Path | None:
    """The path that a file URI means, in all the ways that programs write them; None for another scheme.

    >>> path_of_uri("file:/data/a%20b.svs", windows=False), path_of_uri("https://omero/1")
    (PosixPath('/data/a b.svs'), None)
    """
    text = path_text_of_uri(uri, windows=windows)
    return None if text is None else Path(text)


def path_text_of_uri(uri: str, *, windows: bool) -> str | None:
    r"""The path of a file URI, as that system writes paths.

    >>> path_text_of_uri("file:///C:/slides/%C3%A4.svs", windows=True)
    'C:\\slides\\ä.svs'
    >>> path_text_of_uri("file://server/share/a.svs", windows=True)
    '\\\\server\\share\\a.svs'
    """
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme.lower() != "file" or "\x00" in unquote(parts.path):
        return None
    path = unquote(parts.path)
    host = "" if parts.netloc.lower() in ("", "localhost") else unquote(parts.netloc)
    if not windows:
        return path if not host else f"//{host}{path}"
    if re.match(r"/[A-Za-z]:", path):
        path = path[1:]
    return ntpath.normpath(f"//{host}{path}" if host else path)


def _entry(given: Mapping[str, Any], folder: Path) -> Entry:
    builder = given.get("serverBuilder") or {}
    metadata = builder.get("metadata") or {}
    sources = list(_sources(builder))
    arguments = [str(argument) for source in sources for argument in source.get("args") or ()]
    entry_name = str(given.get("imageName") or f"image {given['entryID']}")
    entry_id = str(given["entryID"])
    return Entry(
        id=entry_id,
        name=_file_name(entry_name),
        entry_name=entry_name,
        folder=folder / "data" / entry_id,
        uris=tuple(str(source["uri"]) for source in sources),
        series=_series(arguments),
        transform=_transform(builder),
        levels=tuple(
            Level(int(level["width"]), int(level["height"]), float(level["downsample"]))
            for level in metadata.get("levels") or ()
        ),
        pixel_size_um=_pixel_size(metadata.get("pixelCalibration") or {}),
        is_rgb=None if "isRGB" not in metadata else bool(metadata["isRGB"]),
        planes=int(metadata.get("sizeZ", 1)) * int(metadata.get("sizeT", 1)),
        metadata={str(key): str(value) for key, value in (given.get("metadata") or {}).items()},
    )


def _sources(builder: object) -> Iterator[Mapping[str, Any]]:
    """The builders of files (or services) inside a builder, however deep."""
    if isinstance(builder, Mapping):
        if "uri" in builder and "providerClassName" in builder:
            yield builder
        else:
            for key, inner in builder.items():
                if key != "metadata":
                    yield from _sources(inner)
    elif isinstance(builder, list):
        for inner in builder:
            yield from _sources(inner)


def _transform(builder: Mapping[str, Any]) -> str:
    """What lies around the file's own builder; metadata, and where the file lies, do not count."""

    def kept(value: object) -> object:
        if isinstance(value, Mapping):
            if "uri" in value and "providerClassName" in value:
                return "file"
            return {key: kept(inner) for key, inner in sorted(value.items()) if key != "metadata"}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    changed = kept(builder)
    return "" if changed in ("file", {}) else json.dumps(changed, sort_keys=True, separators=(",", ":"))


def _series(arguments: Sequence[str]) -> int:
    """Bio-Formats' `--series N`, else the first."""
    for option, value in pairwise(arguments):
        if option in ("--series", "-s") and value.isdigit():
            return int(value)
    return 0


def _pixel_size(calibration: Mapping[str, Any]) -> tuple[float, float] | None:
    sizes = []
    for side in ("pixelWidth", "pixelHeight"):
        given = calibration.get(side) or {}
        value = given.get("value")
        if given.get("unit") not in _UM or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        sizes.append(float(value))
    return sizes[0], sizes[1]


def _file_name(entry_name: str) -> str:
    """QuPath's name as one that every file system takes, without an image's extension."""
    name = _NO_FILE_NAME.sub("_", unicodedata.normalize("NFC", entry_name)).strip(" .") or "image"
    return name_of(Path(name), IMAGE_SUFFIXES) or name


def _uniquely_named(entries: Sequence[Entry]) -> Iterator[Entry]:
    # Case does not tell files apart everywhere.
    counts = Counter(entry.name.casefold() for entry in entries)
    for entry in entries:
        if counts[entry.name.casefold()] == 1:
            yield entry
        else:
            yield replace(entry, name=f"{entry.name} (entry {entry.id})")
