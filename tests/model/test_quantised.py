"""Rounding to 8 bits: half a step off at most, zero exact, and what decides stays as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tissuemodel.config import NetworkConfig
from tissuemodel.network import MultitaskUNet
from tissuemodel.quantised import QuantisedConvolution, input_ranges, quantised


def network() -> MultitaskUNet:
    torch.manual_seed(0)
    return MultitaskUNet(NetworkConfig(widths=(4, 8, 8)), 3, 2).eval()


def test_ranges_are_those_of_all_images_and_have_zero() -> None:
    net, images = network(), torch.randn(3, 3, 32, 32) + 5

    ranges = input_ranges(net, images)

    assert ranges["encoder.stages.0.0"] == (0.0, pytest.approx(float(images.max())))
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        input_ranges(network(), torch.zeros(0, 3, 32, 32))


def test_a_rounded_convolution_is_off_by_its_steps_and_keeps_zero() -> None:
    torch.manual_seed(1)
    exact = nn.Conv2d(4, 6, 3, padding=1)
    rounded = QuantisedConvolution(exact, -1.0, 3.0)
    features = torch.rand(1, 4, 16, 16) * 4 - 1

    with torch.no_grad():
        off = (rounded(features) - exact(features)).abs()
        nothing = torch.zeros(1, 4, 8, 8)
        torch.testing.assert_close(rounded(nothing), exact(nothing), atol=0, rtol=0)
        widest = exact.weight.abs().amax(dim=(1, 2, 3))

    # Half a step of what is seen times the weights, and half a step of each weight times what is seen.
    bound = exact.weight.abs().sum((1, 2, 3)) * (4 / 255) / 2 + 4 * 9 * (widest / 127 / 2) * (3 + 4 / 255)
    assert off.max() > 0
    assert (off.amax((0, 2, 3)) <= bound * 1.001).all()


def test_colours_and_heads_are_not_rounded_and_the_network_is_not_touched() -> None:
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}

    rounded = quantised(net, input_ranges(net, torch.randn(1, 3, 32, 32)))

    kinds = {name: type(module) for name, module in rounded.named_modules()}
    assert kinds["encoder.stages.0.0"] is nn.Conv2d
    assert kinds["regions.heads.0"] is nn.Conv2d
    assert kinds["encoder.stages.1.0"] is QuantisedConvolution
    assert kinds["cells.steps.0.reduce"] is QuantisedConvolution
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
