"""Rows of tables, and tables as CSV: plain values, numbers in full, nothing where there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tissuebridge.files import atomic_write

Value = str | int | float | bool | None
Row = dict[str, Value]
"""Column to value; None where there is no number, with a column that says why."""


def write_rows(path: Path, rows: Sequence[Mapping[str, Value]]) -> None:
    """Writes rows as CSV (UTF-8); the columns are those of all rows, in order of first use.

    Raises:
        StorageError: The file could not be written.
    """
    with atomic_write(path) as file:
        file.write(csv_of(rows))


def csv_of(rows: Sequence[Mapping[str, Value]]) -> bytes:
    r"""Rows as CSV, as `write_rows` writes them.

    >>> csv_of([{"n": 1}, {"n": 2, "why": "no area"}])
    b'n,why\n1,\n2,no area\n'
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval=None, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def write_columns(path: Path, columns: Mapping[str, NDArray[np.generic]]) -> None:
    """Writes columns of equal length as CSV (UTF-8).

    Raises:
        StorageError: The file could not be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8"))
