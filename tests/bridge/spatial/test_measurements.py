"""Numbers on QuPath's objects, and nothing else of them changed."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, is_persons, with_provenance
from tissuebridge.spatial.measure import cell_table, measure
from tissuebridge.spatial.measurements import with_cell_measurements, with_region_measurements
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import tissue_of

ORIGIN = Provenance("run-1", "analyse", "lung", "d", "0.1")


def objects() -> list[PathObject]:
    places = np.random.default_rng(0).uniform(20, 380, (40, 2))
    cells = [
        with_provenance(
            PathObject(shapely.Point(*xy).buffer(4), ObjectType.DETECTION, path_class=PathClass("CD3")),
            ORIGIN,
        )
        for xy in places
    ]
    regions = [
        PathObject(
            shapely.box(0, 0, 200, 400), path_class=PathClass("Tumor"), measurements={"Area µm^2": 1.0}
        ),
        PathObject(shapely.box(200, 0, 400, 400), path_class=PathClass("Stroma")),
    ]
    return [*regions, *cells]


def test_every_cell_carries_its_numbers_and_stays_what_it_was() -> None:
    given = objects()

    found = with_cell_measurements(given, cell_table(tissue_of(given, 0.5, 400, 400)))

    for before, after in zip(given[2:], found[2:], strict=True):
        centre = before.geometry.centroid
        inside = centre.x < 200
        distance = after.measurements["Signed distance to annotation Tumor µm"]
        expected = min(abs(centre.x - 200), centre.x, centre.y, 400 - centre.y) if inside else centre.x - 200
        assert distance == pytest.approx((-1 if inside else 1) * expected / 2, abs=0.6)
        assert "Spatial: Local density per mm^2" in after.measurements
        assert not is_persons(after)
    assert found[:2] == given[:2]


def test_regions_carry_densities_and_coupling() -> None:
    given = objects()
    statistics = measure(tissue_of(given, 0.5, 400, 400), SpatialSettings(simulations=19))

    tumor, stroma, *_ = with_region_measurements(given, statistics)

    cells = sum(obj.geometry.centroid.x < 200 for obj in given[2:])
    assert tumor.measurements["Spatial: CD3 per mm^2"] == pytest.approx(cells / 0.02)
    assert tumor.measurements["Area µm^2"] == 1.0
    assert set(stroma.measurements) == {
        "Spatial: CD3 per mm^2",
        "Spatial: CD3 at border: z",
        "Spatial: CD3 at border: p",
        "Spatial: CD3 at border: coupled fraction",
    }


def test_an_object_of_many_points_has_no_place_for_numbers() -> None:
    many = [PathObject(shapely.MultiPoint([(10, 10), (20, 20)]), path_class=PathClass("CD3"))]

    assert with_cell_measurements(many, cell_table(tissue_of(many, 0.5, 400, 400))) == many
