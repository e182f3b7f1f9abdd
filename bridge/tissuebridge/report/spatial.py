"""The page on how the cells of each image lie to its tissue: a map, curves with what chance gives, numbers.

Comes in from `spatial.measure`, an image at a time; one self-contained HTML file goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tissuebridge.files import atomic_write
from tissuebridge.report.page import Content, Notice, Section, Table, Text, Value, number_text, page_html
from tissuebridge.report.spatial_plots import (
    coupling_picture,
    curve_picture,
    enrichment_picture,
    map_picture,
    profile_picture,
)
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.tissue import Tissue
from tissuebridge.spatial.told import strongest

MOST_IMAGES: Final = 12
"""So many images are drawn; the tables have all of them."""
MOST_CURVES: Final = 6
"""Of each image, those that differ most from chance."""

MOST_PAIRS: Final = 20
"""Of each image, those least likely by chance; the table has all."""

_HOW: Final = (
    "Every p-value names what it takes for chance, and none is better than the tissue that it looks at: cells and "
    "regions are as they were found or drawn. Effect sizes come first. The tables beside this page have all numbers, "
    "with q-values (Benjamini-Hochberg) over all tests of a family."
)


class SpatialPage:
    """Gathers what is shown of each image, then writes the page."""

    def __init__(self) -> None:
        self._sections: list[Section] = []
        self._left_out = 0

    def add(self, name: str, tissue: Tissue, tables: Mapping[str, Sequence[Row]]) -> None:
        """Draws an image.

        Args:
            name: The image's.
            tissue: What was measured.
            tables: From `spatial.measure`.
        """
        if len(self._sections) >= MOST_IMAGES:
            self._left_out += 1
            return
        content: list[Content] = [
            *_window(tables["window"]),
            map_picture(tissue),
            _densities(tables["densities"]),
        ]
        content += _profiles(tables["profiles"])
        content += _coupling(tables["coupling"])
        content += _curves(tables["tests"], tables["functions"])
        content += _pairs(tables["pair_tests"])
        content += _enrichment(tables["enrichment"])
        self._sections.append(Section(name, content))

    def write(self, path: Path, more: Sequence[Section] = (), before: Sequence[Section] = ()) -> None:
        """Writes the page.

        Args:
            path: The file.
            more: Stands behind the images, from `Checks.sections`.
            before: Stands before them, from `group_sections`.

        Raises:
            StorageError: It could not be written.
        """
        with atomic_write(path) as file:
            file.write(self.html(more, before).encode("utf-8"))

    def html(self, more: Sequence[Section] = (), before: Sequence[Section] = ()) -> str:
        """The page."""
        intro: list[Content] = [Text(_HOW)]
        if self._left_out:
            intro.append(Notice(f"{self._left_out} more images are in the tables only."))
        if more:
            headings = "; ".join(section.heading for section in more)
            intro.append(Text(f"Behind the images, how far the numbers can be trusted: {headings}."))
        return page_html(
            "How the cells lie to the tissue",
            [Section("How to read it", intro), *before, *self._sections, *more],
        )


def _window(rows: Sequence[Row]) -> list[Content]:
    [row] = rows
    told = (
        f"{number_text(row['cells'])} cells ({row['cells_from']}) in {number_text(row['area_mm2'])} mm² of tissue "
        f"({row['regions_from']}); "
        f"{number_text(row['excluded_mm2'])} mm² left out, {number_text(row['cells_outside'])} cells outside."
    )
    nobody: list[Content] = (
        [Notice("No cell lies in the tissue: there is nothing to measure.")] if not row["cells"] else []
    )
    return [Text(told), *nobody]


def _densities(rows: Sequence[Row]) -> Table:
    header = ["Cells", "in", "number", "area mm²", "per mm²", "95 % interval"]
    shown: list[list[Value]] = [
        [
            str(row["class"]), str(row["region"]), int(row["cells"] or 0), number_text(row["area_mm2"]),
            number_text(row["cells_per_mm2"]) if row["cells_per_mm2"] is not None else str(row["reason"]),
            "–" if row["low"] is None else f"{number_text(row['low'])} to {number_text(row['high'])}",
        ]
        for row in rows
    ]  # fmt: skip
    return Table("Densities", header, shown)


def _profiles(rows: Sequence[Row]) -> list[Content]:
    regions = dict.fromkeys(str(row["region"]) for row in rows)
    # Rows of bands: one region's border after the other.
    return [profile_picture([row for row in rows if row["region"] == name], name) for name in regions]


def _coupling(rows: Sequence[Row]) -> list[Content]:
    seen: dict[tuple[object, object], Row] = {}
    for row in rows:
        if row["moved_um"] == 0.0 and row["coupled_fraction"] is not None:
            seen.setdefault((row["class"], row["structure"]), row)
    if not seen:
        return []
    header = ["Cells", "structure", "coupled", "up to µm", "p (largest band)", "chance", "p (random shift)"]
    table: list[list[Value]] = [
        [
            str(row["class"]), str(row["structure"]), f"{100 * float(row['coupled_fraction'] or 0):.0f} %",
            "–" if row["coupling_distance_um"] is None else number_text(row["coupling_distance_um"]),
            number_text(row["p_maximum"]), str(row["null"]), number_text(row["p_shift"]),
        ]
        for row in seen.values()
    ]  # fmt: skip
    return [coupling_picture(list(seen.values())), Table("Coupling with borders", header, table)]


def _curves(tests: Sequence[Row], functions: Sequence[Row]) -> list[Content]:
    done = [row for row in tests if row["p_mad"] is not None]
    done.sort(key=lambda row: (float(row["p_mad"] or 0), -abs(float(row["largest_um"] or 0))))
    pictures: list[Content] = []
    for test in done[:MOST_CURVES]:
        own = [row for row in functions if (row["class"], row["other"]) == (test["class"], test["other"])]
        pair = (
            str(test["class"]) if test["class"] == test["other"] else f"{test['class']} and {test['other']}"
        )
        title = f"{test['function']} of {pair}: p = {number_text(test['p_mad'])} ({test['null']})"
        pictures.append(curve_picture(own, title))
    missing = [f"{row['class']} and {row['other']}: {row['reason']}" for row in tests if row["reason"]]
    return [*pictures, *([Text("Not tested: " + "; ".join(missing) + ".")] if missing else [])]


def _pairs(rows: Sequence[Row]) -> list[Content]:
    """Each tested pair at the distance where it is farthest from none; the least likely by chance first."""
    tested = sorted(strongest(rows), key=lambda row: float(row["p_mad"] or 0))
    if not tested:
        return []
    header = ["Cells", "and", "in", "L - r µm", "at µm", "by chance µm", "p (random shift)", "q"]
    table: list[list[Value]] = [
        [
            str(row["class"]), str(row["other"]), str(row["region"]), f"{float(row['l_minus_r_um'] or 0):+.1f}",
            number_text(row["r_um"]), f"{number_text(row['chance_low_um'])} to {number_text(row['chance_high_um'])}",
            number_text(row["p_mad"]), number_text(row["q_mad"]),
        ]
        for row in tested[:MOST_PAIRS]
    ]  # fmt: skip
    return [Table("Two classes together (more than 0: they attract)", header, table)]


def _enrichment(rows: Sequence[Row]) -> list[Content]:
    return [enrichment_picture(rows)] if rows else []
