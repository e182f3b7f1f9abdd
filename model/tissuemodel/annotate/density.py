"""Optical density: how much the tissue absorbs, and which pixels are tissue at all.

The first step of everything that separates stains: RGB pixels come in, densities go out to `stains` and `separation`.
Source: METHOD.md, "Semi-automatic annotation"; Vahadane et al. 2016, doi:10.1109/TMI.2016.2529665.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

WHITE: Final[Rgb] = (255, 255, 255)
"""What light that meets no tissue looks like, unless told otherwise."""

GLASS_DENSITY: Final = 0.15
"""A pixel of lower mean density is glass; as in `tissuemodel.colours`."""
_INK_DENSITY: Final = 3.0
"""Less than a twentieth of the light arrives: ink, folds and dirt, whose colour is the camera's, not the dye's."""


def density_table(white: Rgb = WHITE) -> NDArray[np.float32]:
    """The optical density V = -log((I + 1) / I0) of each 8-bit value, with I0 = white + 1, so that white has none.

    Values brighter than white have 0 as well. QuPath's densities are these divided by log(10); the directions are the
    same.

    Args:
        white: The colour of glass.

    Returns:
        float32 (3, 256), a row a channel.

    Raises:
        ValueError: A channel of white is not within 1 to 255.

    >>> density_table()[0, [255, 127, 0]].round(3)
    array([0.   , 0.693, 5.545], dtype=float32)
    """
    if len(white) != 3 or not all(1 <= value <= 255 for value in white):
        raise ValueError(f"white is red, green, blue, each 1 to 255; got {white}")
    density: NDArray[np.floating[Any]] = np.log((np.array(white)[:, None] + 1) / np.arange(1, 257))
    table: NDArray[np.float32] = np.maximum(density, 0).astype(np.float32)
    return table


def optical_density(pixels: NDArray[np.uint8], white: Rgb = WHITE) -> NDArray[np.float32]:
    """The optical density of pixels, see `density_table`.

    Args:
        pixels: uint8 (..., 3), red, green, blue.
        white: The colour of glass.

    Returns:
        float32 (..., 3).

    Raises:
        ValueError: These are no RGB pixels of 8 bits.

    >>> optical_density(np.array([[255, 127, 63]], np.uint8)).round(3).tolist()
    [[0.0, 0.6930000185966492, 1.3860000371932983]]
    """
    check_rgb(pixels)
    table = density_table(white)
    return np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def tissue_densities(pixels: NDArray[np.uint8], white: Rgb = WHITE) -> NDArray[np.float32]:
    """The densities of the pixels that are tissue: neither glass nor so dark that their colour says nothing.

    Args:
        pixels: uint8 (..., 3).
        white: The colour of glass.

    Returns:
        float32 (n, 3).

    Raises:
        ValueError: These are no RGB pixels of 8 bits.

    >>> tissue_densities(np.array([[255, 255, 255], [90, 60, 140], [0, 0, 0]], np.uint8)).shape
    (1, 3)
    """
    density = optical_density(pixels, white).reshape(-1, 3)
    mean = density.mean(axis=1)
    tissue: NDArray[np.float32] = density[(mean > GLASS_DENSITY) & (mean < _INK_DENSITY)]
    return tissue


def tissue_sample(
    tiles: Iterable[NDArray[np.uint8]], per_tile: int = 2000, *, white: Rgb = WHITE, seed: int = 0
) -> NDArray[np.uint8]:
    """Tissue pixels of some tiles of a slide, at most so many of each, from which its stains can be learnt.

    Args:
        tiles: uint8 (row, col, 3) each; one at a time is held.
        per_tile: How many pixels of a tile, drawn without replacement.
        white: The colour of glass.
        seed: Of the draw.

    Returns:
        uint8 (n, 3).

    Raises:
        ValueError: A tile has no RGB pixels of 8 bits.

    >>> tissue_sample([np.full((9, 9, 3), 100, np.uint8)] * 3, 20).shape
    (60, 3)
    """
    rng = np.random.default_rng(seed)
    parts = [np.zeros((0, 3), np.uint8)]
    for tile in tiles:
        mean = optical_density(tile, white).mean(axis=-1)
        tissue = tile[(mean > GLASS_DENSITY) & (mean < _INK_DENSITY)]
        parts.append(tissue[rng.permutation(len(tissue))[:per_tile]])
    return np.concatenate(parts)


def check_rgb(pixels: NDArray[np.uint8]) -> None:
    """Refuses what is no RGB.

    Raises:
        ValueError: Not uint8 (..., 3).

    >>> check_rgb(np.zeros((4, 4, 3), np.uint8))
    """
    if pixels.dtype != np.uint8 or pixels.ndim < 2 or pixels.shape[-1] != 3:
        raise ValueError(f"8-bit RGB, uint8 (..., 3), is needed; got {pixels.dtype} {pixels.shape}")
