"""Images drawn in code and a network made by hand, for tests of the engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import PathObject
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuebridge.project.base import ImageIdentity, Level
from tissuemodel.colours import usual_colours
from tissuemodel.labels import Example

TISSUE_COLORS = ((200, 90, 150), (110, 170, 90), (235, 225, 235), (90, 90, 190))
CELL_COLORS = ((90, 45, 20), (20, 20, 140))
CELLS_PER_MPX = 4000


@dataclass
class ArrayImage:
    """An image of one level whose pixels lie in memory; it is its own pixel source."""

    pixels: NDArray[np.uint8]
    pixel_size_um: float = 0.5
    name: str = "drawn"
    drawn: Sequence[PathObject] = ()
    is_closed: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = ()

    @property
    def identity(self) -> ImageIdentity:
        height, width = self.pixels.shape[:2]
        return ImageIdentity(f"{self.name}.tif", 0, "", width, height, round(self.pixel_size_um, 4))

    @property
    def levels(self) -> Sequence[Level]:
        height, width = self.pixels.shape[:2]
        return [Level(width, height, 1.0)]

    def objects(self) -> Sequence[PathObject]:
        return self.drawn

    def open_pixels(self) -> Self:
        self.is_closed = False
        return self

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        assert not self.is_closed
        block = self.pixels[y : y + height, x : x + width]
        assert block.shape == (height, width, 3)
        return block

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def draw_tissue(height: int, width: int, seed: int, noise: float = 12) -> NDArray[np.uint8]:
    """Blobs of four tissue colours with ragged borders, sprinkled with round cells of two colours."""
    return draw_example(height, width, seed, noise).image


def draw_example(
    height: int, width: int, seed: int, noise: float = 12, *, cells_per_mpx: float = CELLS_PER_MPX
) -> Example:
    """The same with what is truly where, completely annotated."""
    random = np.random.default_rng(seed)
    fields = [cv2.GaussianBlur(random.random((height, width)), (0, 0), 12) for _ in TISSUE_COLORS]
    regions = np.argmax(fields, axis=0).astype(np.uint8)
    count = round(cells_per_mpx * height * width / 1e6)
    centres = np.stack([random.integers(0, width, count), random.integers(0, height, count)], axis=1)
    kinds, radii = random.integers(0, 2, count), random.integers(3, 6, count)
    image = np.array(TISSUE_COLORS, np.float32)[regions]
    for centre, kind, radius in zip(centres.tolist(), kinds.tolist(), radii.tolist(), strict=True):
        cv2.circle(image, centre, radius, CELL_COLORS[kind], -1)
    image = cv2.GaussianBlur(image, (0, 0), 1.0) + random.normal(0, noise, image.shape)
    return Example(
        name=f"drawn {seed}",
        image=np.clip(image, 0, 255).astype(np.uint8),
        regions=regions,
        points=(centres + 0.5).astype(np.float32),
        point_classes=kinds.astype(np.uint8),
        negatives=np.zeros((0, 2), np.float32),
        complete=np.full((height, width), 3, np.uint16),
        ignored=np.zeros((height, width), np.bool_),
    )


def colours_of(pixels: NDArray[np.uint8], pixel_size_um: float = 0.5) -> str:
    """What a model says of its usual colours that learnt from these pixels alone."""
    height, width = pixels.shape[:2]
    none, no_class, blank = (
        np.zeros((0, 2), np.float32),
        np.zeros(0, np.uint8),
        np.zeros((height, width), np.uint8),
    )
    complete, ignored = blank.astype(np.uint16), blank.astype(np.bool_)
    return usual_colours(
        [Example("drawn", pixels, blank, none, no_class, none, complete, ignored)], pixel_size_um
    )


class NullNetwork:
    """A network without weights: filters of colour likeness that reach exactly as far as promised.

    Outside the tile they see zeros, as a convolution's padding does.

    Args:
        reach: One-sided reach in px.
        cell_classes: How many of the two cell classes it knows.
    """

    def __init__(self, reach: int = 60, cell_classes: int = 2, stride: int = 16) -> None:
        self.calls = 0
        self.shapes: list[tuple[int, ...]] = []
        names = ("Lymphocyte", "Mast cell")[:cell_classes]
        self.description = ModelDescription(
            name="null",
            digest=f"null-{reach}-{cell_classes}",
            region_classes=("Tumor", "Stroma", "Empty", "Vessel"),
            cell_classes=names,
            colors={"Tumor": (200, 0, 0), "Lymphocyte": (90, 45, 20)},
            pixel_size_um=0.5,
            stride=stride,
            reach=reach,
            pad_value=(180, 150, 170),
            cell_diameters_um=(5.0, 6.0)[:cell_classes],
            min_distance_um=(3.1, 2.5)[:cell_classes],
            thresholds=(0.35, 0.35)[:cell_classes],
            floor=0.1,
            cross_class_radius_um=2.5,
            mode_filter=True,
        )

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        self.calls += 1
        self.shapes.append(tiles.shape)
        maps = [self._maps(tile.astype(np.float32)) for tile in tiles]
        return Prediction(np.stack([regions for regions, _ in maps]), np.stack([heat for _, heat in maps]))

    def _maps(self, tile: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        likeness = [np.exp(-(((tile - color) / 60) ** 2).sum(axis=2)) for color in TISSUE_COLORS]
        near = [_mean(like, 4) for like in likeness]
        # The widest filter reaches exactly as far as promised, and weighs enough to move borders and peaks.
        far = [_mean(_mean(like, self.description.reach - 8), 8) for like in likeness]
        odds = np.stack(near) + 2 * np.stack(far)
        logits = np.log(odds + 1e-3) - np.log((odds + 1e-3).sum(axis=0))
        heat = np.zeros((len(self.description.cell_classes), *tile.shape[:2]), np.float32)
        for index in range(len(heat)):
            like = np.exp(-(((tile - CELL_COLORS[index]) / 70) ** 2).sum(axis=2))
            heat[index] = (
                cv2.GaussianBlur(like, (11, 11), 2.0, borderType=cv2.BORDER_CONSTANT) + 0.3 * far[index]
            )
        return logits.astype(np.float32), heat


def _mean(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    side = 2 * radius + 1
    # In float64, so that the running sums of the box filter round the same wherever it starts.
    total = cv2.boxFilter(values.astype(np.float64), -1, (side, side), borderType=cv2.BORDER_CONSTANT)
    return total.astype(np.float32)
