"""Cell centres become heat maps, and heat maps, labels and the cell mask become pyramids.

Stands in the data loader, after augmentation and before the losses: an `Example`'s points, labels and areas
come in, the targets of deep supervision at 1, 1/2, 1/4, ... go out. Arrays in, arrays out; numpy alone.
Source: the paper's section II-B (eq. 1-2), IV-C and IV-F.1; METHOD.md, "Annotations to targets".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tissuemodel.labels import IGNORE_LABEL

DISC_SIGMAS: Final = 3.0
"""Radius of the disc round a marked cell or a hard negative in which the cell loss counts, in sigmas."""

_CHUNK: Final = 64
"""Points drawn at a time: enough to spare the interpreter, few enough to stay in the cache."""

_Number = TypeVar("_Number", bound=np.generic)

_WINDOW_SIGMAS: Final = math.sqrt(2 * math.log(1e4))
"""Beyond this many sigmas a Gaussian is below 1e-4 and left out."""


def sigma_px(diameter_um: float, pixel_size_um: float) -> float:
    """Standard deviation of a cell's Gaussian in px (paper, eq. 1).

    The paper calls it a variance; it is the standard deviation of a Gaussian whose full width at half maximum
    is the diameter.

    Args:
        diameter_um: Full width at half maximum, in um.
        pixel_size_um: Size of a pixel of the model's grid, in um.

    Raises:
        ValueError: A size is not positive.

    >>> round(sigma_px(5.0, 0.5), 4)
    4.2466
    """
    if not (diameter_um > 0 and pixel_size_um > 0):
        raise ValueError(f"diameter {diameter_um} um and pixel size {pixel_size_um} um must both be positive")
    return diameter_um / pixel_size_um / (2 * math.sqrt(2 * math.log(2)))


def heat_maps(
    points: NDArray[np.floating[Any]],
    classes: NDArray[np.integer[Any]],
    shape: tuple[int, int],
    sigmas_px: Sequence[float],
) -> NDArray[np.float32]:
    """The maximum of the cells' Gaussians, one map a class (paper, eq. 2).

    A cell outside the array still warms its border; a Gaussian is followed out to 1e-4.

    Args:
        points: (n, 2), centres (x, y) in px of the array; pixel (0, 0)'s centre is (0.5, 0.5).
        classes: (n,), index of each point's class.
        shape: (rows, columns) of the maps.
        sigmas_px: Standard deviation of each class's Gaussian, in px.

    Returns:
        float32 (class, row, col) in [0, 1].

    Raises:
        ValueError: Points and classes are not equally many, or a class has no sigma.

    >>> heat = heat_maps(np.array([[1.5, 0.5]]), np.array([0]), (1, 3), [1.0])
    >>> heat[0, 0].round(3).tolist()
    [0.6069999933242798, 1.0, 0.6069999933242798]
    """
    if len(points) != len(classes):
        raise ValueError(f"{len(points)} points have {len(classes)} classes; give each point one class")
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(sigmas_px):
        raise ValueError(
            f"classes {classes.min()} to {classes.max()} need a sigma each; there are {len(sigmas_px)}"
        )
    heat = np.zeros((len(sigmas_px), *shape), np.float32)
    for index, sigma in enumerate(sigmas_px):
        _raise_to_gaussians(heat[index], points[classes == index], sigma, _WINDOW_SIGMAS)
    return heat


def cell_mask(
    points: NDArray[np.floating[Any]],
    negatives: NDArray[np.floating[Any]],
    complete: NDArray[np.uint16],
    ignored: NDArray[np.bool_],
    sigmas_px: Sequence[float],
) -> NDArray[np.bool_]:
    """Where the cell loss counts (METHOD, "Annotations to targets").

    A class counts where all its cells are marked, and within three of its sigmas of any marked cell (of
    whatever class) and of any hard negative; nowhere in ignored areas. A hard negative only makes its disc
    count: the target there stays what the neighbouring cells make it.

    Args:
        points: (n, 2), marked cells of all classes, (x, y) in px of the array.
        negatives: (m, 2), hard negatives, likewise.
        complete: (row, col), bit c set where every cell of class c is marked.
        ignored: (row, col), where neither task counts.
        sigmas_px: Standard deviation of each class's Gaussian, in px.

    Returns:
        bool (class, row, col).

    >>> none = np.zeros((0, 2))
    >>> complete = np.array([[0, 0, 0, 0, 1]], np.uint16)
    >>> mask = cell_mask(np.array([[0.5, 0.5]]), none, complete, np.zeros((1, 5), bool), [0.5])
    >>> mask[0, 0].tolist()
    [True, True, False, False, True]
    """
    centres = np.concatenate([points, negatives])
    discs = {sigma: _discs(centres, complete.shape, sigma) for sigma in set(sigmas_px)}
    mask = np.empty((len(sigmas_px), *complete.shape), np.bool_)
    for index, sigma in enumerate(sigmas_px):
        np.not_equal(complete & np.uint16(1 << index), 0, out=mask[index])
        mask[index] |= discs[sigma]
    mask &= ~ignored
    return mask


def heat_pyramid(
    heat: NDArray[np.float32], levels: int, pooling: Literal["max", "sum"] = "max"
) -> list[NDArray[np.float32]]:
    """Heat maps at 1, 1/2, 1/4, ...

    "max" keeps every peak at its height (IV-C). "sum" (IV-F.1) leaves [0, 1]: a cell of 5 um at 0.25 um/px
    reaches 4, 15 and 59 at the first three levels below the full resolution.

    Args:
        heat: (class, row, col).
        levels: Number of scales, full resolution included.
        pooling: What stands for a 2 x 2 block.

    Raises:
        ValueError: A side is not a multiple of 2 ** (levels - 1).

    >>> heat = np.array([[[0.0, 1.0], [0.5, 0.0]]], np.float32)
    >>> heat_pyramid(heat, 2)[1].item(), heat_pyramid(heat, 2, "sum")[1].item()
    (1.0, 1.5)
    """
    return _pyramid(heat, levels, np.maximum if pooling == "max" else np.add)


def mask_pyramid(mask: NDArray[np.bool_], levels: int) -> list[NDArray[np.bool_]]:
    """The cell mask at 1, 1/2, 1/4, ...: a coarse pixel counts where all its fine ones do.

    Args:
        mask: (class, row, col).
        levels: Number of scales, full resolution included.

    Raises:
        ValueError: A side is not a multiple of 2 ** (levels - 1).

    >>> mask_pyramid(np.array([[[True, True, True, False], [True, True, True, True]]]), 2)[1].tolist()
    [[[True, False]]]
    """
    return _pyramid(mask, levels, np.logical_and)


def label_pyramid(labels: NDArray[np.uint8], levels: int, classes: int) -> list[NDArray[np.uint8]]:
    """Region labels at 1, 1/2, 1/4, ... by the majority of the labelled full-resolution pixels.

    Votes are counted at full resolution, never among winners of the level above; ties go to the class of
    higher priority (lower index); a block without a labelled pixel is `IGNORE_LABEL`.

    Args:
        labels: (row, col), class index or `IGNORE_LABEL`.
        levels: Number of scales, full resolution included.
        classes: Number of region classes; any other label has no vote.

    Raises:
        ValueError: A side is not a multiple of 2 ** (levels - 1).

    >>> label_pyramid(np.array([[1, 0], [255, 1]], np.uint8), 2, classes=2)[1].item()
    1
    """
    _check_sides(labels.shape, levels)
    # Votes and, below them in the same integer, the complement of the class: one maximum finds the winner and
    # settles ties. The usual four levels need at most 64 votes, which leaves room in 16 bits.
    ballot = np.dtype(np.uint16 if levels <= 4 else np.uint64)
    best = [np.zeros(_halved(labels.shape, level), ballot) for level in range(1, levels)]
    for index in range(classes):
        votes: NDArray[Any] = (labels == index).astype(np.uint8 if levels <= 4 else np.uint32)
        for ballots in best:
            votes = _pool(votes, np.add)
            np.maximum(ballots, (votes.astype(ballot) << 8) | (255 - index), out=ballots)
    return [labels, *(_winners(ballots) for ballots in best)]


# ---- Drawing -------------------------------------------------------------------------------------------


def _raise_to_gaussians(
    canvas: NDArray[np.float32], points: NDArray[np.floating[Any]], sigma: float, reach_sigmas: float
) -> None:
    """Raises the canvas (row, col) to the points' Gaussians, each in a window of `reach_sigmas`."""
    radius = math.floor(reach_sigmas * sigma + 0.5)
    size = 2 * radius + 1
    near = np.all((points > -radius) & (points < np.array(canvas.shape[::-1]) + radius), axis=1)
    points = points[near].astype(np.float64)
    first = np.floor(points).astype(np.int64) - radius
    distance = (
        first[:, :, None] + np.arange(size) + 0.5 - points[:, :, None]
    )  # (point, x | y, place in the window)
    gaussian = np.exp(distance**2 / (-2 * sigma**2)).astype(np.float32)
    low = np.maximum(first, 0)
    high = np.minimum(first + size, canvas.shape[::-1])
    # The loop must be quick: everything that can be is made ready for many points at once.
    for chunk in range(0, len(points), _CHUNK):
        part = slice(chunk, chunk + _CHUNK)
        bumps = gaussian[part, 1, :, None] * gaussian[part, 0, None, :]
        corners = np.concatenate([first[part], low[part], high[part]], axis=1).tolist()
        for bump, (x, y, left, top, right, bottom) in zip(bumps, corners, strict=True):
            window = canvas[top:bottom, left:right]
            np.maximum(window, bump[top - y : bottom - y, left - x : right - x], out=window)


def _discs(centres: NDArray[np.floating[Any]], shape: tuple[int, ...], sigma: float) -> NDArray[np.bool_]:
    """Where a pixel's centre is within `DISC_SIGMAS` of one of the centres; the rim counts."""
    heat = np.zeros(shape, np.float32)
    _raise_to_gaussians(heat, centres, sigma, DISC_SIGMAS)
    # The disc is the Gaussian's level set; the tolerance keeps the rim's own pixels in spite of float32.
    return heat >= np.float32(math.exp(-(DISC_SIGMAS**2) / 2) * (1 - 1e-5))


# ---- Pooling -------------------------------------------------------------------------------------------


def _pyramid(
    array: NDArray[_Number], levels: int, combine: Callable[..., NDArray[_Number]]
) -> list[NDArray[_Number]]:
    """The array and its halvings; exact for operations that may be nested (maximum, sum, and)."""
    _check_sides(array.shape[-2:], levels)
    pyramid = [array]
    for _ in range(1, levels):
        pyramid.append(_pool(pyramid[-1], combine))
    return pyramid


def _pool(array: NDArray[_Number], combine: Callable[..., NDArray[_Number]]) -> NDArray[_Number]:
    """Combines 2 x 2 blocks of the last two axes; rows first, as whole rows are quick to add."""
    rows = combine(array[..., 0::2, :], array[..., 1::2, :])
    return combine(rows[..., 0::2], rows[..., 1::2])


def _winners(ballots: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
    """The class in the lowest eight bits' complement; without a vote above them, none."""
    winners = np.invert(ballots.astype(np.uint8))
    winners[ballots < 256] = IGNORE_LABEL
    return winners


def _halved(shape: tuple[int, ...], level: int) -> tuple[int, ...]:
    return tuple(side >> level for side in shape)


def _check_sides(sides: tuple[int, ...], levels: int) -> None:
    multiple = 2 ** (levels - 1)
    if levels < 1 or any(side % multiple for side in sides):
        raise ValueError(
            f"sides {sides} must be multiples of {multiple} for {levels} levels; pad or crop the arrays"
        )
