"""Whether a whole function of distance differs from chance: envelopes and one p-value for all distances.

With the curves of the data and of m simulations under a named null, and their mean t(r):

- MAD: T = max over r of |f(r) - t(r)| (Ripley 1977, https://doi.org/10.1111/j.2517-6161.1977.tb01615.x);
- DCLF: T = sum over r of (f(r) - t(r))^2 (Diggle 1986, https://doi.org/10.1016/0165-0270(86)90115-2; Loosmore & Ford
  2006, https://doi.org/10.1890/0012-9658(2006)87[1925:SIUTGO]2.0.CO;2).

p is the rank of T among the simulations' own, exact for every m since t is the mean of all m + 1 (Baddeley et al. 2014,
https://doi.org/10.1890/13-2042.1). The pointwise envelope is for reading only; the global one is as wide everywhere and
holds the whole curve with the stated probability. Radii below the suppression distance are left out of the test.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.spatial.multiple import PValue, monte_carlo_p
from tissuebridge.spatial.nulls import SIMULATIONS, Null, Pattern, check_simulations, drawn
from tissuebridge.spatial.ripley import Curve

LEVEL: Final = 0.95

_MOST_THREADS: Final = 16
"""Each may hold pairs of cells (`pairs`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """A function, what chance makes of it, and whether they differ.

    Attributes:
        curve: Of the data.
        mean: float64 (k,), of data and simulations.
        pointwise: float64 (2, k), the middle 95 % of the simulations at each radius; for reading only.
        half_width: The global envelope is mean +- this; None where nothing is defined.
        mad: p of the largest difference.
        dclf: p of the squared difference.
        interval_um: Radii that were tested.
    """

    curve: Curve
    mean: NDArray[np.float64]
    pointwise: NDArray[np.float64]
    half_width: float | None
    mad: PValue
    dclf: PValue
    interval_um: tuple[float, float]


def compare_with_null(
    function: Callable[[Pattern], Curve],
    seen: Pattern,
    null: Null,
    *,
    from_um: float = 0.0,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> Tested:
    """A function of the data against the same function of patterns drawn under a null.

    Args:
        function: Such as L of `pattern.points`, by the same radii each time.
        seen: The data.
        null: What by chance means here.
        from_um: The suppression distance: cells exclude each other below it, whatever the question is.
        simulations: At least 19; 999 or more for a p-value to publish.
        seed: The same seed gives the same p.

    Raises:
        UsageError: Fewer than 19 simulations, or no radius at or above `from_um`.
    """
    check_simulations(simulations)

    def values(index: int) -> NDArray[np.float64]:
        return function(drawn(null, seed, index)).values

    # The first ones make what all need (trees, weights). Trees and arithmetic of arrays let other threads work.
    curve, first = function(seen), values(0)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as threads:
        simulated = np.array([first, *threads.map(values, range(1, simulations))])
    return _compared(curve, simulated, null, from_um)


def _compared(curve: Curve, simulated: NDArray[np.float64], null: Null, from_um: float) -> Tested:
    tested = curve.r >= from_um
    if not tested.any():
        raise UsageError(
            f"no radius at or above {from_um:g} um; the largest is {curve.r[-1]:g} um. Take larger ones."
        )
    # Where one curve is not defined, none can be compared.
    tested &= np.isfinite(curve.values) & np.isfinite(simulated).all(axis=0)
    how = f"{len(simulated)} simulations"
    every = np.vstack([curve.values[None], simulated])
    mean = every.mean(axis=0)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    pointwise = np.quantile(simulated, tails, axis=0)
    if not tested.any():
        none = PValue(None, null.name, how, null.is_descriptive)
        return Tested(curve, mean, pointwise, None, none, none, (from_um, float(curve.r[-1])))
    off = np.abs(every - mean)[:, tested]
    largest, squared = off.max(axis=1), (off**2).sum(axis=1)
    rank = int(np.ceil(LEVEL * len(every))) - 1
    return Tested(
        curve,
        mean,
        pointwise,
        float(np.sort(largest)[rank]),
        PValue(monte_carlo_p(largest[0], largest[1:]), null.name, how, null.is_descriptive),
        PValue(monte_carlo_p(squared[0], squared[1:]), null.name, how, null.is_descriptive),
        (float(curve.r[tested][0]), float(curve.r[tested][-1])),
    )
