"""Every class and image gets its share of the crops, crops keep to what is annotated, and are cut where they say."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tissuemodel.config import ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.labels import IGNORE_LABEL, Example
from tissuemodel.sampling import ANYWHERE, CropSampler, annotated, cover, cut

SIDE = 32
NONE = np.zeros((0, 2), np.float32)
CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=1.0,
    mean=(200.0, 180.0, 160.0),
    network=NetworkConfig((2, 2, 2)),
    targets=TargetConfig((5.0, 5.0)),
    training=TrainingConfig(crop_px=SIDE, seed=3),
)
PAD = (200, 180, 160)
CHOSEN = 1 - ANYWHERE
"""The share of crops that are to show a class drawn beforehand."""


def blank(height: int = 256, width: int = 256, name: str = "blank") -> Example:
    """Every pixel says where it is: red the row, green the column; nothing is annotated."""
    rows, cols = np.mgrid[:height, :width]
    return Example(
        name=name,
        image=np.stack([rows % 251, cols % 251, np.full_like(rows, 99)], axis=2).astype(np.uint8),
        regions=np.full((height, width), IGNORE_LABEL, np.uint8),
        points=NONE,
        point_classes=np.zeros(0, np.uint8),
        negatives=NONE,
        complete=np.zeros((height, width), np.uint16),
        ignored=np.zeros((height, width), np.bool_),
    )


def labelled(example: Example, region: int, box: tuple[slice, slice]) -> Example:
    regions = example.regions.copy()
    regions[box] = region
    return replace(example, regions=regions)


def with_points(example: Example, points: Sequence[tuple[float, float]], classes: Sequence[int]) -> Example:
    return replace(
        example,
        points=np.array(points, np.float32).reshape(-1, 2),
        point_classes=np.array(classes, np.uint8),
    )


def drawn_crops(examples: Sequence[Example], count: int = 600) -> list[tuple[int, Example]]:
    sampler = CropSampler(examples, CONFIG)
    crops = []
    for index in range(count):
        which, corner = sampler.draw(np.random.default_rng([0, index]))
        crops.append((which, cut(examples[which], corner, SIDE, CONFIG)))
    return crops


def shows_cell(crop: Example, kind: int) -> bool:
    xy = crop.points[crop.point_classes == kind]
    return bool(((xy >= 0) & (xy < SIDE)).all(axis=1).any())


# ---- Shares --------------------------------------------------------------------------------------------


def test_a_rare_region_is_chosen_as_often_as_a_common_one() -> None:
    example = labelled(labelled(blank(), 0, np.s_[:, :]), 1, np.s_[200:206, 100:106])

    seen = np.mean([(crop.regions == 1).any() for _, crop in drawn_crops([example])])

    # A crop drawn anywhere sees it once in 50 times.
    assert seen == pytest.approx(CHOSEN / 2 + ANYWHERE / 50, abs=0.06)


def test_cells_are_chosen_as_often_as_regions_and_a_rare_one_as_often_as_a_common_one() -> None:
    grid = [(x + 0.5, y + 0.5) for x in range(128, 256, 6) for y in range(128, 256, 6)]
    example = labelled(blank(), 0, np.s_[:, :])
    example = with_points(example, [(40.2, 30.7), *grid], [1] + [0] * len(grid))

    crops = drawn_crops([example])

    assert np.mean([shows_cell(crop, 1) for _, crop in crops]) == pytest.approx(CHOSEN / 4, abs=0.06)


def test_what_only_looks_like_a_cell_is_a_class_of_its_own() -> None:
    grid = [(x + 0.5, y + 0.5) for x in range(128, 256, 6) for y in range(128, 256, 6)]
    example = replace(
        with_points(blank(), grid, [0] * len(grid)), negatives=np.array([[40.2, 30.7]], np.float32)
    )

    crops = drawn_crops([example])

    seen = [((crop.negatives >= 0) & (crop.negatives < SIDE)).all(axis=1).any() for _, crop in crops]
    assert np.mean(seen) == pytest.approx(CHOSEN / 2, abs=0.07)


def test_images_that_have_a_class_count_equally_however_many_pieces_they_are_and_however_much_they_have() -> (
    None
):
    large = [
        replace(labelled(blank(), 0, np.s_[:, :]), image_name="large", name=f"large, piece {i}")
        for i in range(4)
    ]
    small = replace(labelled(blank(), 0, np.s_[:SIDE, :SIDE]), image_name="small", name="small, piece 0")

    images = Counter(which < 4 for which, _ in drawn_crops([*large, small]))

    # Anywhere goes by area, of which the small one has next to none.
    assert images[False] / images.total() == pytest.approx(CHOSEN / 2, abs=0.06)


def test_pieces_of_one_image_share_a_class_by_area() -> None:
    more = replace(labelled(blank(), 0, np.s_[:150, :]), image_name="slide", name="piece 0")
    less = replace(labelled(blank(), 0, np.s_[:50, :]), image_name="slide", name="piece 1")

    pieces = Counter(which for which, _ in drawn_crops([more, less]))

    assert pieces[1] / pieces.total() == pytest.approx(0.25, abs=0.06)


def test_a_slide_with_one_class_does_not_dominate_a_slide_with_both() -> None:
    one = labelled(blank(name="one"), 0, np.s_[:, :])
    both = labelled(labelled(blank(64, 64, "both"), 0, np.s_[:32, :]), 1, np.s_[32:, :])

    shown = Counter(which for which, _ in drawn_crops([one, both]))

    # All of the second class and half of the first.
    assert shown[1] / shown.total() == pytest.approx(CHOSEN * 0.75 + ANYWHERE / 17, abs=0.06)


def test_background_where_all_cells_are_marked_is_seen_too() -> None:
    example = with_points(blank(), [(30.5, 30.5)], [0])
    example.complete[:] = 3

    empty = np.mean([not shows_cell(crop, 0) for _, crop in drawn_crops([example])])

    assert empty == pytest.approx(ANYWHERE, abs=0.08)


# ---- Placing -------------------------------------------------------------------------------------------


def test_crops_keep_to_what_is_annotated() -> None:
    example = labelled(blank(), 0, np.s_[60:180, 50:200])

    for _, crop in drawn_crops([example], 300):
        assert (crop.regions == 0).all()


def test_an_annotated_patch_smaller_than_a_crop_lies_wholly_in_it_everywhere_in_it() -> None:
    example = labelled(labelled(blank(), 0, np.s_[100:110, 60:75]), 1, np.s_[200:220, 200:215])

    corners = set()
    for _, crop in drawn_crops([example], 300):
        shown = crop.regions[crop.regions != IGNORE_LABEL]
        assert len(shown) in (150, 300)
        rows, cols = np.nonzero(crop.regions == shown[0])
        corners.add((int(shown[0]), int(rows.min()), int(cols.min())))
    assert len(corners) > 200


def test_neighbouring_dots_are_one_patch_so_that_crops_lie_among_them() -> None:
    grid = [(x + 0.5, y + 0.5) for x in range(80, 170, 10) for y in range(80, 170, 10)]
    example = with_points(blank(), grid, [0] * len(grid))

    for _, crop in drawn_crops([example], 200):
        inside = ((crop.points >= 0) & (crop.points < SIDE)).all(axis=1)
        assert inside.sum() >= 6


def test_crops_stay_inside_the_example_also_at_its_rim() -> None:
    example = labelled(blank(64, 200), 0, np.s_[:, :])

    for _, crop in drawn_crops([example], 200):
        assert not crop.ignored.any()


def test_what_is_ignored_or_outside_is_never_chosen() -> None:
    example = with_points(labelled(blank(), 0, np.s_[:, :128]), [(200.5, 50.5), (-3.0, 40.0)], [0, 0])
    example.ignored[:, 140:] = True

    for _, crop in drawn_crops([example], 200):
        assert (crop.regions == 0).all()
        assert not crop.ignored.any()


def test_an_example_smaller_than_a_crop_is_shown_from_its_corner() -> None:
    example = labelled(blank(20, 12), 1, np.s_[:, :])

    for _, crop in drawn_crops([example], 20):
        assert (crop.regions == 1).sum() == 240
        np.testing.assert_array_equal(crop.image[:20, :12], example.image)


def test_examples_without_annotation_are_refused_with_the_classes_that_were_looked_for() -> None:
    with pytest.raises(ValueError, match=r"none of the 2 examples .* Tumor, Stroma, T, NK"):
        CropSampler([blank(), blank()], CONFIG)


def test_a_single_dot_is_enough() -> None:
    for _, crop in drawn_crops([blank(), with_points(blank(), [(99.5, 7.25)], [1])], 30):
        assert shows_cell(crop, 1)


# ---- Covering ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [np.s_[:, :], np.s_[10:90, 5:100], np.s_[240:, 250:], np.s_[3:4, 100:101]])
def test_covering_crops_hold_every_annotated_pixel_exactly_once(box: tuple[slice, slice]) -> None:
    example = labelled(blank(), 0, box)
    times = np.zeros((256 + SIDE, 256 + SIDE), int)

    for left, top in cover(example, CONFIG):
        times[top : top + SIDE, left : left + SIDE] += 1

    assert (times[:256, :256][annotated(example, CONFIG)] == 1).all()
    assert times.max() == 1


def test_covering_skips_what_is_not_annotated() -> None:
    example = labelled(labelled(blank(), 0, np.s_[:SIDE, :SIDE]), 1, np.s_[-SIDE:, -SIDE:])

    assert cover(example, CONFIG) == [(0, 0), (256 - SIDE, 256 - SIDE)]
    assert cover(blank(), CONFIG) == []


# ---- Cutting -------------------------------------------------------------------------------------------


def test_a_crop_inside_is_the_examples_own_pixels() -> None:
    example = with_points(blank(80, 100), [(60.25, 50.75)], [1])

    crop = cut(example, (34, 24), SIDE, CONFIG)

    np.testing.assert_array_equal(crop.image, example.image[24 : 24 + SIDE, 34 : 34 + SIDE])
    np.testing.assert_allclose(crop.points, [[26.25, 26.75]])
    assert not crop.ignored.any()


@pytest.mark.parametrize("corner", [(0, 0), (-5, -9), (7, 3), (-40, 0), (50, 50)])
def test_a_crop_is_padded_where_it_reaches_outside_and_nothing_counts_there(corner: tuple[int, int]) -> None:
    plain = blank(20, 28)
    example = replace(plain, regions=plain.regions * 0, complete=plain.complete + 3)

    crop = cut(example, corner, SIDE, CONFIG)

    rows, cols = np.mgrid[:SIDE, :SIDE] + np.array(corner)[::-1, None, None]
    inside = (rows >= 0) & (rows < 20) & (cols >= 0) & (cols < 28)
    assert (crop.image[~inside] == PAD).all()
    np.testing.assert_array_equal(crop.image[inside], example.image[rows[inside], cols[inside]])
    np.testing.assert_array_equal(crop.regions, np.where(inside, 0, IGNORE_LABEL))
    np.testing.assert_array_equal(crop.complete, np.where(inside, 3, 0))
    np.testing.assert_array_equal(crop.ignored, ~inside)


def test_cutting_with_padding_leaves_the_example_itself_alone() -> None:
    example = blank(20, 20)

    cut(example, (0, 0), SIDE, CONFIG).image[:] = 0

    np.testing.assert_array_equal(example.image, blank(20, 20).image)


def test_cells_whose_heat_reaches_in_come_along_and_others_do_not() -> None:
    example = with_points(blank(), [(95.0, 110.0), (20.0, 110.0)], [0, 1])

    crop = cut(example, (100, 100), SIDE, CONFIG)

    np.testing.assert_allclose(crop.points, [[-5.0, 10.0]])
    assert crop.point_classes.tolist() == [0]
