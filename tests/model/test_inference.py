"""The network made ready to be asked says what the trained one says, whatever it is asked together with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tissuemodel.checkpoint import build_network
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig
from tissuemodel.fused import FusedNetwork, can_fuse
from tissuemodel.fusion import MIN_FUSED_HEAT, fuse
from tissuemodel.inference import Inference, best_device, normalise
from tissuemodel.labels import ChannelStatistics
from tissuemodel.network import MultitaskUNet

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma", "Empty"),
    cell_classes=("T", "NK"),
    colors={},
    pixel_size_um=0.5,
    mean=(180.5, 150.49, 127.0),
    std=(40.0, 50.0, 60.0),
    network=NetworkConfig((6, 8, 10, 12)),
)
CPU = torch.device("cpu")
MEAN, STD = torch.tensor([CONFIG.mean]), torch.tensor([CONFIG.std])


def trained(config: ModelConfig = CONFIG) -> MultitaskUNet:
    """Random weights, and statistics in the batch norms as training leaves them."""
    torch.manual_seed(0)
    network = build_network(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    for _ in range(5):
        network(1 + 2 * torch.randn(2, 3, 32, 32))
    return network.eval()


def pixels(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), np.uint8)


def test_the_folded_network_says_what_the_trained_one_says() -> None:
    network, image = trained(), pixels(2, 40, 64)
    normalised = (image.astype(np.float64) - CONFIG.mean) / CONFIG.std
    with torch.no_grad():
        maps = network(torch.from_numpy(normalised.transpose(0, 3, 1, 2).astype(np.float32)))

    regions, heat = Inference(network, CONFIG, CPU)(image)

    assert regions.dtype == heat.dtype == np.float32
    np.testing.assert_allclose(regions, fuse(maps.regions), atol=1e-4)
    np.testing.assert_allclose(heat, maps.heat[0], atol=1e-4)
    assert heat.min() < 0  # unclamped


needs_fusing = pytest.mark.skipif(
    not can_fuse(CPU), reason="this CPU's torch cannot put a rectifier into a convolution"
)


@needs_fusing
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, network=replace(CONFIG.network, heat_activation="sigmoid")),
        replace(CONFIG, cell_classes=()),
        replace(CONFIG, region_classes=()),
    ],
    ids=["both", "sigmoid", "regions", "cells"],
)
def test_the_fused_network_says_what_the_folded_one_says(
    monkeypatch: pytest.MonkeyPatch, config: ModelConfig
) -> None:
    image = pixels(2, 40, 64)
    here = Inference(trained(config), config, CPU)
    monkeypatch.setattr("tissuemodel.inference.can_fuse", lambda device: False)
    elsewhere = Inference(trained(config), config, CPU)

    assert isinstance(here._network, FusedNetwork)
    assert isinstance(elsewhere._network, MultitaskUNet)
    for fused, folded in zip(here(image), elsewhere(image), strict=True):
        assert fused.shape == folded.shape
        np.testing.assert_allclose(fused, folded, atol=1e-5)


@needs_fusing
@pytest.mark.parametrize(("height", "width"), [(200, 64), (8, 8), (16, 40), (152, 8)])
def test_bands_of_rows_say_what_whole_maps_say(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    """Which rows are computed together changes nothing; oneDNN may sum in another order for another height."""
    image, infer = pixels(2, height, width), Inference(trained(), CONFIG, CPU)
    whole = infer(image)
    monkeypatch.setattr("tissuemodel.fused._BAND_BYTES", 0)
    monkeypatch.setattr("tissuemodel.fused._LEAST_ROWS", 2)

    for banded, at_once in zip(infer(image), whole, strict=True):
        np.testing.assert_allclose(banded, at_once, atol=1e-5)


@needs_fusing
def test_the_fused_network_refuses_sides_that_it_cannot_halve() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        Inference(trained(), CONFIG, CPU)(pixels(1, 40, 60))


def test_making_ready_draws_no_random_numbers() -> None:
    """Training asks in between, and has to go on as if it had not."""
    network = trained()
    before = torch.get_rng_state()

    Inference(network, CONFIG, CPU)

    assert torch.equal(torch.get_rng_state(), before)


def test_only_full_precision_is_fused() -> None:
    """In bfloat16 torch chooses each operation's precision; what is inside a convolution it cannot see."""
    half = Inference(trained(), CONFIG, CPU, "bf16")

    assert isinstance(half._network, MultitaskUNet)


def test_no_batch_norm_is_left_and_the_trained_network_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tissuemodel.inference.can_fuse", lambda device: False)
    network = trained()
    before = {key: value.clone() for key, value in network.state_dict().items()}

    folded = Inference(network, CONFIG, CPU)._network

    assert isinstance(folded, MultitaskUNet)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_without_fusion_only_the_finest_scale_is_asked() -> None:
    network, image = trained(), pixels(1, 32, 32)
    plain = replace(CONFIG, inference=InferenceConfig(fusion=False))
    with torch.no_grad():
        batch = torch.from_numpy(image).permute(0, 3, 1, 2).float()
        finest = network(normalise(batch, MEAN, STD)).regions[0]

    regions, _ = Inference(network, plain, CPU)(image)

    np.testing.assert_allclose(regions, finest, atol=1e-4)
    assert not np.allclose(Inference(network, CONFIG, CPU)(image)[0], finest, atol=1e-2)


def warmed(network: MultitaskUNet, batch: torch.Tensor, pooling: str) -> list[torch.Tensor]:
    """Sets the heads so that every scale's heat is about what a trained network's is; gives the heat."""
    assert network.cells is not None
    with torch.no_grad():
        heads = list(network.cells.heads)[::-1]
        for level, (head, heat) in enumerate(zip(heads, network(batch).heat, strict=True)):
            height = 4.0**level if pooling == "sum" else 1.0
            scale = 0.3 * height / heat.std()
            head.weight *= scale
            head.bias.copy_((head.bias - heat.mean()) * scale + 0.4 * height)
        return list(network(batch).heat)


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_fused_heat_is_the_geometric_mean_of_the_scales_at_one_height(pooling: str) -> None:
    config = replace(
        CONFIG, inference=InferenceConfig(cell_fusion=True), targets=TargetConfig(heat_pooling=pooling)
    )
    network, image = trained(config), pixels(1, 32, 48)
    scales = warmed(
        network, normalise(torch.from_numpy(image).permute(0, 3, 1, 2).float(), MEAN, STD), pooling
    )
    product = np.ones((1, 2, 32, 48))
    for level, heat in enumerate(scales):
        up = nn.Upsample(size=(32, 48), mode="bilinear")(heat).double().numpy()
        product *= np.maximum(up / (4**level if pooling == "sum" else 1), MIN_FUSED_HEAT)

    fused = Inference(network, config, CPU)(image)[1]
    alone = Inference(network, replace(config, inference=InferenceConfig()), CPU)(image)[1]

    np.testing.assert_allclose(fused, product ** (1 / len(scales)), atol=1e-4)
    assert scales[0].min() < 0 < MIN_FUSED_HEAT * 0.999 < fused.min()
    assert np.abs(fused - alone).max() > 0.1
    assert 0.2 < np.median(fused) < 0.5  # sums come back to the height of the finest scale


def test_a_tile_says_the_same_alone_and_among_others() -> None:
    infer, image = Inference(trained(), CONFIG, CPU), pixels(5, 24, 32)

    together = infer(image)
    alone = [infer(image[i : i + 1]) for i in range(5)]

    for task in range(2):
        np.testing.assert_allclose(together[task], np.concatenate([maps[task] for maps in alone]), atol=1e-5)


def test_the_same_question_gets_the_same_bits() -> None:
    infer, image = Inference(trained(), CONFIG, CPU), pixels(2, 24, 32)

    first, second = infer(image), infer(image)

    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


def test_pixels_may_be_a_view_that_is_not_contiguous_or_not_writable() -> None:
    infer, image = Inference(trained(), CONFIG, CPU), pixels(1, 32, 32)
    view = image[:, ::-1][:, ::-1]
    locked = image.copy()
    locked.flags.writeable = False

    expected = infer(image)[1]

    np.testing.assert_array_equal(infer(view)[1], expected)
    np.testing.assert_array_equal(infer(locked)[1], expected)


@pytest.mark.parametrize(("regions", "cells"), [((), ("T", "NK")), (("Tumor",), ())])
def test_a_task_without_classes_gives_an_axis_of_length_0(
    regions: tuple[str, ...], cells: tuple[str, ...]
) -> None:
    config = replace(CONFIG, region_classes=regions, cell_classes=cells)

    logits, heat = Inference(trained(config), config, CPU)(pixels(2, 16, 8))

    assert logits.shape == (2, len(regions), 16, 8)
    assert heat.shape == (2, len(cells), 16, 8)


def test_the_padding_is_the_nearest_colour_to_what_normalises_to_zero() -> None:
    assert CONFIG.pad_value == (181, 150, 127)
    assert replace(CONFIG, mean=(0.0, 254.5, 255.0)).pad_value == (0, 255, 255)

    padding = torch.tensor(CONFIG.pad_value, dtype=torch.float32).view(1, 3, 1, 1)
    assert normalise(padding, MEAN, STD).abs().max() <= 0.5 / 40


def test_a_model_may_normalise_each_image_by_its_own_statistics() -> None:
    network, image = trained(), pixels(1, 24, 32)
    own = ChannelStatistics((120.0, 130.0, 140.0), (70.0, 60.0, 50.0))
    per_image = Inference(network, replace(CONFIG, normalisation="image"), CPU)

    with pytest.raises(ValueError, match="say which"):
        per_image(image)
    with pytest.raises(ValueError, match="missing"):
        per_image.for_image(None)
    asked = per_image.for_image(own)
    expected = Inference(network, replace(CONFIG, mean=own.mean, std=own.std), CPU)(image)

    np.testing.assert_array_equal(asked(image)[1], expected[1])
    assert asked.config.pad_value == (120, 130, 140)
    assert not np.allclose(expected[1], Inference(network, CONFIG, CPU)(image)[1], atol=0.01)


def test_a_model_that_normalises_by_its_training_set_asks_no_image() -> None:
    infer, image = Inference(trained(), CONFIG, CPU), pixels(1, 24, 32)
    own = ChannelStatistics((120.0, 130.0, 140.0), (70.0, 60.0, 50.0))

    np.testing.assert_array_equal(infer.for_image(own)(image)[1], infer(image)[1])


def test_the_best_device_is_one_that_can_compute() -> None:
    assert torch.ones(2, device=best_device()).sum().item() == 2
