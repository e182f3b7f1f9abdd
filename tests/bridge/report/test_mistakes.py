"""Of a large image only the part with most mistakes is read and drawn, at a coarser pixel size where it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from drawn_tissue import ArrayImage
from tissuebridge.comparison import Compared, compare
from tissuebridge.objects import CELLS_MARKED, PathClass, PathObject
from tissuebridge.pipeline import analyse
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuebridge.report import mistakes
from tissuebridge.report.mistakes import (
    FALSE,
    MISSED,
    OTHER_CLASS,
    UNJUDGED,
    draw_cell_mistakes,
    draw_region_mistakes,
)

MODEL = ModelDescription(
    name="left and no cell",
    digest="d",
    region_classes=("Left", "Right"),
    cell_classes=("Dot", "Spot"),
    colors={"Left": (200, 30, 30), "Right": (30, 30, 200)},
    pixel_size_um=0.5,
    stride=16,
    reach=0,
    pad_value=(255, 255, 255),
    cell_diameters_um=(5.0, 5.0),
    min_distance_um=(2.5, 2.5),
    thresholds=(0.5, 0.5),
    floor=0.1,
    cross_class_radius_um=None,
    mode_filter=False,
)


@dataclass
class SaysLeft:
    """Calls all "Left", and a dot wherever a pixel is black."""

    description: ModelDescription = MODEL

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        regions = np.zeros((len(tiles), 2, *tiles.shape[1:3]), np.float32)
        regions[:, 1] = -9
        heat = np.zeros_like(regions)
        heat[:, 0] = tiles.max(axis=3) == 0
        return Prediction(regions, heat)


@dataclass
class CountedImage(ArrayImage):
    """Remembers the largest block that was read and which px of the full resolution were."""

    blocks: list[tuple[int, int, int, int]] = field(default_factory=list)

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        self.blocks.append((x, y, width, height))
        return super().read_block(level, x, y, width, height)


def marks(name: str, *xy: tuple[float, float]) -> PathObject:
    return PathObject(shapely.MultiPoint(xy), path_class=PathClass(name))


def area(name: str, *bounds: float) -> PathObject:
    return PathObject(shapely.box(*bounds), path_class=PathClass(name))


def compared(
    folder: Path,
    side: int,
    drawn: Sequence[PathObject],
    black: Sequence[tuple[int, int]] = (),
    downsample: int = 1,
) -> Compared:
    """A grey image of which some pixels (x, y) are black; `downsample` px of it make one of the model's."""
    pixels = np.full((side * downsample, side * downsample, 3), 230, np.uint8)
    for x, y in black:
        pixels[y * downsample : (y + 1) * downsample, x * downsample : (x + 1) * downsample] = 0
    image = CountedImage(pixels, MODEL.pixel_size_um / downsample, drawn=drawn)
    found = analyse(image, SaysLeft(), journal_dir=folder)
    image.blocks.clear()
    return compare(image, drawn, found, tolerance_px=8.0, border_um=4.0)


def has(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> bool:
    """Whether a colour is in the picture, not in its legend (some rows below its width)."""
    square = picture[: picture.shape[1]].astype(int)
    return int((np.abs(square - color).max(axis=2) < 12).sum()) > 20


def read_box(of: Compared) -> tuple[int, int, int, int]:
    assert isinstance(of.image, CountedImage)
    x, y, width, height = np.array(of.image.blocks).T
    return int(x.min()), int(y.min()), int((x + width).max()), int((y + height).max())


@pytest.mark.parametrize("downsample", [1, 2])
def test_cells_are_shown_where_most_mistakes_are(tmp_path: Path, downsample: int) -> None:
    many, one = [(1200.5 + 20 * i, 900.5) for i in range(5)], [(100.5, 100.5)]
    scaled = [(x * downsample, y * downsample) for x, y in [*many, *one]]
    image = compared(tmp_path, 1500, [marks("Dot", *scaled)], downsample=downsample)

    picture = draw_cell_mistakes(image)

    left, top, right, bottom = (side / downsample for side in read_box(image))
    assert (right - left, bottom - top) == (512, 512)
    assert left <= 1200 < 1280 < right
    assert top <= 900 < bottom
    assert picture.shape[1] == mistakes.OUTPUT_PX
    assert has(picture, MISSED)
    assert not has(picture, FALSE)


def test_the_window_never_leaves_the_image(tmp_path: Path) -> None:
    image = compared(tmp_path, 700, [marks("Dot", (699.5, 699.5))])

    draw_cell_mistakes(image)

    assert read_box(image) == (700 - 512, 700 - 512, 700, 700)


@pytest.mark.parametrize(
    ("drawn", "colors"),
    [
        ([area(CELLS_MARKED, 0, 0, 200, 200), marks("Dot", (20.5, 20.5))], {FALSE, MISSED}),
        ([area(CELLS_MARKED, 0, 0, 200, 200), marks("Spot", (100.5, 100.5))], {OTHER_CLASS}),
        ([marks("Dot", (20.5, 20.5))], {UNJUDGED, MISSED}),
    ],
    ids=["false and missed", "another class", "not judged"],
)
def test_each_kind_of_mistake_has_its_colour(
    drawn: Sequence[PathObject], colors: set[tuple[int, int, int]], tmp_path: Path
) -> None:
    image = compared(tmp_path, 200, drawn, black=[(100, 100)])

    picture = draw_cell_mistakes(image)

    shown = {color for color in (FALSE, MISSED, OTHER_CLASS, UNJUDGED) if has(picture, color)}
    assert shown == colors


def test_large_regions_are_read_coarser_and_only_where_they_are_labelled(tmp_path: Path) -> None:
    image = compared(
        tmp_path, 2000, [area("Right", 600, 800, 1800, 1400), area("Left", 700, 1450, 900, 1600)]
    )

    picture = draw_region_mistakes(image)

    left, top, right, bottom = read_box(image)
    assert 500 < left < 600 < 1800 < right < 1900
    assert 700 < top < 800 < 1600 < bottom < 1700
    assert picture.shape[1] == mistakes.OUTPUT_PX
    scale = mistakes.OUTPUT_PX / (right - left)
    inside = picture[int((1100 - top) * scale), int((1200 - left) * scale)].astype(int)
    right_one = picture[int((1520 - top) * scale), int((800 - left) * scale)].astype(int)
    assert inside[0] - inside[2] > 60  # called Left, which is red
    assert np.abs(right_one - 230).max() < 12


def test_only_a_persons_outlines_of_the_models_classes_are_drawn(tmp_path: Path) -> None:
    drawn = [area("Right", 20, 20, 100, 100), replace(area("Gland", 120, 120, 180, 180), name="x")]
    image = compared(tmp_path, 200, drawn)

    outlines = list(mistakes._outlines(image, (0, 0, 200, 200), 1))

    assert [obj.class_name for obj in outlines] == ["Drawn: Right"]
