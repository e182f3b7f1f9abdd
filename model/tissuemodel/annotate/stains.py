"""Which colours the stains of an image have: learnt from it (Vahadane), given, or picked by a person.

The first step of nuclei proposals and of cell classes: tissue pixels come in, unit vectors of optical density go out to
`separation`. Of a whole slide the stains are learnt once, from a `tissue_sample` of its tiles, and used for every tile.
Source: METHOD.md, "Stain separation"; Vahadane et al. 2016, doi:10.1109/TMI.2016.2529665.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment, nnls

from tissuemodel.annotate.density import WHITE, Rgb, check_rgb, optical_density, tissue_densities

LEARNING_SPARSITY: Final = 0.02
"""Default lambda for `learn_stains`. With 0.1 mixtures of known vectors came out 2 to 4 degrees too near to each other,
with 0.02 within 0.5 to 1.3."""

KNOWN_STAINS: Final = {
    "Hematoxylin": (0.65, 0.70, 0.29),
    "Eosin": (0.07, 0.99, 0.11),
    "DAB": (0.27, 0.57, 0.78),
    "Fast Red": (0.21393921, 0.85112669, 0.47794022),
    "Methyl green": (0.98, 0.144316, 0.133146),
}
"""Optical densities as scikit-image has them (Ruifrok and Johnston 2001; G. Landini), of dyes that are at least 20
degrees apart. Others are too near to tell: fast blue and alcian blue to hematoxylin, AEC to DAB, PAS to eosin."""

_LOOKS_LIKE: Final = {
    "Hematoxylin": [KNOWN_STAINS["Hematoxylin"]],
    "Eosin": [KNOWN_STAINS["Eosin"], (0.2159, 0.8012, 0.5581)],
    "DAB": [KNOWN_STAINS["DAB"]],
    "Methyl green": [KNOWN_STAINS["Methyl green"]],
}
"""What a learnt stain may be. Eosin is seen in two colours (the second is QuPath's default), and fast red looks like
the second; it is the rarer one by far, so it has to be named."""

MAX_STAINS: Final = 4

_NAMED_WITHIN_DEG: Final = 15.0
_DISTINCT_DEG: Final = 3.0
_MIN_TISSUE_PX: Final = 50
_SAMPLE: Final = 10_000
_BATCH: Final = 256
_EPOCHS: Final = 10
_BINS: Final = 100
_RARE: Final = 2e-3


@dataclass(frozen=True, slots=True, eq=False)
class Stains:
    """Stain vectors: all that is needed to separate an image.

    Attributes:
        vectors: float64 (stain, 3), optical density in red, green, blue, of unit length; the columns of W.
        names: One a stain. Of learnt stains a guess: the known stain that is nearest, if near enough.
        white: The colour of glass, red, green, blue.
    """

    vectors: NDArray[np.float64]
    names: tuple[str, ...]
    white: Rgb = WHITE

    def __len__(self) -> int:
        return len(self.vectors)


def learn_stains(
    pixels: NDArray[np.uint8],
    count: int = 2,
    *,
    white: Rgb = WHITE,
    sparsity: float = LEARNING_SPARSITY,
    seed: int = 0,
) -> Stains:
    """Learns the stain vectors: W, H >= 0 that minimise 1/2 ||V - W H||^2 + lambda ||H||_1, with unit columns of W.

    By scikit-learn's online dictionary learning (Mairal et al. 2009, as Vahadane used it), begun at the colours that
    lie farthest apart. Stains come ordered by the red light they absorb, so blue dyes (hematoxylin) before brown and
    pink ones.

    Args:
        pixels: uint8 (..., 3), an image or a `tissue_sample`; glass and ink are left out.
        count: 2 to 4 stains. Four from three channels are under-determined: see `separation.Reconstruction`.
        white: The colour of glass.
        sparsity: Lambda, at least 0.
        seed: Of the draw of at most 10,000 pixels and of the learning.

    Raises:
        ValueError: No RGB pixels of 8 bits, too little tissue, fewer different colours than stains, or a count or
            sparsity out of range.

    >>> rng = np.random.default_rng(0)
    >>> amounts = rng.gamma(1.0, 0.5, (4000, 2)) * (rng.random((4000, 2)) < 0.6)
    >>> light = np.exp(-amounts @ np.array([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]]))
    >>> stains = learn_stains(np.rint(light * 255).astype(np.uint8))
    >>> stains.names, stains.vectors.round(1).tolist()
    (('Hematoxylin', 'DAB'), [[0.6, 0.7, 0.3], [0.3, 0.6, 0.8]])
    """
    if not 2 <= count <= MAX_STAINS:
        raise ValueError(f"2 to {MAX_STAINS} stains can be learnt; got {count}")
    if not (math.isfinite(sparsity) and sparsity >= 0):
        raise ValueError(f"the sparsity is a finite number from 0 on; got {sparsity}")
    density = tissue_densities(pixels, white).astype(np.float64)
    if len(density) < _MIN_TISSUE_PX:
        raise ValueError(
            f"only {len(density)} of the pixels are tissue, too few to learn stains from; give the stain vectors, or "
            "a part of the slide with more tissue"
        )
    drawn = np.random.default_rng(seed).permutation(len(density))[:_SAMPLE]
    vectors = _learnt(density[drawn], _farthest_colours(density, count), sparsity, seed)
    vectors = vectors[np.argsort(-vectors[:, 0], kind="stable")]
    return Stains(vectors, guessed_names(vectors), white)


def _learnt(
    density: NDArray[np.float64], start: NDArray[np.float64], sparsity: float, seed: int
) -> NDArray[np.float64]:
    """Dictionary learning from starting vectors (stain, 3)."""
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    learning = MiniBatchDictionaryLearning(
        len(start),
        alpha=sparsity,
        max_iter=_EPOCHS,
        fit_algorithm="cd",
        batch_size=_BATCH,
        dict_init=start,
        random_state=seed,
        positive_code=True,
        positive_dict=True,
    )
    with warnings.catch_warnings():
        # The amounts of four stains in a pixel are not unique, so their search may end without one; that is told in
        # `separation.Reconstruction`, and costs the vectors nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        vectors = np.asarray(learning.fit(density).components_, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.min() > 0:
        raise _too_few_colours(len(start))
    vectors /= lengths
    apart = np.degrees(np.arccos(np.clip(vectors @ vectors.T, -1, 1)))
    if apart[np.triu_indices(len(start), 1)].min() < _DISTINCT_DEG:
        raise _too_few_colours(len(start))
    return vectors


def _farthest_colours(density: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Colours of the tissue, each the farthest from all mixtures of those before: where the learning begins.

    The first is the one farthest from the mean. Colours of fewer than 2 in 1000 pixels do not count: noise is not a
    stain.
    """
    colours = _frequent_colours(density)
    mean = density.mean(axis=0)
    chosen = [colours[np.argmin(colours @ mean)]]
    while len(chosen) < count:
        mixtures = np.array(chosen).T
        far = [nnls(mixtures, colour)[1] for colour in colours]
        if max(far) < math.sin(math.radians(_DISTINCT_DEG)):
            raise _too_few_colours(count)
        chosen.append(colours[int(np.argmax(far))])
    return np.array(chosen)


def _frequent_colours(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean directions (n, 3), unit, of the cells of a raster over red's and green's share of the density."""
    shares = density / density.sum(axis=1, keepdims=True)
    cell = np.minimum((shares[:, :2] * _BINS).astype(np.int64), _BINS - 1) @ np.array([_BINS, 1])
    _, member, counts = np.unique(cell, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(member, density[:, channel]) for channel in range(3)], axis=1)
    frequent = sums[counts >= max(_RARE * len(density), 2)]
    colours = frequent if len(frequent) else sums
    return np.asarray(colours / np.linalg.norm(colours, axis=1, keepdims=True))


def _too_few_colours(count: int) -> ValueError:
    return ValueError(
        f"the tissue has fewer than {count} colours that are {_DISTINCT_DEG:g} degrees or more from all mixtures of "
        "the others; ask for fewer stains, or give the stain vectors"
    )


def given_stains(vectors: ArrayLike, names: Sequence[str] = (), *, white: Rgb = WHITE) -> Stains:
    """Stains whose vectors are known, in the order given.

    Args:
        vectors: (stain, 3), 1 to 4, optical density in red, green, blue, as QuPath's colour deconvolution stores them
            ("Values 1", "Values 2"); of any length. Leave QuPath's "Residual" out: it is no stain.
        names: One a stain; guessed if left out.
        white: The colour of glass, QuPath's "Background".

    Raises:
        ValueError: Not of this shape, not finite, negative or zero; two within 3 degrees; names not as many.

    >>> given_stains([[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]]).names
    ('Hematoxylin', 'DAB')
    """
    asked = np.array(vectors, np.float64, ndmin=2)
    if asked.ndim != 2 or asked.shape[1] != 3 or not 1 <= len(asked) <= MAX_STAINS:
        raise ValueError(
            f"1 to {MAX_STAINS} stain vectors of 3 numbers are needed; got an array of {asked.shape}"
        )
    if not np.isfinite(asked).all() or (asked < 0).any() or not (asked.sum(axis=1) > 0).all():
        raise ValueError(
            f"stain vectors have finite numbers from 0 on, not all 0 (a residual is no stain); got {asked.tolist()}"
        )
    if names and len(names) != len(asked):
        raise ValueError(f"{len(asked)} stains have {len(names)} names; give each one name, or none at all")
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    apart = np.degrees(np.arccos(np.clip(asked @ asked.T, -1, 1)))[np.triu_indices(len(asked), 1)]
    if apart.min(initial=180) < _DISTINCT_DEG:
        raise ValueError(
            f"two of the stains are within {_DISTINCT_DEG:g} degrees of each other; leave one out"
        )
    return Stains(asked, tuple(names) or guessed_names(asked), white)


def picked_stains(
    image: NDArray[np.uint8],
    points: Sequence[NDArray[np.floating[Any]]],
    names: Sequence[str] = (),
    *,
    radius_px: float = 2.0,
    white: Rgb = WHITE,
) -> Stains:
    """Stains from places where a person sees one of them alone: the median density of a disc round each point.

    Args:
        image: uint8 (row, col, 3).
        points: For each stain (n, 2), (x, y) in px of the image, n at least 1.
        names: One a stain; guessed if left out.
        radius_px: Of the disc.
        white: The colour of glass.

    Raises:
        ValueError: A stain has no point in the image or only glass at its points; else as `given_stains`.

    >>> image = np.full((9, 18, 3), 255, np.uint8)
    >>> image[:, :9], image[:, 9:] = (110, 102, 176), (160, 90, 60)
    >>> picked_stains(image, [np.array([[4.0, 4.0]]), np.array([[13.5, 4.5]])]).names
    ('Hematoxylin', 'DAB')
    """
    check_rgb(image)
    vectors = []
    for number, places in enumerate(points, 1):
        discs = [
            _disc(image, x, y, radius_px) for x, y in np.asarray(places, np.float64).reshape(-1, 2).tolist()
        ]
        near = optical_density(np.concatenate([np.zeros((0, 3), np.uint8), *discs]), white)
        if not len(near):
            raise ValueError(
                f"stain {number} has no point inside the image; pick one where only this stain is"
            )
        vectors.append(np.median(near, axis=0))
        if not vectors[-1].sum() > 0:
            raise ValueError(f"stain {number} is picked from glass; pick a point where only this stain is")
    return given_stains(np.array(vectors), names, white=white)


def _disc(image: NDArray[np.uint8], x: float, y: float, radius_px: float) -> NDArray[np.uint8]:
    """The pixels (n, 3) of an image whose centres are within a disc; at least the pixel at its centre."""
    reach = math.ceil(max(radius_px, 1.0))
    left, top = max(math.floor(x) - reach, 0), max(math.floor(y) - reach, 0)
    part = image[top : max(math.floor(y) + reach + 1, 0), left : max(math.floor(x) + reach + 1, 0)]
    rows, cols = np.ogrid[: part.shape[0], : part.shape[1]]
    near = (cols + left + 0.5 - x) ** 2 + (rows + top + 0.5 - y) ** 2 <= max(radius_px, 1.0) ** 2
    return part[near]


def guessed_names(vectors: NDArray[np.float64]) -> tuple[str, ...]:
    """What the stains may be: each the known one that is nearest, within 15 degrees and each known one once.

    A guess from colour alone: other dyes absorb alike (see `KNOWN_STAINS`), and what a stain marks colour cannot tell.

    Args:
        vectors: (stain, 3), of unit length.

    Returns:
        A name a stain; "Stain n" where none is near.

    >>> guessed_names(np.array([[0.57, 0.57, 0.59], [0.07, 0.99, 0.11]]))
    ('Stain 1', 'Eosin')
    """
    names = list(_LOOKS_LIKE)
    apart = np.stack([_degrees_from(vectors, _LOOKS_LIKE[name]) for name in names], axis=1)
    # What is too far costs the same everywhere, so that it does not push a near one from its name.
    chosen = dict(zip(*linear_sum_assignment(np.minimum(apart, _NAMED_WITHIN_DEG)), strict=True))
    return tuple(
        names[chosen[index]] if apart[index, chosen[index]] < _NAMED_WITHIN_DEG else f"Stain {index + 1}"
        for index in range(len(vectors))
    )


def named_stains(learnt: Stains, names: Sequence[str]) -> Stains:
    """Learnt stains whose names a person knows: which is which follows from the known stains' colours.

    Args:
        learnt: As many as there are names.
        names: All of `KNOWN_STAINS`.

    Returns:
        The stains in the order of the names.

    Raises:
        ValueError: Not as many, or a name that is not known.

    >>> learnt = Stains(np.array([[0.4, 0.6, 0.7], [0.7, 0.6, 0.4]]), ("Stain 1", "Stain 2"))
    >>> named_stains(learnt, ["Hematoxylin", "DAB"]).vectors.tolist()
    [[0.7, 0.6, 0.4], [0.4, 0.6, 0.7]]
    """
    if strange := [name for name in names if name not in KNOWN_STAINS]:
        raise ValueError(f"the colour of {strange[0]!r} is not known, only of {', '.join(KNOWN_STAINS)}")
    variants = [_LOOKS_LIKE.get(name, [KNOWN_STAINS[name]]) for name in names]
    apart = np.stack([_degrees_from(learnt.vectors, some) for some in variants], axis=0)
    if apart.shape[0] != apart.shape[1]:
        raise ValueError(f"{len(learnt)} learnt stains need as many names; got {len(names)}")
    _, order = linear_sum_assignment(apart)
    return Stains(learnt.vectors[order], tuple(names), learnt.white)


def _degrees_from(vectors: NDArray[np.float64], variants: ArrayLike) -> NDArray[np.float64]:
    """How far each vector is from the nearest variant of a stain, in degrees."""
    known = np.array(variants, np.float64)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    return np.asarray(np.degrees(np.arccos(np.clip(vectors @ known.T, -1, 1))).min(axis=1))
