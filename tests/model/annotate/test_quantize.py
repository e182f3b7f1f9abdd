import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import rgb2lab

from tissuemodel.annotate.quantize import (
    SMOOTHING_REACH_PX,
    Palette,
    PaletteOptions,
    label_colours,
    label_table,
    make_palette,
    smoothed,
)

STAIN_COLOURS = np.array([[240, 238, 242], [200, 150, 190], [140, 100, 60], [120, 90, 160]], np.uint8)


def patches(seed: int, noise: float = 4, side: int = 120) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Blobs of four colours with noise, and which is where."""
    rng = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(rng.random((side, side)), (0, 0), 6) for _ in STAIN_COLOURS]
    truth = np.argmax(fields, axis=0)
    image = STAIN_COLOURS[truth] + rng.normal(0, noise, (side, side, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), truth


def test_the_colours_of_an_image_are_found_from_light_to_dark() -> None:
    image, truth = patches(0)

    palette = make_palette(image)
    labels = label_colours(image, label_table(palette))

    assert np.abs(palette.rgb.astype(int) - STAIN_COLOURS).max() <= 3
    assert (labels == truth).mean() > 0.995
    np.testing.assert_allclose(palette.shares, np.bincount(truth.ravel()) / truth.size, atol=0.01)
    assert (np.diff(palette.lab[:, 0]) < 0).all()
    np.testing.assert_allclose(palette.lab, rgb2lab(palette.rgb / 255), atol=1)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_the_palette_does_not_depend_on_the_order_of_pixels(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (500, 3)).astype(np.uint8)
    shuffled = np.random.default_rng(seed + 1).permutation(pixels)

    one, other = make_palette(pixels), make_palette(shuffled)

    assert np.array_equal(one.lab, other.lab)
    assert np.array_equal(one.shares, other.shares)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    split=st.floats(0.5, 40),
    merge=st.floats(0, 10),
    most=st.integers(1, 30),
)
def test_thresholds_bound_the_number_of_colours(seed: int, split: float, merge: float, most: int) -> None:
    image = patches(seed, side=30)[0]

    palette = make_palette(image, PaletteOptions(split, merge, most))
    coarser = make_palette(image, PaletteOptions(split, merge + 5, most))

    assert 1 <= len(coarser) <= len(palette) <= most
    assert palette.shares.sum() == pytest.approx(1)
    assert np.isfinite(palette.lab).all()


def test_a_rare_colour_survives_if_it_is_different() -> None:
    image = np.full((100, 100, 3), 230, np.uint8)
    image[50:] = (200, 150, 190)
    image[:10, :10] = (110, 40, 20)

    assert make_palette(image).shares.round(2).tolist() == [0.49, 0.5, 0.01]
    assert len(make_palette(image, PaletteOptions(merge_below=8.0))) == 2


def test_nearly_equal_colours_are_one() -> None:
    image = np.full((10, 10, 3), 200, np.uint8)
    image[5:] = 204

    assert len(make_palette(image, PaletteOptions(split_above=0.1))) == 1


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (180, 90, 140)])
@pytest.mark.parametrize("side", [1, 16])
def test_an_image_of_one_colour_has_one(color: tuple[int, int, int], side: int) -> None:
    image = np.full((side, side, 3), color, np.uint8)

    palette = make_palette(smoothed(image))

    assert len(palette) == 1
    assert np.abs(palette.rgb[0].astype(int) - color).max() <= 1
    assert not label_colours(image, label_table(palette)).any()


def test_labels_are_the_nearest_colours() -> None:
    rng = np.random.default_rng(0)
    palette = Palette(rgb2lab(rng.random((12, 3))), np.zeros((12, 3), np.uint8), np.full(12, 1 / 12))
    pixels = rng.integers(0, 256, (4000, 3)).astype(np.uint8)

    labels = label_colours(pixels, label_table(palette))

    away = np.linalg.norm(rgb2lab(pixels / 255)[:, None] - palette.lab, axis=2)
    # Of seven bits a channel: between two centres the farther one may win by a little.
    assert (away[np.arange(len(pixels)), labels] - away.min(axis=1)).max() < 2
    assert (labels == away.argmin(axis=1)).mean() > 0.97


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), core=st.integers(7, 130))
def test_tiled_equals_untiled(seed: int, core: int) -> None:
    image = patches(seed, noise=25)[0]
    table = label_table(make_palette(smoothed(image)))

    whole = label_colours(smoothed(image), table)
    tiled = np.empty_like(whole)
    for row in range(0, 120, core):
        for col in range(0, 120, core):
            top, left = max(row - SMOOTHING_REACH_PX, 0), max(col - SMOOTHING_REACH_PX, 0)
            end_row, end_col = row + core + SMOOTHING_REACH_PX, col + core + SMOOTHING_REACH_PX
            labels = label_colours(smoothed(image[top:end_row, left:end_col]), table)
            own = labels[row - top : row - top + core, col - left : col - left + core]
            tiled[row : row + core, col : col + core] = own

    assert np.array_equal(tiled, whole)


def test_a_slides_palette_comes_from_a_thumbnail() -> None:
    image = skimage.data.immunohistochemistry()
    thumbnail = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)

    palette = make_palette(smoothed(thumbnail))
    table = label_table(palette)
    shares = np.bincount(label_colours(smoothed(image), table).ravel(), minlength=len(palette)) / (512 * 512)

    assert 3 <= len(palette) <= 8
    assert shares.min() > 0.02


@pytest.mark.parametrize(
    "options", [{"split_above": 0}, {"merge_below": -1}, {"max_colours": 0}, {"max_colours": 255}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="max_colours 1 to 254"):
        PaletteOptions(**options)


def test_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="without pixels"):
        make_palette(np.zeros((0, 3), np.uint8))
    with pytest.raises(ValueError, match="8-bit RGB"):
        make_palette(np.zeros((5, 5), np.uint8))
