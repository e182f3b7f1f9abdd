"""Groups of patients compared: densities and shares of cells, with how far apart they lie and whether by chance.

Comes in from `cohort` (one number a patient) and from a person's table of groups; goes out as rows, one for each pair
of groups. The effect is the shift with its interval, the test is one of ranks over all groups (`rank_tests`). Three
families of tests are corrected, each for itself: densities in regions, densities in bands along borders, and shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.csv_pairs import read_pairs
from tissuebridge.errors import UsageError
from tissuebridge.spatial.cohort import with_project_q
from tissuebridge.spatial.rank_tests import MIN_VALUES, rank_test, shift
from tissuebridge.spatial.rows import Row, Value


def groups_of(path: Path | None, case_of: Mapping[str, str] | None) -> dict[str, str]:
    """Which group each patient belongs to; nobody is in one without a table.

    Args:
        path: A table with the columns `patient` and `group`, see `read_pairs`.
        case_of: Image name to patient. Who is in the table and not here is left out.

    Raises:
        UsageError: Patients are not named; the table is not as `read_pairs` takes it, lacks a patient, or has one group
            only.

    >>> groups_of(None, None)
    {}
    """
    if path is None:
        return {}
    if case_of is None:
        raise UsageError("--groups: say who the patients are, by --cases, --case-key or --case-pattern")
    group_of, patients = read_pairs(path, "--groups", "patient", "group"), set(case_of.values())
    if missing := sorted(patients - set(group_of)):
        raise UsageError(
            f"--groups {path}: lacks {len(missing)} of {len(patients)} patients: {', '.join(missing[:5])}. Add them, "
            "with the group they belong to, or take their images out."
        )
    found = {patient: group_of[patient] for patient in sorted(patients)}
    if len(names := set(found.values())) < 2:
        raise UsageError(f"--groups {path}: all patients are in {', '.join(names)}; two groups are compared")
    return found


_TEST: Final = ("class", "region", "from_um", "to_um")
DENSITY: Final = "cells_per_mm2"
BAND_DENSITY: Final = "cells_per_mm2 in bands"
SHARE: Final = "share of cells"
_COLUMNS: Final = {DENSITY: "cells_per_mm2", BAND_DENSITY: "cells_per_mm2", SHARE: "share"}
"""Which of a patient's numbers a measure is."""


def group_rows(cases: Sequence[Row], group_of: Mapping[str, str]) -> list[Row]:
    """Groups compared in every number that patients have.

    Args:
        cases: From `cohort.case_table`.
        group_of: Patient to group; who is in none is left out.

    Returns:
        Rows of a pair of groups: "measure", what and where; "patients" and "median" of both; "shift" (how much higher
        the group lies than the other, in the measure's unit) with "shift_low" and "shift_high"; "p" of one test of all
        groups, "test", "null", "q_project", "project_family"; "reason" for what is None.
    """
    bands = [row for row in cases if row["from_um"] is not None]
    regions = [row for row in cases if row["from_um"] is None]
    rows: list[Row] = []
    for measure, places, family in (
        (DENSITY, regions, "comparisons of densities in regions"),
        (BAND_DENSITY, bands, "comparisons of densities in bands"),
        (SHARE, regions, "comparisons of shares"),
    ):
        found = [
            {"measure": measure, **dict(zip(_TEST, test, strict=True)), **pair}
            for test, samples in _samples(places, measure, group_of).items()
            for pair in compared(samples)
        ]
        rows += with_project_q(found, "p", _TEST, family)
    return rows


def compared_values(
    row: Row, cases: Sequence[Row], group_of: Mapping[str, str]
) -> dict[str, NDArray[np.float64]]:
    """What a row of `group_rows` compares: each group's values, float64 (patient,), of all groups of the test.

    Args:
        row: The row.
        cases: Those that it is from.
        group_of: Likewise.
    """
    test = _test_of(row)
    return _samples([case for case in cases if _test_of(case) == test], str(row["measure"]), group_of)[test]


def _test_of(row: Row) -> tuple[Value, ...]:
    return tuple(row[name] for name in _TEST)


def _samples(
    cases: Sequence[Row], measure: str, group_of: Mapping[str, str]
) -> dict[tuple[Value, ...], dict[str, NDArray[np.float64]]]:
    """Of each class and place, each group's values, patients without one left out; what nobody has is left out."""
    groups = sorted(set(group_of.values()))
    values: dict[tuple[Value, ...], dict[str, list[float]]] = {}
    for row in cases:
        if (group := group_of.get(str(row["case"]))) and (value := row[_COLUMNS[measure]]) is not None:
            own = values.setdefault(_test_of(row), {name: [] for name in groups})
            own[group].append(float(value))
    return {test: {name: np.array(one) for name, one in own.items()} for test, own in values.items()}


def compared(samples: Mapping[str, NDArray[np.float64]]) -> list[Row]:
    """One number compared between groups, a row for each pair of them.

    Args:
        samples: Group to its patients' values, float64 (n,).

    >>> row = compared({"a": np.array([5.0, 6, 7, 8]), "b": np.array([1.0, 2, 3, 4])})[0]
    >>> row["shift"], row["shift_low"], round(row["p"], 3), row["test"]
    (4.0, 1.0, 0.029, 'Mann-Whitney, exact')
    """
    reason = _why_not(samples)
    tested = None if reason else rank_test(list(samples.values()))
    return [
        {
            **_pair(one, other, samples),
            "p": tested.value if tested else None,
            "test": tested.how if tested else None,
            "null": tested.null if tested else None,
            "reason": reason or _no_interval(samples[one], samples[other]),
        }
        for one, other in combinations(samples, 2)
    ]


def _why_not(samples: Mapping[str, NDArray[np.float64]]) -> str | None:
    if few := [name for name, values in samples.items() if len(values) < MIN_VALUES]:
        return f"fewer than {MIN_VALUES} patients in {', '.join(few)}"
    if np.ptp(np.concatenate(list(samples.values()))) == 0:
        return "the same in all patients"
    return None


def _no_interval(x: NDArray[np.float64], y: NDArray[np.float64]) -> str | None:
    return None if shift(x, y).low is not None else "too few patients for an interval of the shift"


def _pair(one: str, other: str, samples: Mapping[str, NDArray[np.float64]]) -> Row:
    x, y = samples[one], samples[other]
    found = shift(x, y) if min(len(x), len(y)) >= MIN_VALUES else None
    return {
        "group": one, "other_group": other, "patients": len(x), "other_patients": len(y),
        "median": float(np.median(x)) if len(x) else None,
        "other_median": float(np.median(y)) if len(y) else None,
        "shift": found.value if found else None,
        "shift_low": found.low if found else None,
        "shift_high": found.high if found else None,
    }  # fmt: skip
