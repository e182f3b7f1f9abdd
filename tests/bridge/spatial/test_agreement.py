"""Counts of a person and of an analysis over the same areas, and Bland & Altman's limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from tissuebridge.objects import (
    CELLS_MARKED,
    IGNORE,
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    with_provenance,
)
from tissuebridge.spatial.agreement import Agreement, agreement_rows, bland_altman
from tissuebridge.spatial.rows import Row

ORIGIN = Provenance("run-1", "analyse", "lung", "d", "0.1")


def drawn(name: str, geometry: BaseGeometry, label: str | None = None) -> PathObject:
    return PathObject(geometry, path_class=PathClass(name), name=label)


def dots(name: str, *places: tuple[float, float]) -> PathObject:
    return drawn(name, shapely.MultiPoint(places))


def predicted(name: str, *places: tuple[float, float], origin: Provenance = ORIGIN) -> list[PathObject]:
    return [
        with_provenance(
            PathObject(shapely.Point(*xy).buffer(4), ObjectType.DETECTION, path_class=PathClass(name)), origin
        )
        for xy in places
    ]


def counted(*objects: PathObject) -> list[tuple[object, ...]]:
    agreement = Agreement()
    agreement.add("a", objects, 0.5)
    return [tuple(row[key] for key in ("class", "area", "manual", "automatic")) for row in agreement.areas()]


AREA = drawn(CELLS_MARKED, shapely.box(0, 0, 100, 100))


def test_the_limits_are_those_that_bland_and_altman_published() -> None:
    """Peak expiratory flow of 17 people by two meters, from the paper of 1986, which rounds 1.96 to 2."""
    large = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    mini = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]

    found = bland_altman(np.array(large, float) - mini)

    assert found["mean_difference"] == pytest.approx(-2.1, abs=0.05)
    assert found["sd"] == pytest.approx(38.8, abs=0.05)
    assert (found["mean_low"], found["mean_high"]) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert (found["lower_limit"], found["upper_limit"]) == pytest.approx((-79.7, 75.5), abs=0.05 * 38.8)
    assert (found["upper_limit_low"], found["upper_limit_high"]) == pytest.approx((40.9, 110.1), abs=2)


def test_the_interval_of_a_limit_holds_the_true_one_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [bland_altman(rng.normal(3, 2, 12)) for _ in range(2000)]
    true = 3 + 1.959964 * 2

    held = [
        float(one["upper_limit_low"] or 0) <= true <= float(one["upper_limit_high"] or 0) for one in found
    ]

    assert 0.92 < np.mean(held) < 0.98


def test_only_what_lies_in_complete_areas_is_counted_and_once() -> None:
    overlapping = drawn(CELLS_MARKED, shapely.box(80, 0, 200, 100))
    ignored = drawn(IGNORE, shapely.box(0, 0, 20, 20))
    person = dots("CD3", (10, 10), (30, 30), (90, 50), (150, 50), (300, 50))
    found = predicted("CD3", (10, 10), (30, 31), (31, 60), (90, 50), (250, 50))

    assert counted(AREA, overlapping, ignored, person, *found) == [("CD3", 1, 2, 3), ("CD3", 2, 1, 0)]


def test_an_area_that_names_its_classes_counts_for_these_alone() -> None:
    of_cd3 = drawn(CELLS_MARKED, shapely.box(0, 0, 100, 100), "CD3")
    objects = [dots("CD3", (10, 10)), dots("CD8", (20, 20)), *predicted("CD3", (10, 10))]

    assert counted(of_cd3, *objects, *predicted("CD8", (20, 20))) == [("CD3", 1, 1, 1)]


def test_classes_that_only_one_of_both_knows_are_left_out_and_none_found_counts() -> None:
    agreement = Agreement()
    agreement.add("a", [AREA, dots("CD3", (10, 10)), *predicted("CD3", (10, 10))], 0.5)
    agreement.add("b", [AREA, dots("CD20", (10, 10)), *predicted("CD8", (10, 10))], 0.5)
    agreement.add("never analysed", [AREA, dots("CD3", (10, 10))], 0.5)
    agreement.add("no area", [dots("CD3", (10, 10)), *predicted("CD3", (10, 10))], 0.5)

    found = [(row["image"], row["class"], row["manual"], row["automatic"]) for row in agreement.areas()]

    assert found == [("a", "CD3", 1, 1), ("b", "CD3", 0, 0)]


def test_a_prediction_that_a_person_accepted_is_no_count_of_the_persons_own() -> None:
    accepted = predicted("CD3", (50, 50), origin=replace(ORIGIN, accepted="2026-01-01"))
    agreement = Agreement()
    agreement.add("a", [AREA, dots("CD3", (10, 10)), *accepted, *predicted("CD3", (20, 20))], 0.5)

    [row] = agreement.areas()

    assert (row["manual"], row["automatic"], row["edited"]) == (1, 2, 1)
    assert row["area_mm2"] == pytest.approx(0.0025)
    assert "corrected" in str(agreement_rows([row])[0]["note"])


def test_fewer_than_three_areas_give_a_reason_and_no_number() -> None:
    areas: list[Row] = [
        {"image": image, "class": "CD3", "manual": n, "automatic": n + 1, "difference": 1, "edited": 0}
        for image, n in (("a", 3), ("b", 5), ("b", 9))
    ]

    [few], [enough] = agreement_rows(areas[:2]), agreement_rows(areas)

    assert (few["reason"], few["mean_difference"], few["sd"]) == ("fewer than 3 areas", None, None)
    assert (enough["reason"], enough["mean_difference"], enough["areas"], enough["images"]) == (None, 1, 3, 2)
    assert "one image" in str(enough["note"])


def test_an_area_whose_name_says_nothing_is_told_and_spoils_no_other_image() -> None:
    agreement = Agreement()
    odd = drawn(CELLS_MARKED, shapely.box(0, 0, 100, 100), "by Anna, quickly")
    for name, area in (("odd", odd), ("good", AREA)):
        agreement.add(name, [area, dots("CD3", (10, 10)), *predicted("CD3", (10, 10))], 0.5)

    assert [row["image"] for row in agreement.areas()] == ["good"]
    assert agreement.left_out[0].startswith("odd:")
