"""The demo's material: what is held out stays apart, and clipping moves everything together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely

from tissuebridge.demo.sample import HELD_OUT, LEARN, clipped, load_annotations, load_image, write_project
from tissuebridge.objects import CELLS_MARKED, PathClass, PathObject, is_persons


def test_the_parts_do_not_touch() -> None:
    assert LEARN.right < HELD_OUT.left
    assert (LEARN.left, HELD_OUT.right) == (0, load_image().shape[1])


def test_a_part_shows_the_same_pixel_under_the_same_annotation() -> None:
    image = load_image()
    points = [obj for obj in load_annotations() if obj.class_name == "Stromal nucleus"]
    moved = shapely.get_coordinates(HELD_OUT.objects(points, 512)[0].geometry)

    whole = shapely.get_coordinates(points[0].geometry)
    whole = whole[whole[:, 0] >= HELD_OUT.left]

    x, y = np.floor(moved).astype(int).T
    x_whole, y_whole = np.floor(whole).astype(int).T
    assert len(moved) > 30
    assert np.array_equal(HELD_OUT.pixels(image)[y, x], image[y_whole, x_whole])


def test_both_parts_have_every_class() -> None:
    annotations = load_annotations()
    names = {obj.class_name for obj in annotations}

    for part in (LEARN, HELD_OUT):
        assert {obj.class_name for obj in part.objects(annotations, 512)} == names


def test_an_area_is_cut_at_the_edge_and_moved() -> None:
    marked = PathObject(shapely.box(0, 0, 10, 10), path_class=PathClass(CELLS_MARKED))

    (part,) = clipped([marked], (4, 2, 8, 20))

    assert part.geometry.equals(shapely.box(0, 0, 4, 8))
    assert part.id is None


def test_an_area_that_only_touches_the_edge_is_left_out() -> None:
    assert clipped([PathObject(shapely.box(0, 0, 4, 4))], (4, 0, 8, 8)) == []


def test_an_area_cut_in_two_stays_one_object() -> None:
    arch = shapely.box(0, 0, 10, 10).difference(shapely.box(2, 2, 8, 10))

    (part,) = clipped([PathObject(arch)], (0, 5, 10, 10))

    assert part.geometry.geom_type == "MultiPolygon"
    assert part.geometry.area == 20


def test_a_project_can_be_written_over_an_earlier_one_and_its_objects_are_a_persons(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), 200, np.uint8)
    first = [("train", "a", pixels, [PathObject(shapely.box(0, 0, 4, 4), path_class=PathClass("Tumor"))])]
    second = [("test", "a", pixels, [PathObject(shapely.box(0, 0, 8, 8), path_class=PathClass("Tumor"))])]

    write_project(tmp_path, first)
    project = write_project(tmp_path, second)

    (obj,) = project.images[0].objects()
    assert obj.geometry.area == 64
    assert is_persons(obj)
    assert json.loads((tmp_path / "splits.json").read_text()) == {"validation": [], "test": ["a"]}
