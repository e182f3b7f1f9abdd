"""Annotated examples become random crops with their targets: what a training step eats.

Comes in from the bridge's `targets` as `Example`s, goes to `training`. Every crop is a function of (seed, number), so
that a training run is the same with any number of loader workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tissuemodel.augment import augmented_crop
from tissuemodel.config import ModelConfig
from tissuemodel.heatmaps import cell_mask, heat_maps, heat_pyramid, label_pyramid, mask_pyramid, sigma_px
from tissuemodel.labels import ChannelStatistics, Example
from tissuemodel.sampling import CropSampler, cover, cut


class Batch(NamedTuple):
    """Crops and their targets at the scales 1, 1/2, 1/4, ... (a tuple, which Lightning can move to a device).

    Attributes:
        image: uint8 (B, 3, H, W).
        labels: int64 (B, H / 2^i, W / 2^i).
        heat: float32 (B, cell class, H / 2^i, W / 2^i).
        mask: float32 like `heat`, 1 where the cell loss counts.
        mean: float32 (B, 3), what the image is normalised by.
        std: float32 (B, 3), likewise.
    """

    image: Tensor
    labels: list[Tensor]
    heat: list[Tensor]
    mask: list[Tensor]
    mean: Tensor
    std: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """One crop's targets at each scale, as arrays; see `Batch`."""

    image: NDArray[np.uint8]
    labels: list[NDArray[np.uint8]]
    heat: list[NDArray[np.float32]]
    mask: list[NDArray[np.bool_]]
    statistics: ChannelStatistics


class CropDataset(Dataset[Targets]):
    """`length` random crops of the examples, balanced over classes and images (see `sampling`).

    Args:
        examples: Annotated pieces of images, at the model's pixel size.
        config: Crop size, diameters, classes, augmentation, seed.
        length: Number of crops.
        first: Number of the first one: a training that is resumed goes on with the crops it would have seen.
        augment: Whether to turn, deform and recolour them.

    Raises:
        ValueError: Nothing is annotated in any of the examples.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        config: ModelConfig,
        length: int,
        first: int = 0,
        *,
        augment: bool = True,
    ) -> None:
        self.examples, self.config, self.length, self.first = examples, config, length, first
        self.augment = augment
        self._sampler = CropSampler(examples, config)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Targets:
        """Crop number `first + index` of this seed; always the same one."""
        rng = np.random.default_rng([self.config.training.seed, self.first + index])
        which, corner = self._sampler.draw(rng)
        example, side = self.examples[which], self.config.training.crop_px
        config = self.config.for_image(example.statistics)
        if self.augment:
            return make_targets(augmented_crop(example, corner, config, rng), config)
        return make_targets(cut(example, corner, side, config), config)


class CoverDataset(Dataset[Targets]):
    """Adjoining crops, unchanged, that hold all that is annotated once: for a loss that can be compared.

    Args:
        examples: Annotated pieces of images, at the model's pixel size.
        config: Crop size, diameters, classes.
    """

    def __init__(self, examples: Sequence[Example], config: ModelConfig) -> None:
        self.examples, self.config = examples, config
        self._places = [(e, corner) for e in examples for corner in cover(e, config)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Targets:
        """A crop with its targets, like `CropDataset`'s."""
        example, corner = self._places[index]
        config = self.config.for_image(example.statistics)
        return make_targets(cut(example, corner, config.training.crop_px, config), config)


def make_targets(example: Example, config: ModelConfig) -> Targets:
    """The targets of a whole example whose sides are multiples of the stride.

    Raises:
        ValueError: Each image has its own statistics, and `config` is not for this one (`ModelConfig.for_image`).
    """
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
        statistics=config.statistics,
    )


def collate(crops: Sequence[Targets]) -> Batch:
    """Stacks crops into a batch of tensors."""
    scales = range(len(crops[0].labels))
    return Batch(
        image=torch.from_numpy(np.stack([crop.image for crop in crops])),
        labels=[torch.from_numpy(np.stack([crop.labels[i] for crop in crops])).long() for i in scales],
        heat=[torch.from_numpy(np.stack([crop.heat[i] for crop in crops])) for i in scales],
        mask=[torch.from_numpy(np.stack([crop.mask[i] for crop in crops])).float() for i in scales],
        mean=torch.tensor([crop.statistics.mean for crop in crops], dtype=torch.float32),
        std=torch.tensor([crop.statistics.std for crop in crops], dtype=torch.float32),
    )


def pixel_statistics(examples: Sequence[Example]) -> ChannelStatistics:
    """Channel means and standard deviations of all pixels, in 0..255; a flat channel gets 1."""
    counts = np.zeros((3, 256), np.int64)
    for example in examples:
        for channel in range(3):
            counts[channel] += np.bincount(example.image[..., channel].ravel(), minlength=256)
    return ChannelStatistics.of_counts(counts)


def class_counts(examples: Sequence[Example], config: ModelConfig) -> tuple[list[int], list[int]]:
    """Labelled pixels of each region class and cells of each cell class, in all examples."""
    regions = np.zeros(256, np.int64)
    cells = np.zeros(256, np.int64)
    for example in examples:
        regions += np.bincount(example.regions.ravel(), minlength=256)
        cells += np.bincount(example.point_classes, minlength=256)
    return regions[: len(config.region_classes)].tolist(), cells[: len(config.cell_classes)].tolist()
