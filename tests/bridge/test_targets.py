"""What a person drew, against the arrays one would draw by hand."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.features import shapes

from tissuebridge.errors import AnnotationError
from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.targets import Window, annotated_windows, annotations_of, example_of
from tissuemodel.labels import IGNORE_LABEL, Example, LabelSet

CLASSES = LabelSet(("Tumor", "Stroma", "Necrosis"), ("T", "Mast", "NK"), {})
FREE = IGNORE_LABEL


def area(class_name: str, *bounds: float, **more: Any) -> PathObject:
    """A rectangle (left, top, right, bottom)."""
    return PathObject(shapely.box(*bounds), path_class=PathClass(class_name), **more)


def dots(class_name: str, *xy: tuple[float, float], **more: Any) -> PathObject:
    return PathObject(shapely.MultiPoint(xy), path_class=PathClass(class_name), **more)


def example(
    objects: list[PathObject], width: int, height: int, downsample: float = 1.0, **options: Any
) -> Example:
    """The example of a window at the origin."""
    return piece(objects, (0, 0, height, width), downsample, **options)


def piece(
    objects: list[PathObject],
    window: Window,
    downsample: float = 1.0,
    classes: LabelSet = CLASSES,
    explicit_priority: bool = False,
    margin_px: float = 0.0,
) -> Example:
    annotations = annotations_of(objects, classes, "slide", explicit_priority=explicit_priority)
    pixels = np.zeros((*window[2:], 3), np.uint8)
    return example_of(annotations, window, downsample, pixels, "slide", margin_px=margin_px)


# ---- Regions ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    labels=hnp.arrays(np.uint8, (24, 20), elements=st.sampled_from([0, 1, 2, FREE])),
    downsample=st.sampled_from([0.5, 1.0, 1.3, 2.0571, 4.0]),
    row=st.integers(0, 9),
    col=st.integers(0, 9),
)
def test_outlines_along_pixel_borders_give_back_their_pixels(
    labels: np.ndarray, downsample: float, row: int, col: int
) -> None:
    def written(geometry: Any) -> Any:
        """In full-resolution px and to 1/16 px, as regions are written."""
        return shapely.transform(
            shapely.geometry.shape(geometry), lambda xy: np.round(xy * downsample * 16) / 16
        )

    objects = [
        PathObject(written(outline), path_class=PathClass(CLASSES.regions[int(value)]))
        for outline, value in shapes(labels, mask=labels != FREE, connectivity=4)
    ]
    annotations = annotations_of(objects, CLASSES, "slide")

    window = (row, col, 24 - row, 20 - col)
    found = example_of(annotations, window, downsample, np.zeros((24 - row, 20 - col, 3), np.uint8), "slide")

    np.testing.assert_array_equal(found.regions, labels[row:, col:])


def test_a_pixel_belongs_to_the_outline_that_holds_its_centre() -> None:
    labels = example([area("Tumor", 0, 0, 1.4, 1), area("Stroma", 2.6, 0, 4, 1)], 4, 1).regions

    assert labels.tolist() == [[0, FREE, FREE, 1]]


def test_outlines_that_share_a_line_through_pixel_centres_leave_no_gap() -> None:
    left = PathObject(shapely.Polygon([(0, 0), (0.5, 0), (7.5, 8), (0, 8)]), path_class=PathClass("Tumor"))
    right = PathObject(shapely.Polygon([(0.5, 0), (8, 0), (8, 8), (7.5, 8)]), path_class=PathClass("Stroma"))

    both = example([left, right], 8, 8).regions
    swapped = example([right, left], 8, 8).regions

    assert set(np.unique(both)) == {0, 1}
    np.testing.assert_array_equal(both, swapped)


def test_a_hole_is_not_labelled() -> None:
    ring = shapely.box(0, 0, 4, 4) - shapely.box(1, 1, 3, 3)

    labels = example([PathObject(ring, path_class=PathClass("Tumor"))], 4, 4).regions

    assert (labels == 0).sum() == 12
    assert (labels[1:3, 1:3] == FREE).all()


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_annotation_lies_over_the_larger(order: int) -> None:
    objects = [area("Tumor", 0, 0, 4, 1), area("Stroma", 1, 0, 3, 1), area("Tumor", 2, 0, 3, 1)][::order]

    assert example(objects, 5, 1).regions.tolist() == [[0, 1, 0, 0, FREE]]


@pytest.mark.parametrize("order", [1, -1])
def test_explicit_priority_overrules_size(order: int) -> None:
    objects = [area("Stroma", 0, 0, 4, 1), area("Necrosis", 1, 0, 2, 1), area("Tumor", 1, 0, 5, 1)][::order]

    assert example(objects, 5, 1, explicit_priority=True).regions.tolist() == [[1, 0, 0, 0, 0]]


@pytest.mark.parametrize("order", [1, -1])
def test_of_equally_large_annotations_the_class_of_higher_priority_wins(order: int) -> None:
    objects = [area("Stroma", 0, 0, 2, 1), area("Tumor", 0, 0, 2, 1)][::order]

    assert example(objects, 2, 1).regions.tolist() == [[0, 0]]


def test_ignored_areas_are_unlabelled_and_marked_so() -> None:
    found = example([area("Tumor", 0, 0, 4, 1), area("Ignore*", 2, 0, 3, 1)], 4, 1)

    assert found.regions.tolist() == [[0, 0, FREE, 0]]
    assert found.ignored.tolist() == [[False, False, True, False]]


def test_only_area_annotations_of_a_region_class_are_regions() -> None:
    others = [
        area("Tumor", 0, 0, 4, 4, object_type=ObjectType.DETECTION),
        area("Tumor", 0, 0, 4, 4, object_type=ObjectType.TILE),
        PathObject(shapely.LineString([(0, 0), (4, 4)]), path_class=PathClass("Tumor")),
        area("Unknown", 0, 0, 4, 4),
        area("Region*", 0, 0, 4, 4),
        PathObject(shapely.box(0, 0, 4, 4)),
    ]

    assert (example(others, 4, 4).regions == FREE).all()


def test_an_outline_of_many_vertices_is_drawn_the_same_in_a_small_window() -> None:
    angle = np.linspace(0, 2 * np.pi, 5000)
    disc = shapely.Polygon(np.stack([60 + 50.3 * np.cos(angle), 60 + 50.3 * np.sin(angle)], axis=1))
    annotations = annotations_of([PathObject(disc, path_class=PathClass("Tumor"))], CLASSES, "slide")

    labels = example_of(annotations, (10, 8, 20, 30), 1.0, np.zeros((20, 30, 3), np.uint8), "slide").regions

    rows, columns = np.mgrid[10:30, 8:38] + 0.5
    np.testing.assert_array_equal(labels == 0, np.hypot(columns - 60, rows - 60) < 50.3)


def test_an_image_of_another_size_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"slide: image \(4, 4, 3\)"):
        example_of(
            annotations_of([], CLASSES, "slide"), (0, 0, 4, 5), 1.0, np.zeros((4, 4, 3), np.uint8), "slide"
        )


# ---- Whose object -----------------------------------------------------------------------------------------


def test_what_a_run_wrote_counts_only_once_a_person_accepted_or_edited_it() -> None:
    origin = Provenance("r1", "analyse", "model", "digest", "0.1")
    fresh = with_provenance(dots("T", (1, 1)), origin)
    accepted = with_provenance(
        dots("T", (2, 1)), Provenance("r1", "analyse", "m", "d", "0.1", accepted="2026-01-01")
    )
    edited = PathObject(shapely.Point(3, 1), path_class=PathClass("T"), metadata=fresh.metadata)
    proposed = dots("Proposed: T", (4, 1))

    found = example([fresh, accepted, edited, proposed], 8, 2)

    assert found.points.tolist() == [[2, 1], [3, 1]]
    assert annotated_windows([fresh, proposed], 8, 8, 1.0) == []


# ---- Cells ------------------------------------------------------------------------------------------------


def test_cells_are_points_and_centroids_at_sub_pixel_places() -> None:
    nucleus = shapely.box(10, 10, 12, 13)
    objects = [
        dots("Mast", (1.25, 2.5), (3, 4)),
        PathObject(shapely.Point(5, 6), path_class=PathClass("T")),
        area("NK", 2, 4, 4, 6, object_type=ObjectType.DETECTION),
        area("T", 8, 8, 20, 20, object_type=ObjectType.CELL, nucleus=nucleus),
    ]

    found = piece(objects, (1, 0, 10, 10), 2.0, margin_px=1)

    assert found.points.dtype == np.float32
    assert found.points.tolist() == [[0.625, 0.25], [1.5, 1.0], [2.5, 2.0], [1.5, 1.5], [5.5, 4.75]]
    assert found.point_classes.tolist() == [1, 1, 0, 2, 0]


def test_an_area_annotation_or_a_tile_of_a_cell_class_is_no_cell() -> None:
    objects = [area("T", 0, 0, 4, 4), area("T", 0, 0, 4, 4, object_type=ObjectType.TILE)]

    assert len(example(objects, 8, 8).points) == 0


def test_cells_in_the_margin_come_along_and_no_others() -> None:
    objects = [dots("T", (-2, 1), (-3.5, 1), (9.5, 1), (11, 1)), dots("Not a cell*", (1, -2), (1, -4))]

    found = example(objects, 8, 2, margin_px=3)

    assert found.points.tolist() == [[-2, 1], [9.5, 1]]
    assert found.negatives.tolist() == [[1, -2]]


def test_hard_negatives_are_dots_and_detections_of_their_class() -> None:
    lookalike = area("Not a cell*", 2, 2, 4, 4, object_type=ObjectType.DETECTION)

    found = example([dots("Not a cell*", (1, 1)), lookalike], 8, 8)

    assert found.negatives.tolist() == [[1, 1], [3, 3]]
    assert len(found.points) == 0


@pytest.mark.parametrize("kind", ["regions", "cells"])
def test_an_image_without_annotations_is_an_empty_example(kind: str) -> None:
    classes = LabelSet(("Tumor",), (), {}) if kind == "regions" else LabelSet((), ("T",), {})

    found = piece([], (0, 0, 2, 3), classes=classes)

    assert found.points.shape == found.negatives.shape == (0, 2)
    assert (found.regions == FREE).all()
    assert not found.complete.any()


# ---- Where cells are complete -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [None, "", "  ", "Annotation", "Annotation 3", "Rectangle", "Cells marked*", "7"]
)
def test_cells_marked_without_a_persons_name_is_complete_for_all_classes(name: str | None) -> None:
    complete = example([area("Cells marked*", 1, 0, 3, 1, name=name)], 4, 1).complete

    assert complete.dtype == np.uint16
    assert complete.tolist() == [[0, 0b111, 0b111, 0]]


@pytest.mark.parametrize(("name", "bits"), [("Mast", 0b010), ("mast ; NK", 0b110), ("T,T", 0b001)])
def test_a_name_narrows_cells_marked_to_its_classes(name: str, bits: int) -> None:
    assert example([area("Cells marked*", 0, 0, 1, 1, name=name)], 1, 1).complete.tolist() == [[bits]]


def test_overlapping_cells_marked_add_up() -> None:
    objects = [area("Cells marked*", 0, 0, 2, 1, name="T"), area("Cells marked*", 1, 0, 3, 1, name="NK")]

    assert example(objects, 3, 1).complete.tolist() == [[0b001, 0b101, 0b100]]


def test_a_class_with_a_comma_in_its_name_can_be_named() -> None:
    classes = LabelSet((), ("B, plasma", "T"), {})
    marked = area("Cells marked*", 0, 0, 1, 1, name="B, plasma")

    found = piece([marked], (0, 0, 1, 1), classes=classes)

    assert found.complete.tolist() == [[0b01]]


def test_a_name_that_is_no_class_is_refused_with_image_and_cure() -> None:
    with pytest.raises(AnnotationError, match=r"slide: .*'Lymphozyt'.*T, Mast, NK.*clear its name"):
        example([area("Cells marked*", 0, 0, 1, 1, name="Lymphozyt")], 1, 1)


def test_a_name_that_is_half_a_class_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = example([area("Cells marked*", 0, 0, 1, 1, name="T, Macrophage")], 1, 1)

    assert found.complete.tolist() == [[0b001]]
    assert "Macrophage" in caplog.text


def test_without_cell_classes_the_name_of_cells_marked_does_not_matter() -> None:
    marked = area("Cells marked*", 0, 0, 1, 1, name="whatever")

    annotations = annotations_of([marked], LabelSet(("Tumor",), (), {}), "slide")

    assert annotations.complete_bits.tolist() == [0]


def test_more_cell_classes_than_bits_are_refused() -> None:
    with pytest.raises(AnnotationError, match="17 cell classes"):
        annotations_of([], LabelSet((), tuple(f"C{index}" for index in range(17)), {}), "slide")


# ---- Windows ----------------------------------------------------------------------------------------------


def test_a_small_image_is_one_window() -> None:
    assert annotated_windows([dots("T", (5, 5))], 2048, 1500, 1.0, context_px=64) == [(0, 0, 1500, 2048)]


def test_an_image_with_nothing_to_learn_has_no_window() -> None:
    for objects in ([], [area("Ignore*", 0, 0, 99, 99), area("Region*", 0, 0, 99, 99)], [dots("T", (-5, 5))]):
        assert annotated_windows(objects, 100, 100, 1.0) == []


def test_windows_are_the_blocks_that_hold_pixels_cells_or_negatives() -> None:
    objects = [
        area("Tumor", 0, 0, 1024 * 2, 1024 * 2),  # fills the first block and touches its neighbours
        area("Cells marked*", 3000 * 2, 10, 3100 * 2, 20),  # two blocks: the border lies at 3072
        dots("T", (1500 * 2, 1500 * 2)),
        dots("Not a cell*", (3500 * 2, 2500 * 2)),
    ]

    windows = annotated_windows(objects, 4000, 2600, 2.0)

    assert windows == [
        (0, 0, 1024, 1024),
        (0, 2048, 1024, 1024),
        (0, 3072, 1024, 928),
        (1024, 1024, 1024, 1024),
        (2048, 3072, 552, 928),
    ]


def test_windows_grow_by_their_context_inside_the_image() -> None:
    windows = annotated_windows([dots("T", (150, 150), (290, 5))], 300, 300, 1.0, size_px=100, context_px=30)

    assert windows == [(0, 170, 130, 130), (70, 70, 160, 160)]


@settings(max_examples=40, deadline=None)
@given(
    # Never through a pixel's centre: to which side that one belongs is the rasteriser's business.
    boxes=st.lists(st.tuples(*[st.integers(-40, 640).map(lambda n: n / 4 + 0.125)] * 4), max_size=4),
    cells=st.lists(st.tuples(st.integers(0, 129), st.integers(0, 89)), max_size=3),
)
def test_outside_the_windows_there_is_nothing_to_learn(
    boxes: list[tuple[float, ...]], cells: list[tuple[int, int]]
) -> None:
    objects = [area("Tumor", min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in boxes]
    objects += [dots("T", (x + 0.5, y + 0.5)) for x, y in cells]

    windows = annotated_windows(objects, 129, 89, 1.0, size_px=32)

    whole = example(objects, 129, 89)
    learnable = whole.regions != FREE
    for x, y in whole.points:
        learnable[int(y), int(x)] = True
    for row, col, height, width in windows:
        assert learnable[row : row + height, col : col + width].any()
        learnable[row : row + height, col : col + width] = False
    assert not learnable.any()
