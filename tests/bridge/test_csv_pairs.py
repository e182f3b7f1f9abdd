"""A person's table of two columns: read as Excel and others write it; what is wrong is told with line and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tissuebridge.csv_pairs import read_pairs
from tissuebridge.errors import UsageError


def read(folder: Path, content: str | bytes) -> dict[str, str]:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_pairs(path, "--cases", "image", "patient")


@pytest.mark.parametrize(
    "content",
    [
        "image,patient\na 1,P1\nb,P2\n",
        "\ufeffpatient;age; image\r\nP1;50; a 1 \r\nP2;60;b\r\n;;\r\n",
        'image,patient,note\n"a 1",P1,"two\nlines"\n\nb,P2\nb,P2,again',
    ],
)
def test_tables_of_every_kind_are_read(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == {"a 1": "P1", "b": "P2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", r"line 1: no column is named 'image'; the line is empty\. Correct"),
        (
            "picture,patient\na,P1\n",
            r"line 1: no column is named 'image'; there is 'picture', 'patient'\. Correct",
        ),
        ("image,case\na,P1\n", "line 1: no column is named 'patient'"),
        ("image,patient\n\n,\n", "nothing stands below the names of the columns. Add a line"),
        ("image,patient\na,P1\nb\n", r"line 3: 'b' has no patient\. Enter it"),
        ("image,patient\n ,P1\n", r"line 2: no image has the patient 'P1'\. Enter it"),
        (
            "image,patient\na,P1\nb,P1\n\na,P2\n",
            r"line 5: 'a' is in 'P2' here and in 'P1' in line 2\. Correct one",
        ),
        (b"image,patient\n\xe4,P1\n", r"cannot be read: .*Save it as CSV, UTF-8"),
        (f"image,patient\n{'a' * 140_000},P1\n", r"line 2: field larger .*Save it as CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_the_cure(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    with pytest.raises(UsageError, match=rf"--cases .*table\.csv.*{words}"):
        read(tmp_path, content)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv: cannot be read"):
        read_pairs(tmp_path / "none.csv", "--cases", "image", "patient")
