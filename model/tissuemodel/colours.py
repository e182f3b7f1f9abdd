"""Which colours a model learnt from, so that an image of another stain or scanner can be told before it is believed.

A colour here is the direction of a pixel's optical density: what absorbs, not how much of it. The directions that the
training pixels took are kept as a small map; of another image one asks which share of its tissue lies outside. Mean
colours do not tell: haematoxylin with a little DAB lies, on average, as near to one laboratory's H&E as another's H&E.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tissuemodel.labels import Example

COLOUR_PIXEL_UM: Final = 2.0
"""Colours are compared at this pixel size: noise and the borders of nuclei are gone, their colours are not."""

UNUSUAL_SHARE: Final = 0.1
"""More tissue than this outside the training's colours is worth a warning. Of 50 H&E images of one laboratory, each
beside the colours of the ten other patients, 49 had at most 0.06 and one 0.15; beside all of them Ki67 and DAB had
0.14 to 0.41, and H&E of other laboratories 0 to 0.58."""

COLOURS_KEY: Final = "usual_colours"
"""Where a checkpoint's record keeps what `usual_colours` gave."""

_BINS: Final = 24
_TOP: Final = 0.75
_TISSUE_DENSITY: Final = 0.15
_KEPT: Final = 0.99
_SMOOTHING_BINS: Final = 0.7
_MIN_TISSUE_PX: Final = 200


def colour_counts(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often the tissue in some pixels takes each direction of optical density.

    Args:
        pixels: (..., 3), red, green, blue, at `COLOUR_PIXEL_UM` or coarser. Pixels that absorb little are glass.

    Returns:
        (bin of red's share of the density, bin of green's share).

    >>> int(colour_counts(np.full((4, 5, 3), 250, np.uint8)).sum())
    0
    """
    density = -np.log((pixels.reshape(-1, 3).astype(np.float32) + 1) / 256)
    density = density[density.mean(axis=1) > _TISSUE_DENSITY]
    shares = density[:, :2] / density.sum(axis=1, keepdims=True)
    red, green = np.minimum(shares * (_BINS / _TOP), _BINS - 1).astype(np.int64).T
    return np.bincount(red * _BINS + green, minlength=_BINS**2).reshape(_BINS, _BINS)


def usual_colours(examples: Sequence[Example], pixel_size_um: float) -> str:
    """The colours of the examples but for the rarest hundredth, all images counting alike; as hexadecimal text.

    Args:
        examples: What a model learns from.
        pixel_size_um: Of the examples.

    Returns:
        A bit for each direction; "" where there is too little tissue to say.
    """
    by_image: dict[str, NDArray[np.int64]] = {}
    for example in examples:
        name = example.image_name or example.name
        counts = colour_counts(_coarse(example.image, pixel_size_um))
        by_image[name] = by_image[name] + counts if name in by_image else counts
    enough = [counts / counts.sum() for counts in by_image.values() if counts.sum() >= _MIN_TISSUE_PX]
    if not enough:
        return ""
    frequency = gaussian_filter(np.mean(enough, axis=0), _SMOOTHING_BINS)
    ranked = np.sort(frequency.ravel())[::-1]
    rarest = ranked[np.searchsorted(np.cumsum(ranked), _KEPT * ranked.sum())]
    return np.packbits(frequency >= rarest).tobytes().hex()


def unusual_share(counts: NDArray[np.int64], usual: str) -> float | None:
    """Which share of an image's tissue has a colour that the training did not.

    Args:
        counts: From `colour_counts`.
        usual: From `usual_colours`.

    Returns:
        0 to 1; None where there is too little tissue, or the model does not say (text of any other kind).
    """
    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(usual), np.uint8))
    except ValueError:
        return None
    if len(bits) != _BINS**2 or counts.sum() < _MIN_TISSUE_PX:
        return None
    known = bits.reshape(_BINS, _BINS).astype(np.bool_)
    return float(counts[~known].sum() / counts.sum())


def _coarse(image: NDArray[np.uint8], pixel_size_um: float) -> NDArray[Any]:
    """An image at `COLOUR_PIXEL_UM`, or as it is where it is coarser."""
    scale = pixel_size_um / COLOUR_PIXEL_UM
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
