"""Random changes of a crop that keep it a true example: the eight symmetries of the square and stain-like colour.

Stands between `dataset`'s crops and their targets; image, labels, areas and points move together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tissuemodel.labels import Example

_Value = TypeVar("_Value", bound=np.generic)

DENSITY_JITTER = 0.25
"""The optical density of each channel is scaled by up to this fraction: stains vary from slide to slide."""
GAIN_JITTER = 0.06
"""The brightness of each channel is scaled by up to this fraction: so do lamps and white balances."""


def dihedral(example: Example, turn: int) -> Example:
    """One of the eight rotations and mirrors of a square example.

    Args:
        example: Square arrays.
        turn: 0 to 7; quarter turns (counter-clockwise) in the lowest two bits, then a mirror of the columns.

    Returns:
        The turned example; its points are at sub-pixel position still.
    """
    side = float(example.image.shape[0])

    def turned(array: NDArray[_Value]) -> NDArray[_Value]:
        array = np.rot90(array, turn & 3)
        return array[:, ::-1] if turn & 4 else array

    def moved(xy: NDArray[np.float32]) -> NDArray[np.float32]:
        x, y = xy[:, 0], xy[:, 1]
        for _ in range(turn & 3):
            x, y = y, side - x
        x = side - x if turn & 4 else x
        return np.stack([x, y], axis=1)

    return replace(
        example,
        image=turned(example.image),
        regions=turned(example.regions),
        complete=turned(example.complete),
        ignored=turned(example.ignored),
        points=moved(example.points),
        negatives=moved(example.negatives),
    )


def jitter_colour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Varies stain strength and brightness of each channel by a look-up table.

    Args:
        image: uint8 (row, col, 3).
        rng: Source of randomness.
    """
    gamma = rng.uniform(1 - DENSITY_JITTER, 1 + DENSITY_JITTER, 3) * rng.uniform(
        1 - DENSITY_JITTER / 2, 1 + DENSITY_JITTER / 2
    )
    gain = rng.uniform(1 - GAIN_JITTER, 1 + GAIN_JITTER, 3)
    levels = np.linspace(0, 1, 256)[:, None]
    # A power of the transmitted light is a factor on the optical density (Beer-Lambert).
    table = (np.clip(gain * levels**gamma, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.stack([table[:, c][image[..., c]] for c in range(3)], axis=-1)


def augmented(example: Example, rng: np.random.Generator) -> Example:
    """A random symmetry and a random colour of a square example."""
    example = dihedral(example, int(rng.integers(8)))
    return replace(example, image=jitter_colour(example.image, rng))
