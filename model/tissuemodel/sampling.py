"""Where crops are cut: every class is seen often, no image dominates, and little area is wasted.

Comes in from `labels` as `Example`s; `dataset` asks for the place of each crop, and for places that cover everything.

What a crop is to show is drawn first: mostly a region class or a cell class (or what only looks like a cell), all
equally often; then one of the images that have it, all equally often, however much of it they have; then one of its
places there. The other crops are drawn from all that is annotated, by area, so that the common is seen as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tissuemodel.config import ModelConfig
from tissuemodel.heatmaps import cell_mask, sigma_px
from tissuemodel.labels import IGNORE_LABEL, Example

Corner = tuple[int, int]
"""(left, top) of a crop in px of its example; may be negative."""

ANYWHERE: Final = 1 / 3
"""This share of the crops is drawn from all that is annotated, by area."""
PLACES: Final = 2000
"""At most this many places of each class are remembered for each example."""
REACH_SIGMAS: Final = 5.0
"""Cells this far outside a crop come along with it: their heat reaches in, also when a deformation moves them."""

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class _Places:
    """Places of one kind: int32 (n, 6) of (x, y) and the patch (left, top, right, bottom) that they lie in.

    Attributes:
        examples: Indices of the examples that have some.
        shares: Up to which random number each of these is chosen: running sums that end at 1.
        places: One array for each.
    """

    examples: list[int]
    shares: NDArray[np.float64]
    places: list[NDArray[np.int32]]


class CropSampler:
    """Draws places of crops.

    Args:
        examples: Annotated pieces of images.
        config: Classes, crop size and seed.

    Raises:
        ValueError: Nothing is annotated in any of them.
    """

    def __init__(self, examples: Sequence[Example], config: ModelConfig) -> None:
        self._sizes = [(example.image.shape[1], example.image.shape[0]) for example in examples]
        self._side = config.training.crop_px
        found = [
            _kinds_of_places(example, config, np.random.default_rng([config.training.seed, index, 1]))
            for index, example in enumerate(examples)
        ]
        images = [example.image_name or example.name for example in examples]
        regions, cells = len(config.region_classes), len(config.cell_classes)
        # What looks like a cell is a class of its own beside the cells.
        tasks = range(regions), range(regions, regions + cells + bool(cells))
        subjects = [
            [by_image for kind in task if (by_image := _by_image(found, kind, images))] for task in tasks
        ]
        self._tasks = [task for task in subjects if task]
        self._anywhere = _joined(range(len(examples)), found, kind=-1)
        if not self._anywhere.examples:
            raise ValueError(
                f"none of the {len(examples)} examples has an annotation of the classes "
                f"{', '.join(config.region_classes + config.cell_classes)}; annotate regions or cells"
            )

    def draw(self, rng: np.random.Generator) -> tuple[int, Corner]:
        """The example, by its index, and the corner of a random crop."""
        source = self._anywhere
        if self._tasks and rng.random() >= ANYWHERE:
            source = _one_of(_one_of(_one_of(self._tasks, rng), rng), rng)
        k = min(int(np.searchsorted(source.shares, rng.random(), "right")), len(source.examples) - 1)
        place = _one_of(source.places[k], rng).tolist()
        size = self._sizes[source.examples[k]]
        left, top = (
            _corner_along(place[axis], place[2 + axis], place[4 + axis], size[axis], self._side, rng)
            for axis in (0, 1)
        )
        return source.examples[k], (left, top)


def annotated(example: Example, config: ModelConfig) -> NDArray[np.bool_]:
    """Where one of the two tasks has something to learn, (row, col)."""
    cells = cell_mask(example.points, example.negatives, example.complete, example.ignored, _sigmas(config))
    known = example.regions < len(config.region_classes)
    known &= ~example.ignored
    known |= cells.any(axis=0)
    return known


def cover(example: Example, config: ModelConfig) -> list[Corner]:
    """Crops that share no pixel and together hold all that is annotated, in row order."""
    known, side = annotated(example, config), config.training.crop_px
    rows, cols = (_starts(known.any(axis=axis), side) for axis in (1, 0))
    return [
        (left, top)
        for top in rows
        for left in cols
        if known[max(0, top) : top + side, max(0, left) : left + side].any()
    ]


def cut(example: Example, corner: Corner, side: int, config: ModelConfig) -> Example:
    """A square piece of an example, padded where it reaches outside: nothing is labelled or complete there.

    Args:
        example: Where to cut.
        corner: (left, top).
        side: Side of the piece in px.
        config: What the padding is, and how wide cells are.

    Returns:
        The piece; its arrays are the example's own where nothing is padded, so they are not to be written to. Its
        points include those outside, since some of their heat reaches in.
    """
    reach = REACH_SIGMAS * max(_sigmas(config), default=0.0)
    near, negatives = (_near(xy, corner, side, reach) for xy in (example.points, example.negatives))
    offset = np.array(corner, np.float32)
    return replace(
        example,
        image=_piece(example.image, corner, side, config.pad_value),
        regions=_piece(example.regions, corner, side, IGNORE_LABEL),
        complete=_piece(example.complete, corner, side, 0),
        ignored=_piece(example.ignored, corner, side, True),
        points=example.points[near] - offset,
        point_classes=example.point_classes[near],
        negatives=example.negatives[negatives] - offset,
    )


# ---- Gathering places ----------------------------------------------------------------------------------


def _kinds_of_places(
    example: Example, config: ModelConfig, rng: np.random.Generator
) -> list[tuple[int, NDArray[np.int32]]]:
    """How many px or points there are of each kind, and some of them.

    The kinds are the region classes, the cell classes, what only looks like a cell, and last all that is annotated. The
    places are int32 (n, 6): (x, y) and the patch (left, top, right, bottom) that they lie in.
    """
    known = annotated(example, config)
    width = known.shape[1]
    regions = np.where(example.ignored, np.uint8(IGNORE_LABEL), example.regions)
    pixels = [np.flatnonzero(regions == index) for index in range(len(config.region_classes))]
    for index in range(len(config.cell_classes)):
        pixels.append(_pixels_of(example.points[example.point_classes == index], example.ignored))
    if config.cell_classes:
        pixels.append(_pixels_of(example.negatives, example.ignored))
    pixels.append(np.flatnonzero(known))
    index_of_patch, patches = _patches(known, config.training.crop_px)
    kinds = []
    for flat in pixels:
        some = rng.choice(flat, PLACES, replace=False) if len(flat) > PLACES else flat
        row, col = np.divmod(some, width)
        of_patch = patches[index_of_patch[row, col] - 1].reshape(-1, 4)
        kinds.append((len(flat), np.column_stack([col, row, of_patch]).astype(np.int32)))
    return kinds


def _pixels_of(points: NDArray[np.float32], ignored: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flat indices of the pixels of those points that lie in the example and are not ignored."""
    height, width = ignored.shape
    col, row = np.floor(points).astype(np.int64).T
    inside = (col >= 0) & (col < width) & (row >= 0) & (row < height)
    flat = row[inside] * width + col[inside]
    return flat[~ignored.ravel()[flat]]  # type: ignore[no-any-return]


def _patches(known: NDArray[np.bool_], side: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected pieces of what is annotated; those that lie within a quarter of a crop are one.

    Returns:
        The number of each pixel's patch, from 1 on, where something is annotated; and (left, top, right, bottom) of
        each patch.
    """
    kernel = np.ones((side // 8 * 2 + 1,) * 2, np.uint8)
    mask = known.view(np.uint8)
    _, number = cv2.connectedComponents(cv2.dilate(mask, kernel), connectivity=8, ltype=cv2.CV_32S)
    number *= mask
    found = ndimage.find_objects(number)
    boxes = [(cols.start, rows.start, cols.stop, rows.stop) for rows, cols in found]
    return number, np.array(boxes, np.int64).reshape(-1, 4)


def _by_image(
    found: Sequence[Sequence[tuple[int, NDArray[np.int32]]]], kind: int, images: Sequence[str]
) -> list[_Places]:
    """The places of one kind, for each image that has some."""
    members: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        if found[index][kind][0]:
            members.setdefault(image, []).append(index)
    return [_joined(indices, found, kind) for indices in members.values()]


def _joined(
    indices: Iterable[int], found: Sequence[Sequence[tuple[int, NDArray[np.int32]]]], kind: int
) -> _Places:
    """The places of one kind in some examples, each with the share that it has of them."""
    having = [index for index in indices if found[index][kind][0]]
    amounts = np.cumsum([found[index][kind][0] for index in having], dtype=np.float64)
    return _Places(having, amounts / amounts[-1:], [found[index][kind][1] for index in having])


# ---- Placing a crop ------------------------------------------------------------------------------------


def _one_of(choices: Any, rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _corner_along(place: int, low: int, high: int, length: int, side: int, rng: np.random.Generator) -> int:
    """Where a crop begins, along one axis, that holds a place and as much as it can of the place's patch.

    Args:
        place: What it must hold.
        low: Where the patch begins.
        high: Where it ends.
        length: Of the example.
        side: Of the crop.
        rng: Source of randomness.
    """
    if high - low < side:
        first = int(rng.integers(high - side, low + 1))
    else:
        # The place is anywhere but on the crop's rim, where the network lacks context; the patch's rim excepted.
        first = int(np.clip(place - side * rng.uniform(0.1, 0.9), low, high - side))
    return int(np.clip(first, 0, max(0, length - side)))


def _starts(known: Any, side: int) -> range:
    """Beginnings, along one axis, of adjoining crops that hold all that is known, inside the example if they fit."""
    places = np.flatnonzero(known)
    if not len(places):
        return range(0)
    low, high = int(places[0]), int(places[-1]) + 1
    count = -(-(high - low) // side)
    low = max(0, min(low, len(known) - count * side))
    return range(low, low + count * side, side)


def _sigmas(config: ModelConfig) -> list[float]:
    return [sigma_px(diameter_um, config.pixel_size_um) for diameter_um in config.targets.diameters_um]


def _near(points: NDArray[np.float32], corner: Corner, side: int, reach: float) -> NDArray[np.bool_]:
    """Which points lie in a crop or within reach of it."""
    first = np.array(corner, np.float32) - np.float32(reach)
    inside: NDArray[np.bool_] = (points >= first) & (points < first + (side + 2 * reach))
    return inside[:, 0] & inside[:, 1]


def _piece(
    array: NDArray[_Value], corner: Corner, side: int, outside: int | tuple[int, int, int]
) -> NDArray[_Value]:
    """A square of an array; what lies outside is filled."""
    left, top = corner
    inside = array[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    if inside.shape[:2] == (side, side):
        return inside
    piece = np.empty((side, side, *array.shape[2:]), array.dtype)
    piece[:] = outside
    row, col = max(0, -top), max(0, -left)
    piece[row : row + inside.shape[0], col : col + inside.shape[1]] = inside
    return piece
