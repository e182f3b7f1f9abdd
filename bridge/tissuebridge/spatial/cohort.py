"""Images together: one density a patient, and every test of a project corrected as one family.

The unit of a cohort is the patient: the images of one are pooled by the ratio of sums, all cells over all area, never
by the mean of densities. The interval is that of the pooled count (`density`); it does not say how patients differ.
Corrected p-values are Benjamini & Hochberg's (`multiple`) over all images' tests of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tissuebridge.spatial.density import density
from tissuebridge.spatial.multiple import benjamini_hochberg
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.window import UM2_PER_MM2


def pooled_densities(rows: Sequence[Row], case_of: Mapping[str, str]) -> list[Row]:
    """The density of each class in each region, per patient.

    Args:
        rows: Of the table "densities", each with its "image".
        case_of: Image name to patient.

    Returns:
        Rows with "case", "images", "class", "region", "cells", "area_mm2", "cells_per_mm2", "low", "high", "reason".

    >>> one = {"image": "a", "class": "CD3", "region": "Tumor", "cells": 1, "area_mm2": 1.0}
    >>> two = {"image": "b", "class": "CD3", "region": "Tumor", "cells": 9, "area_mm2": 4.0}
    >>> pooled_densities([one, two], {"a": "P1", "b": "P1"})[0]["cells_per_mm2"]
    2.0
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = (case_of[str(row["image"])], str(row["class"]), str(row["region"]))
        groups.setdefault(key, []).append(row)
    found: list[Row] = []
    for (case, cell_class, region), own in sorted(groups.items()):
        cells = sum(int(row["cells"] or 0) for row in own)
        one = density(
            cell_class, region, cells, sum(float(row["area_mm2"] or 0) for row in own) * UM2_PER_MM2
        )
        found.append(
            {
                "case": case, "images": len(own), "class": cell_class, "region": region, "cells": cells,
                "area_mm2": one.area_mm2, "cells_per_mm2": one.per_mm2, "low": one.low, "high": one.high,
                "reason": None if one.per_mm2 is not None else "no area",
            }
        )  # fmt: skip
    return found


def with_project_q(rows: Sequence[Row], p: str, test: Sequence[str]) -> list[Row]:
    """The rows with `q_project`: their p-values corrected over all tests of the project.

    Args:
        rows: Of one table, of all images.
        p: Column of the p-value.
        test: Columns that tell tests apart; rows that agree in them are parts of one test and share its p.

    >>> rows = [{"image": name, "p": p} for name, p in (("a", 0.01), ("b", 0.04), ("b", 0.04))]
    >>> [row["q_project"] for row in with_project_q(rows, "p", ["image"])]
    [0.02, 0.04, 0.04]
    """
    values = {tuple(row[name] for name in test): row[p] for row in rows}
    numbers = np.array(
        [value if isinstance(value, float) else np.nan for value in values.values()], np.float64
    )
    corrected = dict(zip(values, benjamini_hochberg(numbers).tolist(), strict=True))
    family = f"all {int(np.isfinite(numbers).sum())} tests of this table in the project"
    found = []
    for row in rows:
        q = corrected[tuple(row[name] for name in test)]
        found.append({**row, "q_project": None if np.isnan(q) else q, "project_family": family})
    return found
