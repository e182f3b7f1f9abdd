import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.mosaic import argmax_labels, mode_filter


@settings(max_examples=60, deadline=None)
@given(
    maps=arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, max_side=9),
        elements=st.sampled_from([-3.0, -1.0, 0.0, 2.5]),
    )
)
def test_argmax_labels_is_argmax_with_the_first_class_winning_ties(maps: NDArray[np.float32]) -> None:
    before = maps.copy()

    labels = argmax_labels(maps)

    assert labels.dtype == np.uint8
    assert np.array_equal(labels, maps.argmax(0))
    assert np.array_equal(maps, before)


def slow_mode(labels: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """The rule, word by word."""
    result = labels.copy()
    for row, col in np.argwhere(labels != IGNORE_LABEL):
        window = labels[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2].ravel()
        votes = [int((window == index).sum()) for index in range(classes)]
        winners = [index for index in range(classes) if votes[index] == max(votes)]
        own = labels[row, col]
        result[row, col] = own if own in winners else winners[0]
    return result


@pytest.mark.parametrize("classes", [2, 5, 12, 13, 40])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_mode_filter_is_the_slow_rule(classes: int, data: st.DataObject) -> None:
    values = st.sampled_from([0, 1, 1, classes - 1, classes // 2, IGNORE_LABEL])
    labels = data.draw(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=values))

    assert np.array_equal(mode_filter(labels, classes), slow_mode(labels, classes))


def test_the_mode_filter_is_the_slow_rule_on_noise_of_many_classes() -> None:
    labels = np.random.default_rng(1).integers(0, 6, (60, 61)).astype(np.uint8)
    labels[labels == 5] = IGNORE_LABEL

    assert np.array_equal(mode_filter(labels, 5), slow_mode(labels, 5))


def test_the_mode_filter_leaves_its_input_alone() -> None:
    labels = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)

    filtered = mode_filter(labels, 2)
    constant = mode_filter(labels[:1], 2)

    assert labels[1, 1] == 1
    assert filtered[1, 1] == 0
    assert not np.shares_memory(constant, labels)


def test_a_tie_keeps_the_centres_label_and_goes_else_to_the_lowest_class() -> None:
    centre_ties = np.array([[2, 2, 2], [2, 1, 1], [1, 1, 0]], np.uint8)
    others_tie = np.array([[3, 3, 3], [3, 0, 1], [1, 1, 1]], np.uint8)

    assert mode_filter(centre_ties, 4)[1, 1] == 1
    assert mode_filter(others_tie, 4)[1, 1] == 1


def test_pixels_that_were_not_analysed_have_no_vote_and_stay() -> None:
    labels = np.full((3, 3), IGNORE_LABEL, np.uint8)
    labels[1, 1] = 1

    assert np.array_equal(mode_filter(labels, 2), labels)
