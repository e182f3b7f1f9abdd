"""Region proposals from colour: a palette of few colours by split and merge, and the colour of every pixel.

Pixels at 2 to 8 um come in, slightly smoothed (`smoothed`); a palette and label maps go out, to the mode filter of
`tissuemodel.mosaic` and to `tidy`. Of a whole slide the palette is made once, from a thumbnail; labels follow tile by
tile, with `SMOOTHING_REACH_PX` px of context, and are those of the whole image. A person says what each colour is.
Source: METHOD.md, "Semi-automatic annotation"; the paper's section II.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tissuemodel.annotate.density import check_rgb

SMOOTHING_REACH_PX: Final = 3
"""How far `smoothed` looks: a tile needs so much context, except at the image's own edge."""

_BITS: Final = 7
"""A channel: colours that differ by 1 of 255 count as one, which is below what an eye or a threshold tells."""
_SMOOTHING_SIGMA_PX: Final = 1.0

_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class PaletteOptions:
    """When a palette is fine enough, and when too fine. Differences are Delta E (CIE 1976, CIELAB).

    Attributes:
        split_above: t_s: a colour whose standard deviation along its principal axis exceeds this is split.
        merge_below: t_m: two colours are merged while that raises the image's mean square colour error by no more than
            the square of this. So two halves of an image are one colour up to a difference of twice this, and colours
            of a hundredth each up to 14 times.
        max_colours: K_max: no more splitting from here on; at most 254.
    """

    split_above: float = 6.0
    merge_below: float = 2.0
    max_colours: int = 16

    def __post_init__(self) -> None:
        if not (self.split_above > 0 and self.merge_below >= 0 and 1 <= self.max_colours <= 254):
            raise ValueError(
                f"split_above must be positive, merge_below at least 0, max_colours 1 to 254; got {self}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """The colours of an image, from light to dark.

    Attributes:
        lab: float64 (colour, 3), CIELAB under D65.
        rgb: uint8 (colour, 3), the same to be shown.
        shares: float64 (colour,), the part of the pixels that made each; sums to 1.
    """

    lab: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    shares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.lab)


def smoothed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with single pixels' noise gone: a Gaussian of 1 px, mirrored at the border.

    OpenCV's filter of 8-bit values is exact to the bit, so a tile gives what the whole image gives.

    Args:
        image: uint8 (row, col, 3).

    Raises:
        ValueError: No RGB image of 8 bits.

    >>> smoothed(np.full((4, 4, 3), 9, np.uint8)).max()
    np.uint8(9)
    """
    check_rgb(image)
    side = 2 * SMOOTHING_REACH_PX + 1
    blurred: NDArray[np.uint8] = cv2.GaussianBlur(
        image, (side, side), _SMOOTHING_SIGMA_PX, borderType=cv2.BORDER_REFLECT_101
    )
    return blurred


def make_palette(pixels: NDArray[np.uint8], options: PaletteOptions | None = None) -> Palette:
    """The colours of an image by split and merge; the same pixels in any order give the same palette.

    Splits the colour of the largest variance along its principal axis, where that lowers the variance most, until
    every standard deviation is below t_s or there are K_max; then merges the closest pair (Ward's cost) until the cost
    exceeds t_m. A rare colour survives if it is different enough.

    Args:
        pixels: uint8 (..., 3), `smoothed`: an image, or the thumbnail of a slide.
        options: t_s, t_m and K_max.

    Raises:
        ValueError: No RGB pixels of 8 bits, or none at all.

    >>> image = np.full((8, 8, 3), 240, np.uint8); image[:4] = (200, 60, 120)
    >>> make_palette(image).shares.tolist()
    [0.5, 0.5]
    """
    check_rgb(pixels)
    if not pixels.size:
        raise ValueError("an image without pixels has no colours; give one with at least one pixel")
    options = options or PaletteOptions()
    counts = np.bincount(_codes(pixels).ravel(), minlength=1 << (3 * _BITS))
    codes = np.flatnonzero(counts)
    lab = _lab(_code_colours(codes))
    weights = counts[codes] / counts.sum()
    centres, shares = _merged(*_split(lab, weights, options), options.merge_below)
    order = np.lexsort((centres[:, 2], centres[:, 1], -centres[:, 0]))
    return Palette(centres[order], _rgb(centres[order]), shares[order])


def given_palette(lab: ArrayLike) -> Palette:
    """A palette whose colours are known, in the order given; nothing was counted, so all have the same share.

    Args:
        lab: (colour, 3), CIELAB under D65, 1 to 254.

    Raises:
        ValueError: Not of this shape, or not finite.

    >>> given_palette([[100.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).rgb.tolist()
    [[255, 255, 255], [0, 0, 0]]
    """
    colours = np.array(lab, np.float64, ndmin=2)
    if colours.ndim != 2 or colours.shape[1] != 3 or not 1 <= len(colours) <= 254:
        raise ValueError(f"1 to 254 colours of 3 numbers are needed; got an array of {colours.shape}")
    if not np.isfinite(colours).all():
        raise ValueError("a colour has numbers that are not finite")
    return Palette(colours, _rgb(colours), np.full(len(colours), 1 / len(colours)))


def _split(
    lab: NDArray[np.float64], weights: NDArray[np.float64], options: PaletteOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (n, 3) and weights (n,) of the colours after splitting."""
    clusters = [np.arange(len(lab))]
    spreads = [_principal_axis(lab, weights)]
    while len(clusters) < options.max_colours:
        widest = int(np.argmax([variance for variance, _ in spreads]))
        variance, axis = spreads[widest]
        if variance <= options.split_above**2:
            break
        members = clusters.pop(widest)
        spreads.pop(widest)
        for part in _halves(members, lab[members] @ axis, weights[members]):
            clusters.append(part)
            spreads.append(_principal_axis(lab[part], weights[part]))
    shares = np.array([weights[members].sum() for members in clusters])
    sums = np.array([weights[members] @ lab[members] for members in clusters])
    return sums / shares[:, None], shares


def _principal_axis(lab: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, _Floats]:
    """The largest variance in any direction, and that direction."""
    away = lab - weights @ lab / weights.sum()
    variances, axes = np.linalg.eigh((away * weights[:, None]).T @ away / weights.sum())
    return float(variances[-1]), axes[:, -1]


def _halves(
    members: NDArray[np.intp], along: _Floats, weights: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Cuts a cluster in two where the variance along its axis falls most."""
    order = np.argsort(along, kind="stable")
    below = np.cumsum(weights[order])
    moment = np.cumsum(weights[order] * along[order])
    above = below[-1] - below[:-1]
    between = (moment[:-1] * below[-1] - below[:-1] * moment[-1]) ** 2 / (below[:-1] * above)
    cut = int(np.argmax(between)) + 1
    return members[order[:cut]], members[order[cut:]]


def _merged(
    centres: NDArray[np.float64], shares: NDArray[np.float64], below: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merges the pair of the lowest Ward cost, sqrt(p q / (p + q)) Delta E of shares p and q, up to a cost."""
    while len(centres) > 1:
        first, second = np.triu_indices(len(centres), 1)
        together = shares[first] + shares[second]
        distance = np.linalg.norm(centres[first] - centres[second], axis=1)
        cost = np.sqrt(shares[first] * shares[second] / together) * distance
        best = int(np.argmin(cost))
        if cost[best] > below:
            break
        one, other = first[best], second[best]
        mean = (shares[one] * centres[one] + shares[other] * centres[other]) / together[best]
        kept = np.delete(np.arange(len(centres)), [one, other])
        centres = np.vstack([centres[kept], mean])
        shares = np.append(shares[kept], together[best])
    return centres, shares


def label_table(palette: Palette) -> NDArray[np.uint8]:
    """The nearest colour of the palette for every colour there is, so that labelling is a look-up.

    Args:
        palette: At most 254 colours.

    Returns:
        uint8 (2^21,), by 7 bits of red, green and blue; 2 MiB, made in about a tenth of a second.

    >>> table = label_table(make_palette(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)))
    >>> int(table[0]), int(table[-1])
    (1, 0)
    """
    table = np.empty(1 << (3 * _BITS), np.uint8)
    # A red plane at a time, so that what is computed stays in the cache.
    for codes in np.split(np.arange(len(table)), 1 << _BITS):
        lightness, a, b = np.ascontiguousarray(_lab(_code_colours(codes)).T.astype(np.float32))
        nearest, best = np.zeros(len(codes), np.uint8), np.full(len(codes), np.inf, np.float32)
        for index, centre in enumerate(palette.lab.astype(np.float32)):
            distance = (lightness - centre[0]) ** 2
            distance += (a - centre[1]) ** 2
            distance += (b - centre[2]) ** 2
            np.copyto(nearest, index, where=distance < best)
            np.minimum(best, distance, out=best)
        table[codes] = nearest
    return table


def label_colours(pixels: NDArray[np.uint8], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Which colour of a palette each pixel has: the nearest in CIELAB, of equally near ones the first.

    Args:
        pixels: uint8 (..., 3), `smoothed`; a tile or all of an image.
        table: From `label_table`.

    Returns:
        uint8 (...), index of the colour.

    Raises:
        ValueError: No RGB pixels of 8 bits.

    >>> image = np.full((2, 3, 3), 240, np.uint8); image[0] = (200, 60, 120)
    >>> label_colours(image, label_table(make_palette(image))).tolist()
    [[1, 1, 1], [0, 0, 0]]
    """
    check_rgb(pixels)
    return table[_codes(pixels)]


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The colours as one number each, of 7 bits a channel."""
    parts = (pixels >> (8 - _BITS)).astype(np.int32)
    codes: NDArray[np.int32] = (parts[..., 0] << (2 * _BITS)) | (parts[..., 1] << _BITS) | parts[..., 2]
    return codes


def _code_colours(codes: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """The colours (n, 3) in the middle of what shares a code, 0 to 1."""
    parts = np.stack([codes >> (2 * _BITS), codes >> _BITS, codes], axis=1) & ((1 << _BITS) - 1)
    step = 1 << (8 - _BITS)
    return ((parts * step + (step - 1) / 2) / 255).astype(np.float32)


def _lab(colours: NDArray[np.float32]) -> NDArray[np.float64]:
    """CIELAB (n, 3) of sRGB colours (n, 3), 0 to 1."""
    return np.asarray(cv2.cvtColor(colours[None], cv2.COLOR_RGB2LAB)[0], np.float64)


def _rgb(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """8-bit sRGB (n, 3) of CIELAB colours (n, 3)."""
    colours = cv2.cvtColor(lab[None].astype(np.float32), cv2.COLOR_LAB2RGB)[0]
    rgb: NDArray[np.uint8] = np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return rgb
