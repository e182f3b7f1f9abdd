"""The part of the spatial page on groups of patients: what differs most, drawn, the effect before the p.

Comes in as tables of `spatial.groups` and `spatial.group_functions`; a section goes out. All numbers are the tables'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from tissuebridge.report.group_plots import dots_picture, group_curves_picture
from tissuebridge.report.page import Content, Section, Text
from tissuebridge.spatial.group_functions import group_curves
from tissuebridge.spatial.groups import compared_values
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.told import (
    compared_what,
    difference_of,
    function_of,
    measure_of,
    p_of,
    shift_of,
)

MOST_DOTS: Final = 12
"""So many comparisons are drawn, those least likely by chance."""
MOST_CURVES: Final = 6
"""Of functions likewise."""

_DOTS: Final = (
    "Every dot is a patient, all images pooled; the line is the median. First how much higher one group lies than the "
    "other: the median of all differences between a patient of one and a patient of the other (Hodges-Lehmann), with "
    "its 95 % interval. Then p of one test of ranks over all groups, and q, corrected over all comparisons of its "
    "family (Benjamini-Hochberg)."
)
_CURVES: Final = (
    "How cells lie to each other: thick, each group's mean; thin, every patient. Above 0 cells lie nearer to each "
    "other than by chance where their density is even. First by how much the groups' L differ at the distance where "
    "they differ most (dashed), then p of the studentised permutation test of whole functions, and q over all of them."
)
_CHOSEN: Final = (
    "The {shown} of {tested} that are least likely by chance are drawn: chosen so, they look stronger than they are. "
    "All are in {table}.csv."
)


def group_sections(
    tables: Mapping[str, Sequence[Row]], group_of: Mapping[str, str], settings: SpatialSettings
) -> list[Section]:
    """What is shown of groups; nothing where none were compared.

    Args:
        tables: "groups" and "cases", "group_functions" and "case_functions".
        group_of: Patient to group.
        settings: Those that functions were compared with.
    """
    if "groups" not in tables:
        return []
    content = [*_dots(tables, group_of), *_curves(tables, group_of, settings)]
    return [Section("Groups of patients compared", content)]


def _dots(tables: Mapping[str, Sequence[Row]], group_of: Mapping[str, str]) -> list[Content]:
    tests = _tests(tables["groups"], ("measure", "class", "region", "from_um", "to_um"))
    shown = _least_likely(tests, MOST_DOTS)
    pictures = []
    for pairs in shown:
        what = compared_what(pairs[0])
        caption = f"{what}: {_told([shift_of(row) for row in pairs], pairs[0])}"
        values = compared_values(pairs[0], tables["cases"], group_of)
        pictures.append(dots_picture(values, what, measure_of(pairs[0]), caption))
    return [Text(_DOTS), *_said(tests, shown, "groups"), *pictures]


def _curves(
    tables: Mapping[str, Sequence[Row]], group_of: Mapping[str, str], settings: SpatialSettings
) -> list[Content]:
    tests = _tests(tables["group_functions"], ("function", "class", "other"))
    if not tests:
        return []
    shown = _least_likely(tests, MOST_CURVES)
    curves = group_curves(tables["case_functions"], group_of, settings.suppression_um)
    pictures = []
    for pairs in shown:
        first = pairs[0]
        what = function_of(first)
        caption = f"{what}: {_told([difference_of(row) for row in pairs], first)}"
        own = curves[str(first["function"]), str(first["class"]), str(first["other"])]
        pictures.append(group_curves_picture(own, what, float(first["at_um"] or 0), caption))
    return [Text(_CURVES), *_said(tests, shown, "group_functions"), *pictures]


def _tests(rows: Sequence[Row], columns: Sequence[str]) -> list[list[Row]]:
    """The rows of each test: one for each pair of groups, all with the test's p."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in columns), []).append(row)
    return list(found.values())


def _least_likely(tests: Sequence[list[Row]], most: int) -> list[list[Row]]:
    tested = [pairs for pairs in tests if pairs[0]["p"] is not None]
    return sorted(tested, key=lambda pairs: float(pairs[0]["p"] or 0))[:most]


def _told(effects: Sequence[str], row: Row) -> str:
    return f"{'; '.join(effects)}; {p_of(row)} ({row['test']})."


def _said(tests: Sequence[list[Row]], shown: Sequence[list[Row]], table: str) -> list[Content]:
    """Why there are not as many pictures as comparisons."""
    reasons = Counter(str(pairs[0]["reason"]) for pairs in tests if pairs[0]["p"] is None)
    said: list[Content] = []
    if (tested := len(tests) - reasons.total()) > len(shown):
        said.append(Text(_CHOSEN.format(shown=len(shown), tested=tested, table=table)))
    if reasons:
        told = "; ".join(f"{count:,} ({why})" for why, count in reasons.items())
        said.append(Text(f"Not compared: {told}."))
    return said
