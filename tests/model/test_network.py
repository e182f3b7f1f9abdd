"""The network's size, shapes and reach, and the fusion of its scales, against counts and arithmetic of their own."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tissuemodel.config import NetworkConfig
from tissuemodel.fusion import _fuse_on_device, fuse
from tissuemodel.network import COMPACT_WIDTHS, PAPER_WIDTHS, MultitaskUNet

SINGLE_TASK_PAIR_WIDTHS = (58, 116, 232, 464)


def parameters(widths: tuple[int, ...], regions: int, cells: int) -> int:
    network = MultitaskUNet(NetworkConfig(widths), regions, cells)
    return sum(parameter.numel() for parameter in network.parameters())


def gmac(network: MultitaskUNet, side: int) -> float:
    """Multiplications of all convolutions, counted as they happen."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return total / 1e9


def test_the_paper_preset_has_seven_million_parameters() -> None:
    assert parameters(PAPER_WIDTHS, regions=5, cells=3) == 7_065_560


def test_the_paper_preset_takes_257_gmac_for_1024_px() -> None:
    network = MultitaskUNet(NetworkConfig(PAPER_WIDTHS), regions=5, cells=3)

    # Every convolution's work grows with the area, so that a sixty-fourth of it tells the whole.
    assert 64 * gmac(network, 128) == pytest.approx(257, abs=0.5)


def test_two_tasks_share_a_quarter_of_two_networks_of_equal_widths() -> None:
    pair = parameters(PAPER_WIDTHS, 5, 0) + parameters(PAPER_WIDTHS, 0, 3)

    assert pair == pytest.approx(9.72e6, abs=5e3)
    assert parameters(PAPER_WIDTHS, 5, 3) / pair == pytest.approx(0.727, abs=5e-4)


def test_the_papers_pair_of_fourteen_million_is_wider_and_twice_as_large() -> None:
    regions_only = parameters(SINGLE_TASK_PAIR_WIDTHS, 5, 0)
    cells_only = parameters(SINGLE_TASK_PAIR_WIDTHS, 0, 3)

    assert (regions_only, cells_only) == (7_033_153, 7_032_335)
    assert regions_only + cells_only == pytest.approx(14.07e6, abs=1e4)
    assert parameters(PAPER_WIDTHS, 5, 3) / (regions_only + cells_only) == pytest.approx(0.50, abs=5e-3)


def test_the_compact_preset_has_less_than_a_million_parameters_and_one_level_less() -> None:
    assert 0.5e6 <= parameters(COMPACT_WIDTHS, regions=5, cells=3) <= 1e6
    assert len(COMPACT_WIDTHS) == len(PAPER_WIDTHS) - 1


@pytest.mark.parametrize("widths", [(4, 6), (4, 5, 6, 7), (3, 4, 5, 6, 7)])
def test_every_scale_halves_the_one_before(widths: tuple[int, ...]) -> None:
    config = NetworkConfig(widths)

    maps = MultitaskUNet(config, regions=5, cells=3).eval()(torch.zeros(2, 3, 32, 64))

    sizes = [(32 >> level, 64 >> level) for level in range(len(widths) - 1)]
    assert [tuple(level.shape) for level in maps.regions] == [(2, 5, *size) for size in sizes]
    assert [tuple(level.shape) for level in maps.heat] == [(2, 3, *size) for size in sizes]


@pytest.mark.parametrize(("regions", "cells"), [(5, 0), (0, 3)])
def test_the_same_class_makes_the_network_of_one_task(regions: int, cells: int) -> None:
    maps = MultitaskUNet(NetworkConfig((4, 5, 6)), regions, cells).eval()(torch.zeros(1, 3, 8, 8))

    assert [level.shape[1] for level in maps.regions] == [regions, regions][:regions]
    assert [level.shape[1] for level in maps.heat] == [cells, cells][:cells]


def test_a_network_without_a_task_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one region class or one cell class"):
        MultitaskUNet(NetworkConfig((4, 5)), regions=0, cells=0)


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (8, 8), (17, 16)])
def test_a_side_off_the_stride_is_refused_with_the_cure(size: tuple[int, int]) -> None:
    network = MultitaskUNet(NetworkConfig((2, 2, 2, 2, 2)), regions=1, cells=1)

    with pytest.raises(ValueError, match="multiples of 16"):
        network(torch.zeros(1, 3, *size))


def test_sigmoid_bounds_the_heat_and_leaves_the_regions_alone() -> None:
    torch.manual_seed(0)
    linear = MultitaskUNet(NetworkConfig((4, 5, 6)), regions=2, cells=2).eval()
    bounded = MultitaskUNet(NetworkConfig((4, 5, 6), "sigmoid"), regions=2, cells=2).eval()
    bounded.load_state_dict(linear.state_dict())
    image = torch.randn(1, 3, 16, 16)

    plain, squashed = linear(image), bounded(image)

    for a, b in zip(plain.heat, squashed.heat, strict=True):
        torch.testing.assert_close(1 / (1 + torch.exp(-a)), b)
    for a, b in zip(plain.regions, squashed.regions, strict=True):
        torch.testing.assert_close(a, b)


# ---- Reach ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(2, 1), (2, 1, 2), (2, 3, 2, 3), (2, 1, 2, 2, 3), (1, 1, 2, 1, 2, 1)])
@pytest.mark.parametrize("fusion", [True, False])
def test_no_pixel_beyond_the_reach_changes_the_output_and_one_at_the_reach_does(
    widths: tuple[int, ...], fusion: bool
) -> None:
    network = positive_network(widths)
    stride = network.config.stride
    side, centre = 24 * stride, 12 * stride
    # One bright pixel in the dark, at every place within the stride: with positive weights and real max pooling,
    # whatever can be reached is lit.
    images = torch.zeros(stride, 3, stride, side, dtype=torch.float64)
    for phase in range(stride):
        images[phase, :, :, centre + phase] = 1.0

    with torch.no_grad():
        levels = network(images).regions
    lit = sum(upsampled(level, side) for level in levels[: None if fusion else 1])

    columns = [line.amax(dim=(0, 1)).nonzero().flatten() - centre - i for i, line in enumerate(lit)]
    assert max(int(column.abs().max()) for column in columns) == network.config.reach


def positive_network(widths: tuple[int, ...]) -> MultitaskUNet:
    torch.manual_seed(1)
    network = MultitaskUNet(NetworkConfig(widths), regions=2, cells=0).double().eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def upsampled(level: Tensor, side: int) -> Tensor:
    return functional.interpolate(level, scale_factor=side // level.shape[-1], mode="bilinear")


# ---- Fusion --------------------------------------------------------------------------------------------


def logits_of_four_scales() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [4 * torch.randn(2, 5, 16 >> i, 24 >> i, generator=generator) for i in range(4)]


def product_of_probabilities(logits: list[Tensor]) -> np.ndarray:
    """The paper's "multiply", on probabilities whose logarithms are up-sampled."""
    product = np.ones((2, 5, 16, 24))
    for level in logits:
        exponentials = np.exp(level.numpy().astype(float))
        log_p = torch.from_numpy(np.log(exponentials / exponentials.sum(axis=1, keepdims=True)))
        product *= np.exp(upsampled(log_p, 24).numpy())
    return product


def test_fusion_multiplies_the_scales_and_renormalises() -> None:
    logits = logits_of_four_scales()
    product = product_of_probabilities(logits)

    fused = fuse(logits).softmax(dim=1).numpy()

    np.testing.assert_allclose(fused, product / product.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)


def test_fusion_decides_as_the_papers_softmax_of_the_product() -> None:
    logits = logits_of_four_scales()
    product = product_of_probabilities(logits)
    softmax = np.exp(product) / np.exp(product).sum(axis=1, keepdims=True)

    fused = fuse(logits)

    assert softmax.max() <= np.e / (np.e + 4)  # 0.405: why the product is renormalised instead
    ranked = np.sort(product, axis=1)
    clear = ranked[:, -1] > 1.001 * ranked[:, -2]
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(fused.argmax(dim=1).numpy()[clear], softmax.argmax(axis=1)[clear])


def test_without_fusion_the_finest_scale_alone_decides() -> None:
    logits = logits_of_four_scales()

    torch.testing.assert_close(fuse(logits[:1]), logits[0], atol=0, rtol=0)
    assert not np.allclose(fuse(logits[:1]), fuse(logits), atol=0.1)


def test_fusion_on_a_cpu_is_torchs_whatever_lies_how_in_memory() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(2, 5, 96 >> i, 48 >> i) for i in range(4)]
    before = [level.clone() for level in logits]
    expected = _fuse_on_device(logits)

    for layout in (torch.contiguous_format, torch.channels_last):
        found = fuse([level.contiguous(memory_format=layout) for level in logits])
        assert found.is_contiguous()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert all(torch.equal(level, same) for level, same in zip(logits, before, strict=True))


def test_fusion_of_certain_scales_neither_overflows_nor_loses_the_winner() -> None:
    certain = [
        torch.tensor([800.0, -800.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 8 >> i, 8 >> i) for i in range(3)
    ]

    fused = fuse(certain)

    assert bool(fused.isfinite().all())
    assert fused.softmax(dim=1)[0, 0].min().item() == 1.0
