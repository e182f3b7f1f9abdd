"""The model's grid: no shift at any pixel size, and the same bytes however a window is cut."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tissuebridge.errors import CalibrationError
from tissuebridge.project.base import Level, PixelSource
from tissuebridge.project.pixels import check_block, open_pixels
from tissuebridge.project.resample import (
    BlockCache,
    Grid,
    grid_of,
    level_for,
    read_grid,
    to_full_resolution,
    to_grid,
)

RGB = NDArray[np.uint8]


class Arrays:
    """Levels in memory as a `PixelSource`; notes what was read."""

    name = "arrays"

    def __init__(self, *levels: RGB, downsamples: Sequence[float] = (1.0, 2.0, 4.0)) -> None:
        self.arrays = levels
        self.levels = [Level(a.shape[1], a.shape[0], f) for a, f in zip(levels, downsamples, strict=False)]
        self.read: list[tuple[int, int, int, int, int]] = []

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        check_block(self, level, x, y, width, height)
        self.read.append((level, x, y, width, height))
        return self.arrays[level][y : y + height, x : x + width].copy()

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def noise(height: int, width: int, seed: int = 0) -> RGB:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(source: PixelSource, grid: Grid) -> RGB:
    return read_grid(source, grid, 0, 0, grid.height, grid.width)


# --- geometry ---

WIDTH, HEIGHT, SIGMA, PIXEL_UM = 703, 601, 10.0, 0.25
DOTS = np.array(
    [[90.3, 80.7], [351.5, 92.25], [610.81, 100.0], [123.4, 300.6], [402.0, 333.33], [600.5, 510.9]]
)


def dots() -> RGB:
    """Dark Gaussian dots at sub-pixel places on white; a pixel's value is that at its centre."""
    rows, cols = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    dark = sum(np.exp(-((cols - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA**2)) for x, y in DOTS)
    return np.repeat(np.rint(255 - 220 * dark)[..., None], 3, axis=2).astype(np.uint8)


def halved(image: RGB, n: int) -> RGB:
    """A level as scanners make it: means of n x n, the odd rest cut off."""
    height, width = image.shape[0] // n, image.shape[1] // n
    blocks = image[: height * n, : width * n].reshape(height, n, width, n, 3)
    return np.floor(blocks.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def write_dots(path: Path, kind: str) -> None:
    image = dots()
    if kind == "png":
        Image.fromarray(image).save(path)
        return
    common: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb"}
    if kind == "subifds":
        common |= {"compression": "zlib"}
    else:
        common |= {"compression": "jpeg", "compressionargs": {"level": 95}, "metadata": None}
    with tifffile.TiffWriter(path) as tif:
        tif.write(image, subifds=2 if kind == "subifds" else 0, **common)
        for n in (2, 4):
            tif.write(halved(image, n), subfiletype=1, **common)


class CoarsestLevels:
    """A view of a source without its levels beyond the first `count`."""

    def __init__(self, source: PixelSource, count: int) -> None:
        self.name, self.levels, self.read_block = source.name, source.levels[:count], source.read_block
        self.close, self.__enter__, self.__exit__ = source.close, source.__enter__, source.__exit__  # type: ignore[method-assign]


def centroids(image: RGB, grid: Grid) -> NDArray[np.float64]:
    """Centres of mass of the dots, in full-resolution px."""
    found = []
    radius = 3.6 * SIGMA / grid.downsample
    dark = np.maximum(250.0 - image.mean(axis=2), 0)
    rows, cols = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    for x, y in to_grid(DOTS, grid):
        weight = dark * ((rows - y) ** 2 + (cols - x) ** 2 <= (radius + 1) ** 2)
        found.append(((weight * cols).sum() / weight.sum(), (weight * rows).sum() / weight.sum()))
    return to_full_resolution(np.array(found), grid.downsample)


@pytest.mark.parametrize("kind", ["png", "subifds", "pages"])
def test_a_dot_lands_at_the_same_place_at_every_pixel_size_from_every_level(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / ("dots.png" if kind == "png" else "dots.tif")
    write_dots(path, kind)
    with open_pixels(path) as source:
        assert len(source.levels) == (1 if kind == "png" else 3)
        for count in range(1, len(source.levels) + 1):
            view = CoarsestLevels(source, count)
            for size in (0.2, 0.25, 0.37, 0.5, 1.0, 1.9):
                grid = grid_of(view.levels, PIXEL_UM, size)
                shift = np.abs(centroids(whole(view, grid), grid) - DOTS).max()  # type: ignore[arg-type]
                assert shift < 0.1, (kind, count, size)


def test_points_go_to_the_grid_and_back() -> None:
    grid = Grid(10, 10, 2.5)
    np.testing.assert_allclose(to_grid(np.array([[5.0, 10.0]]), grid), [[2.0, 4.0]])
    np.testing.assert_allclose(to_full_resolution(to_grid(DOTS, grid), grid.downsample), DOTS)


# --- values ---

IMAGE = noise(150, 170)
RATIOS = [0.55, 0.8, 1.0, 1.03, 1.37, 2.0, 2.5, 3.0, 4.3, 7.6, 11.0, 40.0, 500.0]


@settings(max_examples=80, deadline=None)
@given(ratio=st.sampled_from(RATIOS) | st.floats(0.5, 12), data=st.data())
def test_a_window_holds_the_same_bytes_as_the_whole_grid(ratio: float, data: st.DataObject) -> None:
    source = Arrays(IMAGE)
    grid = grid_of(source.levels, 1.0, ratio)
    row, col = data.draw(st.integers(0, grid.height - 1)), data.draw(st.integers(0, grid.width - 1))
    height, width = data.draw(st.integers(1, grid.height - row)), data.draw(st.integers(1, grid.width - col))
    window = read_grid(BlockCache(source), grid, row, col, height, width)
    np.testing.assert_array_equal(window, whole(source, grid)[row : row + height, col : col + width])


@pytest.mark.parametrize("ratio", [2.0, 3.37])
def test_a_window_larger_than_a_piece_is_the_same_as_its_parts(ratio: float) -> None:
    source = Arrays(noise(1100, 2300))
    grid = grid_of(source.levels, 1.0, ratio)
    cut = grid.width // 3
    parts = [
        read_grid(source, grid, 0, 0, grid.height, cut),
        read_grid(source, grid, 0, cut, grid.height, grid.width - cut),
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole(source, grid))


def exact_mean(image: RGB, ratio: float, row: int, col: int) -> NDArray[np.float64]:
    """The mean over a grid pixel by definition, pixel by pixel."""
    total, weight = np.zeros(3), 0.0
    for y in range(int(row * ratio), int((row + 1) * ratio) + 1):
        for x in range(int(col * ratio), int((col + 1) * ratio) + 1):
            tall = min(y + 1, (row + 1) * ratio) - max(y, row * ratio)
            wide = min(x + 1, (col + 1) * ratio) - max(x, col * ratio)
            if tall > 0 and wide > 0:
                total += tall * wide * image[min(y, image.shape[0] - 1), min(x, image.shape[1] - 1)]
                weight += tall * wide
    return total / weight


@pytest.mark.parametrize("ratio", [1.37, 2.0, 3.0, 4.3, 17.0])
def test_a_coarser_grid_pixel_is_the_mean_over_what_it_covers(ratio: float) -> None:
    source = Arrays(IMAGE)
    grid = grid_of(source.levels, 1.0, ratio)
    found = whole(source, grid)
    for row, col in [(0, 0), (1, 2), (grid.height - 1, grid.width - 1), (grid.height // 2, grid.width // 2)]:
        assert np.abs(found[row, col] - exact_mean(IMAGE, ratio, row, col)).max() <= 0.501


def test_halves_are_rounded_up() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, :] = 1
    assert whole(Arrays(image), Grid(1, 1, 2.0)).tolist() == [[[1, 1, 1]]]


def test_a_finer_grid_is_interpolated_between_pixel_centres() -> None:
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 4, axis=0).repeat(3, axis=2)
    found = whole(Arrays(ramp), grid_of([Level(20, 4, 1.0)], 1.0, 0.5))[0, :, 0].astype(float)
    inner = np.arange(1, 39)
    np.testing.assert_allclose(found[inner], ((inner + 0.5) / 2 - 0.5) * 10, atol=0.5)
    assert (found[0], found[-1]) == (0, 190)


@pytest.mark.parametrize("ratio", RATIOS)
def test_an_even_image_stays_as_it_is_up_to_its_edges(ratio: float) -> None:
    source = Arrays(np.full((51, 67, 3), 201, np.uint8))
    assert (whole(source, grid_of(source.levels, 1.0, ratio)) == 201).all()


def test_a_level_within_1_percent_is_used_untouched() -> None:
    source = Arrays(noise(120, 160), noise(60, 80, 1))
    grid = grid_of(source.levels, 0.2503, 0.5)
    assert grid == Grid(80, 60, 2.0)
    np.testing.assert_array_equal(whole(source, grid), source.arrays[1])
    assert {read[0] for read in source.read} == {1}


def test_a_grid_one_pixel_beyond_a_level_rounded_down_repeats_its_edge() -> None:
    source = Arrays(noise(121, 161), noise(60, 80, 1))
    grid = grid_of(source.levels, 0.25, 0.5)
    found = whole(source, grid)
    assert (grid.width, grid.height) == (81, 61)
    np.testing.assert_array_equal(found[:60, :80], source.arrays[1])
    np.testing.assert_array_equal(found[60, :80], source.arrays[1][59])


@pytest.mark.parametrize(
    ("downsample", "level"), [(0.6, 0), (1.9, 0), (1.99, 1), (3.9, 1), (4.0, 2), (99.0, 2)]
)
def test_the_coarsest_level_that_is_fine_enough_is_read(downsample: float, level: int) -> None:
    levels = [Level(400, 400, 1.0), Level(200, 200, 2.0), Level(100, 100, 4.0)]
    assert level_for(levels, Grid(10, 10, downsample)) == level


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_pixel_size_is_refused(size: float) -> None:
    for sizes in ((size, 0.5), (0.5, size)):
        with pytest.raises(CalibrationError, match="impossible"):
            grid_of([Level(10, 10, 1.0)], *sizes)


def test_a_much_coarser_image_is_refused_and_a_coarser_one_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(CalibrationError, match=r"1\.1 um.*0\.5 um.*--pixel-size"):
        grid_of([Level(10, 10, 1.0)], 1.1, 0.5)
    with caplog.at_level(logging.WARNING):
        grid_of([Level(10, 10, 1.0)], 0.6, 0.5)
        assert not caplog.messages
        grid_of([Level(10, 10, 1.0)], 0.8, 0.5)
    assert "coarse" in caplog.text or "detail" in caplog.text


def test_an_image_of_one_pixel_has_a_grid_of_one_pixel() -> None:
    source = Arrays(np.full((1, 1, 3), 7, np.uint8))
    assert whole(source, grid_of(source.levels, 0.25, 2.0)).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize(
    "window", [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 2), (0, 0, 2, 0), (0, 9, 2, 2), (9, 0, 2, 2)]
)
def test_a_window_outside_the_grid_is_a_value_error(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="arrays: window"):
        read_grid(Arrays(noise(20, 20)), Grid(10, 10, 2.0), *window)


class Endless(Arrays):
    """A slide too large to hold: every pixel is 100."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = [Level(200_000, 200_000, 1.0)]

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        self.read.append((level, x, y, width, height))
        return np.full((height, width, 3), 100, np.uint8)


@pytest.mark.parametrize("ratio", [100.0, 100.3])
def test_a_very_coarse_grid_is_read_in_pieces_of_bounded_size(ratio: float) -> None:
    source = Endless()
    found = read_grid(source, grid_of(source.levels, 1.0, ratio), 5, 7, 30, 40)
    assert (found == 100).all()
    assert max(width * height for *_, width, height in source.read) <= 1200**2


# --- the cache ---


def test_a_cache_reads_aligned_blocks_once_and_gives_the_same_pixels() -> None:
    source = Arrays(noise(1500, 2200))
    cache = BlockCache(source)
    for x, y, width, height in [
        (0, 0, 1100, 1100),
        (900, 900, 700, 500),
        (1023, 1023, 2, 2),
        (2199, 1499, 1, 1),
    ]:
        np.testing.assert_array_equal(
            cache.read_block(0, x, y, width, height), source.arrays[0][y : y + height, x : x + width]
        )
    assert sorted(source.read) == [
        (0, 0, 0, 1024, 1024),
        (0, 0, 1024, 1024, 476),
        (0, 1024, 0, 1024, 1024),
        (0, 1024, 1024, 1024, 476),
        (0, 2048, 1024, 152, 476),
    ]


def test_a_cache_forgets_the_longest_unused_block_first() -> None:
    source = Arrays(noise(10, 3072))
    cache = BlockCache(source, capacity_bytes=2 * 1024 * 10 * 3)
    for x in (0, 1024, 0, 2048, 0, 1024):
        cache.read_block(0, x, 0, 1, 1)
    assert [read[1] for read in source.read] == [0, 1024, 2048, 1024]


def test_changing_a_block_does_not_change_the_cache() -> None:
    source = Arrays(noise(10, 10))
    cache = BlockCache(source)
    cache.read_block(0, 0, 0, 10, 10)[:] = 0
    np.testing.assert_array_equal(cache.read_block(0, 0, 0, 10, 10), source.arrays[0])


def test_a_cache_refuses_blocks_outside_the_level() -> None:
    with pytest.raises(ValueError, match="not inside"):
        BlockCache(Arrays(noise(10, 10))).read_block(0, 5, 5, 6, 1)
