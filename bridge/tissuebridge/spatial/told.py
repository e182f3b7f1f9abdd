"""Tables in words: a line for each density, coupling and comparison that a person should not miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tissuebridge.spatial.groups import BAND_DENSITY, DENSITY
from tissuebridge.spatial.rows import Row, Value

TOLD_Q: Final = 0.05
"""Pairs of classes are told up to this; the table has all."""

_WORDS: Final = {DENSITY: "cells per mm²", BAND_DENSITY: "cells per mm²"}


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

    >>> row = {"measure": "share of cells", "class": "CD3", "region": "Tumor", "from_um": None}
    >>> found = {"group": "a", "other_group": "b", "shift": 0.25, "shift_low": 0.1, "shift_high": 0.4, "p": 0.0123}
    >>> _compared(row | found | {"q_project": 0.05, "reason": None})
    'CD3 in Tumor, share of cells: a against b: +0.25 (+0.1 to +0.4), p = 0.012, q = 0.05'
    """
    return f"{compared_what(row)}: {shift_of(row)}" + ("" if row["p"] is None else f", {p_of(row)}")


def _compared_functions(row: Row) -> str:
    return f"{function_of(row)}: {difference_of(row)}" + ("" if row["p"] is None else f", {p_of(row)}")


def compared_what(row: Row) -> str:
    """What of patients a row of "groups" compares.

    >>> band = {"class": "CD3", "region": "border of Tumor", "from_um": -50.0, "to_um": 0.0}
    >>> compared_what(band | {"measure": "cells_per_mm2 in bands"})
    'CD3 at the border of Tumor, -50 to 0 µm, cells per mm²'
    """
    where = f"in {row['region']}"
    if row["from_um"] is not None:
        where = f"at the {row['region']}, {row['from_um']:g} to {row['to_um']:g} µm"
    return f"{row['class']} {where}, {measure_of(row)}"


def measure_of(row: Row) -> str:
    """Which of patients' numbers a row of "groups" compares, in words."""
    return _WORDS.get(str(row["measure"]), str(row["measure"]))


def shift_of(row: Row) -> str:
    """How far two groups lie apart, or why that is not known: a row of "groups"."""
    pair = f"{row['group']} against {row['other_group']}: "
    if row["p"] is None:
        return f"{pair}{row['reason']}"
    low, high = row["shift_low"], row["shift_high"]
    interval = row["reason"] if low is None else f"{_signed(low)} to {_signed(high)}"
    return f"{pair}{_signed(row['shift'])} ({interval})"


def function_of(row: Row) -> str:
    """Which function a row of "group_functions" compares.

    >>> function_of({"function": "cross-L", "class": "CD3", "other": "CD20"})
    'cross-L of CD3 to CD20'
    """
    classes = row["class"] if row["class"] == row["other"] else f"{row['class']} to {row['other']}"
    return f"{row['function']} of {classes}"


def difference_of(row: Row) -> str:
    """Where two groups' functions differ most, or why that is not known: a row of "group_functions"."""
    pair = f"{row['group']} against {row['other_group']}: "
    if row["p"] is None:
        return f"{pair}{row['reason']}"
    return f"{pair}{_signed(row['largest_um'])} µm at {row['at_um']:g} µm"


def p_of(row: Row) -> str:
    """How likely a comparison of groups is by chance, alone and among all of its family."""
    return f"p = {_p(row['p'])}, q = {_p(row['q_project'])}"


def _density(row: Row) -> str:
    if row["cells_per_mm2"] is None:
        return "not defined"
    return f"{row['cells_per_mm2']:.1f} per mm² ({row['low']:.1f}-{row['high']:.1f})"


def _signed(value: Value) -> str:
    """How much more or less.

    >>> _signed(-1386.7), _signed(0.0123456)
    ('-1,387', '+0.0123')
    """
    number = float(value or 0)
    return f"{number:+,.0f}" if abs(number) >= 1000 else f"{number:+.3g}"


def _p(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else "not defined"
