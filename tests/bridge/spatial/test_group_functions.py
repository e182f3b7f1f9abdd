"""Groups of L functions: pooled by hand, T by hand, and what the test does on simulated patients."""

from __future__ import annotations

import re

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.spatial.case_functions import case_functions
from tissuebridge.spatial.edges import EdgeWeights
from tissuebridge.spatial.group_functions import group_function_rows, permutation_test
from tissuebridge.spatial.ripley import ripley_k
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.told import told
from tissuebridge.spatial.window import Window

SIDE = 500.0
WINDOW = Window.of(shapely.box(0, 0, SIDE, SIDE))
R = np.arange(10.0, 61, 5)
WEIGHTS = EdgeWeights(WINDOW, 60)
GROUPS = np.repeat([0, 1], [6, 8])


def scattered(random: np.random.Generator, cells: float) -> NDArray[np.float64]:
    return random.uniform(0, SIDE, (max(random.poisson(cells), 2), 2))


def clustered(random: np.random.Generator, cells: float) -> NDArray[np.float64]:
    """About so many cells, six round a parent, 20 um from it; those outside come in at the other side."""
    parents = np.repeat(random.uniform(0, SIDE, (max(random.poisson(cells / 6), 1), 2)), 6, axis=0)
    return (parents + random.normal(0, 20, parents.shape)) % SIDE


def k_of(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return ripley_k(points, WINDOW, R, weights=WEIGHTS).values


def test_p_is_uniform_where_groups_differ_in_density_alone() -> None:
    random = np.random.default_rng(0)
    p = [
        permutation_test(
            np.array([k_of(scattered(random, 30 if group else 80)) for group in GROUPS]), GROUPS, R, seed=k
        ).p.value
        for k in range(200)
    ]

    assert stats.kstest(p, "uniform").pvalue > 0.05
    assert np.mean(np.array(p) <= 0.05) < 0.12


def test_a_clustered_group_is_found() -> None:
    random = np.random.default_rng(1)
    p = [
        permutation_test(
            np.array([k_of((clustered if group else scattered)(random, 60)) for group in GROUPS]),
            GROUPS,
            R,
            seed=k,
        ).p.value
        for k in range(10)
    ]

    assert max(p) < 0.01


def test_t_is_the_formulas_and_p_the_rank_among_permutations() -> None:
    random = np.random.default_rng(2)
    curves, groups = random.gamma(5, 100, (9, 4)), np.array([0, 1, 2, 2, 1, 0, 0, 1, 2])
    r = np.array([2.0, 4.0, 6.0, 8.0])

    def t(dealt: NDArray[np.intp]) -> float:
        own = [curves[dealt == group] / r for group in range(3)]
        return sum(
            float(
                ((a.mean(0) - b.mean(0)) ** 2).sum()
                / (a.var(0, ddof=1) / len(a) + b.var(0, ddof=1) / len(b)).sum()
            )
            for a, b in ((own[0], own[1]), (own[0], own[2]), (own[1], own[2]))
        )

    found = permutation_test(curves, groups, r, permutations=1999, seed=3)

    assert found.t == pytest.approx(t(groups))
    chance = [t(random.permutation(groups)) for _ in range(1999)]
    assert found.p.value == pytest.approx(np.mean(np.array(chance) >= found.t), abs=0.05)
    assert found.p.how == "1999 permutations"
    assert permutation_test(curves, groups, r, permutations=1999, seed=3) == found


def test_fewer_than_999_permutations_are_not_made() -> None:
    curves, r = np.random.default_rng(4).gamma(5, 100, (6, 3)), np.array([2.0, 4.0, 6.0])

    assert permutation_test(curves, np.repeat([0, 1], 3), r, permutations=19).p.how == "999 permutations"


def test_radii_at_which_nobody_has_a_pair_add_nothing() -> None:
    curves, groups = np.random.default_rng(5).gamma(5, 100, (8, 6)), np.repeat([0, 1], 4)
    r = np.arange(2.0, 20, 2)

    found = permutation_test(np.c_[np.zeros((8, 3)), curves], groups, r)

    without = permutation_test(curves, groups, r[3:])
    assert (found.t, found.p) == (pytest.approx(without.t), without.p)


def test_curves_that_are_all_the_same_do_not_differ() -> None:
    found = permutation_test(np.ones((6, 3)), np.repeat([0, 1], 3), np.array([2.0, 4.0, 6.0]))

    assert (found.t, found.p.value) == (0, 1)


def curve(image: str, values: dict[float, float], other: str = "T") -> list[Row]:
    about: Row = {
        "image": image,
        "function": "L" if other == "T" else "cross-L",
        "class": "T",
        "other": other,
    }
    return [{**about, "r_um": r, "value_um": value} for r, value in values.items()]


def counted(image: str, name: str, cells: int) -> Row:
    return {"image": image, "class": name, "region": "tissue", "cells": cells}


def test_images_of_a_patient_are_pooled_by_their_cells_over_common_radii() -> None:
    functions = [
        *curve("a", {2.0: 1.0, 4.0: 5.0, 6.0: 9.0}),
        *curve("b", {2.0: 3.0, 4.0: 5.0}),
        *curve("a", {2.0: 1.0}, "B"),
        *curve("b", {2.0: 2.0}, "B"),
    ]
    densities = [counted("a", "T", 30), counted("b", "T", 10), counted("a", "B", 10), counted("b", "B", 50)]

    found = case_functions(functions, densities, {"a": "P", "b": "P"})

    own = [row for row in found if row["function"] == "L"]
    assert [row["r_um"] for row in own] == [2.0, 4.0]
    assert own[0]["value_um"] == pytest.approx(np.sqrt((30 * 1 + 10 * 9) / 40))
    assert own[1]["value_um"] == pytest.approx(5.0)
    between = next(row for row in found if row["function"] == "cross-L")
    assert between["cells"] == 100
    assert between["value_um"] == pytest.approx(np.sqrt((40 * 1 + 60 * 4) / 100))


def patients(groups: dict[str, int], random: np.random.Generator) -> list[Row]:
    """A curve each; those of group "high" lie 5 um higher."""
    return [
        {
            "case": f"{group} {k}", "function": "L", "class": "T", "other": "T", "r_um": r,
            "value_um": r + 5 * (group == "high" and r > 4) + random.normal(0, 0.5),
        }
        for group, count in groups.items()
        for k in range(count)
        for r in (2.0, 4.0, 6.0, 8.0, 10.0)
    ]  # fmt: skip


def test_the_table_tells_the_difference_before_p() -> None:
    rows = patients({"high": 6, "low": 6}, np.random.default_rng(6))

    (found,) = group_function_rows(rows, {str(row["case"]): str(row["case"]).split()[0] for row in rows})

    assert (found["group"], found["patients"], found["other_group"]) == ("high", 6, "low")
    assert found["largest_um"] == pytest.approx(5, abs=0.8)
    assert (found["from_um"], found["to_um"]) == (6.0, 10.0)
    assert found["p"] < 0.01
    assert found["q_project"] == found["p"]
    assert list(found).index("largest_um") < list(found).index("p")
    assert re.fullmatch(
        r"L of T: high against low: \+\d\.\d+ µm at \d+ µm, p = 0\.00\d+, q = 0\.00\d+",
        told({"group_functions": [found]}),
    )


@pytest.mark.parametrize("lonely", [0, 1])
def test_a_group_of_one_has_a_reason(lonely: int) -> None:
    rows = patients({"high": 3, "low": lonely}, np.random.default_rng(7))
    groups = {"low 0": "low"} | {f"high {k}": "high" for k in range(3)}

    (found,) = group_function_rows(rows, groups)

    assert found["reason"] == "fewer than 2 patients with this function in low"
    assert (found["t"], found["p"], found["q_project"]) == (None, None, None)
