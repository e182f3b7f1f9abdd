import numpy as np
import pytest

from tissuemodel.annotate.density import density_table, optical_density, tissue_densities, tissue_sample


def test_density_is_the_formula_and_never_negative() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)

    density = optical_density(pixels, (240, 230, 220))

    formula = -np.log((pixels.astype(float) + 1) / np.array([241, 231, 221]))
    np.testing.assert_allclose(density, np.maximum(formula, 0), atol=1e-6)
    assert (density_table() >= 0).all()
    assert np.isfinite(density_table()).all()


def test_glass_and_ink_are_no_tissue() -> None:
    colours = np.array(
        [[255] * 3, [235, 228, 236], [180, 120, 170], [60, 30, 20], [3, 2, 4], [0] * 3], np.uint8
    )

    assert np.array_equal(tissue_densities(colours), optical_density(colours[2:4]))


def test_a_sample_takes_some_tissue_of_every_tile() -> None:
    tiles = [np.full((10, 10, 3), value, np.uint8) for value in (255, 100, 120)]
    tiles[1][0] = 255

    sample = tissue_sample(tiles, 95)

    assert np.unique(sample[:, 0], return_counts=True)[1].tolist() == [90, 95]
    assert np.array_equal(sample, tissue_sample(tiles, 95))
    assert tissue_sample([], 5).shape == (0, 3)


@pytest.mark.parametrize("white", [(0, 255, 255), (255, 256, 255), (255, 255)])
def test_an_impossible_white_is_refused(white: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="white is red, green, blue"):
        density_table(white)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros(3, np.uint8)]
)
def test_what_is_no_rgb_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="8-bit RGB"):
        optical_density(pixels)
