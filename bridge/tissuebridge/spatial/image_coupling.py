"""Coupling in one image: every cell class with every interface, and with every other cell class, as rows.

The structure is the interface of a region class with the other tissue; the null is random within each region class, and
beside it stands the p-value of a random shift. Everything is repeated with the region grown and shrunk by a few um: an
outline is no better than that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.bands import Bands, bands_round_cells
from tissuebridge.spatial.coupling import Coupling, coupling
from tissuebridge.spatial.distances import censored
from tissuebridge.spatial.interfaces import Interface
from tissuebridge.spatial.multiple import PValue
from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.shifting import shift_test
from tissuebridge.spatial.tissue import Tissue


def interfaces_of(tissue: Tissue, settings: SpatialSettings) -> list[Interface]:
    """The interface of each region class with all other tissue, if there is one: where it is, and moved both ways."""
    moves = [0.0, *sorted({-settings.moved_um, settings.moved_um} - {0.0})]
    found = []
    for name, region in tissue.regions.items():
        strata = [region, *(other for key, other in tissue.regions.items() if key != name)]
        found += Interface.of(strata, settings.bands_um, moves)
    return found


def region_coupling_rows(tissue: Tissue, settings: SpatialSettings, known: Sequence[Interface]) -> list[Row]:
    """Every cell class with every region class's interface; one row a band, with the border where it is and moved.

    Args:
        tissue: Cells and regions.
        settings: Simulations.
        known: From `interfaces_of`.
    """
    rows: list[Row] = []
    for at in known:
        for cell_class, points in tissue.cells.items():
            rows += _at_interface(tissue, settings, at, cell_class, points)
    return rows


def _at_interface(
    tissue: Tissue, settings: SpatialSettings, at: Interface, cell_class: str, points: NDArray[np.float64]
) -> list[Row]:
    stratum, distances = at.locate(points)
    found = _coupling(at.bands, stratum, distances, at.areas_um2, settings)
    shifted = None
    if at.moved_um == 0:
        # A move by more than the window is wide leaves nothing to compare.
        shift_um = min(settings.shift_um, float(np.sqrt(tissue.window.area_um2)) / 3)
        shifted = shift_test(
            at.strata, at.distance, at.bands.edges, points, shift_um,
            simulations=settings.simulations, seed=settings.seed,
        )  # fmt: skip
    head: Row = {"class": cell_class, "structure": f"border of {at.name}", "moved_um": at.moved_um}
    head["censored_share"] = _censored_share(tissue, distances, points)
    return _rows(head, found, shifted)


def cell_coupling_rows(tissue: Tissue, settings: SpatialSettings) -> list[Row]:
    """Every cell class with the cells of every other class, from the suppression distance on."""
    edges = [settings.suppression_um, *(one for one in settings.rings_um if one > settings.suppression_um)]
    strata = list(tissue.regions.values())
    areas_um2 = [one.area_um2 for one in strata]
    rows: list[Row] = []
    for other, targets in tissue.cells.items():
        if not len(targets) or len(edges) < 2:
            continue
        bands = bands_round_cells(targets, strata, edges)
        for cell_class, points in tissue.cells.items():
            if cell_class == other:
                continue
            distances = nearest(points, targets)
            found = _coupling(bands, stratum_of(strata, points), distances, areas_um2, settings)
            head: Row = {"class": cell_class, "structure": f"cells of {other}", "moved_um": 0.0}
            head["censored_share"] = _censored_share(tissue, distances, points)
            rows += _rows(head, found, None)
    return rows


def _censored_share(
    tissue: Tissue, distances: NDArray[np.float64], points: NDArray[np.float64]
) -> float | None:
    return float(censored(tissue.window, distances, points).mean()) if len(points) else None


def _coupling(
    bands: Bands,
    stratum: NDArray[np.intp],
    distances: NDArray[np.float64],
    areas_um2: Sequence[float],
    settings: SpatialSettings,
) -> Coupling:
    return coupling(
        bands,
        [distances[stratum == k] for k in range(len(areas_um2))],
        areas_um2,
        simulations=settings.simulations,
        seed=settings.seed,
    )


def _rows(head: Row, found: Coupling, shifted: PValue | None) -> list[Row]:
    low, high = found.interval or (None, None)
    head = head | {
        "cells": found.cells, "coupled_fraction": found.fraction, "fraction_low": low, "fraction_high": high,
        "coupling_distance_um": found.distance_um, "p_maximum": found.p.value, "null": found.p.null,
        "how": found.p.how, "p_shift": shifted.value if shifted else None, "family": found.family,
    }  # fmt: skip
    if not found.bands:
        empty = ("from_um", "to_um", "count", "expected", "variance", "z", "p", "q", "is_coupled")
        return [head | dict.fromkeys(empty) | {"reason": "no cells"}]
    return [
        head | {
            "from_um": band.from_um, "to_um": band.to_um, "count": band.count, "expected": band.expected,
            "variance": band.variance, "z": band.z, "p": band.p.value, "q": band.q, "is_coupled": band.is_coupled,
            "reason": None if band.z is not None else "no area in this band",
        }
        for band in found.bands
    ]  # fmt: skip
