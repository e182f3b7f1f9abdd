import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label as components

from tissuemodel.annotate.tidy import tidy_labels
from tissuemodel.labels import IGNORE_LABEL


def ragged(seed: int, sigma: float, side: int = 60, classes: int = 4) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.random((side, side)), (0, 0), sigma) for _ in range(classes)]
    return np.argmax(fields, axis=0).astype(np.uint8)


def areas(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    regions = components(labels.astype(np.int32), connectivity=1, background=IGNORE_LABEL)
    return np.bincount(regions.ravel())[1:]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), sigma=st.floats(0.4, 4), min_area=st.floats(0, 400))
def test_no_region_is_too_small_and_large_ones_only_grow(seed: int, sigma: float, min_area: float) -> None:
    labels = ragged(seed, sigma)
    before = labels.copy()

    tidied = tidy_labels(labels, 1.0, min_area)

    found = areas(tidied)
    assert len(found) == 1 or found.min() >= min_area
    assert np.array_equal(labels, before)
    regions = components(labels.astype(np.int32), connectivity=1, background=-1)
    large = np.bincount(regions.ravel()) >= min_area
    assert np.array_equal(tidied[large[regions]], labels[large[regions]])


def test_a_crumb_takes_the_label_round_it_and_one_between_two_is_shared() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 15:] = 1
    labels[4:6, 4:6] = 2
    labels[10:12, 12:18] = 3

    tidied = tidy_labels(labels, 2.0, 52.0)

    expected = np.zeros((20, 30), np.uint8)
    expected[:, 15:] = 1
    assert np.array_equal(tidied, expected)
    assert np.array_equal(tidy_labels(labels, 2.0, 16.0), labels)


def ring() -> NDArray[np.uint8]:
    labels = np.zeros((30, 30), np.uint8)
    labels[5:25, 5:25] = 1
    labels[10:20, 10:15] = 2
    labels[10:20, 15:20] = 3
    return labels


def test_holes_are_filled_whatever_is_in_them() -> None:
    filled = tidy_labels(ring(), 1.0, 0.0, max_hole_um2=101)
    kept = tidy_labels(ring(), 1.0, 0.0, max_hole_um2=100)

    assert (filled[5:25, 5:25] == 1).all()
    assert not filled[:5].any()
    assert np.array_equal(kept, ring())


def test_a_hole_in_a_hole_goes_with_it() -> None:
    labels = ring()
    labels[12:18, 12:18] = 1

    filled = tidy_labels(labels, 1.0, 0.0, max_hole_um2=101)

    assert (filled[5:25, 5:25] == 1).all()


def test_what_reaches_the_border_or_was_not_analysed_is_no_hole() -> None:
    at_border, unknown = ring(), ring()
    at_border[10:20, 20:] = 2
    unknown[12, 12] = IGNORE_LABEL

    assert np.array_equal(tidy_labels(at_border, 1.0, 0.0, 150), at_border)
    assert np.array_equal(tidy_labels(unknown, 1.0, 0.0, 150), unknown)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), min_area=st.floats(0, 100), hole=st.floats(0, 300))
def test_pixels_that_were_not_analysed_stay(seed: int, min_area: float, hole: float) -> None:
    labels = ragged(seed, 1.5)
    unknown = ragged(seed + 1, 2.0) == 0
    labels[unknown] = IGNORE_LABEL

    tidied = tidy_labels(labels, 1.0, min_area, hole)

    assert np.array_equal(tidied == IGNORE_LABEL, unknown)


@pytest.mark.parametrize("value", [0, 3, IGNORE_LABEL])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (0, 4)])
def test_an_even_map_stays(value: int, shape: tuple[int, int]) -> None:
    labels = np.full(shape, value, np.uint8)

    assert np.array_equal(tidy_labels(labels, 8.0, 1e6, 1e6), labels)


def test_if_all_are_too_small_the_largest_stays() -> None:
    labels = ring()

    assert (tidy_labels(labels, 1.0, 1e6) == 0).all()


@pytest.mark.parametrize("sizes", [(0.0, 1.0, 1.0), (np.nan, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, -1.0)])
def test_sizes_out_of_range_are_refused(sizes: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        tidy_labels(ring(), *sizes)
