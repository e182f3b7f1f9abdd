"""What the demo measures, and the obvious that it is compared with, on images drawn in code."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from tissuebridge.demo.measures import measured
from tissuebridge.demo.obvious import ObviousPredictor, nuclei_by_threshold
from tissuebridge.demo.sample import write_project
from tissuebridge.learnable import CellSummary, RegionSummary, TrainingSummary
from tissuebridge.objects import CELLS_MARKED, PathClass, PathObject
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.project.folder import FolderProject

CENTRES = [(20, 20), (60, 30), (40, 70), (90, 90)]
MODEL = ModelDescription(
    name="m",
    digest="d",
    region_classes=("Epithelium", "Stroma"),
    cell_classes=("Rare", "Frequent"),
    colors={},
    pixel_size_um=0.5,
    stride=1,
    reach=0,
    pad_value=(255, 255, 255),
    cell_diameters_um=(5.0, 5.0),
    min_distance_um=(2.5, 2.5),
    thresholds=(0.5, 0.5),
    floor=0.1,
    cross_class_radius_um=None,
    mode_filter=False,
)
SUMMARY = TrainingSummary(
    1,
    {"Epithelium": RegionSummary(10.0, 1), "Stroma": RegionSummary(90.0, 1)},
    {"Rare": CellSummary(2, 1e4, 0, 1), "Frequent": CellSummary(9, 1e4, 0, 1)},
)


def drawn() -> np.ndarray:
    image = np.full((110, 110, 3), (236, 232, 240), np.uint8)
    for centre in CENTRES:
        cv2.circle(image, centre, 6, (80, 80, 160), -1)
    return image


@pytest.fixture
def project(tmp_path: Path) -> FolderProject:
    objects = [
        PathObject(shapely.box(0, 0, 110, 40), path_class=PathClass("Epithelium")),
        PathObject(shapely.box(0, 40, 110, 110), path_class=PathClass("Stroma")),
        PathObject(shapely.box(0, 0, 110, 80), path_class=PathClass(CELLS_MARKED)),
        PathObject(shapely.MultiPoint(CENTRES[:1]), path_class=PathClass("Rare")),
        PathObject(shapely.MultiPoint([CENTRES[1], (100, 60)]), path_class=PathClass("Frequent")),
    ]
    return write_project(tmp_path, [("test", "drawn", drawn(), objects)])


def test_dark_components_are_nuclei_at_their_centres() -> None:
    rows, cols = nuclei_by_threshold(drawn(), 0.5)

    assert sorted(zip(cols, rows, strict=True)) == sorted(CENTRES)


def test_specks_are_no_nuclei() -> None:
    image = drawn()
    cv2.circle(image, (100, 10), 1, (80, 80, 160), -1)

    assert len(nuclei_by_threshold(image, 0.5)[0]) == len(CENTRES)


def test_an_image_without_stain_has_no_nuclei_that_stop_the_comparison() -> None:
    rows, cols = nuclei_by_threshold(np.full((30, 30, 3), 240, np.uint8), 0.5)

    assert (rows, cols) == ([], [])


def test_the_obvious_calls_all_pixels_and_all_nuclei_by_the_majority() -> None:
    prediction = ObviousPredictor(MODEL, SUMMARY).predict(drawn()[None])

    assert (prediction.logits.argmax(axis=1) == 1).all()
    assert prediction.heat[:, 0].max() == 0
    assert prediction.heat[:, 1].sum() == len(CENTRES)


def test_nuclei_of_any_class_count_as_detected_and_false_ones_only_where_all_are_marked(
    project: FolderProject,
) -> None:
    # Four are found: two are marked, one is false, one lies where nobody looked; a fifth, marked, is missed.
    scores = measured(project, ObviousPredictor(MODEL, SUMMARY))

    assert scores["detection"] == pytest.approx({"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3})
    assert scores["cells"]["Frequent"]["recall"] == 0.5
    assert scores["cells"]["Rare"]["f1"] == 0
    assert scores["macro"]["cells_f1"] == pytest.approx(scores["cells"]["Frequent"]["f1"] / 2)


def test_regions_by_the_majority_score_what_the_areas_say(project: FolderProject) -> None:
    scores = measured(project, ObviousPredictor(MODEL, SUMMARY))

    stroma = 2 * 70 / (2 * 70 + 40)
    assert scores["regions"]["Stroma"]["f1"] == pytest.approx(stroma)
    assert scores["macro"]["regions_f1"] == pytest.approx(stroma / 2)
