"""Which images belong together: a case (a patient, a block of tissue) is told by images' names, metadata, or a table.

A network that learnt from one slide of a patient knows the others of that patient; so whatever is held out, and
whatever interval is given, is by case. Images come in, a case for each goes out, to `splits` and to evaluation.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tissuebridge.csv_pairs import read_pairs
from tissuebridge.errors import UsageError
from tissuebridge.project.base import Image

MAX_PATTERN: Final = 500
"""Longer patterns are refused."""
MATCHING_S: Final = 10.0
"""A pattern that takes longer on all names would not end: there are patterns that take years."""

_log = logging.getLogger(__name__)

_MATCHING: Final = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = [re.search(pattern, name) for name in names]
json.dump([match and (match[1] if match.re.groups else match[0]) for match in found], sys.stdout)
"""


def cases_of(
    images: Iterable[Image],
    pattern: str | None = None,
    key: str | None = None,
    table: Path | None = None,
    *,
    everything: Iterable[Image] = (),
) -> dict[str, str] | None:
    """Which case each image belongs to.

    Args:
        images: Images of a project, those that are looked at.
        pattern: A regular expression, searched for in the image's name: its first group is the case, or all that it
            matches if it has no group.
        key: Instead, the key of the image's metadata that names the case.
        table: Instead, a table with the columns `image` and `patient`, see `read_pairs`.
        everything: The project's images, where only some are looked at: the table may name them all.

    Returns:
        Image name to case; None where nothing is given.

    Raises:
        UsageError: More than one is given; the pattern is none, too long or too slow; the table is not as `read_pairs`
            takes it; an image has no case.

    >>> cases_of([])
    """
    images = list(images)
    if sum(given is not None for given in (pattern, key, table)) > 1:
        raise UsageError(
            "cases are told by a table (--cases), by a metadata key (--case-key) or by a pattern (--case-pattern): "
            "give one"
        )
    if table is not None:
        return _by_table([image.name for image in images], [image.name for image in everything], table)
    if pattern is not None:
        return _by_pattern([image.name for image in images], pattern)
    return None if key is None else _by_key(images, key)


def _by_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    _check_pattern(pattern)
    found = dict(zip(names, _matched(names, pattern), strict=True))
    if missing := [name for name, case in found.items() if not case]:
        raise UsageError(
            f"--case-pattern {pattern!r}: finds no case in {_listed(missing)}. Correct it until it finds one in every "
            "image's name ('A|B' finds either), or take these images out."
        )
    return {name: case for name, case in found.items() if case}


def _check_pattern(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise UsageError(f"--case-pattern: {len(pattern)} characters; more than {MAX_PATTERN} are refused")
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"--case-pattern {pattern!r}: this is no regular expression: {error}. For a case that stands before the "
            "first underscore write '^([^_]+)_'."
        ) from error


def _matched(names: Sequence[str], pattern: str) -> list[str | None]:
    """What the pattern finds in each name, in a process of its own: matching cannot be stopped from within."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", _MATCHING]
    try:
        done = subprocess.run(  # noqa: S603  (our own program; pattern and names are data)
            command,
            input=json.dumps([pattern, names]).encode(),
            capture_output=True,
            timeout=MATCHING_S,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"--case-pattern {pattern!r}: cannot be matched within {MATCHING_S:g} s and the memory there is, on "
            f"{len(names)} image names. Repeat nothing that is repeated itself, as '(a+)+' does."
        ) from error
    found: list[str | None] = json.loads(done.stdout)
    return found


def _by_key(images: Sequence[Image], key: str) -> dict[str, str]:
    found = {image.name: image.metadata.get(key, "").strip() for image in images}
    if not any(found.values()):
        keys = sorted({key for image in images for key in image.metadata})
        there = f"There is {_listed(keys)}." if keys else "They have no metadata; use --case-pattern."
        raise UsageError(
            f"--case-key {key!r}: none of the {len(images)} images has it in its metadata. {there}"
        )
    if missing := [name for name, case in found.items() if not case]:
        raise UsageError(
            f"--case-key {key!r}: {_listed(missing)} lacks it. Enter it in QuPath (Project > Edit project metadata)."
        )
    return found


def _by_table(names: Sequence[str], everything: Sequence[str], table: Path) -> dict[str, str]:
    case_of = read_pairs(table, "--cases", "image", "patient")
    unknown = [name for name in case_of if name not in {*names, *everything}]
    there = f" The table names {_listed(unknown)}, which the project does not have." if unknown else ""
    if missing := [name for name in names if name not in case_of]:
        raise UsageError(
            f"--cases {table}: lacks {len(missing)} of {len(names)} images: {_listed(missing)}.{there} Add a line "
            "image,patient for each, with the image's name as it is written here."
        )
    if unknown:
        _log.warning("--cases %s:%s They are left out.", table, there)
    return {name: case_of[name] for name in names}


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(map(repr, names[:3]))
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
