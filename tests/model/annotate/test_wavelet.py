from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tissuemodel.annotate.wavelet import SpotOptions, Spots, find_spots, noise_levels, wavelet_planes
from tissuemodel.metrics import match


def discs(
    radius: float, seed: int = 0, noise: float = 0.03
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """A density map of discs at sub-pixel places, and their centres (x, y)."""
    rng = np.random.default_rng(seed)
    side = int(24 * radius)
    image = rng.normal(0, noise, (side, side))
    grid = np.stack(np.meshgrid(*[np.arange(2 * radius, side - 2 * radius, 4 * radius)] * 2), axis=-1)
    centres = grid.reshape(-1, 2) + rng.uniform(-radius / 3, radius / 3, (grid.size // 2, 2))
    rows, cols = np.mgrid[:side, :side] + 0.5
    for x, y in centres:
        image += 0.6 * np.clip(radius + 0.5 - np.hypot(cols - x, rows - y), 0, 1)
    return image.astype(np.float32), centres


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), levels=st.integers(0, 6), seed=st.integers(0, 99))
def test_the_planes_add_up_to_the_image(height: int, width: int, levels: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)

    planes, rest = wavelet_planes(image, levels)

    assert len(planes) == levels
    np.testing.assert_allclose(sum(planes, rest), image, atol=3e-6)


def test_the_smoothing_is_the_b3_spline_with_holes_and_a_mirrored_border() -> None:
    image = np.random.default_rng(0).random((30, 41)).astype(np.float32)
    kernel = np.zeros(9, np.float32)
    kernel[::2] = np.array([1, 4, 6, 4, 1], np.float32) / 16

    planes, rest = wavelet_planes(image, 2)

    expected = cv2.sepFilter2D(image - planes[0], -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(rest, expected, atol=1e-6)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_the_reach_is_what_is_said(level: int) -> None:
    image = np.zeros((161, 161), np.float32)
    image[80, 80] = 1

    planes, _ = wavelet_planes(image, level)

    rows, cols = np.nonzero(planes[-1])
    reach = SpotOptions((level,)).reach_px
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (80 - reach, 80 + reach) * 2


@pytest.mark.parametrize("radius", [2, 3, 4, 6, 8, 10, 12, 16, 20])
def test_discs_are_found_at_subpixel_places(radius: float) -> None:
    image, truth = discs(radius)

    spots = find_spots(image, SpotOptions.for_diameter(2 * radius))

    found = match(spots.xy, truth, spots.score, radius / 2)
    assert (found.tp, len(spots)) == (len(truth), len(truth))
    away = np.hypot(*(spots.xy - truth[found.truth]).T)
    assert away.mean() < 0.02 * radius + 0.1


@pytest.mark.parametrize("wrong", [0.75, 1.4])
def test_a_diameter_need_not_be_exact(wrong: float) -> None:
    image, truth = discs(8)

    spots = find_spots(image, SpotOptions.for_diameter(16 * wrong))

    assert match(spots.xy, truth, spots.score, 4).tp == len(spots) == len(truth)


def in_tiles(image: NDArray[np.float32], options: SpotOptions, core: int, halo: int, noise: Any) -> Spots:
    """The spots of an image found tile by tile, as the bridge does it."""
    parts = []
    for row in range(0, image.shape[0], core):
        for col in range(0, image.shape[1], core):
            top, left = max(row - halo, 0), max(col - halo, 0)
            spots = find_spots(image[top : row + core + halo, left : col + core + halo], options, noise)
            xy = spots.xy + np.array([left, top])
            own = (xy >= (col, row)).all(axis=1) & (xy < (col + core, row + core)).all(axis=1)
            parts.append((xy[own], spots.score[own], spots.area_px[own]))
    xy, score, area = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((xy[:, 0], xy[:, 1]))
    return Spots(xy[order], score[order], area[order])


def clumps(seed: int) -> NDArray[np.float32]:
    """Smoothed noise: spots of all sizes, many too large."""
    noise = np.random.default_rng(seed).normal(0, 1, (230, 260)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.5) * 3


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), core=st.integers(40, 300), diameter=st.sampled_from([5.0, 9.0, 12.0]))
def test_tiled_equals_untiled(seed: int, core: int, diameter: float) -> None:
    image, options = clumps(seed), SpotOptions.for_diameter(diameter)
    options = replace(options, max_extent_px=20)
    noise = noise_levels([image], options)

    whole = in_tiles(image, options, 1000, 0, noise)
    tiled = in_tiles(image, options, core, options.halo_px, noise)

    assert len(whole) > 20
    np.testing.assert_allclose(tiled.xy, whole.xy, rtol=0, atol=1e-9)
    assert np.array_equal(tiled.score, whole.score)
    assert np.array_equal(tiled.area_px, whole.area_px)


def test_with_a_smaller_halo_tiled_does_not_equal_untiled() -> None:
    image, options = clumps(0), replace(SpotOptions.for_diameter(9.0), max_extent_px=20)
    noise = noise_levels([image], options)

    tiled = in_tiles(image, options, 50, 10, noise)

    whole = in_tiles(image, options, 1000, 0, noise)
    assert len(tiled) != len(whole) or np.abs(tiled.xy - whole.xy).max() > 0.1


def test_the_noise_is_the_median_deviation_and_may_come_from_several_tiles() -> None:
    image = np.random.default_rng(3).normal(0, 0.1, (256, 256)).astype(np.float32)
    options = SpotOptions((1, 3))

    planes, _ = wavelet_planes(image, 3)
    noise = noise_levels([image], options)
    of_tiles = noise_levels([image[:128], image[128:]], options)

    for level, value in zip((1, 3), noise, strict=True):
        assert value == pytest.approx(planes[level - 1].std(), rel=0.05)
    np.testing.assert_allclose(of_tiles, noise, rtol=0.05)
    assert find_spots(image, options).xy.tolist() == find_spots(image, options, noise).xy.tolist()


def test_contrast_and_sizes_decide() -> None:
    image, truth = discs(6, noise=0.0)
    options = SpotOptions.for_diameter(12)
    spots = find_spots(image, options)

    assert len(spots) == len(truth)
    assert spots.score.min() > 0.3
    assert len(find_spots(image * 0.3, options)) == 0
    assert len(find_spots(image * 0.3, replace(options, min_contrast=0.08))) == len(truth)
    assert len(find_spots(image, replace(options, min_area_px=float(spots.area_px.max() + 1)))) == 0
    assert len(find_spots(image, replace(options, max_extent_px=4))) == 0


@pytest.mark.parametrize("value", [0.0, 5.5])
@pytest.mark.parametrize("shape", [(16, 16), (1, 1), (1, 200), (100, 100)])
@pytest.mark.parametrize("diameter", [4.0, 16.0, 256.0])
def test_an_even_image_has_no_spots(value: float, shape: tuple[int, int], diameter: float) -> None:
    spots = find_spots(np.full(shape, value), SpotOptions.for_diameter(diameter))

    assert (len(spots), spots.xy.shape) == (0, (0, 2))


def test_an_image_smaller_than_a_nucleus_has_an_answer() -> None:
    image = np.random.default_rng(0).random((16, 16))

    spots = find_spots(image, SpotOptions.for_diameter(64.0))

    assert len(spots) == 0


@pytest.mark.parametrize(
    "image", [np.zeros((0, 9)), np.zeros((3, 9, 9)), np.array([[0.0, np.nan]]), np.array([[np.inf, 0.0]])]
)
def test_what_is_no_density_map_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="density map"):
        find_spots(image, SpotOptions.for_diameter(16.0))


@pytest.mark.parametrize("diameter", [3.0, 300.0, np.nan, -16.0])
def test_diameters_out_of_range_are_refused(diameter: float) -> None:
    with pytest.raises(ValueError, match="use another pixel size"):
        SpotOptions.for_diameter(diameter)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": ()},
        {"levels": (3, 2)},
        {"levels": (0, 1)},
        {"levels": (9,)},
        {"levels": (2,), "noise_factor": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"level|noise_factor"):
        SpotOptions(**options)


def test_noise_must_fit_the_levels() -> None:
    with pytest.raises(ValueError, match="2 levels need as many noises"):
        find_spots(np.zeros((9, 9)), SpotOptions((1, 2)), (0.1,))
    with pytest.raises(ValueError, match="no image at all"):
        noise_levels([], SpotOptions((1, 2)))
