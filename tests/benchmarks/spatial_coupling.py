"""How often independent cells are called coupled, and how well planted coupling is recovered; run by hand.

    python tests/benchmarks/spatial_coupling.py [RUNS]

Prints, for patterns that have nothing to do with the border (uniform within strata, clustered, hard-core), the share of
p <= 0.05 and the p-value of a KS test of uniformity, under the stratified null and under a random shift; then the mean
and the largest error of the fraction where 20 % are planted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path[:0] = [str(Path(__file__).parents[1] / "bridge" / "spatial")]

import test_coupling as drawn  # noqa: E402  # the patterns are those of the tests

from tissuebridge.spatial.shifting import shift_test  # noqa: E402


def main(runs: int) -> None:
    for pattern in (drawn.independent, drawn.clustered, drawn.hard_core):
        strata, shifted = [], []
        for seed in range(runs):
            points = pattern(10_000 + seed)
            strata.append(drawn.measured(points, seed, 199).p.value)
            shift = shift_test(
                drawn.STRATA, drawn.to_line, drawn.EDGES, points, 150.0, simulations=99, seed=seed
            )
            shifted.append(shift.value)
        for null, p in (("stratified", strata), ("random shift", shifted)):
            ks = stats.kstest(p, "uniform").pvalue
            rejected = np.mean(np.array(p) <= 0.05)
            print(f"{pattern.__name__:12} {null:13} {rejected:.3f} at 0.05, KS p = {ks:.3f}")
    for share in (0.1, 0.2, 0.4):
        found = [drawn.measured(drawn.planted(2 * seed, share), seed) for seed in range(runs)]
        fraction = np.array([one.fraction for one in found])
        print(
            f"planted {share:.0%}: found in {np.mean([one.p.value <= 0.05 for one in found]):.1%}, fraction "
            f"{fraction.mean():.3f}, within 5 points in {np.mean(np.abs(fraction - share) < 0.05):.1%}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
