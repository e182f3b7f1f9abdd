"""The multitask U-Net (paper, Fig. 4): one shared encoder, one decoder per task, heads at every scale.

Comes in from `config` and the number of classes, goes to `training` and `inference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from tissuemodel.blocks import Decoder, Encoder
from tissuemodel.config import NetworkConfig

PAPER_WIDTHS = (24, 48, 96, 192, 384)
COMPACT_WIDTHS = (16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Maps:
    """What the network gives: one tensor for each scale 1, 1/2, 1/4, ..., full size first.

    Attributes:
        regions: (B, region class, H / 2^i, W / 2^i), logits; empty without region classes.
        heat: (B, cell class, H / 2^i, W / 2^i); empty without cell classes.
    """

    regions: list[Tensor]
    heat: list[Tensor]


class MultitaskUNet(nn.Module):
    """The network for any number of region and cell classes; with only one kind it is the single-task network.

    Args:
        config: Widths and the heat maps' activation.
        regions: Number of region classes, 0 for none.
        cells: Number of cell classes, 0 for none.

    Raises:
        ValueError: There is nothing to predict.
    """

    def __init__(self, config: NetworkConfig, regions: int, cells: int) -> None:
        super().__init__()
        if regions + cells == 0:
            raise ValueError("a network needs at least one region class or one cell class")
        self.config = config
        self.encoder = Encoder(3, config.widths)
        self.regions = Decoder(config.widths, regions) if regions else None
        self.cells = Decoder(config.widths, cells) if cells else None

    def forward(self, image: Tensor) -> Maps:
        """Applies the network.

        Args:
            image: (B, 3, H, W), normalised; H and W multiples of the stride.

        Raises:
            ValueError: A side is no multiple of the stride.
        """
        self.check_sides(image)
        features = self.encoder(image)
        regions = self.regions(features) if self.regions is not None else []
        heat = self.cells(features) if self.cells is not None else []
        return Maps(regions, self.activated(heat))

    def check_sides(self, image: Tensor) -> None:
        """Refuses an image (B, 3, H, W) that cannot be halved as often as the network does.

        Raises:
            ValueError: A side is no multiple of the stride.
        """
        stride = self.config.stride
        if image.shape[-1] % stride or image.shape[-2] % stride:
            raise ValueError(
                f"image of {tuple(image.shape[-2:])} px: pad both sides to multiples of {stride}"
            )

    def activated(self, heat: list[Tensor]) -> list[Tensor]:
        """What the heads give of heat, through the activation that the configuration asks for."""
        return [torch.sigmoid(level) for level in heat] if self.config.heat_activation == "sigmoid" else heat


@lru_cache(maxsize=8)
def reach(depth: int, fusion: bool = True) -> int:
    """How many pixels away an input pixel can still change an output pixel, measured by gradient.

    A copy of the network with one channel a level, positive weights, no rectifier's gaps and average instead of
    maximum pooling lets every path through; the gradient of one output pixel then is non-zero exactly where the
    network of any width can look. Every position within the stride is measured, since each sees another part.

    Args:
        depth: Number of levels, `len(NetworkConfig.widths)`.
        fusion: Whether the maps of all scales are multiplied, regions' or cells': both decoders are built alike.

    >>> reach(2)
    11
    """
    stride = 2 ** (depth - 1)
    side = stride * 24  # the reach is less than nine strides at every depth; asserted below
    with torch.random.fork_rng(devices=[]):
        network = _open_up(MultitaskUNet(NetworkConfig(widths=(1,) * depth), regions=1, cells=0))
    # All operations are symmetric in rows and columns: one narrow strip along x tells the whole reach.
    image = torch.ones(stride, 3, stride, side, dtype=torch.float64, requires_grad=True)
    total = _sum_of_scales(network(image).regions[: None if fusion else 1])
    centre = side // 2
    phases = torch.arange(stride)
    (gradient,) = torch.autograd.grad(total[phases, 0, 0, centre + phases].sum(), image)
    touched = gradient.abs().sum(dim=(1, 2)) > 0
    hits = [(centre + phase, line.nonzero().flatten()) for phase, line in enumerate(touched)]
    farthest: int = max(max(at - int(hit.min()), int(hit.max()) - at) for at, hit in hits)
    if farthest >= side // 2 - stride:
        raise RuntimeError(f"the reach of {depth} levels was measured on too small an image")
    return farthest


def _sum_of_scales(levels: list[Tensor]) -> Tensor:
    """Adds all scales at full size, as the fusion does."""
    size = levels[0].shape[-2:]
    return levels[0] + sum(
        functional.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels[1:]
    )


def _open_up(network: MultitaskUNet) -> MultitaskUNet:
    """Every path through the network gets a positive weight, in float64."""
    network.encoder.pool = nn.AvgPool2d(2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.double().eval()
