"""Patients instead of images, and all tests of a project as one family."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tissuebridge.spatial.cohort import case_table, pooled_densities, with_project_q
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.shares import share_interval


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


def two_images() -> dict[str, list[Row]]:
    """Two images of patient A with regions and a border; one of patient B, with CD3 and without CD8."""
    densities = [
        *(row("a1", n, area, region) for n, area, region in ((8, 2.0, "tissue"), (6, 1.0, "Tumor"))),
        row("a1", 2, 1.0, "Stroma"),
        *(row("a2", n, area, region) for n, area, region in ((12, 3.0, "tissue"), (3, 2.0, "Tumor"))),
        row("a2", 9, 1.0, "Stroma"),
        *(row("b1", n, area, region) for n, area, region in ((4, 1.0, "tissue"), (4, 1.0, "Tumor"))),
        {**row("a2", 5, 3.0, "tissue"), "class": "CD8"},
        {**row("a2", 5, 2.0, "Tumor"), "class": "CD8"},
        {**row("a2", 0, 1.0, "Stroma"), "class": "CD8"},
    ]
    profiles = [{**row(name, 2, 0.1), "from_um": 0.0, "to_um": 10.0} for name in ("a1", "a2")]
    window: list[Row] = [{"image": name, "excluded_mm2": 0.25} for name in ("a1", "a2", "b1")]
    return {"densities": densities, "profiles": profiles, "window": window}


def test_a_patient_has_every_class_in_every_region_and_band() -> None:
    found = {
        (r["case"], r["class"], r["region"], r["from_um"]): r
        for r in case_table(two_images(), {"a1": "A", "a2": "A", "b1": "B"})
    }

    assert len(found) == 2 * 4 + 2 * 2
    in_tumor = found["A", "CD3", "Tumor", None]
    assert (in_tumor["cells"], in_tumor["of_cells"], in_tumor["share"]) == (9, 20, 0.45)
    assert in_tumor["cells_per_mm2"] == pytest.approx(3.0)
    band = found["A", "CD3", "border of Tumor", 0.0]
    assert (band["cells"], band["area_mm2"], band["to_um"], band["share"]) == (4, 0.2, 10.0, 0.2)
    assert found["A", "CD3", "tissue", None]["share"] is None
    assert {name: r["excluded_mm2"] for (name, *_), r in found.items()} == {"A": 0.5, "B": 0.25}


def test_an_image_without_a_class_counts_with_its_area_and_a_patient_without_it_has_zero() -> None:
    found = {
        (r["case"], r["class"], r["region"]): r
        for r in case_table(two_images(), {"a1": "A", "a2": "A", "b1": "B"})
    }

    assert found["A", "CD8", "tissue"]["cells_per_mm2"] == 5 / 5.0
    nothing = found["B", "CD8", "Tumor"]
    assert (nothing["cells_per_mm2"], nothing["low"]) == (0.0, 0.0)
    assert nothing["high"] == pytest.approx(3.689, abs=1e-3)
    assert (nothing["share"], nothing["reason"]) == (None, "no cells to share out")


def test_cells_of_an_image_without_regions_are_in_no_share() -> None:
    tables = two_images()
    tables["densities"].append(row("a3", 1000, 9.0, "tissue"))

    found = case_table(tables, {"a1": "A", "a2": "A", "a3": "A", "b1": "B"})

    own = {(r["class"], r["region"], r["from_um"]): r for r in found if r["case"] == "A"}
    assert own["CD3", "tissue", None]["cells"] == 1020
    assert own["CD3", "Tumor", None]["share"] == 0.45


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_the_interval_of_a_share_holds_what_a_binomial_test_does_not_reject(count: int) -> None:
    low, high = share_interval(count, 20)

    assert stats.binom.sf(count - 1, 20, low) == pytest.approx(0.025) or count == low == 0
    assert stats.binom.cdf(count, 20, high) == pytest.approx(0.025) or (count, high) == (20, 1.0)
