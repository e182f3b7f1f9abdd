"""Groups of patients on the page: the numbers of the tables, the effect before the p, every patient a dot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from tissuebridge.report.group_plots import _beside
from tissuebridge.report.groups import MOST_DOTS, group_sections
from tissuebridge.report.page import Drawing, Text, page_html
from tissuebridge.spatial.group_functions import group_function_rows
from tissuebridge.spatial.groups import group_rows
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings

SETTINGS = SpatialSettings()
BANDS = [(low, low + 10.0) for low in range(-40, 40, 10)]


@dataclass(frozen=True)
class Study:
    tables: dict[str, list[Row]]
    group_of: dict[str, str]

    @cached_property
    def content(self) -> list[object]:
        [section] = group_sections(self.tables, self.group_of, SETTINGS)
        return list(section.content)

    @property
    def pictures(self) -> list[Drawing]:
        return [item for item in self.content if isinstance(item, Drawing)]

    @property
    def texts(self) -> list[str]:
        return [item.text for item in self.content if isinstance(item, Text)]


def study(*groups: str, patients: int = 8) -> Study:
    """T cells are denser by 100 per mm^2, L by 3 um, with every further group; nobody has B cells in stroma."""
    rng = np.random.default_rng(5)
    group_of = {f"{name} {k}": name for name in groups for k in range(patients)}
    places = [("Tumor", None, None), ("Stroma", None, None), *(("border of Tumor", *band) for band in BANDS)]
    cases: list[Row] = []
    functions: list[Row] = []
    for case, group in group_of.items():
        more = groups.index(group)
        for name in ("T", "B"):
            for region, low, high in places:
                is_none = (name, region) == ("B", "Stroma")
                density = 0.0 if is_none else rng.normal(1500 + 100 * more * (name == "T"), 30)
                share = None if low is not None else 0.0 if is_none else rng.uniform(0.2, 0.4)
                about = {"case": case, "class": name, "region": region, "from_um": low, "to_um": high}
                cases.append({**about, "cells_per_mm2": density, "share": share})
        for r in np.arange(2.0, 41, 2).tolist():
            value = r + 3 * more * (r > 10) + rng.normal(0, 0.5)
            functions.append(
                {"case": case, "function": "L", "class": "T", "other": "T", "r_um": r, "value_um": value}
            )
    compared = {
        "groups": group_rows(cases, group_of),
        "group_functions": group_function_rows(functions, group_of, SETTINGS),
    }
    return Study({"cases": cases, "case_functions": functions, **compared}, group_of)


@pytest.fixture(scope="module")
def two() -> Study:
    return study("drug", "none")


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_least_likely_comparisons_are_drawn_with_the_tables_numbers(two: Study) -> None:
    tested = [row for row in two.tables["groups"] if row["p"] is not None]
    tested.sort(key=lambda row: float(row["p"] or 0))

    dots = [picture for picture in two.pictures if "dot" in picture.alt]

    assert len(dots) == MOST_DOTS < len(tested)
    for picture, row in zip(dots, tested, strict=False):
        told = re.fullmatch(
            r"([TB]) (?:in|at the) ([\w ]+)(?:, (-?\d+) to (-?\d+) µm)?, (cells per mm²|share of cells): "
            r"drug against none: (\S+) \((\S+) to (\S+)\); p = (\S+), q = (\S+) \((.*)\)\.",
            picture.caption,
        )
        assert told is not None, picture.caption
        assert told[1] == row["class"]
        assert told[2] == row["region"]
        assert (told[3] is None) == (row["from_um"] is None)
        assert told[3] is None or (float(told[3]), float(told[4])) == (row["from_um"], row["to_um"])
        numbers = [row[key] for key in ("shift", "shift_low", "shift_high", "p", "q_project")]
        assert [number(part) for part in told.groups()[5:10]] == pytest.approx(numbers, rel=0.05)
        assert told[11] == row["test"]
        medians = re.findall(r"(drug|none) (\S+) \(n = (\d+)\)", picture.alt)
        assert [(name, int(n)) for name, _, n in medians] == [("drug", 8), ("none", 8)]
        expected = pytest.approx([row["median"], row["other_median"]], rel=0.01)
        assert [number(median) for _, median, _ in medians] == expected
        assert picture.dark != picture.svg
    assert any(f"The {MOST_DOTS} of {len(tested)} that are least likely" in text for text in two.texts)
    assert "Not compared: 2 (the same in all patients)." in two.texts


def test_the_mean_functions_are_drawn_with_the_tests_p(two: Study) -> None:
    [row] = two.tables["group_functions"]

    [curves] = [picture for picture in two.pictures if "less r" in picture.alt]

    told = re.fullmatch(
        r"L of T: drug against none: (\S+) µm at (\d+) µm; p = (\S+), q = (\S+) \(studentised, 999 permutations\)\.",
        curves.caption,
    )
    assert told is not None, curves.caption
    expected = [row[key] for key in ("largest_um", "at_um", "p", "q_project")]
    assert [number(part) for part in told.groups()] == pytest.approx(expected, rel=0.05)
    assert number(told[1]) == pytest.approx(-3, abs=1)


def test_of_more_groups_every_pair_is_told_and_the_one_p_once() -> None:
    three = study("a", "b", "c", patients=6)

    first = three.pictures[0]

    for pair in ("a against b: -", "a against c: -", "b against c: -"):
        assert pair in first.caption
    assert first.caption.count("p = ") == 1
    assert first.caption.rindex("against") < first.caption.index("p = ")
    assert first.size[0] > study("a", "b", patients=6).pictures[0].size[0]


def test_without_anything_tested_the_reasons_stand_alone() -> None:
    alone = study("a", "b", patients=1)

    assert not alone.pictures
    assert sum("Not compared" in text for text in alone.texts) == 2


def test_without_groups_there_is_no_section() -> None:
    assert group_sections({}, {}, SETTINGS) == []


def test_names_are_escaped(two: Study) -> None:
    groups = {case: {"drug": "<b>drug", "none": "none"}[group] for case, group in two.group_of.items()}
    tables = {**two.tables, "groups": group_rows(two.tables["cases"], groups)}
    tables["group_functions"] = group_function_rows(tables["case_functions"], groups, SETTINGS)

    page = page_html("", group_sections(tables, groups, SETTINGS))

    assert "&lt;b&gt;drug against none" in page
    assert "<b>" not in page


def test_no_dot_lies_on_another_and_none_in_the_next_group() -> None:
    values = np.random.default_rng(0).normal(10, 1, 200)
    height = 0.2

    aside = _beside(values, height)

    assert np.abs(aside).max() <= 0.35
    spots = set(zip(np.round(aside, 9).tolist(), values.tolist(), strict=True))
    assert len(spots) == 200
    for place in np.unique(np.round(aside, 9)):
        column = np.sort(values[np.round(aside, 9) == place])
        assert np.diff(column).min(initial=height) >= height
