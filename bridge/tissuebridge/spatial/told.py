"""Tables in words: a line for each density, coupling and comparison that a person should not miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tissuebridge.spatial.rows import Row

TOLD_Q: Final = 0.05
"""Pairs of classes are told up to this; the table has all."""


def told(tables: Mapping[str, Sequence[Row]]) -> str:
    """Densities, coupled classes and groups of patients for people; bands are left to the tables.

    >>> row = {"image": "a", "class": "CD3", "region": "Tumor", "cells_per_mm2": 12.5, "low": 4.0, "high": 30.0}
    >>> print(told({"densities": [row]}))
    a: CD3 in Tumor: 12.5 per mm² (4.0-30.0)
    """
    lines = [
        f"{row['image']}: {row['class']} in {row['region']}: {_density(row)}"
        for row in tables.get("densities", ())
    ]
    seen = set()
    for row in tables.get("coupling", ()):
        key = (row["image"], row["class"], row["structure"])
        if row["coupled_fraction"] and row["moved_um"] == 0 and key not in seen:
            seen.add(key)
            lines.append(
                f"{row['image']}: {row['class']} keeps to the {row['structure']}: {row['coupled_fraction']:.0%} of "
                f"{row['cells']} cells beyond chance, up to {row['coupling_distance_um']:g} µm, "
                f"p = {_p(row['p_maximum'])} ({row['null']}), {_p(row['p_shift'])} (random shift)"
            )
    lines += [
        _pair(row)
        for row in strongest(tables.get("pair_tests", ()))
        if float(row["q_project"] or 1) <= TOLD_Q
    ]
    compared = [_compared(row) for row in tables.get("groups", ()) if row["from_um"] is None]
    return "\n".join([*lines, *compared, *map(_compared_functions, tables.get("group_functions", ()))])


def strongest(rows: Sequence[Row]) -> list[Row]:
    """Of each tested pair of classes the row of the distance where it is farthest from none."""
    found: dict[tuple[object, ...], Row] = {}
    for row in sorted(rows, key=lambda row: -abs(float(row["l_minus_r_um"] or 0))):
        if row["p_mad"] is not None:
            found.setdefault((row.get("image"), row["region"], row["class"], row["other"]), row)
    return list(found.values())


def _pair(row: Row) -> str:
    """Two classes that go together, or keep apart, the effect before the p.

    >>> row = {"image": "a", "class": "CD3", "other": "CD20", "region": "Stroma", "l_minus_r_um": 4.2, "r_um": 20.0}
    >>> _pair(row | {"chance_low_um": -1.0, "chance_high_um": 1.5, "p_mad": 0.001, "q_project": 0.01})
    'a: CD3 and CD20 in Stroma: L - r = +4.2 µm at 20 µm (by chance -1.0 to +1.5), p = 0.001, q = 0.01 (random shift)'
    """
    chance = f"{row['chance_low_um']:+.1f} to {row['chance_high_um']:+.1f}"
    return (
        f"{row['image']}: {row['class']} and {row['other']} in {row['region']}: "
        f"L - r = {row['l_minus_r_um']:+.1f} µm at {row['r_um']:g} µm (by chance {chance}), "
        f"p = {_p(row['p_mad'])}, q = {_p(row['q_project'])} (random shift)"
    )


def _compared(row: Row) -> str:
    """A comparison of groups, the effect before the p.

    >>> row = {"measure": "share of cells", "class": "CD3", "region": "Tumor", "group": "a", "other_group": "b"}
    >>> found = {"shift": 0.25, "shift_low": 0.1, "shift_high": 0.4, "p": 0.0123, "q_project": 0.05, "reason": None}
    >>> _compared(row | found)
    'CD3 in Tumor, share of cells: a against b: +0.25 (+0.1 to +0.4), p = 0.012, q = 0.05'
    """
    what = (
        f"{row['class']} in {row['region']}, {row['measure']}: {row['group']} against {row['other_group']}: "
    )
    if row["p"] is None:
        return f"{what}{row['reason']}"
    interval = (
        row["reason"] if row["shift_low"] is None else f"{row['shift_low']:+.3g} to {row['shift_high']:+.3g}"
    )
    return f"{what}{row['shift']:+.3g} ({interval}), p = {_p(row['p'])}, q = {_p(row['q_project'])}"


def _compared_functions(row: Row) -> str:
    classes = row["class"] if row["class"] == row["other"] else f"{row['class']} to {row['other']}"
    what = f"{row['function']} of {classes}: {row['group']} against {row['other_group']}: "
    if row["p"] is None:
        return f"{what}{row['reason']}"
    return f"{what}{row['largest_um']:+.3g} µm at {row['at_um']:g} µm, p = {_p(row['p'])}, q = {_p(row['q_project'])}"


def _density(row: Row) -> str:
    if row["cells_per_mm2"] is None:
        return "not defined"
    return f"{row['cells_per_mm2']:.1f} per mm² ({row['low']:.1f}-{row['high']:.1f})"


def _p(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else "not defined"
