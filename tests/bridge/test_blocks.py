"""Between what is learnt from and what is measured on lies a gap; no pixel, no cell and no heat is on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drawn_tissue import draw_example
from tissuebridge.blocks import BlockSplit, Piece, split_in_blocks
from tissuemodel.heatmaps import cell_mask, heat_maps
from tissuemodel.labels import IGNORE_LABEL, Example, LabelSet

CLASSES = LabelSet(("Tumor", "Stroma", "Empty", "Vessel"), ("Lymphocyte", "Mast cell"), {})
SIGMA = 2.0
MARGIN = 12


def whole(height: int, width: int, seed: int = 0, *, sparse: bool = False) -> Example:
    """An image in which each pixel says where it is; sparse: half of it is not labelled, some is ignored."""
    example = draw_example(height, width, seed, cells_per_mpx=3000)
    rows, cols = np.mgrid[:height, :width]
    example.image[:] = np.stack([rows // 256 * 16 + cols // 256, rows % 256, cols % 256], axis=2)
    example.negatives.resize((0, 2))
    if sparse:
        example.ignored[(rows // 40 + cols // 40) % 7 == 0] = True
        example.regions[(rows // 30) % 2 == 0] = IGNORE_LABEL
        example.regions[example.ignored] = IGNORE_LABEL
        example.complete[cols % 90 < 30] = 0
    return example


def in_pieces(example: Example, side: int, origin: tuple[int, int] = (0, 0)) -> list[Piece]:
    """The image in windows of a grid, each with the cells of its margin, as `targets` cuts it."""
    pieces = []
    for row in range(0, example.regions.shape[0], side):
        for col in range(0, example.regions.shape[1], side):
            cut = slice(row, row + side), slice(col, col + side)
            points = example.points - np.array([col, row], np.float32)
            size = np.array(example.regions[cut].shape[::-1])
            near = np.all((points >= -MARGIN) & (points < size + MARGIN), axis=1)
            part = Example(
                f"{row}, {col}",
                example.image[cut],
                example.regions[cut],
                points[near],
                example.point_classes[near],
                example.negatives,
                example.complete[cut],
                example.ignored[cut],
                image_name="drawn",
            )
            pieces.append(Piece(row + origin[0], col + origin[1], part))
    return pieces


def counted(pieces: tuple[Piece, ...], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels of the image some piece learns from or measures on, by what the pixels say of their place."""
    found = np.zeros(shape, np.bool_)
    for piece in pieces:
        example = piece.example
        sigmas = [SIGMA] * len(CLASSES.cells)
        cells = cell_mask(example.points, example.negatives, example.complete, example.ignored, sigmas)
        known = ((example.regions != IGNORE_LABEL) & ~example.ignored) | cells.any(axis=0)
        found[places(example)[0][known], places(example)[1][known]] = True
    return found


def places(example: Example) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    coarse, row, col = np.moveaxis(example.image.astype(np.int64), 2, 0)
    return coarse // 16 * 256 + row, coarse % 16 * 256 + col


def cells(pieces: tuple[Piece, ...]) -> set[tuple[float, float]]:
    """All cells that come along, on the image's grid."""
    return {(x + piece.col, y + piece.row) for piece in pieces for x, y in piece.example.points.tolist()}


def made(example: Example, gap: int, side: int) -> BlockSplit:
    found = split_in_blocks(in_pieces(example, side), CLASSES, gap, SIGMA)
    assert found is not None
    return found


shapes = st.sampled_from([(120, 500), (500, 120), (300, 310)])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes, st.integers(0, 60), st.sampled_from([100, 256, 1024]), st.booleans(), st.integers(0, 5))
def test_no_pixel_within_the_gap_of_a_validation_pixel_is_learnt_from(
    shape: tuple[int, int], gap: int, side: int, sparse: bool, seed: int
) -> None:
    split = split_in_blocks(in_pieces(whole(*shape, seed, sparse=sparse), side), CLASSES, gap, SIGMA)

    if split is None:  # a wide gap in a small image can leave some class nowhere
        assert gap > 20
        return
    learnt, checked = (
        counted(part, shape).any(axis=1 - split.axis) for part in (split.train, split.validation)
    )
    assert learnt.any()
    assert checked.any()
    distance = np.abs(np.flatnonzero(learnt)[:, None] - np.flatnonzero(checked))
    assert distance.min() > gap


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shapes, st.integers(12, 50), st.sampled_from([100, 256, 1024]), st.booleans(), st.integers(0, 5))
def test_no_cell_comes_along_on_both_sides(
    shape: tuple[int, int], gap: int, side: int, sparse: bool, seed: int
) -> None:
    example = whole(*shape, seed, sparse=sparse)

    split = split_in_blocks(in_pieces(example, side), CLASSES, gap, SIGMA)

    if split is not None:
        assert not cells(split.train) & cells(split.validation)
        assert cells(split.train) | cells(split.validation) <= {(x, y) for x, y in example.points.tolist()}


@pytest.mark.parametrize("side", [100, 1024])
@pytest.mark.parametrize("shape", [(120, 500), (500, 120)])
def test_the_heat_that_counts_is_the_heat_of_all_cells(shape: tuple[int, int], side: int) -> None:
    example = whole(*shape)
    sigmas = [SIGMA, SIGMA]
    of_all = heat_maps(example.points, example.point_classes, shape, sigmas)

    split = made(example, 20, side)

    for piece in (*split.train, *split.validation):
        part = piece.example
        heat = heat_maps(part.points, part.point_classes, part.ignored.shape, sigmas)
        mask = cell_mask(part.points, part.negatives, part.complete, part.ignored, sigmas)
        rows, cols = places(part)
        assert mask.any()
        np.testing.assert_allclose(heat[mask], of_all[:, rows, cols][mask], atol=1e-4)


def test_nothing_of_the_other_sides_pixels_is_shown() -> None:
    example = whole(120, 500)

    split = made(example, 30, 1024)

    held_out = np.zeros(500, np.bool_)
    for start, stop in split.held_out:
        held_out[start:stop] = True
    for piece in split.train:
        assert not held_out[places(piece.example)[1]].any()
    for piece in split.validation:
        learnt = (piece.example.regions != IGNORE_LABEL).any(axis=0)
        assert held_out[places(piece.example)[1][0, learnt]].all()


def test_pieces_say_where_they_lie() -> None:
    split = split_in_blocks(in_pieces(whole(120, 500), 100, (256, 512)), CLASSES, 20, SIGMA)

    assert split is not None
    for piece in (*split.train, *split.validation):
        rows, cols = places(piece.example)
        assert (piece.row - 256, piece.col - 512) == (rows[0, 0], cols[0, 0])
        assert piece.example.image_name == "drawn"


def test_the_same_image_is_always_split_alike() -> None:
    first, second = (made(whole(120, 500), 20, 256) for _ in range(2))

    assert first.held_out == second.held_out
    assert [piece.example.name for piece in first.train] == [piece.example.name for piece in second.train]


def test_the_longer_annotated_side_is_cut() -> None:
    assert made(whole(120, 500), 10, 1024).axis == 1
    assert made(whole(500, 120), 10, 1024).axis == 0


def test_two_blocks_are_held_out_where_one_sees_a_single_class() -> None:
    example = whole(100, 1000)
    example.regions[:] = np.arange(1000) // 500  # Tumor on the left, Stroma on the right
    example.complete[:] = 0

    split = made(example, 40, 1024)

    assert len(split.held_out) == 2
    seen = [np.unique(piece.example.regions).tolist() for piece in split.validation]
    assert sorted(seen) == [[0, IGNORE_LABEL], [1, IGNORE_LABEL]]


def test_a_class_in_one_place_is_left_to_learn_from() -> None:
    example = whole(100, 1000)
    example.regions[:] = 0
    example.regions[40:60, 960:980] = 1

    split = made(example, 40, 1024)

    assert any((piece.example.regions == 1).any() for piece in split.train)
    assert split.kept > 0.5


@pytest.mark.parametrize("gap", [200, 10_000])
def test_where_the_gap_leaves_nothing_there_is_no_split(gap: int) -> None:
    assert split_in_blocks(in_pieces(whole(100, 200), 1024), CLASSES, gap, SIGMA) is None


def test_without_annotations_there_is_no_split() -> None:
    example = whole(100, 200)
    example.ignored[:] = True

    assert split_in_blocks(in_pieces(example, 1024), CLASSES, 10, SIGMA) is None
    assert split_in_blocks([], CLASSES, 10, SIGMA) is None
