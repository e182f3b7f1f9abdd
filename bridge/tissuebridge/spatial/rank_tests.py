"""Groups of values by their ranks: how far apart two lie, and whether groups differ at all.

The shift of x against y is the median of all x_i - y_j (Hodges & Lehmann 1963,
https://doi.org/10.1214/aoms/1177704172). Its interval is [D_c, D_(nm + 1 - c)] of these differences in order, with the
largest c for which P(U <= c - 1) <= a/2, U being the number of pairs with x_i < y_j under the null (Bauer 1972,
https://doi.org/10.1080/01621459.1972.10481279): exact without ties, too wide with them. Tests: Mann & Whitney 1947,
https://doi.org/10.1214/aoms/1177730491, for two groups; Kruskal & Wallis 1952,
https://doi.org/10.1080/01621459.1952.10483441, for more. Values in any unit, shifts in the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.spatial.density import LEVEL
from tissuebridge.spatial.multiple import PValue

MIN_VALUES: Final = 2
"""In each group; one value says nothing of how values vary."""
NULL: Final = "the same distribution in all groups"

_EXACT_PAIRS: Final = 2500
"""Up to so many pairs the distribution of U is worked out; beyond, it is normal for all purposes."""
_EXACT_SPLITS: Final = 20_000
"""Up to so many ways to deal tied values to two groups, all are gone through."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How much higher one group lies than another.

    Attributes:
        value: The median difference.
        low: Lower end of the 95 % interval; None where so few values have none (3 against 3).
        high: Its upper end.
    """

    value: float
    low: float | None
    high: float | None


def shift(x: NDArray[np.float64], y: NDArray[np.float64], level: float = LEVEL) -> Shift:
    """How much higher x lies than y.

    Args:
        x: float64 (n,), at least one.
        y: float64 (m,), at least one.
        level: Of confidence.

    >>> shift(np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    Shift(value=4.0, low=1.0, high=7.0)
    """
    differences = np.sort((x[:, None] - y).ravel())
    c = _rank_of_end(len(x), len(y), (1 - level) / 2)
    low, high = (None, None) if c < 1 else (float(differences[c - 1]), float(differences[-c]))
    return Shift(float(np.median(differences)), low, high)


def _rank_of_end(n: int, m: int, tail: float) -> int:
    """The largest c with P(U <= c - 1) <= tail; 0 if there is none."""
    if n * m <= _EXACT_PAIRS:
        # Sums of the same probabilities in another order differ in the last digit.
        return int((np.cumsum(_u_distribution(n, m)) <= tail + 1e-12).sum())
    spread = np.sqrt(n * m * (n + m + 1) / 12)
    return int(np.floor(n * m / 2 + 0.5 + stats.norm.ppf(tail) * spread))


def _u_distribution(n: int, m: int) -> NDArray[np.float64]:
    """P(U = u) for u = 0 .. nm, by whether the largest of all values is one of the n: (nm + 1,)."""
    rows: list[NDArray[np.float64]] = [np.ones(1)] * (m + 1)
    for i in range(1, n + 1):
        row = [np.ones(1)]
        for j in range(1, m + 1):
            both = np.zeros(i * j + 1)
            # It is: it lies above all j; its removal leaves i - 1. Or it is not.
            both[j:] += rows[j] * i / (i + j)
            both[: i * (j - 1) + 1] += row[j - 1] * j / (i + j)
            row.append(both)
        rows = row
    return rows[m]


def rank_test(groups: Sequence[NDArray[np.float64]]) -> PValue:
    """Whether groups differ in their ranks, two-sided; exact for two small groups, also where values are tied.

    Args:
        groups: Two or more of float64 (n,), each of at least `MIN_VALUES`, not all values the same.

    >>> rank_test([np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0])]).value
    0.02857142857142857
    """
    if len(groups) > 2:
        p = float(stats.kruskal(*groups).pvalue)
        return PValue(p, NULL, f"Kruskal-Wallis of {len(groups)} groups, by chi-square")
    x, y = groups
    every = np.concatenate([x, y])
    if len(np.unique(every)) == len(every) and min(len(x), len(y)) <= 8:
        return PValue(float(stats.mannwhitneyu(x, y, method="exact").pvalue), NULL, "Mann-Whitney, exact")
    if (splits := comb(len(every), len(x))) <= _EXACT_SPLITS:
        method = stats.PermutationMethod(n_resamples=splits)
        p = float(stats.mannwhitneyu(x, y, method=method).pvalue)
        return PValue(min(p, 1.0), NULL, "Mann-Whitney, exact")
    p = float(stats.mannwhitneyu(x, y, method="asymptotic").pvalue)
    return PValue(p, NULL, "Mann-Whitney, by the normal distribution")
