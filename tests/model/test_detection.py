import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from tissuemodel.detection import Candidates, disc_reach, peaks, subpixel, suppress_across_classes

HEAT = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 0.75, 1.5]),
)


def slow_peaks(heat: NDArray[np.float32], radius: float, floor: float) -> list[tuple[int, int]]:
    """The rule, word by word."""
    found = []
    places = [tuple(place) for place in np.argwhere(np.isfinite(heat)).tolist()]
    for place in places:
        value = heat[place]
        others = [
            other
            for other in places
            if other != place
            and (other[0] - place[0]) ** 2 + (other[1] - place[1]) ** 2 <= max(radius, 1) ** 2
        ]
        best = all(heat[other] < value or (heat[other] == value and other > place) for other in others)
        if value >= floor and best:
            found.append(place)
    return found


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.5, 3.0, 6.2])
@settings(max_examples=40, deadline=None)
@given(heat=HEAT)
def test_peaks_are_the_slow_rule(radius: float, heat: NDArray[np.float32]) -> None:
    rows, cols = peaks(heat, radius, 0.25)

    assert list(zip(rows.tolist(), cols.tolist(), strict=True)) == slow_peaks(heat, radius, 0.25)


def test_a_plateau_in_the_disc_is_one_peak() -> None:
    heat = np.zeros((20, 20), np.float32)
    heat[5:9, 6:10] = 1.0

    rows, cols = peaks(heat, 6.0, 0.5)

    assert (rows.tolist(), cols.tolist()) == ([5], [6])


@settings(max_examples=40, deadline=None)
@given(row=st.integers(0, 30), col=st.integers(0, 30), seed=st.integers(0, 9))
def test_a_windows_peaks_are_the_wholes_peaks_away_from_its_border(row: int, col: int, seed: int) -> None:
    # Few distinct values, so that plateaus larger than the disc cross the window's border.
    noise = np.random.default_rng(seed).random((70, 70)).astype(np.float32)
    heat = np.round(cv2.GaussianBlur(noise, (9, 9), 2) * 20) / 20
    margin = disc_reach(4.3)

    whole = peaks(heat, 4.3, 0.4)
    part = peaks(heat[row : row + 40, col : col + 40], 4.3, 0.4)

    def inside(rows: NDArray[np.intp], cols: NDArray[np.intp]) -> set[tuple[int, int]]:
        near = (abs(rows - row - 19.5) < 20 - margin) & (abs(cols - col - 19.5) < 20 - margin)
        return set(zip(rows[near].tolist(), cols[near].tolist(), strict=True))

    assert inside(*whole) == inside(part[0] + row, part[1] + col)


@settings(max_examples=50, deadline=None)
@given(x=st.floats(5.6, 14.4), y=st.floats(5.6, 14.4))
def test_subpixel_finds_the_top_of_a_parabola(x: float, y: float) -> None:
    rows, cols = np.mgrid[:20, :20] + 0.5
    heat = (1 - 0.01 * (cols - x) ** 2 - 0.02 * (rows - y) ** 2).astype(np.float32)

    found = subpixel(heat, *peaks(heat, 4.0, 0.5))

    assert found.shape == (1, 2)
    assert found[0] == pytest.approx((x, y), abs=1e-3)


def test_subpixel_keeps_the_centre_at_borders_and_beside_what_was_not_analysed() -> None:
    heat = np.zeros((3, 4), np.float32)
    heat[0, 0], heat[2, 2], heat[2, 3] = 1.0, 0.9, -np.inf

    found = subpixel(heat, np.array([0, 2]), np.array([0, 2]))

    assert found.tolist() == [[0.5, 0.5], [2.5, 2.5]]


def test_subpixel_never_leaves_the_pixel() -> None:
    heat = np.random.default_rng(0).random((50, 50)).astype(np.float32)
    rows, cols = np.nonzero(heat > 0.5)

    found = subpixel(heat, rows, cols)

    assert (abs(found - np.stack([cols + 0.5, rows + 0.5], axis=1)) <= 0.5).all()


def some_candidates(seed: int, count: int, classes: int) -> Candidates:
    random = np.random.default_rng(seed)
    return Candidates(
        random.integers(0, 40, (count, 2)).astype(np.int32),
        random.random((count, 2)),
        random.integers(0, classes, count).astype(np.uint8),
        random.choice(np.array([0.3, 0.5, 0.7, 0.9], np.float32), (count, classes)),
    ).in_order()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(0, 80))
def test_suppression_is_the_slow_rule_in_any_order(seed: int, count: int) -> None:
    cells = some_candidates(seed, count, 3)
    shuffle = np.random.default_rng(seed).permutation(count)

    stays = suppress_across_classes(cells, 3.0)

    for i in range(count):
        beaten = any(
            cells.class_index[i] != cells.class_index[j]
            and ((cells.pixels[i] - cells.pixels[j]) ** 2).sum() <= 9
            and (-cells.score[j], cells.class_index[j]) < (-cells.score[i], cells.class_index[i])
            for j in range(count)
        )
        assert stays[i] == (not beaten)
    assert np.array_equal(suppress_across_classes(cells.take(shuffle), 3.0), stays[shuffle])


def test_joined_candidates_are_sorted_by_pixel_and_class() -> None:
    first, second = some_candidates(1, 30, 2), some_candidates(2, 40, 2)

    joined = Candidates.joined([first, second], 2)

    keys = [
        (*pixel, kind)
        for pixel, kind in zip(joined.pixels.tolist(), joined.class_index.tolist(), strict=True)
    ]
    assert keys == sorted(keys)
    assert len(joined) == 70
