"""What tells how far the numbers of a spatial page can be trusted: agreement with a person, and other thresholds.

Comes in an image at a time, beside `SpatialPage`; sections for the page and rows for tables go out. It takes objects
only: what takes pixels too is in `gallery`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import PathObject
from tissuebridge.report.page import Content, Notice, Section, Table, Text, Value
from tissuebridge.report.spatial_plots import agreement_picture, sensitivity_picture
from tissuebridge.spatial.agreement import Agreement, agreement_rows
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.sensitivity import MOVES, Sensitivity
from tissuebridge.spatial.tissue import TISSUE, Tissue

_AGREEMENT: Final = (
    "Areas where a person marked every cell of a class (Cells marked*), counted by the person and by the analysis "
    "(Bland & Altman 1986; intervals 1999). All other numbers on this page come from one of the two alone."
)
_NO_AGREEMENT: Final = (
    "No image has both: cells that a person marked, with Cells marked* where all are marked, and the same class found "
    "by an analysis."
)
_SENSITIVITY: Final = (
    "Counts and densities if only cells of a higher score had been taken. The analysis wrote cells at or above its "
    "threshold, so lower thresholds cannot be shown. The threshold itself is not written on objects: the lowest score "
    "of a class in all images stands for it."
)
_NO_SENSITIVITY: Final = "These cells have no scores: there is no threshold to move."


class Checks:
    """Gathers what is needed of each image; tables and sections are asked for once all images are taken."""

    def __init__(self) -> None:
        self._agreement = Agreement()
        self._sensitivity = Sensitivity()

    def add(
        self,
        image: str,
        pixel_size_um: float,
        tissue: Tissue,
        objects: Sequence[PathObject],
        scores: Mapping[str, NDArray[np.float64]],
    ) -> None:
        """Takes an image.

        Args:
            image: Its name.
            pixel_size_um: Of a full-resolution pixel.
            tissue: What was measured.
            objects: What it was made of: all of the image.
            scores: From `scores_of`.
        """
        self._sensitivity.add(image, tissue, scores)
        self._agreement.add(image, objects, pixel_size_um)

    def tables(self) -> dict[str, list[Row]]:
        """Those that have rows: "agreement", "agreement_areas", "sensitivity"."""
        tables = {
            "agreement": agreement_rows(self._areas),
            "agreement_areas": self._areas,
            "sensitivity": self._moves,
        }
        return {name: rows for name, rows in tables.items() if rows}

    def sections(self) -> list[Section]:
        """Parts of the page."""
        return [
            Section("Counted by a person and by the analysis", self._agreed(self._areas)),
            Section("If the threshold were higher", _moved(self._moves)),
        ]

    # Counting the cells of a slide takes a while; table and section show the same rows.

    @cached_property
    def _areas(self) -> list[Row]:
        return self._agreement.areas()

    @cached_property
    def _moves(self) -> list[Row]:
        return self._sensitivity.rows()

    def _agreed(self, areas: Sequence[Row]) -> list[Content]:
        notices: list[Content] = [Notice(why) for why in self._agreement.left_out]
        if not areas:
            return [Text(_NO_AGREEMENT), *notices]
        rows = agreement_rows(areas)
        header = [
            "Cells",
            "areas",
            "manual",
            "automatic",
            "mean difference",
            "SD",
            "lower limit",
            "upper limit",
        ]
        table = Table(
            "Automatic less manual, cells an area; 95 % intervals in brackets",
            header,
            [_agreement_row(row) for row in rows],
        )
        pictures = [
            agreement_picture([area for area in areas if area["class"] == row["class"]], row) for row in rows
        ]
        notes = [Notice(f"{row['class']}: {why}.") for row in rows if (why := row["reason"] or row["note"])]
        return [Text(_AGREEMENT), *notices, table, *notes, *pictures]


def _agreement_row(row: Row) -> list[Value]:
    counts: list[Value] = [int(row[key] or 0) for key in ("areas", "manual", "automatic")]
    return [
        str(row["class"]),
        *counts,
        _with_interval(row, "mean_difference", "mean"),
        None if row["sd"] is None else f"{float(row['sd']):.1f}",
        _with_interval(row, "lower_limit", "lower_limit"),
        _with_interval(row, "upper_limit", "upper_limit"),
    ]


def _with_interval(row: Row, key: str, ends: str) -> str | None:
    value, low, high = (row[name] for name in (key, f"{ends}_low", f"{ends}_high"))
    if value is None or low is None or high is None:
        return None
    return f"{float(value):+.1f} ({float(low):+.1f} to {float(high):+.1f})"


def _moved(rows: Sequence[Row]) -> list[Content]:
    if not rows:
        return [Text(_NO_SENSITIVITY)]
    header = ["Cells", "in", "lowest score", *(f"+{moved:g}" if moved else "as written" for moved in MOVES)]
    table: list[list[Value]] = []
    for name, region in dict.fromkeys((str(row["class"]), str(row["region"])) for row in rows):
        own = [row for row in rows if (row["class"], row["region"]) == (name, region)]
        steps = [[row for row in own if row["moved"] == moved] for moved in MOVES]
        table.append([name, region, f"{float(own[0]['threshold'] or 0):.2f}", *map(_density, steps)])
    caption = (
        "Cells per mm², all images together, with the threshold moved up; in brackets the number of cells"
    )
    whole = [row for row in rows if row["region"] == TISSUE]
    return [Text(_SENSITIVITY), Table(caption, header, table), sensitivity_picture(whole)]


def _density(rows: Sequence[Row]) -> str:
    """All cells over all area."""
    cells = sum(int(row["cells"] or 0) for row in rows)
    area = sum(float(row["area_mm2"] or 0) for row in rows)
    return f"{cells / area:,.0f} ({cells:,})" if area else "no area"
