"""Annotated examples become random crops with their targets: what a training step eats.

Comes in from the bridge's `targets` as `Example`s, goes to `training`. Every crop is a function of (seed, number), so
that a training run is the same with any number of loader workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tissuemodel.augment import augmented
from tissuemodel.config import ModelConfig
from tissuemodel.heatmaps import cell_mask, heat_maps, heat_pyramid, label_pyramid, mask_pyramid, sigma_px
from tissuemodel.inference import pad_value
from tissuemodel.labels import IGNORE_LABEL, Example

_Value = TypeVar("_Value", bound=np.generic)

ANCHORED = 0.5
"""This share of the crops is drawn round a random place of a random class, so that rare ones are seen often."""
PLACES_PER_CLASS = 2000
"""At most this many places of each class are remembered for each example."""


class Batch(NamedTuple):
    """Crops and their targets at the scales 1, 1/2, 1/4, ... (a tuple, which Lightning can move to a device).

    Attributes:
        image: uint8 (B, 3, H, W).
        labels: int64 (B, H / 2^i, W / 2^i).
        heat: float32 (B, cell class, H / 2^i, W / 2^i).
        mask: float32 like `heat`, 1 where the cell loss counts.
    """

    image: Tensor
    labels: list[Tensor]
    heat: list[Tensor]
    mask: list[Tensor]


@dataclass(frozen=True, slots=True)
class Targets:
    """One crop's targets at each scale, as arrays; see `Batch`."""

    image: NDArray[np.uint8]
    labels: list[NDArray[np.uint8]]
    heat: list[NDArray[np.float32]]
    mask: list[NDArray[np.bool_]]


class CropDataset(Dataset[Targets]):
    """`length` random crops of the examples, balanced over classes.

    Args:
        examples: Annotated pieces of images, at the model's pixel size.
        config: Crop size, diameters, classes.
        length: Number of crops.
        augment: Whether to turn, mirror and recolour them.
    """

    def __init__(
        self, examples: Sequence[Example], config: ModelConfig, length: int, *, augment: bool = True
    ) -> None:
        self.examples, self.config, self.length, self.augment = examples, config, length, augment
        areas = np.array([example.image.shape[0] * example.image.shape[1] for example in examples], float)
        self._by_area = areas / areas.sum()
        self._places = _places_of_classes(examples, config)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Targets:
        """The crop of this number; always the same one."""
        rng = np.random.default_rng([self.config.training.seed, index])
        example, centre = self._draw(rng)
        piece = cut(example, centre, self.config.training.crop_px, pad_value(self.config))
        return make_targets(augmented(piece, rng) if self.augment else piece, self.config)

    def _draw(self, rng: np.random.Generator) -> tuple[Example, tuple[float, float]]:
        """An example and the crop's centre (x, y) in it."""
        side = self.config.training.crop_px
        if self._places and rng.random() < ANCHORED:
            which, places = self._places[int(rng.integers(len(self._places)))]
            k = int(rng.integers(len(which)))
            x, y = places[k] + rng.uniform(-0.4, 0.4, 2) * side
            return self.examples[int(which[k])], (float(x), float(y))
        example = self.examples[int(rng.choice(len(self.examples), p=self._by_area))]
        height, width = example.image.shape[:2]
        return example, (float(rng.uniform(0, width)), float(rng.uniform(0, height)))


def cut(example: Example, centre: tuple[float, float], side: int, pad: tuple[int, int, int]) -> Example:
    """A square crop, moved inside the example where it fits, padded right and bottom where it does not.

    Args:
        example: Where to cut.
        centre: (x, y) in px of the example.
        side: Side of the crop in px.
        pad: RGB value outside the example; nothing is labelled or complete there.

    Returns:
        The crop; its points include those outside, since some of their heat reaches in.
    """
    height, width = example.image.shape[:2]
    left = int(np.clip(centre[0] - side / 2, 0, max(0, width - side)))
    top = int(np.clip(centre[1] - side / 2, 0, max(0, height - side)))
    box = np.s_[top : top + side, left : left + side]
    offset = np.array([left, top], np.float32)
    image = _filled(example.image[box], side, 0)
    inside = example.image[box].shape[:2]
    image[inside[0] :], image[:, inside[1] :] = pad, pad
    return replace(
        example,
        image=image,
        regions=_filled(example.regions[box], side, IGNORE_LABEL),
        complete=_filled(example.complete[box], side, 0),
        ignored=_filled(example.ignored[box], side, True),
        points=example.points - offset,
        negatives=example.negatives - offset,
    )


def make_targets(example: Example, config: ModelConfig) -> Targets:
    """The targets of a whole example whose sides are multiples of the stride."""
    scales = len(config.network.widths) - 1
    sigmas = [sigma_px(d, config.pixel_size_um) for d in config.targets.diameters_um]
    shape = (example.image.shape[0], example.image.shape[1])
    heat = heat_maps(example.points, example.point_classes, shape, sigmas)
    mask = cell_mask(example.points, example.negatives, example.complete, example.ignored, sigmas)
    return Targets(
        image=np.ascontiguousarray(example.image.transpose(2, 0, 1)),
        labels=label_pyramid(example.regions, scales, len(config.region_classes)),
        heat=heat_pyramid(heat, scales, config.targets.heat_pooling),
        mask=mask_pyramid(mask, scales),
    )


def collate(crops: Sequence[Targets]) -> Batch:
    """Stacks crops into a batch of tensors."""
    scales = range(len(crops[0].labels))
    return Batch(
        image=torch.from_numpy(np.stack([crop.image for crop in crops])),
        labels=[torch.from_numpy(np.stack([crop.labels[i] for crop in crops])).long() for i in scales],
        heat=[torch.from_numpy(np.stack([crop.heat[i] for crop in crops])) for i in scales],
        mask=[torch.from_numpy(np.stack([crop.mask[i] for crop in crops])).float() for i in scales],
    )


def pixel_statistics(
    examples: Sequence[Example],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Channel means and standard deviations of all pixels, in 0..255; a flat channel gets 1."""
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for example in examples:
        pixels = example.image.reshape(-1, 3).astype(np.float64)
        total, squares, count = total + pixels.sum(0), squares + (pixels**2).sum(0), count + len(pixels)
    mean = total / count
    std = np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0)), 1.0)
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


def class_counts(examples: Sequence[Example], config: ModelConfig) -> tuple[list[int], list[int]]:
    """Labelled pixels of each region class and cells of each cell class, in all examples."""
    regions = np.zeros(256, np.int64)
    cells = np.zeros(256, np.int64)
    for example in examples:
        regions += np.bincount(example.regions.ravel(), minlength=256)
        cells += np.bincount(example.point_classes, minlength=256)
    return regions[: len(config.region_classes)].tolist(), cells[: len(config.cell_classes)].tolist()


def _places_of_classes(
    examples: Sequence[Example], config: ModelConfig
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """For each class that occurs: in which example, and where (x, y) in it."""
    rng = np.random.default_rng([config.training.seed, len(examples), 1])
    found: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for index in range(len(config.region_classes)):
        found.append(_gather([_some(np.argwhere(e.regions == index)[:, ::-1], rng) for e in examples]))
    for index in range(len(config.cell_classes)):
        found.append(_gather([_some(e.points[e.point_classes == index], rng) for e in examples]))
    return [(which, places) for which, places in found if len(which)]


def _gather(
    places: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.repeat(np.arange(len(places)), [len(p) for p in places]), np.concatenate(places)


def _some(places: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.float64]:
    if len(places) > PLACES_PER_CLASS:
        places = places[rng.choice(len(places), PLACES_PER_CLASS, replace=False)]
    return places.astype(np.float64).reshape(-1, 2)


def _filled(array: NDArray[_Value], side: int, value: int) -> NDArray[_Value]:
    """The array in the top left of a square of `side`, the rest filled."""
    square = np.full((side, side, *array.shape[2:]), value, array.dtype)
    square[: array.shape[0], : array.shape[1]] = array
    return square
