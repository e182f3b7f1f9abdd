"""The seam between the engine and a network: what a model is, and pixels in, maps out.

Implemented by `local` (a trained checkpoint in this process) and by null networks in tests and benchmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tissuemodel.labels import ChannelStatistics


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the engine must know of a model. Lengths in um; `stride` and `reach` in px of the model's grid.

    Attributes:
        name: The model's name.
        digest: sha256 (hex) of weights and configuration.
        region_classes: Names of the region classes; empty for a cells-only model.
        cell_classes: Names of the cell classes; empty for a regions-only model.
        colors: Class name to (red, green, blue).
        pixel_size_um: The pixel size of the model's grid.
        stride: Tile origins and sizes are multiples of it.
        reach: One-sided reach of the network (`NetworkConfig.reach`).
        pad_value: What stands for pixels outside the image (one fixed RGB value).
        cell_diameters_um: Diameter of each cell class, as trained.
        min_distance_um: A peak is the maximum of the disc of this radius; one for each cell class.
        thresholds: A cell counts from this score; one for each cell class.
        floor: Candidates below this score are not kept at all.
        cross_class_radius_um: Of two cells of different classes within it the higher score stays; None: both stay.
        mode_filter: Whether the 3x3 mode filter smooths the regions.
        normalises_each_image: Whether it must be told the statistics of each image (`Predictor.for_image`).
        usual_colours: The colours it learnt from (`tissuemodel.colours`); "" where it does not say.
        other_numbers: Names of the numbers that each cell carries; empty: a score for each cell class. The first one
            is the cell's score.
        precision: What the network computes in: "fp32", or "bf16" or "int8", whose results differ a little.
    """

    name: str
    digest: str
    region_classes: tuple[str, ...]
    cell_classes: tuple[str, ...]
    colors: dict[str, tuple[int, int, int]]
    pixel_size_um: float
    stride: int
    reach: int
    pad_value: tuple[int, int, int]
    cell_diameters_um: tuple[float, ...]
    min_distance_um: tuple[float, ...]
    thresholds: tuple[float, ...]
    floor: float
    cross_class_radius_um: float | None
    mode_filter: bool
    normalises_each_image: bool = False
    usual_colours: str = ""
    other_numbers: tuple[str, ...] = ()
    precision: str = "fp32"

    @property
    def is_quantised(self) -> bool:
        """Whether it must see some of each image's pixels first (`Predictor.for_image`)."""
        return self.precision == "int8"

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numbers that each cell carries, as QuPath's measurements."""
        return self.other_numbers or tuple(f"tissuebridge: score {name}" for name in self.cell_classes)

    def score_of(self, scores: NDArray[np.float32], class_index: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The score of each cell: that of its own class, or the first of `other_numbers`.

        Args:
            scores: float32 (n, number).
            class_index: uint8 (n,).

        Returns:
            float32 (n,).
        """
        own = np.zeros_like(class_index) if self.other_numbers else class_index
        return scores[np.arange(len(scores)), own]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of a batch of tiles, before anything is decided.

    Attributes:
        logits: float32 (tile, region class, row, col), fused over the scales; class axis 0 long for a
            model without regions.
        heat: float32 (tile, cell class, row, col), unclamped; class axis 0 long for a model without cells.
    """

    logits: NDArray[np.float32]
    heat: NDArray[np.float32]


class Predictor(Protocol):
    """A network that can be asked."""

    @property
    def description(self) -> ModelDescription:
        """What the engine must know of the model."""
        ...

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        """Applies the network.

        Args:
            tiles: uint8 (tile, row, col, 3); rows and columns multiples of `ModelDescription.stride`.

        The engine refuses maps with NaN or infinity, whoever gives them.
        """
        ...

    def for_image(
        self, statistics: ChannelStatistics | None = None, squares: NDArray[np.uint8] | None = None
    ) -> Predictor:
        """The network for one image; asked only where it must know something of it.

        Args:
            statistics: Of the whole image; given where `ModelDescription.normalises_each_image`. Also what stands for
                pixels outside follows from them.
            squares: uint8 (square, row, col, 3), pixels from all over the image; given where
                `ModelDescription.is_quantised`.
        """
        ...
