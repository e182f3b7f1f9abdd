"""Stains of mixtures that are known are found; what cannot be told is refused in words."""

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import skimage.data

from tissuemodel.annotate.density import tissue_sample
from tissuemodel.annotate.separation import reconstruction, separate
from tissuemodel.annotate.stains import (
    KNOWN_STAINS,
    Stains,
    given_stains,
    guessed_names,
    learn_stains,
    picked_stains,
)

HED = ("Hematoxylin", "Eosin", "DAB")


def known(names: Sequence[str]) -> np.ndarray:
    vectors = np.array([KNOWN_STAINS[name] for name in names])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mixture(
    names: Sequence[str], noise: float, count: int = 12_000, present: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """True densities (n, stain) and 8-bit pixels (n, 3) of stains that are each in a part of the pixels."""
    rng = np.random.default_rng(1)
    amounts = rng.gamma(1.0, 0.5, (count, len(names))) * (rng.random((count, len(names))) < present)
    light = 256 * np.exp(-amounts @ known(names)) - 1 + rng.normal(0, noise, (count, 3))
    return amounts, np.clip(np.rint(light), 0, 255).astype(np.uint8)


def degrees(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip(one @ other.T, -1, 1)))


def order_of(stains: Stains, names: Sequence[str]) -> list[int]:
    """Which learnt stain is which true one."""
    apart = degrees(known(names), stains.vectors)
    return list(min(permutations(range(len(names))), key=lambda order: apart[range(len(names)), order].sum()))


@cache
def sample_image() -> np.ndarray:
    return skimage.data.immunohistochemistry()


@cache
def sample_stains() -> Stains:
    return learn_stains(sample_image(), 2)


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize(
    ("names", "correlation"),
    [
        (("Hematoxylin", "DAB"), 0.98),
        (("Hematoxylin", "Eosin"), 0.98),
        (HED, 0.9),
        (("Hematoxylin", "Fast Red", "DAB"), 0.9),
    ],
)
def test_stains_of_known_mixtures_are_found(names: Sequence[str], correlation: float, noise: float) -> None:
    amounts, pixels = mixture(names, noise)

    stains = learn_stains(pixels, len(names))
    found = separate(pixels, stains)

    order = order_of(stains, names)
    assert degrees(known(names), stains.vectors)[range(len(names)), order].max() < 3
    for stain, place in enumerate(order):
        assert np.corrcoef(amounts[:, stain], found[place])[0, 1] >= correlation
    # Fast red has one of the two colours that eosin has.
    guessed = tuple("Eosin" if name == "Fast Red" else name for name in names)
    assert tuple(stains.names[place] for place in order) == guessed


def test_a_pale_eosin_is_not_taken_for_fast_red() -> None:
    assert guessed_names(np.array([[0.2159, 0.8012, 0.5581]])) == ("Eosin",)


def test_four_stains_can_be_learnt_and_explain_the_image() -> None:
    names = ("Methyl green", "Hematoxylin", "Fast Red", "DAB")
    _, pixels = mixture(names, 0.0)

    stains = learn_stains(pixels, 4)

    assert degrees(known(names), stains.vectors)[range(4), order_of(stains, names)].max() < 5
    assert reconstruction(pixels, stains).relative < 0.05


def test_learning_is_repeatable_and_blue_comes_first() -> None:
    _, pixels = mixture(HED, 2.0, count=3000)

    once, again = learn_stains(pixels, 3, seed=4), learn_stains(pixels, 3, seed=4)

    assert np.array_equal(once.vectors, again.vectors)
    assert (np.diff(once.vectors[:, 0]) < 0).all()
    np.testing.assert_allclose(np.linalg.norm(once.vectors, axis=1), 1)
    assert (once.vectors >= 0).all()


def test_a_real_image_is_explained_better_than_by_fixed_vectors() -> None:
    learnt = reconstruction(sample_image(), sample_stains())
    fixed = reconstruction(sample_image(), given_stains([KNOWN_STAINS[name] for name in HED]))

    assert sample_stains().names == ("Hematoxylin", "DAB")
    assert learnt.relative < 0.03 < 0.07 < fixed.relative
    assert learnt.pixels == fixed.pixels > 200_000


def test_a_slides_stains_come_from_a_sample_of_tiles() -> None:
    image = sample_image()
    tiles = [image[row : row + 128, col : col + 128] for row in (0, 256) for col in (0, 256)]

    stains = learn_stains(tissue_sample(tiles, 1500), 2)

    assert degrees(stains.vectors, sample_stains().vectors).diagonal().max() < 3


def test_glass_does_not_matter() -> None:
    _, pixels = mixture(("Hematoxylin", "DAB"), 2.0, count=3000)
    beside = np.concatenate([pixels, np.full((5000, 3), 250, np.uint8), np.zeros((300, 3), np.uint8)])

    apart = degrees(learn_stains(pixels).vectors, learn_stains(beside).vectors)

    assert apart.diagonal().max() < 1


def test_a_small_image_is_enough() -> None:
    _, pixels = mixture(("Hematoxylin", "DAB"), 0.0, count=256)

    assert learn_stains(pixels.reshape(16, 16, 3)).names == ("Hematoxylin", "DAB")


def flat(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((40, 40, 3), color, np.uint8)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(
    ("image", "says"),
    [
        (flat((255, 255, 255)), "only 0 of the pixels are tissue"),
        (flat((0, 0, 0)), "only 0 of the pixels are tissue"),
        (flat((150, 100, 160)), "fewer than . colours"),
        (np.zeros((0, 0, 3), np.uint8), "only 0 of the pixels"),
    ],
    ids=["white", "black", "single colour", "nothing"],
)
def test_what_has_no_stains_is_refused(image: np.ndarray, count: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        learn_stains(image, count)


def test_more_stains_than_colours_are_refused() -> None:
    image = flat((110, 102, 176))
    image[:20] = (160, 90, 60)

    assert learn_stains(image, 2).names == ("Hematoxylin", "DAB")
    for count in (3, 4):
        with pytest.raises(ValueError, match="ask for fewer stains"):
            learn_stains(image, count)


def test_numbers_out_of_range_are_refused() -> None:
    for count in (0, 1, 5):
        with pytest.raises(ValueError, match="2 to 4 stains"):
            learn_stains(flat((150, 100, 160)), count)
    for sparsity in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="sparsity"):
            learn_stains(flat((150, 100, 160)), sparsity=sparsity)


def test_given_stains_keep_order_and_names_and_get_unit_length() -> None:
    stains = given_stains([[0.269, 0.568, 0.778], [1.302, 1.402, 0.581]], ["CD3", "Nuclei"])

    assert stains.names == ("CD3", "Nuclei")
    np.testing.assert_allclose(np.linalg.norm(stains.vectors, axis=1), 1)
    np.testing.assert_allclose(stains.vectors[1], [0.651, 0.701, 0.290], atol=1e-3)


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        ([[0.6, 0.7]], "vectors of 3 numbers"),
        (np.eye(3)[[0, 1, 2, 0, 1]], "1 to 4"),
        ([[0.633, -0.713, 0.302]], "residual is no stain"),
        ([[0, 0, 0]], "not all 0"),
        ([[np.nan, 0, 1]], "finite"),
        ([[1, 1, 0], [1, 1.001, 0]], "within 3 degrees"),
    ],
)
def test_vectors_that_are_no_stains_are_refused(vectors: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        given_stains(vectors)


def test_names_must_be_as_many_as_stains() -> None:
    with pytest.raises(ValueError, match="2 stains have 1 names"):
        given_stains([[1, 0, 0], [0, 1, 0]], ["red"])


def test_picked_stains_are_the_colours_at_the_points() -> None:
    image = flat((255, 255, 255))
    image[:10, :10], image[20:, 20:] = (110, 102, 176), (160, 90, 60)
    image[25, 25] = 0  # dirt, which the median does not see

    stains = picked_stains(image, [np.array([[5.0, 5.0], [3.0, 6.0]]), np.array([[25.5, 25.5]])])

    assert stains.names == ("Hematoxylin", "DAB")
    expected = given_stains(
        [-np.log((np.array(color) + 1) / 256) for color in ((110, 102, 176), (160, 90, 60))]
    )
    np.testing.assert_allclose(stains.vectors, expected.vectors, atol=1e-6)


def test_points_on_glass_or_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="stain 1 is picked from glass"):
        picked_stains(flat((255, 255, 255)), [np.array([[5.0, 5.0]])])
    with pytest.raises(ValueError, match="stain 2 has no point inside"):
        picked_stains(flat((90, 80, 160)), [np.array([[5.0, 5.0]]), np.array([[-50.0, 5.0], [500.0, 5.0]])])


def test_each_known_name_is_guessed_once_and_far_colours_get_none() -> None:
    nearly = known(["DAB", "DAB", "Eosin"])
    nearly[1, 0] += 0.12
    nearly /= np.linalg.norm(nearly, axis=1, keepdims=True)

    assert guessed_names(nearly) == ("DAB", "Stain 2", "Eosin")
    assert guessed_names(np.eye(3)[[2]]) == ("Stain 1",)
