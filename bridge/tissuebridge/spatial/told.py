"""Tables in words: a line for each density and each coupling that a person should not miss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tissuebridge.spatial.rows import Row


def told(tables: Mapping[str, Sequence[Row]]) -> str:
    """Densities and coupled classes for people.

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
    return "\n".join(lines)


def _density(row: Row) -> str:
    if row["cells_per_mm2"] is None:
        return "not defined"
    return f"{row['cells_per_mm2']:.1f} per mm² ({row['low']:.1f}-{row['high']:.1f})"


def _p(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else "not defined"
