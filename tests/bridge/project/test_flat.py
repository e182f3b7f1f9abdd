"""Objects as flat arrays and back: nothing of an object is lost on the way to QuPath's JVM."""

from __future__ import annotations

import math
from uuid import UUID

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from tissuebridge.objects import ObjectType, PathClass, PathObject, Plane
from tissuebridge.project import flat
from tissuebridge.project.flat import (
    KINDS,
    FlatObjects,
    decoded,
    encoded,
    flattened,
    geometries_of,
    halves,
    joined,
    rings_of,
    unflattened,
    uuids,
    with_rings,
    wkb_of,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-100_000, 100_000).map(lambda number: number / 16)


@st.composite
def shapes(draw: st.DrawFn) -> BaseGeometry:
    x, y, side = draw(numbers), draw(numbers), draw(st.integers(1, 60)) / 8
    box = shapely.box(x, y, x + side, y + side)
    triangle = shapely.Polygon([(x, y), (x + side, y), (x, y + side)])
    hole = box.difference(shapely.box(x + side / 4, y + side / 4, x + side / 2, y + side / 2))
    two = shapely.MultiPolygon([box, shapely.box(x + 100, y, x + 101, y + 1)])
    points = shapely.MultiPoint([(x, y), (x + 1, y + 1)])
    line = shapely.LineString([(x, y), (0, 0)])
    return draw(st.sampled_from([box, triangle, hole, two, shapely.Point(x, y), points, line]))


@st.composite
def objects(draw: st.DrawFn) -> PathObject:
    kind = draw(st.sampled_from([kind for kind in ObjectType if kind is not ObjectType.TMA_CORE]))
    colors = st.none() | st.tuples(*[st.integers(0, 255)] * 3)
    return PathObject(
        draw(shapes()),
        kind,
        draw(st.uuids()),
        draw(st.none() | st.builds(PathClass, texts.filter(bool), colors)),
        draw(st.none() | texts),
        shapely.Point(1, 1).buffer(1) if kind is ObjectType.CELL else None,
        draw(st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=3)),
        draw(st.dictionaries(texts, texts, max_size=3)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.builds(Plane, st.integers(-1, 3), st.integers(0, 5), st.integers(0, 5))),
    )


@given(st.lists(objects(), max_size=6))
@settings(max_examples=60, deadline=None)
def test_objects_come_back_as_they_were(given: list[PathObject]) -> None:
    assert unflattened(flattened(given)) == given


@given(st.lists(objects(), max_size=6))
@settings(max_examples=60, deadline=None)
def test_outlines_and_the_rest_give_all_geometries_back(given: list[PathObject]) -> None:
    arrays = flattened(given)

    rings, ends, others = rings_of(arrays)
    back = with_rings(geometries_of(*_raw(wkb_of(others))), rings, ends)

    # What QuPath keeps of an outline is float32.
    for shape, original in zip(back, arrays.geometries, strict=True):
        assert shapely.equals_exact(shapely.normalize(shape), shapely.normalize(original), 0.01)


def _raw(parts: tuple[np.ndarray, np.ndarray]) -> tuple[bytes, np.ndarray]:  # type: ignore[type-arg]
    return parts[0].tobytes(), parts[1]


def test_outlines_of_annotations_and_ellipses_and_with_holes_are_no_rings() -> None:
    box = shapely.box(0, 0, 9, 9)
    hole = box.difference(shapely.box(2, 2, 3, 3))
    kinds = [
        PathObject(box),
        PathObject(box, ObjectType.DETECTION, is_ellipse=True),
        PathObject(hole, ObjectType.DETECTION),
        PathObject(box, ObjectType.DETECTION),
    ]

    rings, ends, others = rings_of(flattened(kinds))

    assert (len(rings), ends.tolist()) == (4, [0, 0, 0, 4])
    assert [shape is None for shape in others] == [False, False, False, True]


@pytest.mark.parametrize("vertices", [1, 2])
def test_an_outline_of_too_few_vertices_is_a_line_not_an_error(vertices: int) -> None:
    rings = np.array([*[[0, 0], [4, 4]][:vertices], [0, 0], [5, 0], [5, 5]], np.float32)

    found = with_rings(np.full(2, None, np.object_), rings, np.array([vertices, vertices + 3], np.int32))

    assert [shape.geom_type for shape in found] == ["LineString", "Polygon"]


def test_numbers_that_are_none_are_left_out_and_objects_without_a_shape() -> None:
    given = flattened(
        [PathObject(shapely.Point(1, 1), measurements={"a": math.nan, "b": math.inf, "c": 2.0})] * 2
    )
    geometries = given.geometries.copy()
    geometries[1] = None
    arrays = FlatObjects(
        **{name: getattr(given, name) for name in FlatObjects.__slots__} | {"geometries": geometries}
    )

    (found,) = unflattened(arrays)

    assert dict(found.measurements) == {"c": 2.0}


def test_a_missing_core_says_so() -> None:
    given = flattened([PathObject(shapely.Point(5, 5).buffer(3), ObjectType.TMA_CORE)])
    given.flags[0] |= flat.MISSING

    (core,) = unflattened(given)

    assert core.object_type is ObjectType.TMA_CORE
    assert core.metadata == {flat.MISSING_CORE: "true"}


@given(st.lists(texts))
def test_texts_come_back(given: list[str]) -> None:
    raw, ends = encoded(given)
    assert decoded(raw.tobytes(), ends) == given


@given(st.lists(st.uuids()))
def test_ids_come_back(given: list[UUID]) -> None:
    assert uuids(halves(given)) == given


def test_more_than_a_java_array_holds_is_refused() -> None:
    class Large(bytes):
        def __len__(self) -> int:
            return 2**30

    with pytest.raises(OverflowError, match="Java array"):
        joined([Large(), Large()])


def test_kinds_are_in_the_order_of_the_other_side() -> None:
    assert [kind.value for kind in KINDS] == ["annotation", "detection", "cell", "tile", "tma_core"]
