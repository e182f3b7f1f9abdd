"""Threshold and minimum distance follow the examples they are chosen on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tissuemodel import calibration
from tissuemodel.calibration import UNTUNED_THRESHOLD, cells_in, choose_detection, validation_scores
from tissuemodel.checkpoint import build_network
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig
from tissuemodel.heatmaps import heat_maps
from tissuemodel.labels import Example

CONFIG = ModelConfig(
    region_classes=(),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=0.5,
    network=NetworkConfig((4, 4)),
    targets=TargetConfig((2.0, 2.0)),
    inference=InferenceConfig(min_distance_um=(2.5, 2.5), thresholds=(0.0, 0.0)),
)
EXAMPLE = Example(
    name="drawn",
    image=np.zeros((48, 48, 3), np.uint8),
    regions=np.full((48, 48), 255, np.uint8),
    points=np.array([[10.5, 10.5], [30.5, 10.5], [30.5, 30.5]], np.float32),
    point_classes=np.zeros(3, np.uint8),
    negatives=np.zeros((0, 2), np.float32),
    complete=np.full((48, 48), 3, np.uint16),
    ignored=np.zeros((48, 48), np.bool_),
)


def maps(dots: list[tuple[float, float, float]]) -> NDArray[np.float32]:
    """Heat of the first class with peaks (x, y, height); nothing for the second."""
    heat = np.zeros((2, 48, 48), np.float32)
    for x, y, height in dots:
        own = heat_maps(np.array([[x, y]]), np.zeros(1, np.uint8), (48, 48), [1.2, 1.2])
        heat = np.maximum(heat, height * own)
    return heat


def chosen(
    monkeypatch: pytest.MonkeyPatch, heat: NDArray[np.float32], example: Example = EXAMPLE
) -> InferenceConfig:
    # The network's own opinion does not matter here: its maps are drawn.
    monkeypatch.setattr(calibration, "heat_of", lambda _infer, _image: heat)
    return choose_detection(build_network(CONFIG), CONFIG, [example]).inference


def test_the_threshold_parts_cells_from_false_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    true = [(10.5, 10.5, 0.7), (30.5, 10.5, 0.8), (30.5, 30.5, 0.9)]

    inference = chosen(monkeypatch, maps([*true, (10.5, 40.5, 0.6)]))

    assert 0.6 < inference.thresholds[0] <= 0.7
    assert inference.min_distance_um[0] == 3.0  # all distances are equally good: the largest


def test_a_cell_with_two_peaks_asks_for_a_larger_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    # 4.5 px are 2.25 um: one cell from 2.5 um on.
    twins = [(x + dx, y, 0.8 - 0.1 * (dx > 0)) for x, y in EXAMPLE.points.tolist() for dx in (0.0, 4.5)]

    assert chosen(monkeypatch, maps(twins)).min_distance_um[0] >= 2.5


def test_touching_cells_ask_for_a_smaller_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.array([[10.5, 10.5], [15.5, 10.5], [30.5, 30.5], [35.5, 30.5]], np.float32)
    example = replace(EXAMPLE, points=points, point_classes=np.zeros(4, np.uint8))

    inference = chosen(monkeypatch, maps([(x, y, 0.8) for x, y in points.tolist()]), example)

    assert inference.min_distance_um[0] == 2.0  # 5 px are 2.5 um, which is one cell's disc


def test_a_class_that_cannot_be_checked_keeps_its_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    inference = chosen(monkeypatch, maps([(10.5, 10.5, 0.7)]))

    assert (inference.min_distance_um[1], inference.thresholds[1]) == (2.5, UNTUNED_THRESHOLD)


def test_candidates_are_the_peaks_from_the_floor_on() -> None:
    found = cells_in(maps([(10.5, 10.5, 0.7), (30.5, 10.5, 0.05)]), (2.5, 2.5), CONFIG)

    assert found.pixels.tolist() == [[10, 10]]
    assert found.xy.tolist() == [[10.5, 10.5]]


def test_cells_in_the_margin_or_where_nothing_counts_are_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = EXAMPLE.ignored.copy()
    ignored[20:, 20:] = True
    points = np.concatenate([EXAMPLE.points, [[-3.0, 10.0], [50.0, 10.0]]]).astype(np.float32)
    example = replace(EXAMPLE, points=points, point_classes=np.zeros(5, np.uint8), ignored=ignored)
    monkeypatch.setattr(
        calibration,
        "maps_of",
        lambda _infer, _image: (np.zeros((48, 48), np.uint8), maps([(10.5, 10.5, 0.7), (30.5, 10.5, 0.8)])),
    )
    config = replace(CONFIG, inference=replace(CONFIG.inference, thresholds=(0.5, 0.5)))

    scores = validation_scores(build_network(config), config, [example])

    found = scores["cells"]["T"]
    assert (found["marked"], found["recall"], found["precision"], found["ap"]) == (2, 1.0, 1.0, 1.0)
    assert scores["images"] == 1


def test_scores_of_pieces_are_counted_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [replace(EXAMPLE, name=f"piece {i}", image_name=f"slide {i // 2}") for i in range(6)]
    config = replace(CONFIG, inference=replace(CONFIG.inference, thresholds=(0.5, 0.5)))
    monkeypatch.setattr(
        calibration,
        "maps_of",
        lambda _infer, _image: (np.zeros((48, 48), np.uint8), maps([(10.5, 10.5, 0.7), (10.5, 40.5, 0.6)])),
    )

    scores = validation_scores(build_network(config), config, pieces)

    assert (scores["images"], scores["intervals"]["units"]) == (3, 3)
    found = scores["cells"]["T"]
    assert (found["marked"], found["recall"], found["precision"]) == (18, pytest.approx(1 / 3), 0.5)
