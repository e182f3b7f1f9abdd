"""Groups of patients: shifts and tests by rank against brute force, and the table of groups."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tissuebridge.errors import UsageError
from tissuebridge.spatial.groups import compared, group_rows, groups_of
from tissuebridge.spatial.rank_tests import rank_test, shift
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.told import told

# Hollander & Wolfe 1973, p. 69: permeability of the human chorioamnion at term and at 12 to 26 weeks.
TERM = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
EARLY = np.array([1.15, 0.88, 0.90, 0.74, 1.21])


def test_the_textbooks_shift_and_p() -> None:
    assert shift(TERM, EARLY).value == pytest.approx(0.305)
    found = rank_test([TERM, EARLY])
    assert (found.value, found.how) == (pytest.approx(2 * 0.1272, abs=1e-4), "Mann-Whitney, exact")


@pytest.mark.parametrize("sizes", [(4, 4), (5, 10), (9, 14), (60, 70)])
def test_the_interval_is_what_the_test_does_not_reject(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(sizes))
    x, y = random.normal(1, 1, sizes[0]), random.normal(0, 2, sizes[1])
    method = "exact" if sizes[0] < 60 else "asymptotic"

    found = shift(x, y)

    assert found.low is not None
    assert found.high is not None
    for end, inwards in ((found.low, 1e-9), (found.high, -1e-9)):
        inside = stats.mannwhitneyu(x - end - inwards, y, method=method).pvalue
        outside = stats.mannwhitneyu(x - end + inwards, y, method=method).pvalue
        assert outside <= 0.05 < inside + 0.002


def test_the_interval_holds_the_true_shift_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    pairs = random.exponential(size=(400, 2, 8))
    held = [shift(x + 3, y + 1) for x, y in pairs]

    inside = np.mean([one.low <= 2.0 <= one.high for one in held if one.low is not None and one.high])
    assert 0.93 < inside < 0.99


def test_tied_values_are_tested_exactly() -> None:
    """Many patients have no cell of a rare class at all."""
    x, y = np.array([0.0, 0, 0, 2]), np.array([0.0, 3, 4, 4, 5])
    every = np.concatenate([x, y])
    u = [
        stats.mannwhitneyu(every[list(own)], np.delete(every, own), method="asymptotic").statistic
        for own in combinations(range(9), 4)
    ]
    seen = stats.mannwhitneyu(x, y, method="asymptotic").statistic

    found = rank_test([x, y])

    assert found.value == pytest.approx(2 * np.mean(np.array(u) <= seen))
    assert found.how == "Mann-Whitney, exact"


def test_three_groups_are_one_test_and_three_shifts() -> None:
    random = np.random.default_rng(1)
    samples = {name: random.normal(mean, 1, 8) for name, mean in (("a", 0), ("b", 0), ("c", 5))}

    found = compared(samples)

    assert [(row["group"], row["other_group"]) for row in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {row["p"] for row in found} == {float(stats.kruskal(*samples.values()).pvalue)}
    assert found[1]["shift"] == pytest.approx(-5, abs=1)
    assert found[1]["shift_high"] < 0


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ({"a": [1.0], "b": [2.0, 3, 4]}, "fewer than 2 patients in a"),
        ({"a": [], "b": [2.0, 3]}, "fewer than 2 patients in a"),
        ({"a": [2.0, 2], "b": [2.0, 2]}, "the same in all patients"),
        ({"a": [1.0, 2, 3], "b": [4.0, 5, 6]}, "too few patients for an interval of the shift"),
    ],
)
def test_missing_numbers_have_reasons(samples: dict[str, list[float]], reason: str) -> None:
    (row,) = compared({name: np.array(values, float) for name, values in samples.items()})

    assert row["reason"] == reason
    assert row["shift_low"] is None or "same" in reason
    assert (row["p"] is None) == ("interval" not in reason)


def patients(random: np.random.Generator) -> list[Row]:
    """Eight patients; in group x T cells are twice as dense, and B cells are as dense as in y."""
    return [
        {
            "case": f"{group}{k}", "class": name, "region": region, "from_um": low, "to_um": high,
            "cells_per_mm2": float(random.gamma(50, 2) * (2 if (group, name) == ("x", "T") else 1)),
            "share": None if region == "tissue" else float(random.uniform(0.2, 0.4)),
        }
        for group in "xy"
        for k in range(8)
        for name in "TB"
        for region, low, high in (("tissue", None, None), ("Tumor", None, None), ("border", 0.0, 10.0))
    ]  # fmt: skip


def test_the_denser_class_is_found_and_families_are_apart() -> None:
    cases = patients(np.random.default_rng(2))

    found = group_rows(cases, {str(row["case"]): str(row["case"])[0] for row in cases})

    assert {(r["class"], r["measure"]) for r in found if r["q_project"] < 0.05} == {
        ("T", "cells_per_mm2"),
        ("T", "cells_per_mm2 in bands"),
    }
    assert {r["measure"]: r["project_family"] for r in found} == {
        "cells_per_mm2": "all 4 comparisons of densities in regions in the project",
        "cells_per_mm2 in bands": "all 2 comparisons of densities in bands in the project",
        "share of cells": "all 2 comparisons of shares in the project",
    }
    dense = next(r for r in found if r["class"] == "T" and r["region"] == "Tumor")
    assert 60 < dense["shift_low"] < dense["shift"] < dense["shift_high"] < 140
    lines = told({"groups": found}).splitlines()
    assert len(lines) == 6
    assert sum("border" in line for line in lines) == 0


def test_what_cannot_be_compared_is_told_with_its_reason() -> None:
    cases = [
        row for row in patients(np.random.default_rng(2)) if row["case"] not in {f"y{k}" for k in range(1, 8)}
    ]

    lines = told({"groups": group_rows(cases, {str(row["case"]): str(row["case"])[0] for row in cases})})

    assert "T in Tumor, share of cells: x against y: fewer than 2 patients in y" in lines.splitlines()


def test_the_table_of_groups_is_read_as_people_save_it(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("\ufeffage;patient;group\n50;P 1;yes\n60; P2 ;no\n70;other;no\n", encoding="utf-8")

    assert groups_of(path, {"a": "P 1", "b": "P2", "c": "P2"}) == {"P 1": "yes", "P2": "no"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,arm\nP1,a\n", "no column is named 'group'"),
        ("patient,group\nP1,a\nP1,b\n", "line 3: 'P1' is in 'b' here and in 'a' in line 2"),
        ("patient,group\nP1,a\nP2,\n", "'P2' has no group"),
        ("patient,group\nP1,a\n", "lacks 1 of 2 patients: P2"),
        ("patient,group\nP1,a\nP2,a\n", "all patients are in a"),
    ],
)
def test_a_wrong_table_of_groups_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(UsageError, match=message):
        groups_of(path, {"a": "P1", "b": "P2"})


def test_groups_without_patients_or_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cases, --case-key or --case-pattern"):
        groups_of(tmp_path / "groups.csv", None)
    with pytest.raises(UsageError, match="cannot be read"):
        groups_of(tmp_path / "groups.csv", {"a": "P1"})
