"""What a p-value is made of, and many of them together.

Benjamini & Hochberg 1995, https://doi.org/10.1111/j.2517-6161.1995.tb02031.x: with m tests of a stated family, q of the
i-th smallest p is the smallest of m p_k / k over k >= i; keeping q <= a, at most a share a of what is kept is chance.
Monte Carlo p-values are (1 + how many simulations are as extreme) / (1 + simulations): never 0 (Davison & Hinkley 1997,
https://doi.org/10.1017/CBO9780511802843).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PValue:
    """A p-value, and what it is relative to.

    Attributes:
        value: Between 0 and 1; None where it is not defined.
        null: Name of the null hypothesis.
        how: "exact", or how many simulations.
        is_descriptive: The null is too simple for tissue; do not conclude from it.
    """

    value: float | None
    null: str
    how: str
    is_descriptive: bool = False


def monte_carlo_p(seen: float, simulated: NDArray[np.float64] | NDArray[np.int64]) -> float:
    """How often chance is as large as what was seen.

    Args:
        seen: The statistic of the data.
        simulated: float64 (m,), of simulations.

    >>> monte_carlo_p(3.0, np.array([1.0, 2.0, 4.0]))
    0.5
    """
    # Equal up to rounding counts as equal: sums in another order must not make a difference.
    as_large = simulated >= seen - 1e-9 * max(abs(seen), 1e-300)
    return float((1 + as_large.sum()) / (1 + len(simulated)))


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The q-values of a family of tests; NaN stays NaN and does not count.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    q = np.full(len(p), np.nan)
    defined = np.flatnonzero(~np.isnan(p))
    order = defined[np.argsort(p[defined], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return q
