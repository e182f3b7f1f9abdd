"""Each image normalised by its own statistics: alike in training and inference, and blind to a colour cast."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from drawn_tissue import draw_example
from tissuemodel.calibration import choose_detection, heat_of
from tissuemodel.checkpoint import build_network
from tissuemodel.config import (
    AugmentationConfig,
    InferenceConfig,
    ModelConfig,
    NetworkConfig,
    TargetConfig,
    TrainingConfig,
)
from tissuemodel.dataset import CoverDataset, CropDataset, collate, make_targets, pixel_statistics
from tissuemodel.inference import Inference, normalise
from tissuemodel.labels import Example

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma", "Empty", "Vessel"),
    cell_classes=("Lymphocyte", "Mast cell"),
    colors={},
    pixel_size_um=0.5,
    normalisation="image",
    mean=(100.0, 100.0, 100.0),
    network=NetworkConfig((8, 12, 16, 24)),
    targets=TargetConfig((5.0, 5.0)),
    training=TrainingConfig(crop_px=64),
    augmentation=AugmentationConfig(density_jitter=0, gain_jitter=0, stain_jitter=0),
    inference=InferenceConfig(min_distance_um=(2.5, 2.5), thresholds=(0.5, 0.5)),
)


def with_statistics(example: Example) -> Example:
    return replace(example, statistics=pixel_statistics([example]))


BRIGHT = with_statistics(draw_example(96, 96, 0, noise=5))
DARK = with_statistics(replace(BRIGHT, image=(BRIGHT.image // 2 + 10).astype(np.uint8)))


@pytest.mark.parametrize("augment", [True, False])
def test_a_crop_is_normalised_by_its_images_statistics(augment: bool) -> None:
    for example in (BRIGHT, DARK):
        assert example.statistics is not None
        batch = collate([CropDataset([example], CONFIG, 3, augment=augment)[i] for i in range(3)])

        torch.testing.assert_close(batch.mean, torch.tensor([example.statistics.mean] * 3))
        torch.testing.assert_close(batch.std, torch.tensor([example.statistics.std] * 3))
        assert normalise(batch.image.float(), batch.mean, batch.std).mean().abs() < 0.3


def test_images_in_one_batch_keep_their_own_statistics() -> None:
    crops = CoverDataset([BRIGHT, DARK], replace(CONFIG, training=TrainingConfig(crop_px=96)))

    batch = collate([crops[0], crops[1]])
    bright, dark = normalise(batch.image.float(), batch.mean, batch.std)

    assert batch.mean[0].mean() > 1.5 * batch.mean[1].mean()
    torch.testing.assert_close(bright, dark, atol=0.06, rtol=0)  # the dark one was rounded


def test_padding_is_the_images_own_mean() -> None:
    crops = CoverDataset([DARK], replace(CONFIG, training=TrainingConfig(crop_px=128)))

    batch = collate([crops[0]])

    assert tuple(batch.image[0, :, -1, -1].tolist()) == CONFIG.for_image(DARK.statistics).pad_value
    assert normalise(batch.image.float(), batch.mean, batch.std)[0, :, -1, -1].abs().max() < 0.05


def test_a_model_of_the_whole_sets_statistics_ignores_the_images() -> None:
    config = replace(CONFIG, normalisation="dataset")

    batch = collate([CropDataset([DARK], config, 1)[0]])

    assert batch.mean[0].tolist() == [100.0, 100.0, 100.0]


def test_a_piece_without_statistics_is_refused() -> None:
    bare = replace(BRIGHT, statistics=None)

    with pytest.raises(ValueError, match="missing"):
        CropDataset([bare], CONFIG, 1)[0]
    with pytest.raises(ValueError, match="say which"):
        make_targets(bare, CONFIG)


def test_a_colour_cast_does_not_change_what_is_found() -> None:
    torch.manual_seed(0)
    network = build_network(CONFIG).eval()
    infer, by_dataset = (
        Inference(network, CONFIG),
        Inference(network, replace(CONFIG, normalisation="dataset")),
    )

    bright, dark = (heat_of(infer.for_image(e.statistics), e.image) for e in (BRIGHT, DARK))
    change = np.abs(heat_of(by_dataset, BRIGHT.image) - heat_of(by_dataset, DARK.image)).max()

    assert np.abs(bright - dark).max() < change / 5


def test_detection_is_chosen_on_images_normalised_by_their_own() -> None:
    network = build_network(CONFIG).eval()
    fixed = replace(CONFIG, normalisation="dataset")
    assert DARK.statistics is not None
    as_fixed = replace(fixed, mean=DARK.statistics.mean, std=DARK.statistics.std)

    chosen = choose_detection(network, CONFIG, [DARK])

    assert chosen.inference == choose_detection(network, as_fixed, [DARK]).inference
    assert chosen.normalisation == "image"
