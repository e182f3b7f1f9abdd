"""Which objects are cells and regions of an image's statistics, whose they are, and what is left of the window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import InputRefused
from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, provenance, with_provenance
from tissuebridge.spatial.settings import SpatialSettings, Whose
from tissuebridge.spatial.tissue import WHOLE, Tissue, tissue_of

ORIGIN = Provenance("run-1", "analyse", "lung", "d", "0.1")


def drawn(name: str, geometry: BaseGeometry) -> PathObject:
    return PathObject(geometry, path_class=PathClass(name))


def dot(name: str, x: float, y: float) -> PathObject:
    return drawn(name, shapely.Point(x, y))


def predicted(name: str, x: float, y: float, run: str = "run-1") -> PathObject:
    disc = PathObject(shapely.Point(x, y).buffer(4), ObjectType.DETECTION, path_class=PathClass(name))
    return with_provenance(disc, replace(ORIGIN, run=run))


def sorted_out(*objects: PathObject, settings: SpatialSettings | None = None) -> Tissue:
    """Of an image of 200 x 100 px, half a micrometre each."""
    return tissue_of(objects, 0.5, 200, 100, settings)


TUMOR = drawn("Tumor", shapely.box(0, 0, 100, 100))
STROMA = drawn("Stroma", shapely.box(100, 0, 200, 100))


def test_positions_and_areas_are_in_micrometres() -> None:
    found = sorted_out(
        TUMOR, STROMA, dot("CD3", 20, 40), drawn("CD3", shapely.MultiPoint([(150, 50), (190, 90)]))
    )

    assert found.cells["CD3"].tolist() == [[10, 20], [75, 25], [95, 45]]
    assert found.index["CD3"].tolist() == [2, 3, 3]
    assert {name: region.area_um2 for name, region in found.regions.items()} == {
        "Tumor": 2500,
        "Stroma": 2500,
    }
    assert found.window.area_um2 == 5000


def test_a_persons_dot_and_the_prediction_of_the_same_cell_never_both_count() -> None:
    objects = (dot("CD3", 20, 40), predicted("CD3", 21, 40), predicted("CD3", 80, 40))

    latest, persons = sorted_out(*objects), sorted_out(*objects, settings=SpatialSettings(cells=Whose.PERSON))

    assert latest.cells["CD3"] == pytest.approx(np.array([[10.5, 20], [40, 20]]))
    assert "analysis run-1 with lung" in latest.cells_from
    assert persons.cells["CD3"].tolist() == [[10, 20]]
    assert persons.cells_from == "a person's"


def test_an_analysis_comes_with_a_persons_edits() -> None:
    edited = replace(predicted("CD3", 20, 40), path_class=PathClass("CD8"))
    origin = provenance(predicted("CD3", 1, 1))
    assert origin is not None
    rejected = with_provenance(predicted("CD3", 60, 40), replace(origin, rejected="2026-01-01"))

    found = sorted_out(edited, rejected, predicted("CD3", 80, 40))

    assert {name: len(points) for name, points in found.cells.items()} == {"CD3": 1, "CD8": 1}
    assert "1 accepted or edited" in found.cells_from


def test_only_the_latest_run_counts() -> None:
    found = sorted_out(predicted("CD3", 20, 40, "old"), predicted("CD3", 20, 41, "new"))

    assert found.cells["CD3"] == pytest.approx(np.array([[10, 20.5]]))
    assert "analysis new" in found.cells_from


def test_an_analysis_that_is_asked_for_and_not_there_gives_no_cells() -> None:
    found = sorted_out(dot("CD3", 20, 40), settings=SpatialSettings(cells=Whose.ANALYSIS))

    assert (found.cells, found.cells_from) == ({}, "an analysis's: there is none")


def test_proposals_and_reserved_classes_are_no_cells_and_no_regions() -> None:
    found = sorted_out(
        dot("Proposed: nucleus", 20, 40),
        dot("Not a cell*", 30, 40),
        drawn("Proposed: colour 1", shapely.box(0, 0, 50, 50)),
    )

    assert (found.cells, list(found.regions)) == ({}, [WHOLE])
    assert found.window.area_um2 == 5000


def test_what_is_ignored_or_no_tissue_is_cut_out() -> None:
    found = sorted_out(
        TUMOR,
        STROMA,
        drawn("Ignore*", shapely.box(0, 0, 20, 100)),
        drawn("Necrosis", shapely.box(180, 0, 200, 100)),
        dot("CD3", 10, 50),
        dot("CD3", 190, 50),
        dot("CD3", 50, 50),
    )

    assert {name: region.area_um2 for name, region in found.regions.items()} == {
        "Tumor": 2000,
        "Stroma": 2000,
    }
    assert (len(found.cells["CD3"]), found.outside["CD3"]) == (1, 2)
    assert found.excluded_um2 == 1000


def test_the_smaller_of_overlapping_regions_is_on_top() -> None:
    found = sorted_out(
        drawn("Tumor", shapely.box(0, 0, 200, 100)), drawn("Vessel", shapely.box(40, 40, 60, 60))
    )

    assert {name: region.area_um2 for name, region in found.regions.items()} == {"Tumor": 4900, "Vessel": 100}


def test_region_of_interest_and_marked_areas_limit_the_window() -> None:
    marked = drawn("Cells marked*", shapely.box(0, 0, 50, 100))

    only_there = sorted_out(TUMOR, STROMA, drawn("Region*", shapely.box(0, 0, 150, 100)), dot("CD3", 10, 10))
    persons = sorted_out(TUMOR, STROMA, marked, dot("CD3", 10, 10), dot("CD3", 90, 10))
    analysed = sorted_out(TUMOR, STROMA, marked, predicted("CD3", 90, 10))

    assert only_there.window.area_um2 == 3750
    assert (persons.window.area_um2, persons.outside["CD3"]) == (1250, 1)
    # An analysis looks everywhere.
    assert (analysed.window.area_um2, analysed.outside["CD3"]) == (5000, 0)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(InputRefused, match="no area is left"):
        sorted_out(drawn("Ignore*", shapely.box(0, 0, 200, 100)), dot("CD3", 10, 10))


def test_an_image_without_objects_has_a_window_and_no_cells() -> None:
    found = sorted_out()

    assert (found.cells, found.window.area_um2, found.regions_from) == ({}, 5000, "none: the whole image")


def test_cells_stand_for_their_nuclei() -> None:
    cell = PathObject(
        shapely.box(0, 0, 40, 40),
        ObjectType.CELL,
        path_class=PathClass("CD3"),
        nucleus=shapely.box(0, 0, 8, 8),
    )

    assert np.allclose(sorted_out(cell).cells["CD3"], [[2, 2]])
