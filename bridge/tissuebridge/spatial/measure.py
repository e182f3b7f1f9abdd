"""The top: an image's cells and regions in, tables of plain values out.

READ FIRST of this package. `measure` runs every family of statistics and returns rows; `cell_table` gives what
belongs on each cell. Where a number does not exist the row holds None and `reason` says why: never a NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.bands import profile
from tissuebridge.spatial.density import Density, densities, density
from tissuebridge.spatial.distances import censored, signed_distance
from tissuebridge.spatial.edges import EdgeWeights
from tissuebridge.spatial.enrichment import enrichment
from tissuebridge.spatial.envelopes import Tested, compare_with_null
from tissuebridge.spatial.graph import composition, delaunay, local_density
from tissuebridge.spatial.image_coupling import cell_coupling_rows, interfaces_of, region_coupling_rows
from tissuebridge.spatial.image_functions import function_rows, radii
from tissuebridge.spatial.image_pairs import pair_rows
from tissuebridge.spatial.interfaces import Interface
from tissuebridge.spatial.multiple import benjamini_hochberg
from tissuebridge.spatial.neighbours import nearest_neighbours
from tissuebridge.spatial.nulls import Pattern, Stratified, stratum_of
from tissuebridge.spatial.ripley import Curve, as_l, ripley_k
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import WHOLE, Tissue

Watch = Callable[[int, int], None]
"""Told how many steps are done, of how many."""

MAX_PAIRS: Final = 3_000_000_000
"""Pairs of cells over all simulations of one test; beyond, the test is left out, saying so."""

_MIN_CELLS: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """All statistics of one image.

    Attributes:
        tables: Name to rows of equal keys: "window", "densities", "profiles", "neighbours", "functions" (the curves of
            "tests"), "region_functions", "tests", "pair_tests", "coupling", "cell_coupling", "enrichment".
    """

    tables: Mapping[str, Sequence[Row]]


def measure(
    tissue: Tissue, settings: SpatialSettings | None = None, watch: Watch | None = None
) -> Statistics:
    """Runs every family of statistics on one image.

    Args:
        tissue: From `tissue_of`.
        settings: None: the defaults.
        watch: Called before every step.
    """
    settings = settings or SpatialSettings()
    functions: list[Row] = []
    interfaces = interfaces_of(tissue, settings)
    steps: list[tuple[str, Callable[[], list[Row]]]] = [
        ("window", lambda: _window_rows(tissue)),
        ("densities", lambda: _density_rows(tissue)),
        ("profiles", lambda: _profile_rows(tissue, interfaces)),
        ("neighbours", lambda: _neighbour_rows(tissue)),
        ("tests", lambda: _tests(tissue, settings, functions)),
        ("region_functions", lambda: function_rows(tissue, settings)),
        ("pair_tests", lambda: pair_rows(tissue, settings)),
        ("coupling", lambda: region_coupling_rows(tissue, settings, interfaces)),
        ("cell_coupling", lambda: cell_coupling_rows(tissue, settings)),
        ("enrichment", lambda: _enrichment_rows(tissue, settings)),
    ]
    tables: dict[str, Sequence[Row]] = {}
    for done, (name, step) in enumerate(steps):
        if watch:
            watch(done, len(steps))
        tables[name] = step()
    tables["functions"] = functions
    if watch:
        watch(len(steps), len(steps))
    return Statistics(tables)


# ---- First order -----------------------------------------------------------------------------------------


def _window_rows(tissue: Tissue) -> list[Row]:
    counted = {name: len(points) for name, points in tissue.cells.items()}
    return [
        {
            "cells_from": tissue.cells_from,
            "regions_from": tissue.regions_from,
            "area_mm2": tissue.window.area_mm2,
            "excluded_mm2": tissue.excluded_um2 / 1e6,
            "cells": sum(counted.values()),
            "cells_outside": sum(tissue.outside.values()),
        }
    ]


def _density_rows(tissue: Tissue) -> list[Row]:
    everywhere = [
        density(name, "tissue", len(points), tissue.window.area_um2) for name, points in tissue.cells.items()
    ]
    # Where the only region is the whole image, it is not told twice.
    within = [] if list(tissue.regions) == [WHOLE] else densities(tissue.cells, tissue.regions)
    return [_density_row(one) for one in [*everywhere, *within]]


def _density_row(one: Density) -> Row:
    return {
        "class": one.cell_class, "region": one.region, "cells": one.count, "area_mm2": one.area_mm2,
        "cells_per_mm2": one.per_mm2, "low": one.low, "high": one.high,
        "reason": None if one.per_mm2 is not None else "no area",
    }  # fmt: skip


def _profile_rows(tissue: Tissue, interfaces: Sequence[Interface]) -> list[Row]:
    rows: list[Row] = []
    for at in (one for one in interfaces if one.moved_um == 0):
        bands = at.bands
        for cell_class, points in tissue.cells.items():
            distances = at.distance(points)
            hidden = censored(tissue.window, distances, points)
            for band, (low, high, one) in enumerate(profile(cell_class, at.name, bands, distances)):
                here = bands.index(distances) == band
                shown = _density_row(one) | {"from_um": low, "to_um": high}
                rows.append(shown | {"censored_cells": int((hidden & here).sum())})
    return rows


def _neighbour_rows(tissue: Tissue) -> list[Row]:
    return [
        {
            "class": one.cell_class, "other": one.other, "cells": one.count, "median_um": one.median_um,
            "first_quartile_um": one.quartiles_um[0] if one.quartiles_um else None,
            "third_quartile_um": one.quartiles_um[1] if one.quartiles_um else None,
            "mean_um": one.mean_um, "censored_share": one.censored,
            "reason": None if one.median_um is not None else "nobody to measure to",
        }
        for one in nearest_neighbours(tissue.cells, tissue.window)
    ]  # fmt: skip


# ---- Between cells ---------------------------------------------------------------------------------------


def _tests(tissue: Tissue, settings: SpatialSettings, functions: list[Row]) -> list[Row]:
    """L of each class and each pair, tested within region classes; the curves go to `functions`."""
    r = radii(tissue.window, settings)
    rows: list[Row] = []
    weights = EdgeWeights(tissue.window, float(r[-1])) if len(r) else None
    for first, second in combinations_with_replacement(tissue.cells, 2):
        row: Row = {"function": "L" if first == second else "cross-L", "class": first, "other": second}
        why = _why_not(tissue, first, second, r, settings)
        if why or weights is None:
            rows.append(row | _test_columns(None, why or "the window is too small"))
            continue
        tested = _l_test(tissue, first, second, r, weights, settings)
        rows.append(row | _test_columns(tested, None))
        functions.extend(row | one for one in _curve_rows(tested))
    p = np.array([np.nan if row["p_mad"] is None else row["p_mad"] for row in rows], np.float64)
    family = f"the {int(np.isfinite(p).sum())} L tests of this image"
    return [
        row | {"q_mad": None if np.isnan(q) else q, "family": family}
        for row, q in zip(rows, benjamini_hochberg(p).tolist(), strict=True)
    ]


def _why_not(
    tissue: Tissue, first: str, second: str, r: NDArray[np.float64], settings: SpatialSettings
) -> str | None:
    n, m = len(tissue.cells[first]), len(tissue.cells[second])
    if min(n, m) < _MIN_CELLS:
        return "fewer than 2 cells"
    if not len(r) or r[-1] < settings.suppression_um:
        return "the window is too small"
    pairs = n * m * np.pi * float(r[-1]) ** 2 / tissue.window.area_um2 * settings.simulations
    if pairs > MAX_PAIRS:
        return "too many pairs of cells for so many simulations; take fewer, or smaller radii"
    return None


def _l_test(
    tissue: Tissue,
    first: str,
    second: str,
    r: NDArray[np.float64],
    weights: EdgeWeights,
    settings: SpatialSettings,
) -> Tested:
    others = np.zeros((0, 2)) if first == second else tissue.cells[second]
    seen = Pattern(tissue.cells[first], others, tissue.window)

    def function(pattern: Pattern) -> Curve:
        against = None if first == second else pattern.others
        return as_l(ripley_k(pattern.points, tissue.window, r, against, weights=weights))

    return compare_with_null(
        function,
        seen,
        Stratified(seen, list(tissue.regions.values())),
        from_um=settings.suppression_um,
        simulations=settings.simulations,
        seed=settings.seed,
    )


def _test_columns(tested: Tested | None, reason: str | None) -> Row:
    if tested is None:
        empty = ("largest_um", "at_um", "p_mad", "p_dclf", "null", "how", "from_um", "to_um")
        return dict.fromkeys(empty) | {"reason": reason}
    off = np.where(tested.curve.r >= tested.interval_um[0], tested.curve.values - tested.mean, 0)
    most = int(np.nanargmax(np.abs(off)))
    return {
        "largest_um": float(off[most]), "at_um": float(tested.curve.r[most]), "p_mad": tested.mad.value,
        "p_dclf": tested.dclf.value, "null": tested.mad.null, "how": tested.mad.how,
        "from_um": tested.interval_um[0], "to_um": tested.interval_um[1], "reason": reason,
    }  # fmt: skip


def _curve_rows(tested: Tested) -> list[Row]:
    half = tested.half_width
    columns = zip(tested.curve.r, tested.curve.values, tested.mean, *tested.pointwise, strict=True)
    return [
        {
            "r_um": float(r), "value_um": _number(value), "chance_um": _number(mean), "low_um": _number(low),
            "high_um": _number(high),
            "global_low_um": None if half is None else _number(mean - half),
            "global_high_um": None if half is None else _number(mean + half),
        }
        for r, value, mean, low, high in columns
    ]  # fmt: skip


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# ---- Neighbourhoods --------------------------------------------------------------------------------------


def _pooled(tissue: Tissue) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    points = np.concatenate([np.zeros((0, 2)), *tissue.cells.values()])
    return points, np.repeat(np.arange(len(tissue.cells)), [len(one) for one in tissue.cells.values()])


def _enrichment_rows(tissue: Tissue, settings: SpatialSettings) -> list[Row]:
    points, labels = _pooled(tissue)
    if len(points) < _MIN_CELLS:
        return []
    graph = delaunay(points, settings.max_edge_um)
    stratum = stratum_of(list(tissue.regions.values()), points)
    found = enrichment(
        graph, labels, list(tissue.cells), stratum, permutations=settings.simulations, seed=settings.seed
    )
    return [
        {
            "class": one.cell_class, "other": one.other, "graph": graph.what, "edges": one.edges,
            "expected": one.expected, "ratio": one.ratio,
            "chance_low": one.interval[0] if one.interval else None,
            "chance_high": one.interval[1] if one.interval else None,
            "z": one.z, "p": one.p.value, "q": one.q, "null": one.p.null, "how": one.p.how,
            "family": f"the {len(found)} pairs of classes of this image",
            "reason": None if one.p.value is not None else "labels cannot be exchanged: nothing varies",
        }
        for one in found
    ]  # fmt: skip


def cell_table(tissue: Tissue, settings: SpatialSettings | None = None) -> dict[str, NDArray[np.generic]]:
    """What belongs on every cell, column by column, in QuPath's names and units where it has one.

    Returns:
        Columns of equal length: `Class`, `x µm`, `y µm`, `Region`, `Object` (its place in the list of objects), `Signed
        distance to annotation NAME µm` of each region class, `Spatial: Local density per mm^2`, and `Spatial:
        Neighbours NAME` of each cell class.
    """
    settings = settings or SpatialSettings()
    points, labels = _pooled(tissue)
    names = np.array(list(tissue.cells), object)
    regions = np.array([*tissue.regions, ""], object)
    columns: dict[str, NDArray[np.generic]] = {
        "Class": names[labels],
        "x µm": points[:, 0],
        "y µm": points[:, 1],
        "Region": regions[stratum_of(list(tissue.regions.values()), points)],
        "Object": np.concatenate([np.zeros(0, np.intp), *tissue.index.values()]),
    }
    for name, region in tissue.regions.items():
        columns[f"Signed distance to annotation {name} µm"] = signed_distance(region, points)
    columns["Spatial: Local density per mm^2"] = local_density(
        points, tissue.window, settings.density_radius_um
    )
    around = composition(delaunay(points, settings.max_edge_um), labels, len(tissue.cells))
    for place, name in enumerate(tissue.cells):
        columns[f"Spatial: Neighbours {name}"] = around[:, place]
    return columns
