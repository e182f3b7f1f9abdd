"""What one image adds: labelled pixels in pieces and whole, cells matched within and across classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissuemodel.counts import MatchedCells, RegionCounts, match_cells
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.metrics import class_counts


def matched(
    predicted: list[tuple[float, float, int, float, bool]],
    truth: list[tuple[float, float, int]],
    tolerance: float = 8.0,
) -> MatchedCells:
    """Matches predictions (x, y, class, score, countable) with true cells (x, y, class)."""
    rows, true = np.array(predicted, float).reshape(-1, 5), np.array(truth, float).reshape(-1, 3)
    return match_cells(
        rows[:, :2],
        rows[:, 2].astype(np.uint8),
        rows[:, 3],
        true[:, :2],
        true[:, 2].astype(np.uint8),
        rows[:, 4] > 0,
        tolerance,
    )


# ---- Regions ----------------------------------------------------------------------------------------------


def ragged_labels(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    blocks = random.choice(np.array([0, 1, 2, IGNORE_LABEL], np.uint8), (6, 6))
    return np.repeat(np.repeat(blocks, 7, axis=0), 7, axis=1)[:, :40]


@pytest.mark.parametrize("band_px", [1.0, 2.5, 4.0])
def test_pieces_with_a_margin_count_what_the_whole_counts(band_px: float) -> None:
    true, called = ragged_labels(0), ragged_labels(1)
    margin, pieces = int(np.ceil(band_px)), RegionCounts.none(3)

    for row in range(0, 42, 14):
        for col in range(0, 40, 10):
            top, left = max(row - margin, 0), max(col - margin, 0)
            outer = slice(top, row + 14 + margin), slice(left, col + 10 + margin)
            inner = slice(row - top, row - top + 14), slice(col - left, col - left + 10)
            pieces += RegionCounts.of(true[outer], called[outer], 3, band_px=band_px, inner=inner)

    whole = RegionCounts.of(true, called, 3, band_px=band_px)
    for kind in ("labelled", "border", "interface"):
        np.testing.assert_array_equal(getattr(pieces, kind), getattr(whole, kind))
    assert whole.labelled.sum() > whole.border.sum() > whole.interface.sum() > 0


def test_bands_hold_the_mistakes_near_borders_alone() -> None:
    true = np.repeat(np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.uint8), 3, axis=0)
    called = np.where(np.arange(8) < 5, 0, 1).astype(np.uint8)[None].repeat(3, axis=0)

    counts = RegionCounts.of(true, called, 2, band_px=1.0)

    assert counts.labelled.tolist() == [[12, 0, 0], [3, 9, 0]]
    assert counts.border.tolist() == counts.interface.tolist() == [[3, 0, 0], [3, 0, 0]]


def test_a_gap_between_what_was_drawn_is_border_but_no_interface_unless_it_is_narrow() -> None:
    true = np.array([[0, 0, IGNORE_LABEL, IGNORE_LABEL, 1, 1]], np.uint8)

    near, far = (RegionCounts.of(true, true, 2, band_px=width) for width in (1.0, 3.0))

    assert near.border.tolist() == [[1, 0, 0], [0, 1, 0]]
    assert near.interface.sum() == 0
    assert far.interface.tolist() == [[1, 0, 0], [0, 1, 0]]


# ---- Cells ------------------------------------------------------------------------------------------------


def test_a_cell_called_another_class_is_told_from_a_missed_one() -> None:
    found = matched(
        [(10, 10, 0, 0.9, True), (50, 50, 1, 0.8, True), (90, 90, 0, 0.7, True)],
        [(12, 10, 0), (50, 52, 0), (10, 90, 1)],
    )

    # Rows: true T, true Mast, nothing there; columns: called T, called Mast, missed.
    assert found.confusion(2).tolist() == [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert found.is_right.tolist() == [True, False, False]
    assert found.is_missed.tolist() == [False, False, True]


def test_a_cell_of_the_own_class_is_found_first_even_by_a_lower_score() -> None:
    found = matched([(10, 10, 1, 0.9, True), (12, 10, 0, 0.3, True)], [(11, 10, 0)])

    assert found.confusion(2).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_where_not_all_are_marked_a_cell_that_found_none_of_its_class_is_neither_right_nor_wrong() -> None:
    found = matched([(50, 50, 0, 0.9, False), (10, 10, 1, 0.9, False)], [(10, 10, 0)])

    assert found.counts.tolist() == [False, False]
    assert found.confusion(2).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_a_found_cell_counts_wherever_it_lies() -> None:
    found = matched([(50, 50, 0, 0.9, False)], [(50, 50, 0)])

    assert found.confusion(1).tolist() == [[1, 0], [0, 0]]


def test_nothing_by_nothing_is_counted_as_nothing() -> None:
    assert matched([], []).confusion(2).tolist() == [[0] * 3] * 3
    assert matched([], [(1, 1, 0)]).confusion(1).tolist() == [[0, 1], [0, 0]]
    assert matched([(1, 1, 0, 0.5, True)], []).confusion(1).tolist() == [[0, 0], [1, 0]]


marks = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 2))
calls = st.builds(
    lambda mark, score, countable: (*mark, score / 10, countable), marks, st.integers(0, 10), st.booleans()
)


def confusion_by_brute_force(predicted: list[Any], truth: list[Any], tolerance: float) -> list[list[int]]:
    counts = [[0] * 4 for _ in range(4)]
    taken: dict[int, int] = {}

    def round_of(same_class: bool) -> None:
        for call in sorted(range(len(predicted)), key=lambda index: -predicted[index][3]):
            x, y, kind, _, countable = predicted[call]
            if call in taken.values() or not (same_class or countable):
                continue
            near = [
                (np.hypot(x - mark[0], y - mark[1]), index)
                for index, mark in enumerate(truth)
                if index not in taken and (mark[2] == kind or not same_class)
            ]
            if near and min(near)[0] <= tolerance:
                taken[min(near)[1]] = call

    round_of(same_class=True)
    round_of(same_class=False)
    for index, mark in enumerate(truth):
        counts[mark[2]][predicted[taken[index]][2] if index in taken else 3] += 1
    for call, (_, _, kind, _, countable) in enumerate(predicted):
        counts[3][kind] += call not in taken.values() and countable
    return counts


@settings(max_examples=150, deadline=None)
@given(st.lists(calls, max_size=12), st.lists(marks, max_size=12), st.integers(0, 5))
def test_matching_within_and_across_classes_equals_brute_force(
    predicted: list[Any], truth: list[Any], tolerance: int
) -> None:
    found = matched(predicted, truth, tolerance)

    confusion = found.confusion(3)
    assert confusion.tolist() == confusion_by_brute_force(predicted, truth, tolerance)
    assert class_counts(confusion, 3)[0].sum() == found.is_right.sum()
    assert confusion[:3].sum() == len(truth)
