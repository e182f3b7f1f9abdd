"""The multitask U-Net (paper, Fig. 4): one shared encoder, one decoder per task, heads at every scale.

Comes in from `config` and the number of classes, goes to `training` and `inference`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
