"""Images together: one density a patient, and every test of a project corrected as one family.

The unit of a cohort is the patient: the images of one are pooled by the ratio of sums, all cells over all area, never
by the mean of densities. The interval is that of the pooled count (`density`); it does not say how patients differ.
Corrected p-values are Benjamini & Hochberg's (`multiple`) over all images' tests of one kind.

All is pooled from the tables of the images; nothing is measured a second time. `shares` adds what part of a class's
cells lies where, `groups` compares patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tissuebridge.spatial.density import density
from tissuebridge.spatial.multiple import benjamini_hochberg
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.shares import with_shares
from tissuebridge.spatial.window import UM2_PER_MM2

Place = tuple[str, float | None, float | None]
"""A region class, or the border of one and a band's edges in um."""


def case_table(tables: Mapping[str, Sequence[Row]], case_of: Mapping[str, str]) -> list[Row]:
    """All that is known of a patient's cells: each class in each region class and in each band along each border.

    Args:
        tables: "densities", "profiles" and "window" of all images, each row with its "image".
        case_of: Image name to patient.

    Returns:
        The rows of `pooled_densities`, with the share of the class's cells that lie there (`shares`) and
        "excluded_mm2", what was cut out of all of the patient's images. A band's region is "border of" its region.
    """
    bands = [{**row, "region": f"border of {row['region']}"} for row in tables.get("profiles", ())]
    rows = with_absent_classes([*tables["densities"], *bands])
    excluded: dict[str, float] = {}
    for row in tables.get("window", ()):
        case = case_of[str(row["image"])]
        excluded[case] = excluded.get(case, 0.0) + float(row["excluded_mm2"] or 0)
    return [
        {**row, "excluded_mm2": excluded.get(str(row["case"]))}
        for row in with_shares(pooled_densities(rows, case_of), rows, case_of)
    ]


def with_absent_classes(rows: Sequence[Row]) -> list[Row]:
    """The rows, and one of no cells for each class that an image lacks and another image has.

    Without it, an image in which a class is nowhere would not count with its area, nor a patient without that class.
    An image without any cell has no rows and stays out: whether somebody looked for cells there cannot be told.

    Args:
        rows: With "image", "class", "region", "cells", "area_mm2", and of bands "from_um" and "to_um".

    >>> one = {"image": "a", "class": "CD3", "region": "Tumor", "cells": 3, "area_mm2": 2.0}
    >>> two = {"image": "b", "class": "CD8", "region": "Tumor", "cells": 4, "area_mm2": 5.0}
    >>> [(row["image"], row["class"], row["cells"]) for row in with_absent_classes([one, two])]
    [('a', 'CD3', 3), ('b', 'CD8', 4), ('a', 'CD8', 0), ('b', 'CD3', 0)]
    """
    there = {(row["image"], _place(row), row["class"]) for row in rows}
    place_rows = {(row["image"], _place(row)): row for row in rows}
    classes = sorted({str(row["class"]) for row in rows})
    return [*rows] + [
        {**row, "class": cell_class, "cells": 0}
        for (image, place), row in place_rows.items()
        for cell_class in classes
        if (image, place, cell_class) not in there
    ]


def _place(row: Row) -> Place:
    low, high = row.get("from_um"), row.get("to_um")
    return str(row["region"]), None if low is None else float(low), None if high is None else float(high)


def pooled_densities(rows: Sequence[Row], case_of: Mapping[str, str]) -> list[Row]:
    """The density of each class in each region or band, per patient.

    Args:
        rows: Of the tables "densities" and "profiles", each with its "image".
        case_of: Image name to patient.

    Returns:
        Rows with "case", "images", "class", "region", "from_um", "to_um" (None but in bands), "cells", "area_mm2",
        "cells_per_mm2", "low", "high", "reason".

    >>> one = {"image": "a", "class": "CD3", "region": "Tumor", "cells": 1, "area_mm2": 1.0}
    >>> two = {"image": "b", "class": "CD3", "region": "Tumor", "cells": 9, "area_mm2": 4.0}
    >>> pooled_densities([one, two], {"a": "P1", "b": "P1"})[0]["cells_per_mm2"]
    2.0
    """
    groups: dict[tuple[str, str, Place], list[Row]] = {}
    for row in rows:
        key = (case_of[str(row["image"])], str(row["class"]), _place(row))
        groups.setdefault(key, []).append(row)
    found: list[Row] = []
    for (case, cell_class, (region, low, high)), own in sorted(groups.items(), key=_order):
        cells = sum(int(row["cells"] or 0) for row in own)
        one = density(
            cell_class, region, cells, sum(float(row["area_mm2"] or 0) for row in own) * UM2_PER_MM2
        )
        found.append(
            {
                "case": case, "images": len(own), "class": cell_class, "region": region,
                "from_um": low, "to_um": high, "cells": cells,
                "area_mm2": one.area_mm2, "cells_per_mm2": one.per_mm2, "low": one.low, "high": one.high,
                "reason": None if one.per_mm2 is not None else "no area",
            }
        )  # fmt: skip
    return found


def _order(item: tuple[tuple[str, str, Place], list[Row]]) -> tuple[str, str, bool, str, float]:
    """Regions before bands, bands from the inside out."""
    (case, cell_class, (region, low, _)), _ = item
    return case, cell_class, low is not None, region, low or 0.0


def with_project_q(
    rows: Sequence[Row], p: str, test: Sequence[str], what: str = "tests of this table"
) -> list[Row]:
    """The rows with `q_project`: their p-values corrected over all tests of the project.

    Args:
        rows: Of one table, of all images.
        p: Column of the p-value.
        test: Columns that tell tests apart; rows that agree in them are parts of one test and share its p.
        what: The family's name.

    >>> rows = [{"image": name, "p": p} for name, p in (("a", 0.01), ("b", 0.04), ("b", 0.04))]
    >>> [row["q_project"] for row in with_project_q(rows, "p", ["image"])]
    [0.02, 0.04, 0.04]
    """
    values = {tuple(row[name] for name in test): row[p] for row in rows}
    numbers = np.array(
        [value if isinstance(value, float) else np.nan for value in values.values()], np.float64
    )
    corrected = dict(zip(values, benjamini_hochberg(numbers).tolist(), strict=True))
    family = f"all {int(np.isfinite(numbers).sum())} {what} in the project"
    found = []
    for row in rows:
        q = corrected[tuple(row[name] for name in test)]
        found.append({**row, "q_project": None if np.isnan(q) else q, "project_family": family})
    return found
