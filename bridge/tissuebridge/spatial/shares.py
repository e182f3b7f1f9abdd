"""Which part of a class's cells lies where, per patient: inside tumour, that is the intraepithelial fraction.

The share is x / n, the cells of the class in a region class (or in a band along a border) over all cells of the class
in the tissue; both are sums over the patient's images. Its interval is the exact one of Clopper & Pearson (1934,
https://doi.org/10.1093/biomet/26.4.404), from beta quantiles: [B(a/2; x, n - x + 1), B(1 - a/2; x + 1, n - x)]. It says
how exactly this patient's cells were counted; cells that keep together make it too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy import stats

from tissuebridge.spatial.density import LEVEL
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.tissue import TISSUE


def with_shares(pooled: Sequence[Row], rows: Sequence[Row], case_of: Mapping[str, str]) -> list[Row]:
    """Patients' rows with the share of the class's cells that lie there.

    Only images in which regions are known count: elsewhere a cell lies in no region for want of one.

    Args:
        pooled: From `cohort.pooled_densities`.
        rows: What was pooled, each with its "image"; the cells of an image are those of its row of all tissue.
        case_of: Image name to patient.

    Returns:
        The rows with "of_cells" (n), "share", "share_low", "share_high"; None for all tissue, and where there is no
        cell to share out, which "reason" says.
    """
    with_regions = {row["image"] for row in rows if row["region"] != TISSUE}
    of: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["region"] == TISSUE and row["image"] in with_regions:
            key = (case_of[str(row["image"])], str(row["class"]))
            of[key] = of.get(key, 0) + int(row["cells"] or 0)
    return [{**row, **_share(row, of.get((str(row["case"]), str(row["class"])), 0))} for row in pooled]


def _share(row: Row, of_cells: int) -> Row:
    empty = dict.fromkeys(("of_cells", "share", "share_low", "share_high"))
    if row["region"] == TISSUE:
        return {**empty, "reason": row["reason"]}
    if not of_cells:
        reasons = [str(row["reason"])] if row["reason"] else []
        return {**empty, "of_cells": 0, "reason": "; ".join([*reasons, "no cells to share out"])}
    cells = int(row["cells"] or 0)
    low, high = share_interval(cells, of_cells)
    return {
        "of_cells": of_cells, "share": cells / of_cells, "share_low": low, "share_high": high, "reason": row["reason"]
    }  # fmt: skip


def share_interval(count: int, of: int, level: float = LEVEL) -> tuple[float, float]:
    """Between which probabilities a share lies, at a confidence level.

    Args:
        count: How many are meant.
        of: Of how many, at least 1.
        level: Of confidence.

    >>> [round(end, 4) for end in share_interval(3, 10)]
    [0.0667, 0.6525]
    """
    found = stats.binomtest(count, of).proportion_ci(level, "exact")
    return float(found.low), float(found.high)
