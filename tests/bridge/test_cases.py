"""A case is told by a pattern on the name, metadata or a table; whatever leaves an image without one is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from drawn_tissue import ArrayImage
from tissuebridge import cases
from tissuebridge.cases import cases_of
from tissuebridge.errors import UsageError


def image(name: str, metadata: Mapping[str, str] | None = None) -> ArrayImage:
    return ArrayImage(np.zeros((1, 1, 3), np.uint8), name=name, metadata=metadata or {})


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^(P\d+)", ["P1", "P12"]),
        (r"P\d+", ["P1", "P12"]),
        (r"_(?:HE|IHC)$|ä", ["ä", "_IHC"]),
        (r"^(P(\d+))", ["P1", "P12"]),
    ],
)
def test_the_case_is_the_first_group_or_all_that_matches(pattern: str, expected: list[str]) -> None:
    found = cases_of([image("P1 ä"), image("P12_IHC")], pattern)

    assert found == dict(zip(["P1 ä", "P12_IHC"], expected, strict=True))


def test_nothing_named_means_no_cases() -> None:
    assert cases_of([image("a")]) is None


@pytest.mark.parametrize("pattern", [r"^(P\d+)", r"^(P\d+)?", r"^(P\d*)|other", r"(?=P)"])
def test_an_image_without_a_case_is_named_with_the_cure(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"'other'.*Correct it"):
        cases_of([image("P1"), image("other")], pattern)


@pytest.mark.parametrize("pattern", ["(", "a**", "(?P<x", "[z-a]", "a{99999999999999999999}"])
def test_what_is_no_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="no regular expression"):
        cases_of([image("P1")], pattern)


def test_a_pattern_that_would_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "MATCHING_S", 0.5)

    with pytest.raises(UsageError, match=r"within 0\.5 s.*Repeat nothing"):
        cases_of([image("a" * 60)], "^(a+)+b")


def test_an_endless_pattern_text_is_refused() -> None:
    with pytest.raises(UsageError, match="characters"):
        cases_of([image("a")], "a|" * 1000)


def test_the_case_stands_in_the_metadata() -> None:
    found = cases_of([image("a", {"Patient": " P1 "}), image("b", {"Patient": "P2"})], key="Patient")

    assert found == {"a": "P1", "b": "P2"}


def test_a_key_that_no_image_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"none of the 1 images.*There is 'Case'"):
        cases_of([image("a", {"Case": "1"})], key="Patient")
    with pytest.raises(UsageError, match="use --case-pattern"):
        cases_of([image("a")], key="Patient")


def test_an_image_that_lacks_the_key_is_named() -> None:
    with pytest.raises(UsageError, match=r"'b' lacks it"):
        cases_of([image("a", {"Patient": "P1"}), image("b", {"Patient": " "})], key="Patient")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "cases.csv"
    path.write_text("image,patient\na,P1\nb,P1\nc,P2\n", encoding="utf-8")
    return path


def test_the_case_stands_in_a_table(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    a, b, c = map(image, "abc")

    with caplog.at_level(logging.WARNING):
        assert cases_of([a, b, c], table=table) == {"a": "P1", "b": "P1", "c": "P2"}
        assert cases_of([c], table=table, everything=[a, b, c]) == {"c": "P2"}

    assert not caplog.records


def test_images_that_the_project_lacks_are_warned_about(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert cases_of([image("a"), image("b")], table=table) == {"a": "P1", "b": "P1"}

    [record] = caplog.records
    assert "cases.csv: The table names 'c', which the project does not have" in record.getMessage()


def test_an_image_that_the_table_lacks_is_named_beside_what_the_table_has_instead(table: Path) -> None:
    wanted = r"cases\.csv: lacks 1 of 3 images: 'c ä'\. The table names 'c', which .* Add a line"
    with pytest.raises(UsageError, match=wanted):
        cases_of([image("a"), image("b"), image("c ä")], table=table)


@pytest.mark.parametrize("given", [("a", "Patient", False), ("a", None, True), (None, "Patient", True)])
def test_table_key_and_pattern_exclude_each_other(
    given: tuple[str | None, str | None, bool], table: Path
) -> None:
    pattern, key, by_table = given

    with pytest.raises(UsageError, match="give one"):
        cases_of([image("a")], pattern, key, table if by_table else None)
