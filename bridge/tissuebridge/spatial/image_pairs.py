"""Whether two cell classes go together in one image: every pair, in every region class, under random shifts, as rows.

Each region is tested by itself: in all tissue two independent classes, both denser in stroma, would go together. The
effect, cross-L(r) - r, stands before p, at the distances of `SpatialSettings.rings_um`, beside what chance makes of it.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.image_functions import radii
from tissuebridge.spatial.multiple import benjamini_hochberg
from tissuebridge.spatial.pair_shifting import Pair, ShiftedPair, shifted_pairs
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import Tissue
from tissuebridge.spatial.window import Window

_MIN_CELLS = 2
_COLUMNS = (
    "r_um", "l_minus_r_um", "chance_low_um", "chance_high_um", "p_mad", "p_dclf", "null", "how", "from_um", "to_um",
)  # fmt: skip


def pair_rows(tissue: Tissue, settings: SpatialSettings) -> list[Row]:
    """Tests every pair of classes in every region class; cells of "class" are moved, those of "other" stay.

    Returns:
        Rows of a test, one for each distance: "region", "class", "other", "cells", "other_cells"; "r_um" and there
        "l_minus_r_um" (more than 0: they attract) with the middle 95 % of the moves, "chance_low_um" to
        "chance_high_um"; of the test over all radii from "from_um" to "to_um": "p_mad", "p_dclf", "null", "how",
        "q_mad" in its "family"; "reason" for what is None.
    """
    tests = [one for region in tissue.regions.values() for one in _in_region(region, tissue, settings)]
    p = np.array([rows[0]["p_mad"] if rows[0]["p_mad"] is not None else np.nan for rows in tests], np.float64)
    family = f"the {int(np.isfinite(p).sum())} tests of pairs of this image"
    return [
        row | {"q_mad": None if np.isnan(q) else q, "family": family}
        for rows, q in zip(tests, benjamini_hochberg(p).tolist(), strict=True)
        for row in rows
    ]


def _in_region(region: Window, tissue: Tissue, settings: SpatialSettings) -> list[list[Row]]:
    """The rows of each test."""
    cells = {name: points[region.contains(points)] for name, points in tissue.cells.items()}
    r = radii(region, settings)
    # Below it cells exclude each other, whatever the question is.
    r = r[r >= settings.suppression_um]
    pairs = list(combinations(cells, 2))
    enough = [pair for pair in pairs if min(len(cells[name]) for name in pair) >= _MIN_CELLS]
    tested: dict[Pair, ShiftedPair] = {}
    if len(r) and enough:
        # A move by more than the region is wide leaves nothing to compare.
        shift_um = min(settings.shift_um, float(np.sqrt(region.area_um2)) / 3)
        tested = shifted_pairs(
            cells, enough, region, r, shift_um, simulations=settings.simulations, seed=settings.seed
        )
    found = []
    for first, second in pairs:
        head: Row = {
            "region": region.name, "class": first, "other": second,
            "cells": len(cells[first]), "other_cells": len(cells[second]),
        }  # fmt: skip
        one = tested.get((first, second))
        if one is None or one.mad.value is None:
            few = "fewer than 2 cells" if (first, second) not in enough else "the window is too small"
            found.append([head | dict.fromkeys(_COLUMNS) | {"reason": few}])
        else:
            found.append([head | row for row in _by_distance(one, r, settings)])
    return found


def _by_distance(one: ShiftedPair, r: NDArray[np.float64], settings: SpatialSettings) -> list[Row]:
    wanted = [ring for ring in settings.rings_um if r[0] <= ring <= r[-1]] or [float(r[-1])]
    low, high = one.chance_um
    return [
        {
            "r_um": float(r[k]), "l_minus_r_um": float(one.off_um[k]), "chance_low_um": float(low[k]),
            "chance_high_um": float(high[k]), "p_mad": one.mad.value, "p_dclf": one.dclf.value,
            "null": one.mad.null, "how": one.mad.how, "from_um": float(r[0]), "to_um": float(r[-1]),
            "reason": None,
        }
        for k in sorted({int(np.abs(r - ring).argmin()) for ring in wanted})
    ]  # fmt: skip
