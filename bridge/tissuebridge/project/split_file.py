"""`splits.json`: which images of a folder train, validate and test; read strictly, never written here."""

from __future__ import annotations

import difflib
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from tissuebridge.errors import AnnotationError

SPLITS: Final = ("train", "validation", "test")
SPLITS_FILE: Final = "splits.json"

_log = logging.getLogger(__name__)


def read_splits(path: Path, names: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """Split to image names; None without a file.

    Args:
        path: The file.
        names: The images there are.

    Raises:
        AnnotationError: It is damaged, or names what is not there, or one image twice.
    """
    if not path.is_file():
        return None
    try:
        content = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (OSError, orjson.JSONDecodeError) as error:
        raise AnnotationError(f"{path}: this is not JSON: {error}. Correct it or remove it.") from error
    try:
        return _checked_splits(content, names)
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error


def _checked_splits(content: Any, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    shape = f'Write {{"train": ["name", ...], ...}} with {", ".join(SPLITS)}.'
    if not isinstance(content, dict):
        raise AnnotationError(f"it is no object of lists. {shape}")
    splits: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for split, members in content.items():
        if split not in SPLITS:
            raise AnnotationError(f"unknown split {split!r}. {shape}")
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise AnnotationError(f"{split!r} is no list of names. {shape}")
        splits[split] = tuple(unicodedata.normalize("NFC", member) for member in members)
        for member in splits[split]:
            _check_member(member, split, names, seen)
            seen[member] = split
    if left := [name for name in names if name not in seen]:
        _log.warning(
            "%s: %d images are in no split and not used, the first is %r", SPLITS_FILE, len(left), left[0]
        )
    return splits


def _check_member(member: str, split: str, names: Sequence[str], seen: Mapping[str, str]) -> None:
    if member in seen:
        raise AnnotationError(
            f"the image {member!r} is in {seen[member]!r} and in {split!r}. Leave it in one split."
        )
    if member not in names:
        near = difflib.get_close_matches(member, names, 1, 0.5)
        meant = f"Did you mean {near[0]!r}?" if near else "Use the file's name without extension."
        raise AnnotationError(f"{split!r} names the image {member!r}, which is not there. {meant}")
