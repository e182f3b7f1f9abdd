"""Targets against values worked out by hand and against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tissuemodel.heatmaps import (
    cell_mask,
    heat_maps,
    heat_pyramid,
    label_pyramid,
    mask_pyramid,
    sigma_px,
)
from tissuemodel.labels import IGNORE_LABEL

NONE = np.zeros((0, 2), np.float32)


def single(x: float, y: float, shape: tuple[int, int], sigma: float) -> np.ndarray:
    return heat_maps(np.array([[x, y]]), np.array([0]), shape, [sigma])[0]


def test_sigma_makes_the_diameter_the_full_width_at_half_maximum() -> None:
    sigma = sigma_px(diameter_um=5.0, pixel_size_um=0.5)

    heat = single(20.5, 20.5, (41, 41), sigma)

    assert sigma == pytest.approx(4.24661)
    assert heat[20, 20] == 1.0
    assert heat[20, 25] == pytest.approx(0.5, abs=1e-6)
    assert heat[15, 20] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("sizes", [(0.0, 0.5), (5.0, 0.0), (-1.0, 0.5), (math.nan, 0.5)])
def test_sigma_of_an_impossible_size_is_refused(sizes: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must both be positive"):
        sigma_px(*sizes)


def test_a_cell_between_pixels_warms_them_equally_by_x_then_y() -> None:
    heat = single(2.0, 1.5, (3, 5), 1.0)

    assert heat[1, 1] == heat[1, 2] == pytest.approx(math.exp(-0.125))
    assert heat[0, 2] == pytest.approx(math.exp(-(0.25 + 1) / 2))


def test_neighbouring_cells_keep_the_maximum_and_do_not_add_up() -> None:
    heat = heat_maps(np.array([[2.5, 0.5], [4.5, 0.5]]), np.array([0, 0]), (1, 7), [1.0])[0, 0]

    expected = [math.exp(-2), math.exp(-0.5), 1, math.exp(-0.5), 1, math.exp(-0.5), math.exp(-2)]
    np.testing.assert_allclose(heat, expected, rtol=1e-6)


def test_each_class_has_its_own_map_and_width() -> None:
    points = np.array([[1.5, 0.5], [1.5, 0.5]])

    heat = heat_maps(points, np.array([1, 2]), (1, 3), [1.0, 1.0, 2.0])

    assert heat.dtype == np.float32
    assert not heat[0].any()
    assert heat[1, 0, 0] == pytest.approx(math.exp(-0.5))
    assert heat[2, 0, 0] == pytest.approx(math.exp(-0.125))


def test_a_cell_outside_still_warms_the_border() -> None:
    heat = single(-1.5, 2.5, (5, 5), 1.0)

    assert heat[2, 0] == pytest.approx(math.exp(-2))
    assert not single(-50.0, 2.5, (5, 5), 1.0).any()


def test_no_cells_and_no_classes_give_empty_maps() -> None:
    assert not heat_maps(NONE, np.zeros(0, np.uint8), (4, 4), [1.0]).any()
    assert heat_maps(NONE, np.zeros(0, np.uint8), (4, 4), []).shape == (0, 4, 4)


def test_points_without_a_class_or_sigma_are_refused() -> None:
    with pytest.raises(ValueError, match="2 points have 1 classes"):
        heat_maps(np.zeros((2, 2)), np.array([0]), (4, 4), [1.0])
    with pytest.raises(ValueError, match="need a sigma each"):
        heat_maps(np.zeros((1, 2)), np.array([1]), (4, 4), [1.0])


places = st.integers(-10 * 16, 40 * 16).map(lambda sixteenth: sixteenth / 16)
many_points = st.lists(st.tuples(places, places), max_size=12).map(lambda xy: np.array(xy).reshape(-1, 2))


@settings(max_examples=60, deadline=None)
@given(points=many_points, sigma=st.floats(0.3, 5))
def test_heat_is_the_maximum_of_gaussians_but_for_the_window(points: np.ndarray, sigma: float) -> None:
    heat = heat_maps(points, np.zeros(len(points), int), (30, 26), [sigma])[0]

    rows, columns = np.mgrid[:30, :26] + 0.5
    squares = [(columns - x) ** 2 + (rows - y) ** 2 for x, y in points]
    expected = np.max(
        [np.exp(-square / (2 * sigma**2)) for square in squares] or [np.zeros((30, 26))], axis=0
    )
    np.testing.assert_allclose(heat, expected, rtol=1e-5, atol=1.01e-4)
    assert heat.max() <= 1


@settings(max_examples=40, deadline=None)
@given(points=many_points, right=st.integers(0, 9), down=st.integers(0, 9))
def test_moving_cells_by_whole_pixels_moves_their_heat(points: np.ndarray, right: int, down: int) -> None:
    classes = np.zeros(len(points), int)
    points = np.round(points * 1024) / 1024  # so that moving them rounds nothing

    heat = heat_maps(points, classes, (30, 30), [1.7])
    moved = heat_maps(points + np.array([right, down]), classes, (30, 30), [1.7])

    np.testing.assert_array_equal(moved[0, down:, right:], heat[0, : 30 - down, : 30 - right])


# ---- The mask ---------------------------------------------------------------------------------------------


def test_the_mask_holds_complete_areas_for_their_own_class_only() -> None:
    complete = np.array([[0b01, 0b10, 0b11, 0]], np.uint16)

    mask = cell_mask(NONE, NONE, complete, np.zeros((1, 4), bool), [1.0, 1.0])

    assert mask.tolist() == [[[True, False, True, False]], [[False, True, True, False]]]


def test_the_sixteenth_class_has_its_bit() -> None:
    mask = cell_mask(NONE, NONE, np.array([[1 << 15]], np.uint16), np.zeros((1, 1), bool), [1.0] * 16)

    assert mask[:, 0, 0].tolist() == [False] * 15 + [True]


@pytest.mark.parametrize("kind", ["marked cell", "hard negative"])
def test_a_disc_of_three_sigmas_counts_for_all_classes(kind: str) -> None:
    centre = np.array([[10.0, 10.25]], np.float32)
    points, negatives = (centre, NONE) if kind == "marked cell" else (NONE, centre)

    mask = cell_mask(points, negatives, np.zeros((20, 20), np.uint16), np.zeros((20, 20), bool), [2.0, 1.0])

    rows, columns = np.mgrid[:20, :20] + 0.5
    distance = np.hypot(columns - 10, rows - 10.25)
    np.testing.assert_array_equal(mask[0], distance <= 6)
    np.testing.assert_array_equal(mask[1], distance <= 3)


def test_the_rim_of_the_disc_counts() -> None:
    mask = cell_mask(np.array([[4.5, 0.5]]), NONE, np.zeros((1, 9), np.uint16), np.zeros((1, 9), bool), [1.0])

    assert mask[0, 0].tolist() == [False, True, True, True, True, True, True, True, False]


def test_ignored_areas_never_count() -> None:
    ignored = np.zeros((1, 9), bool)
    ignored[0, 4:] = True

    mask = cell_mask(np.array([[4.5, 0.5]]), NONE, np.full((1, 9), 1, np.uint16), ignored, [1.0])

    assert mask[0, 0].tolist() == [True] * 4 + [False] * 5


# ---- Pyramids ---------------------------------------------------------------------------------------------


def test_maximum_pooling_keeps_the_peak_and_sum_pooling_adds() -> None:
    heat = np.arange(16, dtype=np.float32).reshape(1, 4, 4)

    full, half, quarter = heat_pyramid(heat, 3)
    sums = heat_pyramid(heat, 3, "sum")

    assert full is heat
    assert half.tolist() == [[[5, 7], [13, 15]]]
    assert quarter.tolist() == [[[15]]]
    assert sums[1].tolist() == [[[10, 18], [42, 50]]]
    assert sums[2].item() == 120


def test_pooled_sums_of_a_cell_are_as_large_as_documented() -> None:
    heat = heat_maps(np.array([[36.0, 36.0]]), np.array([0]), (64, 64), [sigma_px(5, 0.25)])

    peaks = [level.max() for level in heat_pyramid(heat, 4, "sum")]

    assert peaks[1:] == pytest.approx([4, 15, 59], rel=0.05)


def test_a_coarse_pixel_of_the_mask_counts_where_all_its_fine_ones_do() -> None:
    mask = np.ones((1, 4, 4), bool)
    mask[0, 0, 3] = False

    levels = mask_pyramid(mask, 3)

    assert levels[1].tolist() == [[[True, False], [True, True]]]
    assert levels[2].tolist() == [[[False]]]


def test_the_majority_is_counted_at_full_resolution() -> None:
    # Three of the four blocks elect 1, two of them by 2 : 1; counted at once, 0 has six votes and 1 has five.
    labels = np.array([[1, 1, 1, 1], [0, 255, 0, 255], [0, 0, 1, 255], [0, 0, 255, 255]], np.uint8)

    _, half, quarter = label_pyramid(labels, 3, classes=2)

    assert half.tolist() == [[1, 1], [0, 1]]
    assert quarter.item() == 0


def test_unlabelled_pixels_have_no_vote_and_ties_go_to_the_lower_class() -> None:
    labels = np.array([[255, 255, 2, 1, 255, 255], [255, 2, 1, 2, 255, 255]], np.uint8)

    assert label_pyramid(labels, 2, classes=3)[1].tolist() == [[2, 1, IGNORE_LABEL]]


label_maps = hnp.arrays(np.uint8, (32, 16), elements=st.sampled_from([0, 1, 2, 255]))


@settings(max_examples=40, deadline=None)
@given(labels=label_maps, levels=st.integers(1, 5))
def test_pooled_labels_equal_counting_by_hand(labels: np.ndarray, levels: int) -> None:
    pyramid = label_pyramid(labels, levels, classes=3)

    assert len(pyramid) == levels
    for level, pooled in enumerate(pyramid):
        side = 2**level
        assert pooled.dtype == np.uint8
        assert pooled.shape == (32 // side, 16 // side)
        for (row, column), winner in np.ndenumerate(pooled):
            block = labels[row * side : (row + 1) * side, column * side : (column + 1) * side]
            votes = [int((block == index).sum()) for index in range(3)]
            assert winner == (votes.index(max(votes)) if any(votes) else IGNORE_LABEL)


def test_a_block_of_one_class_is_not_lost_to_overflow() -> None:
    for levels in (4, 5, 9):
        side = 2 ** (levels - 1)

        assert label_pyramid(np.full((side, side), 253, np.uint8), levels, classes=254)[-1].item() == 253


@pytest.mark.parametrize("shape", [(12, 16), (16, 12)])
def test_sides_that_cannot_be_halved_are_refused(shape: tuple[int, int]) -> None:
    for pool in (
        lambda: heat_pyramid(np.zeros((1, *shape), np.float32), 4),
        lambda: mask_pyramid(np.zeros((1, *shape), bool), 4),
        lambda: label_pyramid(np.zeros(shape, np.uint8), 4, 1),
    ):
        with pytest.raises(ValueError, match="multiples of 8"):
            pool()
