"""Whether groups of patients differ in how their cells lie to each other: the studentised permutation test.

Of groups i with m_i patients, with k(r) = K(r) / r, its mean k_i(r) and its variance s_i^2(r) between patients:
T = sum over pairs i < j of A / B, A being the integral of (k_i - k_j)^2 dr, B that of s_i^2 / m_i + s_j^2 / m_j.
p is the rank of T among those of patients dealt to the groups at random (Hahn 2012,
https://doi.org/10.1080/01621459.2012.688463; this is the second statistic there, for functions that vary about equally
at all r). A patient is one K, whatever its number of cells, so densities may differ; the variances in T nearly keep the
level where the groups' variances differ with them. In simulated pairs of random groups p <= 0.05 came in 6 % (6
patients of 80 cells, 8 of 30), 8 % (4 of 30, 12 of 80: 21 % with the ratio taken at each r, where few patients have no
variance by chance) and 9 % (10 of 200, 10 of 40). The effect before p is the largest difference of the groups' L.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.case_functions import What
from tissuebridge.spatial.cohort import with_project_q
from tissuebridge.spatial.multiple import PValue, monte_carlo_p
from tissuebridge.spatial.rank_tests import MIN_VALUES
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings

PERMUTATIONS: Final = 999
"""At least so many."""
NULL: Final = "the same K in all groups"


@dataclass(frozen=True, slots=True)
class GroupTest:
    """The test of one function.

    Attributes:
        t: Of the groups as they are.
        p: Its rank among permutations.
    """

    t: float
    p: PValue


def permutation_test(
    curves: NDArray[np.float64],
    groups: NDArray[np.intp],
    r: NDArray[np.float64],
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> GroupTest:
    """Tests whether groups of K functions have the same mean.

    Args:
        curves: float64 (patient, k), K, um^2.
        groups: int (patient,), 0 .. number of groups - 1; at least `MIN_VALUES` patients in each.
        r: float64 (k,), in equal steps, um; none is 0.
        permutations: At least `PERMUTATIONS` are made.
        seed: The same seed gives the same p.
    """
    random = np.random.default_rng(seed)
    dealt = np.array([groups, *(random.permutation(groups) for _ in range(max(permutations, PERMUTATIONS)))])
    t = _statistic(curves / r, dealt)
    return GroupTest(
        float(t[0]), PValue(monte_carlo_p(float(t[0]), t[1:]), NULL, f"{len(t) - 1} permutations")
    )


def _statistic(k: NDArray[np.float64], dealt: NDArray[np.intp]) -> NDArray[np.float64]:
    """T of each way to deal patients to groups, (ways,); equal steps of r cancel out of its ratios."""
    centred = k - k.mean(axis=0)
    means, variances = [], []
    for group in range(int(dealt.max()) + 1):
        is_in = (dealt == group).astype(np.float64)
        m = float(is_in[0].sum())
        mean = is_in @ centred / m
        means.append(mean)
        # Of the mean: s^2 / m with s^2 = sum of squares / (m - 1).
        variances.append(np.maximum(is_in @ centred**2 / m - mean**2, 0).sum(axis=1) / (m - 1))
    t = np.zeros(len(dealt))
    for one, other in combinations(range(len(means)), 2):
        apart, variance = ((means[one] - means[other]) ** 2).sum(axis=1), variances[one] + variances[other]
        t += np.divide(apart, variance, out=np.zeros_like(t), where=variance > 0)
    return t


def group_function_rows(
    functions: Sequence[Row],
    group_of: Mapping[str, str],
    settings: SpatialSettings | None = None,
) -> list[Row]:
    """Every function compared between groups, over the radii that all patients have.

    Args:
        functions: From `case_functions`.
        group_of: Patient to group; who is in none is left out.
        settings: Suppression distance (below it cells exclude each other, in whatever group), permutations (as many as
            simulations) and seed; None: the defaults.

    Returns:
        Rows of a pair of groups: "function", its classes; "patients" of both; "largest_um", where the two groups' L
        differ most (positive: the first is the more clustered), "at_um"; "from_um", "to_um", what was tested; "t" and
        "p" of one test of all groups, "test", "null", "q_project", "project_family"; "reason" for what is None.
    """
    settings = settings or SpatialSettings()
    rows: list[Row] = []
    for (function, first, second), curves in group_curves(
        functions, group_of, settings.suppression_um
    ).items():
        about: Row = {"function": function, "class": first, "other": second}
        rows += [about | row for row in _compared(curves, settings)]
    return with_project_q(rows, "p", ("function", "class", "other"), "comparisons of functions")


@dataclass(frozen=True, slots=True, eq=False)
class GroupCurves:
    """One function of all patients, over the radii that all of them have.

    Attributes:
        names: Of the groups.
        groups: int (patient,), the place of each one's group in `names`.
        r: float64 (k,), um; none where patients have no radius in common.
        k: float64 (patient, k), K, um^2.
    """

    names: tuple[str, ...]
    groups: NDArray[np.intp]
    r: NDArray[np.float64]
    k: NDArray[np.float64]

    def mean_l(self, group: int) -> NDArray[np.float64]:
        """L of a group's mean K, (k,), um."""
        mean: NDArray[np.float64] = np.sqrt(self.k[self.groups == group].mean(axis=0) / np.pi)
        return mean


def group_curves(
    functions: Sequence[Row], group_of: Mapping[str, str], from_um: float
) -> dict[What, GroupCurves]:
    """What `group_function_rows` compares.

    Args:
        functions: From `case_functions`.
        group_of: Patient to group; who is in none is left out.
        from_um: The suppression distance: smaller radii are left out.
    """
    found: dict[What, dict[str, dict[float, float]]] = {}
    for row in functions:
        if (case := str(row["case"])) in group_of and float(row["r_um"] or 0) >= from_um:
            what = str(row["function"]), str(row["class"]), str(row["other"])
            own = found.setdefault(what, {}).setdefault(case, {})
            own[float(row["r_um"] or 0)] = np.pi * float(row["value_um"] or 0) ** 2
    names = tuple(sorted(set(group_of.values())))
    curves = {}
    for what, of_case in found.items():
        r = np.array(sorted(set.intersection(*(set(curve) for curve in of_case.values()))))
        k = np.array([[curve[float(at)] for at in r] for curve in of_case.values()])
        groups = np.array([names.index(group_of[case]) for case in of_case])
        curves[what] = GroupCurves(names, groups, r, k)
    return curves


def _compared(curves: GroupCurves, settings: SpatialSettings) -> list[Row]:
    """One function, a row for each pair of groups."""
    names = curves.names
    counts = np.bincount(curves.groups, minlength=len(names))
    reason = _why_not(dict(zip(names, counts.tolist(), strict=True)), len(curves.r))
    tested = None
    if not reason:
        tested = permutation_test(
            curves.k, curves.groups, curves.r, permutations=settings.simulations, seed=settings.seed
        )
    return [
        {
            "group": names[one], "other_group": names[other],
            "patients": int(counts[one]), "other_patients": int(counts[other]),
            **(_difference(curves, one, other) if tested else _NO_DIFFERENCE),
            "t": tested.t if tested else None, "p": tested.p.value if tested else None,
            "test": f"studentised, {tested.p.how}" if tested else None, "null": NULL if tested else None,
            "reason": reason,
        }
        for one, other in combinations(range(len(names)), 2)
    ]  # fmt: skip


_NO_DIFFERENCE: Final[Row] = dict.fromkeys(("largest_um", "at_um", "from_um", "to_um"))


def _why_not(counts: Mapping[str, int], radii: int) -> str | None:
    if few := [name for name, count in counts.items() if count < MIN_VALUES]:
        return f"fewer than {MIN_VALUES} patients with this function in {', '.join(few)}"
    return None if radii else "patients have no radius in common: an image is too small"


def _difference(curves: GroupCurves, one: int, other: int) -> Row:
    r, apart = curves.r, curves.mean_l(one) - curves.mean_l(other)
    most = int(np.abs(apart).argmax())
    return {
        "largest_um": float(apart[most]), "at_um": float(r[most]),
        "from_um": float(r[0]), "to_um": float(r[-1]),
    }  # fmt: skip
