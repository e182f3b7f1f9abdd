"""One image as a person drew it beside what was found in it: in pieces as in one, and only where a person looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import shapely

from drawn_tissue import CELL_COLORS, ArrayImage, NullNetwork, draw_example
from tissuebridge import comparison
from tissuebridge.comparison import Compared, compare
from tissuebridge.objects import CELLS_MARKED, IGNORE, ObjectType, PathClass, PathObject
from tissuebridge.pipeline import Analysis, analyse
from tissuebridge.targets import Window, annotated_windows

SIDE = 320
NETWORK = NullNetwork(reach=24)


def area(name: str, *bounds: float, narrowed_to: str | None = None) -> PathObject:
    return PathObject(shapely.box(*bounds), path_class=PathClass(name), name=narrowed_to)


@pytest.fixture(scope="module")
def image() -> ArrayImage:
    """Tissue with sparse outlines of two classes, cells dotted everywhere and complete in a part."""
    example = draw_example(SIDE, SIDE, seed=2)
    cells = [
        PathObject(
            shapely.MultiPoint(example.points[example.point_classes == index]), path_class=PathClass(name)
        )
        for index, name in enumerate(NETWORK.description.cell_classes)
    ]
    drawn = [
        area("Tumor", 10, 20, 150, 140),
        area("Stroma", 130, 100, 300, 300),
        area("Empty", 60, 180, 120, 310),
        area(IGNORE, 200, 200, 250, 260),
        area(CELLS_MARKED, 40, 40, 200, 280),
        area(CELLS_MARKED, 200, 40, 300, 120, narrowed_to="Mast cell"),
    ]
    return ArrayImage(example.image, drawn=[*drawn, *cells])


@pytest.fixture(scope="module")
def found(image: ArrayImage, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analyse(image, NETWORK, journal_dir=tmp_path_factory.mktemp("journal"))


def compared(image: ArrayImage, found: Analysis, objects: Sequence[PathObject] | None = None) -> Compared:
    drawn = image.drawn if objects is None else objects
    return compare(image, drawn, found, tolerance_px=6.0, border_um=4.0)


@pytest.mark.parametrize("size_px", [32, 70, 128])
def test_pieces_equal_one_piece(
    image: ArrayImage, found: Analysis, size_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compared(image, found)

    def in_pieces(objects: Sequence[PathObject], width: int, height: int, downsample: float) -> list[Window]:
        return annotated_windows(objects, width, height, downsample, size_px=size_px)

    monkeypatch.setattr(comparison, "annotated_windows", in_pieces)
    pieces = compared(image, found)

    assert len(whole.windows) == 1
    assert len(pieces.windows) > 4
    for kind in ("labelled", "border", "interface"):
        np.testing.assert_array_equal(getattr(pieces.all_regions, kind), getattr(whole.all_regions, kind))
        assert getattr(whole.all_regions, kind).sum() > 0
    np.testing.assert_array_equal(pieces.marked_xy, whole.marked_xy)
    np.testing.assert_array_equal(pieces.cells.confusion(2), whole.cells.confusion(2))
    np.testing.assert_array_equal(pieces.judged, whole.judged)
    np.testing.assert_array_equal(pieces.complete_px, whole.complete_px)


def test_cells_are_judged_where_all_of_their_class_are_marked_and_nothing_is_ignored(
    image: ArrayImage, found: Analysis
) -> None:
    judged = compared(image, found).judged

    row, col = found.candidates.pixels.T
    large = (col >= 40) & (col < 200) & (row >= 40) & (row < 280)
    narrow = (col >= 200) & (col < 300) & (row >= 40) & (row < 120) & (found.candidates.class_index == 1)
    ignored = (col >= 200) & (col < 250) & (row >= 200) & (row < 260)
    np.testing.assert_array_equal(judged, (large | narrow) & ~ignored)
    assert 0 < (narrow & judged).sum() < judged.sum() < len(judged)


def test_complete_area_is_counted_per_class_without_what_is_ignored(
    image: ArrayImage, found: Analysis
) -> None:
    more = [*image.drawn, area(IGNORE, 40, 40, 60, 60)]

    complete_px = compared(image, found, more).complete_px

    large, narrow = 160 * 240 - 20 * 20, 100 * 80
    assert complete_px.tolist() == [large, large + narrow]


def test_cells_in_unmarked_areas_are_never_false(image: ArrayImage, found: Analysis) -> None:
    # Of all dots of the first class none is left: what the model finds there is false, where all should be marked.
    dots = next(obj for obj in image.drawn if obj.geometry.geom_type == "MultiPoint")
    drawn = [obj for obj in image.drawn if obj is not dots]
    nowhere = [obj for obj in drawn if obj.class_name != CELLS_MARKED]

    here, without = compared(image, found, drawn).cells, compared(image, found, nowhere).cells

    assert here.confusion(2)[2].sum() > 0
    assert without.confusion(2)[2].sum() == 0
    assert without.is_right.sum() == here.is_right.sum()


def test_marked_cells_count_where_they_are_drawn_but_for_ignored_areas(
    image: ArrayImage, found: Analysis
) -> None:
    xy = compared(image, found).marked_xy

    drawn = np.concatenate([shapely.get_coordinates(o.geometry) for o in image.drawn if "*" not in (o.class_name or "")
                            and o.geometry.geom_type == "MultiPoint"])  # fmt: skip
    ignored = (drawn >= 200).all(axis=1) & (drawn < [250, 260]).all(axis=1)
    assert sorted(map(tuple, xy.tolist())) == sorted(map(tuple, drawn[~ignored].tolist()))


def test_a_point_on_the_last_edge_of_a_pixel_is_neither_lost_nor_out_of_bounds(
    image: ArrayImage, found: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In float32 the first of these would lie in the next piece, the second outside the image.
    points = shapely.MultiPoint([(128 - 1e-9, 50.0), (SIDE - 1e-9, SIDE - 1e-9), (SIDE + 1.0, 5.0)])
    objects = [PathObject(points, path_class=PathClass("Lymphocyte"))]
    monkeypatch.setattr(
        comparison, "annotated_windows",
        lambda *grid: annotated_windows(*grid, size_px=64),
    )  # fmt: skip

    xy = compared(image, found, objects).marked_xy

    assert xy.tolist() == [[128 - 1e-9, 50.0], [SIDE - 1e-9, SIDE - 1e-9]]


def test_without_annotations_there_is_nothing(image: ArrayImage, found: Analysis) -> None:
    nothing = compared(image, found, [])

    assert list(nothing.windows) == []
    assert nothing.all_regions.labelled.sum() == nothing.cells.confusion(2).sum() == 0


def test_finer_images_are_compared_in_their_own_pixels(tmp_path: Path) -> None:
    pixels = np.full((128, 128, 3), 235, np.uint8)
    pixels[58:70, 38:50] = CELL_COLORS[
        0
    ]  # centre (44, 64) at 0.25 um/px: two px of it make one of the model's
    cell = PathObject(
        shapely.Point(44.0, 70.0).buffer(3), ObjectType.DETECTION, path_class=PathClass("Lymphocyte")
    )
    image = ArrayImage(pixels, pixel_size_um=0.25, drawn=[cell, area(CELLS_MARKED, 0, 0, 128, 128)])
    found = analyse(image, NETWORK, journal_dir=tmp_path)

    near, far = (compare(image, image.drawn, found, tolerance_px=px, border_um=4.0) for px in (7.0, 5.0))

    assert near.marked_xy.tolist() == [pytest.approx([44.0, 70.0])]
    assert (near.cells.is_right.sum(), far.cells.is_right.sum()) == (1, 0)
    assert far.cells.confusion(2).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
