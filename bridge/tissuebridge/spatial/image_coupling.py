"""Coupling in one image: every cell class with every interface, and with every other cell class, as rows.

The structure is the interface of a region class with the other tissue; the null is random within each region class, and
beside it stands the p-value of a random shift. Everything is repeated with the region grown and shrunk by a few um: an
outline is no better than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.spatial.bands import Bands, bands_of, bands_round_cells
from tissuebridge.spatial.coupling import Coupling, coupling
from tissuebridge.spatial.distances import censored, distance_to_interface, interface
from tissuebridge.spatial.multiple import PValue
from tissuebridge.spatial.neighbours import nearest
from tissuebridge.spatial.nulls import stratum_of
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.shifting import shift_test
from tissuebridge.spatial.tissue import Tissue
from tissuebridge.spatial.window import Window, polygons_of

_SMOOTH_SHARE: Final = 0.05
"""Of the move: an outline may be off by so much after it, 0.25 um of 5 um."""
_GRID_UM: Final = 1e-3
"""Moved outlines are snapped to a nanometre, without which overlays of rough ones can fail."""


@dataclass(frozen=True, slots=True, eq=False)
class Interface:
    """Where a region class meets the other tissue, and the bands round it.

    Attributes:
        name: The region class.
        moved_um: How far its border was moved outwards.
        strata: The regions, this one first.
        line: The interface, um.
        bands: Round the line, their areas in each stratum.
    """

    name: str
    moved_um: float
    strata: Sequence[Window]
    line: BaseGeometry
    bands: Bands


def interface_of(
    tissue: Tissue, settings: SpatialSettings, name: str, moved_um: float = 0.0
) -> Interface | None:
    """The interface of a region class with all other tissue; None where it meets none.

    Args:
        tissue: Cells and regions.
        settings: The bands.
        name: The region class.
        moved_um: How far its border is moved, outwards if positive.
    """
    strata = moved_strata(tissue, name, moved_um)
    if len(strata) < 2:
        return None
    line = interface(strata[0].area, shapely.union_all([one.area for one in strata[1:]]))
    if line.is_empty:
        return None
    bands = bands_of(strata[0].area, line, [one.area for one in strata], settings.bands_um)
    return Interface(name, moved_um, strata, line, bands)


def region_coupling_rows(tissue: Tissue, settings: SpatialSettings, known: Sequence[Interface]) -> list[Row]:
    """Every cell class with every region class's interface; one row a band, with the border where it is and moved.

    Args:
        tissue: Cells and regions.
        settings: Bands, moves, simulations.
        known: The interfaces where they are, from `interface_of`.
    """
    rows: list[Row] = []
    for here in known:
        rows += _at_interface(tissue, settings, here)
        for moved_um in sorted({-settings.moved_um, settings.moved_um} - {0.0}):
            if moved := interface_of(tissue, settings, here.name, moved_um):
                rows += _at_interface(tissue, settings, moved)
    return rows


def _at_interface(tissue: Tissue, settings: SpatialSettings, at: Interface) -> list[Row]:
    strata, region = at.strata, at.strata[0]
    rows: list[Row] = []
    for cell_class, points in tissue.cells.items():
        stratum = stratum_of(strata, points)

        def distance(places: NDArray[np.float64]) -> NDArray[np.float64]:
            return distance_to_interface(region, at.line, places)

        found = _coupling(at.bands, stratum, distance(points), strata, settings)
        shifted = None
        if at.moved_um == 0:
            # A move by more than the window is wide leaves nothing to compare.
            shift_um = min(settings.shift_um, float(np.sqrt(tissue.window.area_um2)) / 3)
            shifted = shift_test(
                strata, distance, at.bands.edges, points, shift_um,
                simulations=settings.simulations, seed=settings.seed,
            )  # fmt: skip
        head: Row = {"class": cell_class, "structure": f"border of {at.name}", "moved_um": at.moved_um}
        head["censored_share"] = (
            float(censored(tissue.window, distance(points), points).mean()) if len(points) else None
        )
        rows += _rows(head, found, shifted)
    return rows


def cell_coupling_rows(tissue: Tissue, settings: SpatialSettings) -> list[Row]:
    """Every cell class with the cells of every other class, from the suppression distance on."""
    edges = [settings.suppression_um, *(one for one in settings.rings_um if one > settings.suppression_um)]
    strata = list(tissue.regions.values())
    rows: list[Row] = []
    for other, targets in tissue.cells.items():
        if not len(targets) or len(edges) < 2:
            continue
        bands = bands_round_cells(targets, strata, edges)
        for cell_class, points in tissue.cells.items():
            if cell_class == other:
                continue
            distances = nearest(points, targets)
            found = _coupling(bands, stratum_of(strata, points), distances, strata, settings)
            hidden = (
                float((tissue.window.border_distance(points) < distances).mean()) if len(points) else None
            )
            head: Row = {"class": cell_class, "structure": f"cells of {other}", "moved_um": 0.0}
            rows += _rows(head | {"censored_share": hidden}, found, None)
    return rows


def _coupling(
    bands: Bands,
    stratum: NDArray[np.intp],
    distances: NDArray[np.float64],
    strata: Sequence[Window],
    settings: SpatialSettings,
) -> Coupling:
    return coupling(
        bands,
        [distances[stratum == k] for k in range(len(strata))],
        [one.area_um2 for one in strata],
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


def union_of_others(tissue: Tissue, name: str) -> BaseGeometry:
    """All tissue but one region class."""
    others = [region.area for other, region in tissue.regions.items() if other != name]
    return shapely.union_all(others) if others else shapely.Polygon()


def moved_strata(tissue: Tissue, name: str, by_um: float) -> list[Window]:
    """The regions with one of them grown (or shrunk) into (or out of) the others; that one first.

    Where it shrinks, the strip that is left belongs to the other class that is near: at glass and at the slide's edge
    the border stays.

    Returns:
        Regions that have an area left, without overlap; none where the moved one has not.
    """
    region = tissue.regions[name].area
    others = {other: one.area for other, one in tissue.regions.items() if other != name}
    if by_um > 0:
        region = _both(_grown(region, by_um), tissue.window.area)
        others = {other: _without(area, region) for other, area in others.items()}
    elif by_um < 0 and others:
        strip = _both(region, _grown(union_of_others(tissue, name), -by_um))
        region = _without(region, strip)
        for other, area in others.items():
            grown = _both(strip, _grown(area, -by_um))
            strip = _without(strip, grown)
            others[other] = polygons_of(shapely.union(area, grown, grid_size=_GRID_UM))
    if region.area <= 0:
        return []
    return [Window(area, which) for which, area in ({name: region} | others).items() if area.area > 0]


def _grown(area: BaseGeometry, by_um: float) -> BaseGeometry:
    """An area grown on all sides; steps of its outline far smaller than that are smoothed before.

    An outline along pixels has a corner at each, and round every one of them an arc would be made: of 180,000 corners
    that took 8 s a time.
    """
    smooth = shapely.simplify(area, by_um * _SMOOTH_SHARE)
    return shapely.buffer(smooth, by_um)


def _both(one: BaseGeometry, other: BaseGeometry) -> BaseGeometry:
    return polygons_of(shapely.intersection(one, other, grid_size=_GRID_UM))


def _without(one: BaseGeometry, other: BaseGeometry) -> BaseGeometry:
    return polygons_of(shapely.difference(one, other, grid_size=_GRID_UM))
