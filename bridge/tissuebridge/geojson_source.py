"""GeoJSON files to JSON documents: where sizes, encodings and compression are judged.

Below `geojson`. A path comes in (plain, gzip or zip, told apart by content, not by name); out go parsed
documents with a text that says where each stands. Nothing is ever unpacked beyond the limit.
"""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from tissuebridge.errors import GeoJSONError, ResourceLimit

_EXPORT_AGAIN: Final = "Export the objects again from QuPath (File > Export objects as GeoJSON)"
_UTF16_OR_32: Final = (b"\xff\xfe", b"\xfe\xff")
_STRING_OR_NOT_A_NUMBER: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:NaN|Infinity)\b', re.DOTALL)
_ARCHIVE_ERRORS: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError
)  # fmt: skip


def documents(path: Path, max_bytes: int) -> Iterator[tuple[str, Any]]:
    """Parses a GeoJSON file, or every GeoJSON file in a zip.

    Args:
        path: The file.
        max_bytes: Most bytes, unpacked, of all documents together.

    Yields:
        Where the document stands (for messages) and what orjson made of it; NaN and Infinity, which QuPath
        writes for measurements without a value, are None.

    Raises:
        GeoJSONError: Not readable, not UTF-8, not JSON, or a damaged archive.
        ResourceLimit: More than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise GeoJSONError(
            f"{path}: cannot be read: {error.strerror or error}. Check name and permissions."
        ) from error
    _refuse_more_than(max_bytes, len(raw), path)
    if raw[:2] == b"\x1f\x8b":
        yield str(path), _parse(_gunzip(raw, max_bytes, path), str(path))
    elif raw[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        for name, content in _unzip(raw, max_bytes, path):
            yield f"{path} ({name})", _parse(content, f"{path} ({name})")
    else:
        yield str(path), _parse(raw, str(path))


def _parse(raw: bytes, where: str) -> Any:
    if raw[:2] in _UTF16_OR_32 or b"\0" in raw[:4]:
        raise GeoJSONError(f"{where}: the text is UTF-16 or UTF-32, not UTF-8. Save it again as UTF-8.")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        raise GeoJSONError(f"{where}: the file is empty. {_EXPORT_AGAIN}.")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        # Only now, because looking through every file for them would cost more than parsing it.
        cleaned = _STRING_OR_NOT_A_NUMBER.sub(_null_unless_string, raw)
        if cleaned == raw:
            raise _not_json(error, where) from error
    try:
        return orjson.loads(cleaned)
    except orjson.JSONDecodeError as error:
        raise _not_json(error, where) from error


def _null_unless_string(match: re.Match[bytes]) -> bytes:
    return match[0] if match[0].startswith(b'"') else b"null"


def _not_json(error: orjson.JSONDecodeError, where: str) -> GeoJSONError:
    place = f"line {error.lineno}, column {error.colno}"
    return GeoJSONError(
        f"{where}: this is not JSON at {place}: {error.msg.split(': line')[0]}. {_EXPORT_AGAIN}."
    )


def _gunzip(raw: bytes, max_bytes: int, path: Path) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as archive:
            content = archive.read(max_bytes + 1)
    except _ARCHIVE_ERRORS as error:
        raise GeoJSONError(f"{path}: the gzip file is damaged ({error}). {_EXPORT_AGAIN}.") from error
    _refuse_more_than(max_bytes, len(content), path)
    return content


def _unzip(raw: bytes, max_bytes: int, path: Path) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    room = max_bytes
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name in sorted(archive.namelist()):
                if not name.lower().endswith((".geojson", ".json")) or name.startswith("__MACOSX/"):
                    continue
                with archive.open(name) as entry:
                    content = entry.read(room + 1)
                _refuse_more_than(room, len(content), path)
                room -= len(content)
                found.append((name, content))
    except _ARCHIVE_ERRORS as error:
        raise GeoJSONError(
            f"{path}: the zip file is damaged or encrypted ({error}). {_EXPORT_AGAIN}."
        ) from error
    if not found:
        raise GeoJSONError(f"{path}: the zip file holds no .geojson. {_EXPORT_AGAIN}.")
    return found


def _refuse_more_than(limit: int, size: int, path: Path) -> None:
    if size > limit:
        raise ResourceLimit(
            f"{path}: more than {limit:,} bytes of GeoJSON. Export annotations alone, or in parts."
        )
