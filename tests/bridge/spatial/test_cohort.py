"""Patients instead of images, and all tests of a project as one family."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tissuebridge.spatial.cohort import pooled_densities, with_project_q
from tissuebridge.spatial.rows import Row


def row(image: str, cells: int, area_mm2: float, region: str = "Tumor") -> Row:
    return {"image": image, "class": "CD3", "region": region, "cells": cells, "area_mm2": area_mm2}


def test_patients_are_pooled_by_the_ratio_of_sums() -> None:
    rows = [row("a1", 10, 0.1), row("a2", 0, 0.9), row("b1", 5, 0.5), row("b1", 0, 0.0, "Stroma")]

    found = {(r["case"], r["region"]): r for r in pooled_densities(rows, {"a1": "A", "a2": "A", "b1": "B"})}

    assert (found["A", "Tumor"]["cells_per_mm2"], found["A", "Tumor"]["images"]) == (10.0, 2)
    assert found["B", "Tumor"]["cells_per_mm2"] == 10.0
    assert found["A", "Tumor"]["low"] == pytest.approx(4.795, abs=1e-3)
    assert (found["B", "Stroma"]["cells_per_mm2"], found["B", "Stroma"]["reason"]) == (None, "no area")


def test_a_projects_tests_are_one_family_and_parts_of_a_test_count_once() -> None:
    p = np.random.default_rng(0).uniform(size=12) ** 3
    rows: list[Row] = [
        {"image": str(k), "band": band, "p": float(p[k])} for k in range(12) for band in range(3)
    ]

    found = with_project_q([*rows, {"image": "none", "band": 0, "p": None}], "p", ["image"])

    assert [r["q_project"] for r in found[:-1:3]] == pytest.approx(stats.false_discovery_control(p).tolist())
    assert found[-1]["q_project"] is None
    assert found[0]["project_family"] == "all 12 tests of this table in the project"
