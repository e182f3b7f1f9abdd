"""Counts and densities above a higher threshold."""

from __future__ import annotations

import math

import pytest
import shapely

from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.sensitivity import MOVES, Sensitivity, scores_of
from tissuebridge.spatial.tissue import tissue_of

ORIGIN = Provenance("run-1", "analyse", "lung", "d", "0.1")
TUMOR = PathObject(shapely.box(0, 0, 100, 100), path_class=PathClass("Tumor"))
STROMA = PathObject(shapely.box(100, 0, 200, 100), path_class=PathClass("Stroma"))


def cell(x: float, scores: dict[str, float], name: str = "CD3") -> PathObject:
    disc = PathObject(
        shapely.Point(x, 50).buffer(4),
        ObjectType.DETECTION,
        path_class=PathClass(name),
        measurements={f"tissuebridge: score {key}": value for key, value in scores.items()},
    )
    return with_provenance(disc, ORIGIN)


def moved(**images: list[PathObject]) -> list[Row]:
    found = Sensitivity()
    for name, objects in images.items():
        tissue = tissue_of(objects, 0.5, 200, 100)
        found.add(name, tissue, scores_of(tissue, objects))
    return found.rows()


def test_cells_are_counted_at_each_threshold_in_each_region() -> None:
    objects = [
        TUMOR,
        STROMA,
        *(cell(x, {"CD3": s}) for x, s in ((20, 0.4), (40, 0.56), (150, 0.5), (160, 0.9))),
    ]

    rows = moved(a=objects)

    counts = {
        region: [row["cells"] for row in rows if row["region"] == region]
        for region in ("tissue", "Tumor", "Stroma")
    }
    assert counts == {"tissue": [4, 3, 3, 2, 1], "Tumor": [2, 1, 1, 1, 0], "Stroma": [2, 2, 2, 1, 1]}
    assert [row["threshold"] for row in rows[: len(MOVES)]] == pytest.approx([0.4, 0.45, 0.5, 0.55, 0.6])
    assert rows[0]["cells_per_mm2"] == pytest.approx(4 / 0.005)


def test_the_lowest_score_of_all_images_stands_for_the_threshold() -> None:
    rows = moved(a=[cell(20, {"CD3": 0.4})], b=[cell(20, {"CD3": 0.52})])

    assert [row["cells"] for row in rows if row["image"] == "b"] == [1, 1, 1, 0, 0]


def test_a_renamed_class_keeps_its_score_and_a_person_without_one_has_no_threshold() -> None:
    renamed = [cell(20, {"CD3": 0.4, "CD8": 0.7}, "T cell"), cell(50, {"CD3": 0.2, "CD8": 0.95}, "T cell")]
    persons = [PathObject(shapely.Point(5, 5), path_class=PathClass("CD3"))]
    tissue = tissue_of(renamed, 0.5, 200, 100)

    assert scores_of(tissue, renamed)["T cell"].tolist() == [0.7, 0.95]
    assert moved(a=persons) == []
    assert math.isnan(scores_of(tissue_of(persons, 0.5, 200, 100), persons)["CD3"][0])


def test_a_cell_without_score_stays_at_every_threshold() -> None:
    rows = moved(a=[cell(20, {"CD3": 0.4}), cell(50, {})])

    assert [row["cells"] for row in rows] == [2, 1, 1, 1, 1]
