import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tissuemodel.annotate.density import optical_density
from tissuemodel.annotate.separation import reconstruction, separate
from tissuemodel.annotate.stains import KNOWN_STAINS, Stains, given_stains

H_E_DAB = given_stains([KNOWN_STAINS[name] for name in ("Hematoxylin", "Eosin", "DAB")])


def some_pixels(seed: int, height: int = 40, width: int = 50) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def some_stains(seed: int, count: int) -> Stains:
    rng = np.random.default_rng(seed)
    while True:
        try:
            return given_stains(rng.dirichlet([1, 1, 1], count))
        except ValueError:  # two too near to each other
            continue


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4), sparsity=st.sampled_from([0.0, 0.01, 0.3]))
def test_densities_are_the_lassos_optimum(seed: int, count: int, sparsity: float) -> None:
    pixels, stains = some_pixels(seed, 20, 20), some_stains(seed, count)

    densities = separate(pixels, stains, sparsity).reshape(count, -1)

    density = optical_density(pixels).reshape(-1, 3)
    slope = stains.vectors @ (densities.T @ stains.vectors - density).T + sparsity
    # The optimality conditions: no descent at 0, no slope elsewhere.
    assert (densities >= 0).all()
    assert slope.min() > -0.02
    assert np.abs(slope[densities > 0]).max(initial=0) < 0.02


@settings(max_examples=20, deadline=None)
@given(count=st.integers(2, 4), row=st.integers(0, 30), col=st.integers(0, 40), seed=st.integers(0, 99))
def test_a_tile_has_exactly_the_wholes_densities(count: int, row: int, col: int, seed: int) -> None:
    # More pixels than are solved at a time, so that blocks begin elsewhere in tile and whole.
    pixels, stains = some_pixels(seed, 150, 160), some_stains(seed, count)

    whole = separate(pixels, stains)
    part = separate(pixels[row : row + 77, col : col + 91], stains)

    assert np.array_equal(part, whole[:, row : row + 77, col : col + 91])


def test_densities_of_pure_stains_are_theirs() -> None:
    amounts = np.diag([1.5, 0.8, 1.1])
    pixels = np.rint(256 * np.exp(-amounts @ H_E_DAB.vectors) - 1).astype(np.uint8)

    np.testing.assert_allclose(separate(pixels, H_E_DAB, 0.0), amounts, atol=0.05)


def test_white_is_where_the_glass_is() -> None:
    tinted = given_stains(H_E_DAB.vectors, white=(240, 235, 220))

    assert not separate(np.array([[240, 235, 220], [255, 255, 255]], np.uint8), tinted).any()


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_give_finite_numbers(value: int) -> None:
    image = np.full((16, 16, 3), value, np.uint8)

    densities = separate(image, H_E_DAB)
    error = reconstruction(image, H_E_DAB)

    assert np.isfinite(densities).all()
    assert (error.relative, error.rms, error.pixels) == (0, 0, 0)


def test_an_image_without_pixels_has_empty_densities() -> None:
    assert separate(np.zeros((0, 5, 3), np.uint8), H_E_DAB).shape == (3, 0, 5)


def test_the_error_tells_a_stain_that_is_missing_and_in_which_light() -> None:
    vectors = H_E_DAB.vectors
    amounts = np.random.default_rng(0).gamma(1.0, 0.5, (500, 3))
    pixels = np.rint(256 * np.exp(-amounts @ vectors) - 1).clip(0, 255).astype(np.uint8)

    complete = reconstruction(pixels, H_E_DAB)
    lacking = reconstruction(pixels, given_stains(vectors[:2]))

    assert complete.relative < 0.02 < 0.2 < lacking.relative < 1
    assert max(lacking.by_channel) == lacking.by_channel[2]
    assert lacking.rms == pytest.approx(np.sqrt(np.mean(np.square(lacking.by_channel))), rel=1e-5)


def test_a_negative_sparsity_is_refused() -> None:
    with pytest.raises(ValueError, match="sparsity"):
        separate(some_pixels(0), H_E_DAB, -1.0)
    with pytest.raises(ValueError, match="sparsity"):
        reconstruction(some_pixels(0), H_E_DAB, np.nan)
