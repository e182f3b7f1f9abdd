"""Which values of a configuration make sense: asked by `checkpoint` on reading, and where a person sets values.

The types are `config`'s; this is about values. Imports no torch, so that a slip is told before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from tissuemodel.config import (
    AugmentationConfig,
    InferenceConfig,
    LossConfig,
    ModelConfig,
    NetworkConfig,
    TrainingConfig,
)
from tissuemodel.labels import IGNORE_LABEL, MAX_CELL_CLASSES

MAX_CELL_UM: Final = 1000.0
"""No cell is wider and no two cells are kept farther apart."""
MAX_WIDTH: Final = 2048
MAX_CROP_PX: Final = 1 << 15
MAX_BATCH: Final = 1 << 14
MAX_DEVICES: Final = 1024
MAX_MINUTES: Final = 1e5
MAX_WEIGHT: Final = 1e6

Rule = tuple[str, bool, str]
"""Key, whether its value is possible, and what is."""


def impossible(config: ModelConfig) -> dict[str, str]:
    """The keys whose values make no sense, with what is allowed.

    >>> config = ModelConfig(("Tumor",), (), {}, 0.5, augmentation=AugmentationConfig(mirror=1.5))
    >>> impossible(config)
    {'augmentation.mirror': 'a probability, 0 to 1'}
    """
    return {key: allowed for key, is_right, allowed in _rules(config) if not is_right}


def _rules(config: ModelConfig) -> Iterator[Rule]:
    """Every comparison is written so that NaN breaks the rule."""
    yield from _model_rules(config)
    yield from _network_rules(config.network)
    yield from _augmentation_rules(config.augmentation)
    yield from _loss_rules(config.loss, len(config.region_classes), len(config.cell_classes))
    yield from _training_rules(config.training, config.network.stride)
    yield from _inference_rules(config.inference, len(config.cell_classes))
    yield (
        "targets.diameters_um",
        _lengths_um(config.targets.diameters_um, len(config.cell_classes)),
        _PER_CELL_UM,
    )


def _model_rules(config: ModelConfig) -> Iterator[Rule]:
    regions, cells = config.region_classes, config.cell_classes
    unique = len(set(regions)) == len(regions) and len(set(cells)) == len(cells)
    right = unique and len(regions) < IGNORE_LABEL
    yield "region_classes", right, f"fewer than {IGNORE_LABEL} different names"
    right = len(regions) + len(cells) > 0 and len(cells) <= MAX_CELL_CLASSES
    yield "cell_classes", unique and right, f"up to {MAX_CELL_CLASSES} different names, one class in all"
    yield "pixel_size_um", 0.01 <= config.pixel_size_um <= 100, "0.01 to 100"
    yield "mean", all(0 <= mean <= 255 for mean in config.mean), "0 to 255"
    yield "std", all(0 < std <= 255 for std in config.std), "more than 0, up to 255"


def _network_rules(network: NetworkConfig) -> Iterator[Rule]:
    right = 2 <= len(network.widths) <= 7 and all(0 < width <= MAX_WIDTH for width in network.widths)
    yield "network.widths", right, f"2 to 7 numbers, each 1 to {MAX_WIDTH}"


def _augmentation_rules(augmentation: AugmentationConfig) -> Iterator[Rule]:
    for key in ("mirror", "rotation"):
        yield f"augmentation.{key}", 0 <= getattr(augmentation, key) <= 1, "a probability, 0 to 1"
    for key in ("density_jitter", "gain_jitter", "stain_jitter"):
        yield f"augmentation.{key}", 0 <= getattr(augmentation, key) <= 1, "a fraction, 0 to 1; 0 for none"
    yield "augmentation.elastic_um", 0 <= augmentation.elastic_um <= MAX_CELL_UM, f"0 to {MAX_CELL_UM:g}"
    spacing = augmentation.elastic_spacing_um
    right = 0 < spacing <= MAX_CELL_UM or (spacing == 0 and augmentation.elastic_um == 0)
    yield "augmentation.elastic_spacing_um", right, f"more than 0, up to {MAX_CELL_UM:g}"


def _loss_rules(loss: LossConfig, regions: int, cells: int) -> Iterator[Rule]:
    yield "loss.gamma", 0 <= loss.gamma <= 100, "0 to 100; 0 is the cross-entropy"
    for key, weights, count in (
        ("region_weights", loss.region_weights, regions),
        ("cell_weights", loss.cell_weights, cells),
    ):
        right = len(weights) in (0, count) and all(0 < weight <= MAX_WEIGHT for weight in weights)
        yield f"loss.{key}", right, f"more than 0, up to {MAX_WEIGHT:g}, one for each class, or none"
    yield "loss.weight_cap", 1 <= loss.weight_cap <= MAX_WEIGHT, f"1 to {MAX_WEIGHT:g}"


def _training_rules(plan: TrainingConfig, stride: int) -> Iterator[Rule]:
    yield "training.learning_rate", 0 < plan.learning_rate <= 10, "more than 0, up to 10"
    yield "training.batch_size", 1 <= plan.batch_size <= MAX_BATCH, f"1 to {MAX_BATCH}"
    right = 0 < plan.crop_px <= MAX_CROP_PX and plan.crop_px % max(stride, 1) == 0
    yield "training.crop_px", right, f"multiples of the network's stride {stride}, up to {MAX_CROP_PX}"
    yield "training.epochs", plan.epochs >= 1, "1 or more"
    right = plan.minutes is None or 0 < plan.minutes < MAX_MINUTES
    yield "training.minutes", right, f"more than 0, below {MAX_MINUTES:g}"
    yield "training.steps", plan.steps is None or plan.steps >= 0, "0 or more"
    yield "training.seed", 0 <= plan.seed < 1 << 63, "0 or more, below 2^63"
    clip = plan.gradient_clip
    yield "training.gradient_clip", clip is None or 0 < clip < math.inf, "more than 0"
    yield "training.early_stop", plan.early_stop is None or plan.early_stop >= 1, "1 or more"
    average = plan.weight_average
    right = average is None or 0 < average < 1
    yield "training.weight_average", right, "between 0 and 1, such as 0.999"
    yield "training.devices", 1 <= plan.devices <= MAX_DEVICES, f"1 to {MAX_DEVICES}"


def _inference_rules(inference: InferenceConfig, cells: int) -> Iterator[Rule]:
    scores = inference.thresholds
    right = len(scores) == cells and all(math.isfinite(score) for score in scores)
    yield "inference.thresholds", right, "finite, one for each cell class"
    yield "inference.floor", math.isfinite(inference.floor), "finite"
    yield "inference.min_distance_um", _lengths_um(inference.min_distance_um, cells), _PER_CELL_UM
    radius = inference.cross_class_radius_um
    right = radius is None or 0 <= radius <= MAX_CELL_UM
    yield "inference.cross_class_radius_um", right, f"0 to {MAX_CELL_UM:g}"


_PER_CELL_UM: Final = f"more than 0, up to {MAX_CELL_UM:g}, one for each cell class"


def _lengths_um(lengths: tuple[float, ...], cells: int) -> bool:
    return len(lengths) == cells and all(0 < length <= MAX_CELL_UM for length in lengths)
