"""The functions of distance of one image, as rows: every class and pair of classes, in all tissue and in each region.

K, L and g, also with the densities at both cells taken into account (inhomogeneous), nearest-neighbour G and
empty-space F, each beside what complete randomness has. No test is in this table: those are in `measure` and
`image_pairs`. A region is a window of its own, with its own cells alone.

Densities are smoothed by a kernel that is wider than the largest radius: what is finer is the question. Between classes
they are scaled so that the sum of 1 / l over a class's cells is the window's area, as it is on average for the true
density (Stoyan & Grabarnik 1991, https://doi.org/10.1002/mana.19911510108), by whose noise K would be too large; within
a class by the root of that, since the cells of a pair are in each other's densities. So K of random cells comes out
within a tenth of pi r^2 from 30 cells on; of fewer it is too small within a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement, product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.edges import EdgeWeights
from tissuebridge.spatial.intensity import finest_bandwidth, intensity
from tissuebridge.spatial.nearest import empty_space_f, nearest_g
from tissuebridge.spatial.pair_correlation import pair_correlation, stoyan_half_width
from tissuebridge.spatial.ripley import as_l, ripley_k
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import WHOLE, Tissue
from tissuebridge.spatial.window import Window

Columns = dict[str, NDArray[np.float64]]
"""Columns of equal length, NaN where a value is not defined."""

_BANDWIDTHS: Final = 2.0
"""The kernel of densities, in largest radii."""
_CELLS: Final = 20
"""Cells that it holds at least, on average: with a noisier density, K of random cells came out at 0.6 of what it is."""
_WIDEST: Final = 0.25
"""The widest kernel of g, in largest radii: Stoyan's rule has no bound for rare cells."""

_PAIRED: Final = (
    "K_um2", "K_inhomogeneous_um2", "K_random_um2", "L_um", "L_inhomogeneous_um", "L_random_um",
    "g", "g_inhomogeneous", "g_random",
)  # fmt: skip
_NEAREST: Final = ("nearest_G", "nearest_G_random", "empty_space_F", "empty_space_F_random")


def radii(window: Window, settings: SpatialSettings) -> NDArray[np.float64]:
    """The radii of functions in a window, (k,), um: up to a quarter of its shorter side; none where it is too small."""
    left, top, right, bottom = window.area.bounds
    largest, step = settings.radii_um
    return np.arange(step, min(largest, min(right - left, bottom - top) / 4) + step / 2, step)


def function_rows(tissue: Tissue, settings: SpatialSettings) -> list[Row]:
    """Every function in all tissue and in each region class; a row for each radius.

    K and g of a pair of classes are the same in both directions; G is from "class" to the nearest of "other", and F
    from anywhere to the nearest of "other", which is what G between classes would be if "class" did not care.

    Returns:
        Rows with "region", "class", "other", the cells of both, "r_um", the functions ("..._random": of complete
        randomness) and "reason", which functions are None and why.
    """
    # Where the only region is the whole image, it is not told twice.
    regions = {} if list(tissue.regions) == [WHOLE] else tissue.regions
    windows = {"tissue": tissue.window, **regions}
    return [row for name, window in windows.items() for row in _rows(name, window, tissue, settings)]


def _rows(name: str, window: Window, tissue: Tissue, settings: SpatialSettings) -> list[Row]:
    cells = {kind: points[window.contains(points)] for kind, points in tissue.cells.items()}
    r = radii(window, settings)
    paired = _paired(cells, window, r) if len(r) else {}
    empty = {kind: empty_space_f(points, window, r) for kind, points in cells.items()} if len(r) else {}
    rows: list[Row] = []
    for first, second in product(cells, cells):
        n, m = len(cells[first]), len(cells[second])
        head: Row = {"region": name, "class": first, "other": second, "cells": n, "other_cells": m}
        if not len(r):
            nothing = dict.fromkeys(("r_um", *_PAIRED, *_NEAREST))
            rows.append(head | nothing | {"reason": "the window is too small"})
            continue
        own = nearest_g(cells[first], window, r, None if first == second else cells[second])
        near = (own.values, own.random, empty[second].values, empty[second].random)
        few = _few(n, None if first == second else m)
        rows += [
            head | row
            for row in _by_radius(r, paired[first, second] | dict(zip(_NEAREST, near, strict=True)), few)
        ]
    return rows


def _few(n: int, m: int | None) -> str | None:
    if m is None:
        return "fewer than 2 cells" if n < 2 else None
    return "no cells of one class" if min(n, m) < 1 else None


def _paired(
    cells: Mapping[str, NDArray[np.float64]], window: Window, r: NDArray[np.float64]
) -> dict[tuple[str, str], Columns]:
    """What is made of pairs of cells: the functions of each pair of classes, in both orders."""
    widest = _WIDEST * float(r[-1])
    weights = EdgeWeights(window, float(r[-1]) + widest)
    density = {name: _density(points, window, float(r[-1])) for name, points in cells.items()}
    excess = {name: float((1 / one).sum()) / window.area_um2 for name, one in density.items()}
    found: dict[tuple[str, str], Columns] = {}
    for first, second in combinations_with_replacement(cells, 2):
        points, others = cells[first], None if first == second else cells[second]
        # By the rarer class, so that g is the same in both directions.
        rarer = max(min(len(points), len(cells[second])), 1)
        h = min(stoyan_half_width(rarer, window), widest)
        power = 0.5 if first == second else 1.0
        scaled = density[first] * excess[first] ** power, density[second] * excess[second] ** power
        columns = []
        for densities in (None, scaled):
            k = ripley_k(points, window, r, others, intensity=densities, weights=weights)
            g = pair_correlation(
                points, window, r, others, half_width_um=h, intensity=densities, weights=weights
            )
            # Below h the kernel reaches past zero, and g would be too small.
            columns.append((k.values, as_l(k).values, np.where(r >= h, g.values, np.nan)))
        plain, weighted = columns
        by_name = [*zip(plain, weighted, (np.pi * r**2, r, np.ones(len(r))), strict=True)]
        values = [value for three in by_name for value in three]
        found[first, second] = found[second, first] = dict(zip(_PAIRED, values, strict=True))
    return found


def _density(points: NDArray[np.float64], window: Window, largest_um: float) -> NDArray[np.float64]:
    """The class's density at its own cells, without each one's own part, per um^2."""
    if not len(points):
        return np.zeros(0)
    area_um2 = window.area_um2
    # Rare cells: so wide that it holds enough of them, but no wider than the window.
    enough_um = np.sqrt(_CELLS * area_um2 / (4 * np.pi * len(points)))
    wide_um = min(float(enough_um), float(np.sqrt(area_um2)) / 2)
    return intensity(points, window, max(_BANDWIDTHS * largest_um, wide_um, finest_bandwidth(window)))


def _by_radius(r: NDArray[np.float64], columns: Columns, few: str | None) -> list[Row]:
    rows = []
    for k, radius in enumerate(r):
        row: Row = {"r_um": float(radius)}
        row |= {name: float(v[k]) if np.isfinite(v[k]) else None for name, v in columns.items()}
        reasons = []
        if row["g"] is None:
            reasons.append(few or "g: below the half width of its kernel")
        if row["nearest_G"] is None or row["empty_space_F"] is None:
            reasons.append(few or "nearest distances: nothing lies so far from the border")
        rows.append(row | {"reason": "; ".join(dict.fromkeys(reasons)) or None})
    return rows
