"""A person's table that says what belongs where: images to patients, patients to groups.

A CSV file comes in, one value for each name goes out; what is wrong is told with its line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from tissuebridge.errors import UsageError


def read_pairs(path: Path, option: str, name: str, value: str) -> dict[str, str]:
    """Reads two columns of a table; other columns do not matter, nor do empty lines.

    Args:
        path: CSV (UTF-8, comma or semicolon); the first line names the columns.
        option: The command's, for messages.
        name: Column of what belongs somewhere.
        value: Column of where it belongs.

    Returns:
        Name to value, without spaces around them.

    Raises:
        UsageError: The file cannot be read, is empty or lacks a column; a line lacks a name or a value; a name has two
            values.
    """
    where = f"{option} {path}"
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, one, other in _pairs(path, name, value, where):
        if not (one and other):
            lacks = f"{one!r} has no {value}" if one else f"no {name} has the {value} {other!r}"
            raise UsageError(f"{where}, line {line}: {lacks}. Enter it, or take the line out.")
        if found.setdefault(one, other) != other:
            raise UsageError(
                f"{where}, line {line}: {one!r} is in {other!r} here and in {found[one]!r} in line {lines[one]}. "
                "Correct one of the two."
            )
        lines.setdefault(one, line)
    if not found:
        raise UsageError(
            f"{where}: nothing stands below the names of the columns. Add a line for each {name}."
        )
    return found


def _pairs(path: Path, name: str, value: str, where: str) -> Iterator[tuple[int, str, str]]:
    """Line, name and value of each line that has one of the two."""
    text = _text(path, where)
    # Excel writes semicolons where numbers have commas.
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [column.strip() for column in next(rows, [])]
        columns = [_place(column, header, where) for column in (name, value)]
        for row in rows:
            one, other = (row[place].strip() if place < len(row) else "" for place in columns)
            if one or other:
                yield rows.line_num, one, other
    except csv.Error as error:
        raise UsageError(f"{where}, line {rows.line_num}: {error}. Save it as CSV, UTF-8.") from error


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: cannot be read: {error}. Save it as CSV, UTF-8.") from error


def _place(column: str, header: Sequence[str], where: str) -> int:
    if column not in header:
        there = f"there is {', '.join(map(repr, header))}" if any(header) else "the line is empty"
        raise UsageError(
            f"{where}, line 1: no column is named {column!r}; {there}. Correct the names in this line."
        )
    return header.index(column)
