"""Which classes a network knows, and one annotated piece of an image as arrays.

Comes in from the bridge's `targets`, goes to `dataset` and `training`. Knows no QuPath and no files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORE_LABEL: Final = 255
"""Region label of a pixel that nobody labelled; also "not analysed" in results."""

MAX_CELL_CLASSES: Final = 16
"""`Example.complete` keeps one bit per cell class."""


class ChannelStatistics(NamedTuple):
    """What pixels are normalised by.

    Attributes:
        mean: Of red, green and blue, in 0..255.
        std: Standard deviation of each, in 0..255; a flat channel has 1.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """The fixed RGB value that stands for pixels outside an image: the mean.

        After normalisation it is (nearly) the zero that the network's own padding puts there.
        """
        red, green, blue = (math.floor(mean + 0.5) for mean in self.mean)
        return red, green, blue

    @staticmethod
    def of_counts(counts: NDArray[np.integer[Any]]) -> ChannelStatistics:
        """From how often each value occurs: (3, 256), red, green, blue.

        >>> ChannelStatistics.of_counts(np.eye(256, dtype=int)[[7, 8, 255]])
        ChannelStatistics(mean=(7.0, 8.0, 255.0), std=(1.0, 1.0, 1.0))
        """
        values, pixels = np.arange(256), counts[0].sum()
        mean = counts @ values / pixels
        variance = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / pixels
        red, green, blue = zip(mean.tolist(), np.maximum(np.sqrt(variance), 1.0).tolist(), strict=True)
        return ChannelStatistics((red[0], green[0], blue[0]), (red[1], green[1], blue[1]))


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The classes of a model; a class's index is its place.

    Attributes:
        regions: Names of the region classes, in order of priority (first wins ties).
        cells: Names of the cell classes.
        colors: Name to (red, green, blue), for both kinds.
    """

    regions: tuple[str, ...]
    cells: tuple[str, ...]
    colors: dict[str, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Example:
    """A piece of an annotated image at the model's pixel size.

    Attributes:
        name: Image and place, for messages.
        image: uint8 (row, col, 3).
        regions: uint8 (row, col), index of the region class or `IGNORE_LABEL`.
        points: float32 (n, 2), cell centres (x, y) in px of this array, pixel (0, 0)'s centre at (0.5, 0.5).
        point_classes: uint8 (n,), index of the cell class.
        negatives: float32 (m, 2), centres of things that are no cell (hard negatives).
        complete: uint16 (row, col), bit c set where every cell of class c is marked.
        ignored: bool (row, col), where neither task counts.
        image_name: Name of the image that it is a piece of, shared by all pieces of one image; empty: `name`.
        statistics: Of the whole image; None where the model does not normalise each image by its own.
    """

    name: str
    image: NDArray[np.uint8]
    regions: NDArray[np.uint8]
    points: NDArray[np.float32]
    point_classes: NDArray[np.uint8]
    negatives: NDArray[np.float32]
    complete: NDArray[np.uint16]
    ignored: NDArray[np.bool_]
    image_name: str = ""
    statistics: ChannelStatistics | None = None
