"""Colours that a model learnt from, told from those that it did not."""

from __future__ import annotations

import numpy as np
import pytest

from tissuemodel.colours import UNUSUAL_SHARE, colour_counts, unusual_share, usual_colours
from tissuemodel.labels import Example

PURPLE, BROWN = (0.3, 0.5, 0.2), (0.2, 0.3, 0.5)
"""How the optical density of a stain is shared among red, green and blue."""


def stained(
    shares: tuple[float, float, float], seed: int = 0, side: int = 64, amount: float = 1.0
) -> np.ndarray:
    """Tissue of one stain, more and less of it, with a little noise."""
    random = np.random.default_rng(seed)
    density = amount * random.uniform(0.8, 1.6, (side, side, 1)) * np.array(shares)
    density += random.normal(0, 0.01, (side, side, 3))
    return np.clip(256 * np.exp(-density) - 1, 0, 255).astype(np.uint8)


def example(image: np.ndarray, name: str = "a", image_name: str = "") -> Example:
    none, blank = np.zeros((0, 2), np.float32), np.zeros(image.shape[:2], np.uint8)
    no_class, complete = np.zeros(0, np.uint8), blank.astype(np.uint16)
    return Example(name, image, blank, none, no_class, none, complete, blank.astype(bool), image_name)


def test_tissue_is_counted_by_the_direction_of_its_density_and_glass_is_not() -> None:
    pixels = stained(PURPLE, side=32)
    pixels[:16] = 245

    counts = colour_counts(pixels)

    assert counts.sum() == 16 * 32
    red, green = np.unravel_index(counts.argmax(), counts.shape)
    # 24 bins up to a share of 0.75 each.
    assert (red, green) in {(9, 15), (9, 16), (10, 15), (10, 16)}


def test_how_much_was_stained_changes_little() -> None:
    usual = usual_colours([example(stained(PURPLE))], 2.0)

    thin = unusual_share(colour_counts(stained(PURPLE, seed=1, amount=1.5)), usual)

    assert thin is not None
    assert thin < UNUSUAL_SHARE


def test_the_same_stain_is_usual_and_another_one_is_not() -> None:
    usual = usual_colours([example(stained(PURPLE))], 2.0)

    same, other = (unusual_share(colour_counts(stained(stain, seed=1)), usual) for stain in (PURPLE, BROWN))

    assert same is not None
    assert other is not None
    assert same < 0.03
    assert other > 0.97


def test_a_part_of_another_stain_is_the_share_that_is_unusual() -> None:
    usual = usual_colours([example(stained(PURPLE))], 2.0)
    mixed = stained(PURPLE, seed=1)
    mixed[:16] = stained(BROWN, seed=2)[:16]

    assert unusual_share(colour_counts(mixed), usual) == pytest.approx(0.25, abs=0.03)


def test_every_image_counts_the_same_however_many_pieces_it_has() -> None:
    # Of one purple and 150 brown pieces purple is less than a hundredth, but it is one of two images.
    brown = [example(stained(BROWN, seed, 32), f"b{seed}", "brown") for seed in range(150)]
    alone = [example(piece.image, piece.name) for piece in brown]
    purple = example(stained(PURPLE, side=32), "p", "purple")

    shares = [
        unusual_share(colour_counts(stained(PURPLE, seed=1)), usual_colours([*pieces, purple], 2.0))
        for pieces in (brown, alone)
    ]

    assert shares[0] is not None
    assert shares[0] < 0.1
    assert shares[1] == 1.0


def test_fine_images_are_compared_at_the_size_of_coarse_ones() -> None:
    coarse = stained(PURPLE)
    fine = np.repeat(np.repeat(coarse, 4, axis=0), 4, axis=1)

    assert usual_colours([example(fine)], 0.5) == usual_colours([example(coarse)], 2.0)


def test_without_enough_tissue_nothing_is_said() -> None:
    glass, usual = np.full((64, 64, 3), 250, np.uint8), usual_colours([example(stained(PURPLE))], 2.0)

    assert usual_colours([example(glass)], 2.0) == ""
    assert usual_colours([], 2.0) == ""
    assert unusual_share(colour_counts(glass), usual) is None


@pytest.mark.parametrize("said", ["", "no hexadecimal", "ff", "ff" * 73])
def test_a_model_that_does_not_say_its_colours_is_never_doubted(said: str) -> None:
    assert unusual_share(colour_counts(stained(PURPLE)), said) is None
