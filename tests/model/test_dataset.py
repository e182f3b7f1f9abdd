"""Crops are cut where they say, seen often enough, and become targets of the right shapes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tissuemodel.config import ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.dataset import (
    CropDataset,
    Targets,
    class_counts,
    collate,
    cut,
    make_targets,
    pixel_statistics,
)
from tissuemodel.labels import IGNORE_LABEL, Example

PAD = (1, 2, 3)
NONE = np.zeros((0, 2), np.float32)
CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T", "NK", "Mast"),
    colors={},
    pixel_size_um=0.5,
    mean=(200.0, 180.0, 160.0),
    network=NetworkConfig((2, 2, 2, 2)),
    targets=TargetConfig((5.0, 5.0, 8.0)),
    training=TrainingConfig(crop_px=32, batch_size=4, seed=3),
)


def blank(height: int, width: int) -> Example:
    """Every pixel says where it is: red the row, green the column; nothing is annotated."""
    rows, cols = np.mgrid[:height, :width]
    return Example(
        name="blank",
        image=np.stack([rows % 251, cols % 251, np.full_like(rows, 99)], axis=2).astype(np.uint8),
        regions=np.full((height, width), IGNORE_LABEL, np.uint8),
        points=NONE,
        point_classes=np.zeros(0, np.uint8),
        negatives=NONE,
        complete=np.zeros((height, width), np.uint16),
        ignored=np.zeros((height, width), np.bool_),
    )


def with_points(example: Example, points: list[tuple[float, float]], classes: list[int]) -> Example:
    return replace(
        example,
        points=np.array(points, np.float32).reshape(-1, 2),
        point_classes=np.array(classes, np.uint8),
    )


# ---- Cutting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("centre", "corner"),
    [((50.0, 40.0), (34, 24)), ((0.0, 0.0), (0, 0)), ((99.9, 79.9), (68, 48)), ((-30.0, 500.0), (0, 48))],
)
def test_a_crop_of_a_larger_example_is_moved_inside(
    centre: tuple[float, float], corner: tuple[int, int]
) -> None:
    example = with_points(blank(80, 100), [(60.25, 50.75)], [1])

    crop = cut(example, centre, 32, PAD)

    left, top = corner
    np.testing.assert_array_equal(crop.image, example.image[top : top + 32, left : left + 32])
    np.testing.assert_allclose(crop.points, [[60.25 - left, 50.75 - top]])
    assert not crop.ignored.any()


def test_a_crop_of_the_examples_own_size_is_the_example() -> None:
    example = with_points(blank(32, 32), [(3.5, 4.25)], [2])

    crop = cut(example, (1.0, 31.0), 32, PAD)

    np.testing.assert_array_equal(crop.image, example.image)
    np.testing.assert_array_equal(crop.points, example.points)


@pytest.mark.parametrize(("height", "width"), [(20, 28), (20, 64), (64, 20), (1, 1)])
def test_a_crop_of_a_smaller_example_is_padded_right_and_bottom_where_nothing_counts(
    height: int, width: int
) -> None:
    plain = blank(height, width)
    example = replace(plain, regions=plain.regions * 0, complete=plain.complete + 7)

    crop = cut(example, (width / 2, height / 2), 32, PAD)

    rows, cols = min(height, 32), min(width, 32)
    inside = np.zeros((32, 32), bool)
    inside[:rows, :cols] = True
    assert crop.image.shape == (32, 32, 3)
    assert (crop.image[~inside] == PAD).all()
    assert (crop.image[inside][:, 2] == 99).all()
    assert (crop.regions[~inside] == IGNORE_LABEL).all()
    assert (crop.regions[inside] == 0).all()
    assert (crop.complete[~inside] == 0).all()
    assert (crop.complete[inside] == 7).all()
    np.testing.assert_array_equal(crop.ignored, ~inside)


def test_cutting_leaves_the_example_itself_alone() -> None:
    example = blank(20, 20)

    cut(example, (0, 0), 32, PAD).image[:] = 0

    np.testing.assert_array_equal(example.image, blank(20, 20).image)


# ---- Targets -------------------------------------------------------------------------------------------


def test_targets_have_a_scale_for_each_head_of_the_network() -> None:
    example = with_points(blank(32, 48), [(10, 10)], [1])

    targets = make_targets(example, CONFIG)

    assert targets.image.shape == (3, 32, 48)
    assert [level.shape for level in targets.labels] == [(32, 48), (16, 24), (8, 12)]
    assert [level.shape for level in targets.heat] == [(3, 32, 48), (3, 16, 24), (3, 8, 12)]
    assert [level.shape for level in targets.mask] == [(3, 32, 48), (3, 16, 24), (3, 8, 12)]


def test_a_batch_is_tensors_of_the_types_that_the_losses_want() -> None:
    batch = collate([make_targets(blank(32, 32), CONFIG)] * 4)

    assert (batch.image.dtype, tuple(batch.image.shape)) == (torch.uint8, (4, 3, 32, 32))
    assert [(level.dtype, tuple(level.shape)) for level in batch.labels] == [
        (torch.int64, (4, 32 >> i, 32 >> i)) for i in range(3)
    ]
    for levels in (batch.heat, batch.mask):
        assert [(level.dtype, tuple(level.shape)) for level in levels] == [
            (torch.float32, (4, 3, 32 >> i, 32 >> i)) for i in range(3)
        ]


@pytest.mark.parametrize(("regions", "cells"), [((), ("T", "NK", "Mast")), (("Tumor", "Stroma"), ())])
def test_targets_of_one_task_have_no_class_of_the_other(
    regions: tuple[str, ...], cells: tuple[str, ...]
) -> None:
    config = replace(
        CONFIG, region_classes=regions, cell_classes=cells, targets=TargetConfig((5.0,) * len(cells))
    )

    targets = make_targets(blank(32, 32), config)

    assert targets.heat[0].shape == targets.mask[0].shape == (len(cells), 32, 32)
    assert len(targets.labels) == 3


@pytest.mark.parametrize("beyond", [2.0, 10.0])
def test_a_cell_just_outside_the_crop_warms_its_border(beyond: float) -> None:
    example = with_points(blank(64, 64), [(16 - beyond, 32.5)], [2])

    targets = make_targets(cut(example, (32, 32), 32, PAD), CONFIG)

    sigma = 8.0 / 0.5 / (2 * math.sqrt(2 * math.log(2)))
    assert targets.heat[0][2, 16, 0] == pytest.approx(math.exp(-((beyond + 0.5) ** 2) / (2 * sigma**2)))
    assert targets.heat[0][2].argmax() == 16 * 32


def test_the_heat_of_wide_cells_reaches_in_from_farther_than_half_a_crop() -> None:
    config = replace(CONFIG, targets=TargetConfig((5.0, 5.0, 20.0)))
    example = with_points(blank(96, 96), [(32 - 20, 48.5)], [2])

    targets = make_targets(cut(example, (48, 48), 32, PAD), config)

    sigma = 20.0 / 0.5 / (2 * math.sqrt(2 * math.log(2)))
    assert targets.heat[0][2, 16, 0] == pytest.approx(math.exp(-(20.5**2) / (2 * sigma**2)))


def test_a_hard_negative_outside_the_crop_counts_where_its_disc_reaches_in() -> None:
    example = replace(blank(64, 64), negatives=np.array([[14.0, 32.5]], np.float32))

    mask = make_targets(cut(example, (32, 32), 32, PAD), CONFIG).mask[0]

    assert mask[0, 16, 0]
    assert not mask[0, 16, 31]


# ---- Drawing -------------------------------------------------------------------------------------------


def rich() -> Example:
    example = with_points(blank(96, 128), [(10, 10), (100, 80)], [0, 1])
    regions = example.regions.copy()
    regions[:50], regions[60:, :64] = 0, 1
    return replace(example, regions=regions)


def same(a: Targets, b: Targets) -> bool:
    pairs = zip([a.image, *a.labels, *a.heat, *a.mask], [b.image, *b.labels, *b.heat, *b.mask], strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_a_crop_depends_on_seed_and_number_alone() -> None:
    first, second = CropDataset([rich()], CONFIG, 10), CropDataset([rich()], CONFIG, 99)
    reseeded = replace(CONFIG, training=replace(CONFIG.training, seed=4))

    backwards = [second[i] for i in reversed(range(6))][::-1]

    assert len(first) == 10
    assert all(same(first[i], backwards[i]) for i in range(6))
    assert not same(first[0], first[1])
    assert not same(first[0], CropDataset([rich()], reseeded, 10)[0])


def test_without_augmentation_pixels_are_the_images_own() -> None:
    crops = CropDataset([rich()], CONFIG, 20, augment=False)

    for i in range(20):
        red, green, blue = crops[i].image.astype(int)
        assert (np.diff(red, axis=0) == 1).all()
        assert (np.diff(green, axis=1) == 1).all()
        assert (blue == 99).all()


def share_of_crops_with(example: Example, region: int | None, config: ModelConfig, count: int = 400) -> float:
    crops = CropDataset([example], config, count, augment=False)
    seen = 0
    for i in range(count):
        crop = crops[i]
        seen += (
            bool((crop.labels[0] == region).any()) if region is not None else bool(crop.heat[0].max() > 0.8)
        )
    return seen / count


def test_a_class_alone_and_rare_is_seen_in_half_of_the_crops() -> None:
    example = blank(512, 512)
    example.regions[300:306, 100:106] = 1

    # A crop drawn anywhere would see it once in 180 times.
    assert share_of_crops_with(example, 1, CONFIG) == pytest.approx(0.5, abs=0.08)


def test_a_rare_region_is_anchored_as_often_as_a_common_one() -> None:
    example = blank(512, 512)
    example.regions[:] = 0
    example.regions[300:306, 100:106] = 1

    assert share_of_crops_with(example, 1, CONFIG) == pytest.approx(0.25, abs=0.07)


def test_a_rare_cell_is_anchored_as_often_as_a_common_region() -> None:
    example = with_points(blank(512, 512), [(400.0, 20.0)], [1])
    example.regions[:] = 0

    assert share_of_crops_with(example, None, CONFIG) == pytest.approx(0.25, abs=0.07)


def test_crops_come_from_every_example_and_without_any_annotation_too() -> None:
    large, small = blank(128, 128), replace(blank(32, 32), image=np.full((32, 32, 3), 7, np.uint8))
    crops = CropDataset([large, small], CONFIG, 300, augment=False)

    from_small = np.mean([crops[i].image.max() == 7 for i in range(300)])

    assert from_small == pytest.approx(1 / 17, abs=0.04)  # by area


def test_the_padding_of_a_crop_is_the_padding_of_an_image() -> None:
    crop = CropDataset([blank(16, 16)], CONFIG, 1, augment=False)[0]

    assert crop.image[:, 20, 20].tolist() == [200, 180, 160]


# ---- Statistics ----------------------------------------------------------------------------------------


def test_statistics_are_numpys_over_all_pixels_of_all_examples() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3), np.uint8) // np.uint8([1, 2, 5]) for h, w in ((30, 40), (7, 5))]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)

    mean, std = pixel_statistics([replace(blank(*image.shape[:2]), image=image) for image in images])

    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-9)


def test_a_flat_channel_has_a_deviation_of_one() -> None:
    _, std = pixel_statistics([blank(16, 16)])

    assert std[2] == 1.0
    assert std[0] == pytest.approx(np.std(np.arange(16)))


def test_counts_are_labelled_pixels_and_cells_of_all_examples() -> None:
    example = with_points(blank(10, 10), [(1, 1), (2, 2), (3, 3)], [1, 1, 0])
    example.regions[:2], example.regions[2:5] = 1, 0

    assert class_counts([example, example], CONFIG) == ([60, 40], [2, 4, 0])
