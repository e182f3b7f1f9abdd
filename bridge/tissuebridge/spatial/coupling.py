"""Do cells keep to a structure? Counts in bands of distance from it (level sets) against a named null.

Given n_s cells in stratum s, uniform within it, band k of area share p_sk holds N_k = sum over s of Binomial(n_s,
p_sk): expected sum n_s p_sk, variance sum n_s p_sk (1 - p_sk). The p-value is the exact tail of that sum, for any
count: the normal approximation gives 36 times too many at 30 cells and p = 0.001. (Lagache et al. 2018,
https://doi.org/10.1038/s41467-018-03053-x.) Bands of a family are corrected by Benjamini & Hochberg.

The coupling distance is not the best band's: bands count as coupled where z exceeds what the largest z of all bands
exceeds by chance in 5 % of simulations. In them, the cells beyond chance are
f = sum over s of (N_s - n_s P_s) / (1 - P_s) / n, with P_s the coupled bands' share of the stratum: what is left over
is uniform, and some of it lies there too. Where cells cluster or exclude each other, the counts vary otherwise than
the formula says; a random shift (`shift_test`) keeps that, and its p-value is right then too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tissuebridge.spatial.bands import Bands
from tissuebridge.spatial.multiple import PValue, benjamini_hochberg, monte_carlo_p
from tissuebridge.spatial.nulls import SIMULATIONS, Stratified

LEVEL: Final = 0.05


@dataclass(frozen=True, slots=True)
class BandCount:
    """One band of a coupling test.

    Attributes:
        from_um: Its inner edge, signed.
        to_um: Its outer edge.
        count: Cells in it.
        expected: By chance.
        variance: By chance.
        z: Standard deviations beyond chance; None where the variance is 0.
        p: Exact chance of as many or more.
        q: The same, corrected over all bands of the test (Benjamini-Hochberg).
        is_coupled: Whether z is beyond what the largest of all bands is by chance in 5 %.
    """

    from_um: float
    to_um: float
    count: int
    expected: float
    variance: float
    z: float | None
    p: PValue
    q: float | None
    is_coupled: bool


@dataclass(frozen=True, slots=True)
class Coupling:
    """Whether and how far cells keep to a structure.

    Attributes:
        bands: In order of distance.
        cells: Cells that were counted, in any band or none.
        p: Of the maximum over bands.
        distance_um: The coupling distance: the far edge of the farthest coupled band; None where there is none.
        fraction: Share of the cells that is coupled; 0 where no band is; None without cells.
        interval: Of the fraction, 95 %, for the bands found; or None.
        family: Over which tests q is corrected.
    """

    bands: Sequence[BandCount]
    cells: int
    p: PValue
    distance_um: float | None
    fraction: float | None
    interval: tuple[float, float] | None
    family: str


def coupling(
    bands: Bands,
    distances: Sequence[NDArray[np.float64]],
    stratum_areas: Sequence[float],
    *,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> Coupling:
    """Tests cells of one class against a structure, random within each stratum.

    Args:
        bands: Edges, and areas in each stratum.
        distances: Of each stratum, float64 (n_s,): the cells' signed distances to the structure, um.
        stratum_areas: Of each stratum, um^2.
        simulations: For the maximum over bands; counts are drawn, not cells, so that many cost little.
        seed: The same seed gives the same p.
    """
    counts = np.array([bands.counts(one) for one in distances])
    cells = np.array([len(one) for one in distances])
    shares = np.minimum(bands.areas / np.maximum(np.asarray(stratum_areas), 1e-9)[:, None], 1)
    expected = (cells[:, None] * shares).sum(axis=0)
    variance = (cells[:, None] * shares * (1 - shares)).sum(axis=0)
    z = _z(counts.sum(axis=0), expected, variance)
    largest = _largest(cells, shares, expected, variance, simulations, seed)
    name, how = Stratified.name, f"{simulations} simulations"
    if not cells.sum():
        return Coupling((), 0, PValue(None, name, how), None, None, None, "no cells")
    # The same rank as a Monte Carlo p of at most 5 %.
    critical = np.sort(largest)[-int(LEVEL * (simulations + 1))]
    p = monte_carlo_p(float(z.max()), largest)
    coupled = (z > critical) & (p <= LEVEL)
    tails = np.array(
        [upper_tail(int(n), cells, share) for n, share in zip(counts.sum(0), shares.T, strict=True)]
    )
    q = benjamini_hochberg(tails)
    listed = [
        BandCount(
            float(bands.edges[k]), float(bands.edges[k + 1]), int(counts[:, k].sum()), float(expected[k]),
            float(variance[k]), float(z[k]) if variance[k] > 0 else None, PValue(float(tails[k]), name, "exact"),
            float(q[k]), bool(coupled[k]),
        )
        for k in range(len(z))
    ]  # fmt: skip
    found = Coupling(
        listed, int(cells.sum()), PValue(p, name, how), None, 0.0, None, f"the {len(z)} bands of this test"
    )
    return _with_fraction(found, bands, counts, cells, shares, coupled) if coupled.any() else found


def _with_fraction(
    found: Coupling,
    bands: Bands,
    counts: NDArray[np.int64],
    cells: NDArray[np.int64],
    shares: NDArray[np.float64],
    coupled: NDArray[np.bool_],
) -> Coupling:
    reach = np.maximum(np.abs(bands.edges[:-1]), np.abs(bands.edges[1:]))[coupled].max()
    within, share = counts[:, coupled].sum(axis=1), np.minimum(shares[:, coupled].sum(axis=1), 1 - 1e-9)
    beyond = (within - cells * share) / (1 - share)
    # Given the bands, cells are in or out: binomial counts.
    seen = within / np.maximum(cells, 1)
    error = 1.96 * np.sqrt((cells * seen * (1 - seen) / (1 - share) ** 2).sum()) / cells.sum()
    fraction = float(np.clip(beyond.sum() / cells.sum(), 0, 1))
    interval = (max(fraction - float(error), 0.0), min(fraction + float(error), 1.0))
    return replace(found, distance_um=float(reach), fraction=fraction, interval=interval)


def _z(
    counts: NDArray[np.int64] | NDArray[np.float64],
    expected: NDArray[np.float64],
    variance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Standard deviations beyond chance; 0 where nothing can vary."""
    return np.where(variance > 0, (counts - expected) / np.sqrt(np.maximum(variance, 1e-12)), 0.0)


def _largest(
    cells: NDArray[np.int64],
    shares: NDArray[np.float64],
    expected: NDArray[np.float64],
    variance: NDArray[np.float64],
    simulations: int,
    seed: int,
) -> NDArray[np.float64]:
    """The largest z of all bands in each simulation, (simulations,)."""
    random = np.random.default_rng(seed)
    counts = np.zeros((simulations, shares.shape[1]))
    for n, share in zip(cells, shares, strict=True):
        rest = max(1 - share.sum(), 0.0)
        chances = np.append(share, rest) / (share.sum() + rest)
        counts += random.multinomial(n, chances, simulations)[:, :-1]
    return np.asarray(_z(counts, expected, variance).max(axis=1))


def upper_tail(count: int, cells: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """The exact chance that a sum of binomial counts is at least so large.

    Args:
        count: What was seen.
        cells: int (strata,), cells of each stratum.
        shares: float64 (strata,), each one's chance.

    >>> round(upper_tail(2, np.array([2, 1]), np.array([0.5, 0.5])), 6)
    0.5
    """
    some = [(int(n), float(p)) for n, p in zip(cells, shares, strict=True) if n and p > 0]
    if not some:
        return float(count <= 0)
    if len(some) == 1:
        return float(stats.binom.sf(count - 1, *some[0]))
    *others, (n, p) = sorted(some)
    # All but the largest stratum are added up term by term, where their chance is not nil.
    low, chances = 0, np.ones(1)
    for size, share in others:
        first, last = (int(end) for end in stats.binom.ppf((1e-15, 1 - 1e-15), size, share))
        low, chances = (
            low + max(first, 0),
            np.convolve(chances, stats.binom.pmf(np.arange(max(first, 0), last + 1), size, share)),
        )
    sums = low + np.arange(len(chances))
    return float(min((chances * stats.binom.sf(count - 1 - sums, n, p)).sum(), 1.0))
