"""Overlays: the right colour at the right pixel, and a legend that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tissuebridge.objects import ObjectType, PathClass, PathObject
from tissuebridge.report.legend import Entry, draw_legend
from tissuebridge.report.overlay import render_overlay, save_png

GREY = np.full((60, 80, 3), 128, np.uint8)
RED = PathClass("Tumor", (230, 0, 0))


def area(*geometries: shapely.Geometry, path_class: PathClass = RED) -> PathObject:
    return PathObject(shapely.union_all(geometries), path_class=path_class)


def test_an_area_is_outlined_in_its_colour_and_faintly_filled() -> None:
    picture = render_overlay(GREY, [area(shapely.box(10, 10, 50, 40))], scale=2).astype(int)

    edge, inside, outside = picture[50, 20], picture[50, 60], picture[50, 130]
    assert np.abs(edge - (230, 0, 0)).max() < 40
    assert 128 < inside[0] < 170
    assert 90 < inside[1] < 128
    assert outside.tolist() == [128, 128, 128]


def test_a_hole_of_an_area_is_not_filled() -> None:
    ring = shapely.box(5, 5, 55, 55).difference(shapely.box(20, 20, 40, 40))

    picture = render_overlay(GREY, [area(ring)], scale=2)

    assert picture[60, 60].tolist() == [128, 128, 128]
    assert picture[24, 24].tolist() != [128, 128, 128]


def test_every_part_of_a_multipolygon_is_drawn() -> None:
    parts = [shapely.box(2, 2, 20, 20), shapely.box(40, 40, 58, 58)]

    picture = render_overlay(GREY, [area(*parts)], scale=1)

    assert picture[10, 10].tolist() != [128, 128, 128]
    assert picture[50, 50].tolist() != [128, 128, 128]


def test_neighbours_show_both_colours_of_their_common_border() -> None:
    blue = PathClass("Stroma", (0, 0, 230))
    areas = [area(shapely.box(5, 5, 30, 55)), area(shapely.box(30, 5, 70, 55), path_class=blue)]

    picture = render_overlay(GREY, areas, scale=2).astype(int)

    assert picture[60, 58][0] > picture[60, 58][2] + 100
    assert picture[60, 61][2] > picture[60, 61][0] + 100


def test_an_area_too_small_for_its_inset_is_still_drawn() -> None:
    picture = render_overlay(GREY, [area(shapely.box(30, 30, 30.5, 30.5))], scale=2)

    assert (picture[:120] != 128).any()


def test_reserved_areas_are_not_filled() -> None:
    marked = area(shapely.box(10, 10, 50, 40), path_class=PathClass("Cells marked*", (200, 200, 0)))

    picture = render_overlay(GREY, [marked], scale=2)

    assert picture[50, 60].tolist() == [128, 128, 128]


def test_a_cell_is_a_ring_round_its_centre() -> None:
    disc = shapely.Point(30, 20).buffer(8)
    cell = PathObject(disc, ObjectType.DETECTION, path_class=PathClass("T cell", (0, 0, 230)))

    picture = render_overlay(GREY, [cell], scale=2).astype(int)

    assert picture[39, 59].tolist() == [128, 128, 128]
    assert np.abs(picture[39, 59 + 16] - (0, 0, 230)).max() < 60


def test_points_are_dots_where_they_stand() -> None:
    points = PathObject(shapely.MultiPoint([(10.5, 10.5), (40.5, 30.5)]), path_class=RED)

    picture = render_overlay(GREY, [points], scale=1)

    assert picture[10, 10].tolist() == picture[30, 40].tolist() == [230, 0, 0]


def test_objects_that_reach_outside_or_have_no_class_do_no_harm() -> None:
    objects = [
        area(shapely.box(-500, -500, 500, 500)),
        PathObject(shapely.Point(1e6, 1e6), path_class=RED),
        PathObject(shapely.box(0, 0, 9, 9)),
        PathObject(shapely.LineString([(0, 0), (9, 9)]), path_class=RED),
        PathObject(shapely.Polygon(), path_class=RED),
    ]

    picture = render_overlay(GREY, objects, scale=1)

    assert (picture[30, 40] != 128).any()


def test_without_objects_the_picture_is_the_image() -> None:
    assert np.array_equal(render_overlay(GREY, [], scale=1), GREY)


def test_the_legend_stands_below_and_is_as_wide_as_the_picture() -> None:
    picture = render_overlay(GREY, [area(shapely.box(10, 10, 50, 40))], scale=2, pixel_size_um=0.5)

    assert picture.shape[0] > 120
    assert picture.shape[1] == 160
    assert (picture[120:] == 255).all(axis=2).any()


def test_a_legend_grows_by_rows_and_cuts_names_that_are_wider_than_it() -> None:
    few = [Entry("Tumor", (200, 0, 0), "area")]
    many = [Entry(f"A class with quite a long name {i}", (0, 0, 0), "ring") for i in range(9)]

    short, long = draw_legend(200, few), draw_legend(200, many)

    assert long.shape[0] > 5 * short.shape[0]
    assert (long[:, -6:] == 255).all()


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    strip = draw_legend(500, [], output_px_per_um=4.0)

    bar = (strip < 60).all(axis=2)[:, : 20 * 4 + 20]
    longest = max(int(row.sum()) for row in bar)
    assert abs(longest - 20 * 4) <= 1


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_rgb_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        render_overlay(image, [])


def test_a_saved_picture_reads_back_the_same(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

    save_png(tmp_path / "new" / "a.png", picture)

    assert np.array_equal(np.array(Image.open(tmp_path / "new" / "a.png")), picture)


def test_areas_can_be_outlined_without_a_fill() -> None:
    picture = render_overlay(GREY, [area(shapely.box(10, 10, 50, 40))], scale=2, fills=False).astype(int)

    assert np.abs(picture[50, 20] - (230, 0, 0)).max() < 40
    assert picture[50, 60].tolist() == [128, 128, 128]


def test_dots_are_as_large_as_wanted() -> None:
    point = PathObject(shapely.Point(30, 20), path_class=RED)

    small, large = (render_overlay(GREY, [point], scale=2, dot_px=px)[:120] for px in (3.0, 9.0))

    red_px = [int((picture == (230, 0, 0)).all(axis=2).sum()) for picture in (small, large)]
    assert red_px[0] < 3.5**2 * np.pi
    assert 8.5**2 * np.pi < red_px[1] < 9.5**2 * np.pi
