"""What makes a peak a cell: threshold and minimum distance, chosen on examples that the training did not see.

Comes in after `training`: a network and held-out examples; what is chosen goes into the checkpoint's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuemodel.config import ModelConfig
from tissuemodel.counts import RegionCounts, match_cells
from tissuemodel.detection import Candidates, peaks, subpixel
from tissuemodel.evaluation import CellTally, Evaluation
from tissuemodel.inference import Inference
from tissuemodel.labels import Example
from tissuemodel.metrics import BORDER_UM
from tissuemodel.network import MultitaskUNet

TOLERANCE_UM: Final = 2.0
"""A peak this near to a marked cell found it: the paper's 8 px at 0.243 um/px."""
DISTANCES_UM: Final = (1.5, 2.0, 2.5, 3.0)
"""Minimum distances of two peaks to choose from: a quarter to more than half of a nucleus."""
UNTUNED_THRESHOLD: Final = 0.5
"""Half the height of a perfect peak, for a class of which no cell can be checked."""


def choose_detection(network: MultitaskUNet, config: ModelConfig, examples: Sequence[Example]) -> ModelConfig:
    """The configuration with the minimum distance and the threshold of highest F1 for each cell class.

    How near two peaks may be before they are one cell depends on the tissue (round nuclei that touch, long ones with
    two peaks), so it is chosen like the threshold; of equally good distances the largest is taken.

    Args:
        network: Trained.
        config: Its configuration.
        examples: Annotated pieces; cells count as false only where all cells of their class are marked.

    Returns:
        `config` with `inference.min_distance_um` and `inference.thresholds`; `UNTUNED_THRESHOLD` and the distance it
        had for a class without a marked or found cell.
    """
    infer = Inference(network, config)
    tallies = {distance_um: CellTally(config.cell_classes) for distance_um in DISTANCES_UM}
    for example in examples if config.cell_classes else ():
        heat = heat_of(infer.for_image(example.statistics), example.image)
        for distance_um, tally in tallies.items():
            _add(tally, example, cells_in(heat, (distance_um,) * len(heat), config), config)
    best = {distance_um: tally.best_thresholds() for distance_um, tally in tallies.items()}
    distances, thresholds = (
        list(config.inference.min_distance_um),
        [UNTUNED_THRESHOLD] * len(config.cell_classes),
    )
    for index, name in enumerate(config.cell_classes):
        rated = [
            (chosen[1], distance_um, chosen[0]) for distance_um in best if (chosen := best[distance_um][name])
        ]
        if rated:
            _, distances[index], thresholds[index] = max(rated)
    inference = replace(config.inference, min_distance_um=tuple(distances), thresholds=tuple(thresholds))
    return replace(config, inference=inference)


def validation_scores(
    network: MultitaskUNet, config: ModelConfig, examples: Sequence[Example]
) -> dict[str, Any]:
    """How well a network does on examples, as `evaluation.Evaluation` says it, a unit being an image.

    On the very examples that the thresholds were chosen on, cells flatter a little.

    Args:
        network: Trained.
        config: With thresholds and minimum distances chosen.
        examples: Annotated pieces.
    """
    infer = Inference(network, config)
    evaluation = Evaluation(config.region_classes, config.cell_classes)
    tolerance = TOLERANCE_UM / config.pixel_size_um
    for example in examples:
        labels, heat = maps_of(infer.for_image(example.statistics), example.image)
        found = cells_in(heat, config.inference.min_distance_um, config)
        countable = _countable(example, found)
        truth = marked_in(example)
        evaluation.candidates.add(found.xy, found.class_index, found.score, *truth, countable, tolerance)
        thresholds = np.array([*config.inference.thresholds, 0.0])
        kept = found.score >= thresholds[found.class_index]
        matched = match_cells(
            found.xy[kept], found.class_index[kept], found.score[kept], *truth, countable[kept], tolerance
        )
        regions = RegionCounts.of(
            example.regions, labels, len(config.region_classes), band_px=BORDER_UM / config.pixel_size_um
        )
        evaluation.add(example.name, regions, matched.confusion(len(config.cell_classes)))
    images = {example.name: example.image_name or example.name for example in examples}
    results = evaluation.results(images)
    told = {key: results[key] for key in ("regions", "cells", "micro", "macro", "detection")}
    return told | {
        "images": len(set(images.values())),
        "tolerance_um": TOLERANCE_UM,
        "intervals": results["intervals"] | {"unit": "image"},
    }


def heat_of(infer: Inference, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The heat maps of a small image in a single pass of the network.

    Args:
        infer: The network.
        image: uint8 (row, col, 3), small enough for one pass; is padded to the stride.

    Returns:
        (class, row, col), unclamped.
    """
    return maps_of(infer, image)[1]


def maps_of(infer: Inference, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The most likely region and the heat maps of a small image in a single pass of the network.

    Returns:
        uint8 (row, col), index of the region class (0 without any); (class, row, col), unclamped.
    """
    height, width = image.shape[:2]
    logits, heat = infer(_padded(image, infer.config)[None])
    if not logits.shape[1]:
        return np.zeros((height, width), np.uint8), np.ascontiguousarray(heat[0, :, :height, :width])
    labels = logits[0].argmax(axis=0)[:height, :width].astype(np.uint8)
    return labels, np.ascontiguousarray(heat[0, :, :height, :width])


def cells_in(heat: NDArray[np.float32], min_distance_um: Sequence[float], config: ModelConfig) -> Candidates:
    """All candidates in the heat maps of a whole image.

    Args:
        heat: (class, row, col).
        min_distance_um: One for each class.
        config: Its pixel size and floor count.
    """
    parts = []
    for index, distance_um in enumerate(min_distance_um):
        rows, cols = peaks(heat[index], distance_um / config.pixel_size_um, config.inference.floor)
        parts.append(
            Candidates(
                pixels=np.stack([rows, cols], axis=1).astype(np.int32),
                xy=subpixel(heat[index], rows, cols),
                class_index=np.full(len(rows), index, np.uint8),
                scores=heat[:, rows, cols].T,
            )
        )
    return Candidates.joined(parts, len(config.cell_classes))


def _add(tally: CellTally, example: Example, found: Candidates, config: ModelConfig) -> None:
    tally.add(
        found.xy,
        found.class_index,
        found.score,
        *marked_in(example),
        _countable(example, found),
        TOLERANCE_UM / config.pixel_size_um,
    )


def marked_in(example: Example) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The marked cells that can be found: (n, 2) places and (n,) classes of those inside and not ignored."""
    height, width = example.ignored.shape
    col, row = np.floor(example.points).astype(np.intp).T
    counts = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    counts[counts] = ~example.ignored[row[counts], col[counts]]
    return example.points[counts], example.point_classes[counts]


def _countable(example: Example, found: Candidates) -> NDArray[np.bool_]:
    """Whether each candidate lies where every cell of its class is marked and nothing is ignored."""
    row, col = found.pixels.T
    marked: NDArray[np.bool_] = (example.complete[row, col] >> found.class_index) & 1 == 1
    marked &= ~example.ignored[row, col]
    return marked


def _padded(image: NDArray[np.uint8], config: ModelConfig) -> NDArray[np.uint8]:
    stride = config.network.stride
    height, width = image.shape[:2]
    padded = np.empty((-(-height // stride) * stride, -(-width // stride) * stride, 3), np.uint8)
    padded[:] = config.pad_value
    padded[:height, :width] = image
    return padded
