"""Random changes of a crop that keep it a true example: symmetries, elastic deformation, stain and colour.

Stands between `sampling`, which says where a crop is, and the targets that `dataset` makes of it; image, labels, areas
and points move together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb_from_hed

from tissuemodel.config import AugmentationConfig, ModelConfig
from tissuemodel.elastic import ElasticField, deform
from tissuemodel.labels import Example
from tissuemodel.sampling import Corner, cut

_Value = TypeVar("_Value", bound=np.generic)

_DENSITY: Final = (np.log(256.0) - np.log(np.arange(256) + 1.0)).astype(np.float32)
"""Optical density of each value of a channel, -log((I + 1) / I0)."""
_STRIP: Final = 32
"""Rows recoloured at a time: as floats they stay in the cache, which is four times faster."""


def augmented_crop(
    example: Example, corner: Corner, config: ModelConfig, rng: np.random.Generator
) -> Example:
    """A crop with random symmetry, deformation and colour.

    Args:
        example: Where to cut.
        corner: (left, top) of the crop in the example.
        config: Side of the crop and what is varied, how much.
        rng: Source of randomness.

    Returns:
        The crop, square; its points include those outside, since some of their heat reaches in.
    """
    side, plan = config.training.crop_px, config.augmentation
    if plan.elastic_um > 0 and plan.elastic_spacing_um > 0:
        px = config.pixel_size_um
        field = ElasticField.drawn(side, plan.elastic_um / px, plan.elastic_spacing_um / px, rng)
        outer = (corner[0] - field.margin, corner[1] - field.margin)
        crop = deform(cut(example, outer, side + 2 * field.margin, config), field, config.pad_value)
    else:
        crop = cut(example, corner, side, config)
    crop = replace(crop, image=recolour(crop.image, colour_change(plan, rng)))
    return dihedral(crop, random_turn(plan, rng))


# ---- Symmetries ----------------------------------------------------------------------------------------


def random_turn(plan: AugmentationConfig, rng: np.random.Generator) -> int:
    """A turn for `dihedral`, with the configuration's probabilities of a mirror and of a rotation."""
    quarters = int(rng.integers(1, 4)) if rng.random() < plan.rotation else 0
    return quarters + (4 if rng.random() < plan.mirror else 0)


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


# ---- Colour --------------------------------------------------------------------------------------------


def colour_change(plan: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random change of stains, of each channel's density and of its brightness, as one map of optical densities.

    Densities add up where stains overlap (Beer-Lambert), so that more or less of a stain is a linear map of the three
    channels' densities, and a lamp's brightness is an offset. Hematoxylin, eosin and DAB have the colours of Ruifrok
    and Johnston 2001, as scikit-image gives them.

    Args:
        plan: How much of each.
        rng: Source of randomness.

    Returns:
        float32 (3, 4): a matrix, and an offset in its last column.

    >>> colour_change(AugmentationConfig(stain_jitter=0, density_jitter=0, gain_jitter=0), np.random.default_rng(0))
    array([[ 1.,  0.,  0., -0.],
           [ 0.,  1.,  0., -0.],
           [ 0.,  0.,  1., -0.]], dtype=float32)
    """

    def factors(spread: float, count: int) -> NDArray[np.float64]:
        return rng.uniform(1 - spread, 1 + spread, count)

    stains = (rgb_from_hed.T * (factors(plan.stain_jitter, 3) - 1)) @ np.linalg.inv(rgb_from_hed.T)
    channels = factors(plan.density_jitter, 3) * factors(plan.density_jitter / 2, 1)
    change = channels[:, None] * (np.eye(3) + stains)
    return np.column_stack([change, -np.log(factors(plan.gain_jitter, 3))]).astype(np.float32)


def recolour(image: NDArray[np.uint8], change: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Maps the optical densities of an image.

    Args:
        image: uint8 RGB (row, col, 3).
        change: From `colour_change`.

    >>> pink = np.array([[[220, 150, 190]]], np.uint8)
    >>> recolour(pink, np.eye(3, 4, dtype=np.float32)).tolist()
    [[[220, 150, 190]]]
    """
    to_light = np.column_stack([-change[:, :3], np.float32(np.log(256)) - change[:, 3]])
    recoloured = np.empty_like(image)
    for row in range(0, len(image), _STRIP):
        light = cv2.exp(cv2.transform(cv2.LUT(image[row : row + _STRIP], _DENSITY), to_light))
        recoloured[row : row + _STRIP] = cv2.subtract(light, (1.0, 1.0, 1.0, 0.0), dtype=cv2.CV_8U)
    return recoloured
