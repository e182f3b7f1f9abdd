"""How often each null calls two independent classes dependent, both denser in stroma; run by hand.

    python tests/benchmarks/spatial_nulls.py [RUNS]

Cross-L of 100 + 100 cells, 60 of each in a quarter of the area, MAD test with 99 simulations: the share of p <= 0.05,
which should be 0.05 or less, and the p-value of a KS test of uniformity.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

sys.path[:0] = [str(Path(__file__).parents[1] / "bridge" / "spatial")]

import test_nulls as drawn  # noqa: E402  # the patterns are those of the tests

from tissuebridge.spatial.envelopes import compare_with_null  # noqa: E402
from tissuebridge.spatial.nulls import (  # noqa: E402
    CompleteRandomness,
    IntensityWeighted,
    Null,
    Pattern,
    RandomLabelling,
    RandomShift,
    Stratified,
)

STRATA = [drawn.TUMOR, drawn.STROMA]
NULLS: dict[str, Callable[[Pattern], Null]] = {
    "complete randomness": CompleteRandomness,
    "stratified": lambda seen: Stratified(seen, STRATA),
    "intensity, 60 um": lambda seen: IntensityWeighted(seen, 60.0),
    "intensity, 30 um": lambda seen: IntensityWeighted(seen, 30.0),
    "random shift, 100 um": lambda seen: RandomShift(seen, 100.0),
    "random labelling within strata": lambda seen: RandomLabelling(
        seen, drawn.mixed(len(seen.points)), STRATA
    ),
}


def main(runs: int) -> None:
    for name, make in NULLS.items():
        p = []
        for run in range(runs):
            seen = Pattern(drawn.mixed(20_000 + run), drawn.mixed(60_000 + run), drawn.TISSUE)
            p.append(compare_with_null(drawn.cross_l, seen, make(seen), simulations=99, seed=run).mad.value)
        uniform = stats.kstest(p, "uniform").pvalue
        print(f"{name:32} {np.mean(np.array(p) <= 0.05):.3f} at 0.05, KS p = {uniform:.3f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
