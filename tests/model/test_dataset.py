"""Crops are cut where they say, seen often enough, and become targets of the right shapes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tissuemodel.config import ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.dataset import (
    Batch,
    CoverDataset,
    CropDataset,
    Targets,
    class_counts,
    collate,
    make_targets,
    pixel_statistics,
)
from tissuemodel.labels import IGNORE_LABEL, Example
from tissuemodel.sampling import cut

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

    targets = make_targets(cut(example, (16, 16), 32, CONFIG), CONFIG)

    sigma = 8.0 / 0.5 / (2 * math.sqrt(2 * math.log(2)))
    assert targets.heat[0][2, 16, 0] == pytest.approx(math.exp(-((beyond + 0.5) ** 2) / (2 * sigma**2)))
    assert targets.heat[0][2].argmax() == 16 * 32


def test_the_heat_of_wide_cells_reaches_in_from_farther_than_half_a_crop() -> None:
    config = replace(CONFIG, targets=TargetConfig((5.0, 5.0, 20.0)))
    example = with_points(blank(96, 96), [(32 - 20, 48.5)], [2])

    targets = make_targets(cut(example, (32, 32), 32, config), config)

    sigma = 20.0 / 0.5 / (2 * math.sqrt(2 * math.log(2)))
    assert targets.heat[0][2, 16, 0] == pytest.approx(math.exp(-(20.5**2) / (2 * sigma**2)))


def test_a_hard_negative_outside_the_crop_counts_where_its_disc_reaches_in() -> None:
    example = replace(blank(64, 64), negatives=np.array([[14.0, 32.5]], np.float32))

    mask = make_targets(cut(example, (16, 16), 32, CONFIG), CONFIG).mask[0]

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


def test_a_resumed_training_goes_on_with_the_crops_it_would_have_seen() -> None:
    whole, rest = CropDataset([rich()], CONFIG, 10), CropDataset([rich()], CONFIG, 4, first=6)

    assert len(rest) == 4
    assert all(same(whole[6 + i], rest[i]) for i in range(4))


def test_worker_processes_make_the_same_batches() -> None:
    crops = CropDataset([rich()], CONFIG, 8)

    # Spawned, as on Windows and macOS, so that all that a worker knows came by way of pickle.
    ways = [
        list(DataLoader(crops, 4, collate_fn=collate, num_workers=workers, multiprocessing_context=context))
        for workers, context in ((0, None), (2, "spawn"))
    ]

    assert [len(way) for way in ways] == [2, 2]
    for here, there in zip(*ways, strict=True):
        for name in Batch._fields:
            torch.testing.assert_close(getattr(here, name), getattr(there, name), rtol=0, atol=0)


def test_augmented_crops_have_the_shapes_and_padding_of_plain_ones() -> None:
    crop = CropDataset([replace(rich(), ignored=np.zeros((96, 128), np.bool_))], CONFIG, 1)[0]

    assert crop.image.shape == (3, 32, 32)
    assert crop.image.flags.c_contiguous
    assert crop.image.dtype == np.uint8


def test_the_padding_of_a_crop_is_the_padding_of_an_image() -> None:
    example = blank(16, 16)
    example.regions[:] = 0

    crop = CropDataset([example], CONFIG, 1, augment=False)[0]

    assert crop.image[:, 20, 20].tolist() == [200, 180, 160]
    assert crop.labels[0][20, 20] == IGNORE_LABEL


def test_covering_crops_hold_every_labelled_pixel_and_complete_place_once() -> None:
    example = rich()
    example.complete[70:90, 90:] = 1

    cover = CoverDataset([example, blank(64, 64), example], CONFIG)
    crops = [cover[i] for i in range(len(cover))]

    whole = make_targets(example, CONFIG)
    assert sum((crop.labels[0] != IGNORE_LABEL).sum() for crop in crops) == 2 * (
        96 * 128 - 10 * 128 - 36 * 64
    )
    assert sum(crop.mask[0][0].sum() for crop in crops) == 2 * whole.mask[0][0].sum()
    assert same(crops[0], cover[0])


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
