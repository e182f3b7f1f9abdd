"""Which parts of regions belong together across the borders of a grid's blocks.

Under `vectorize`: of each block the rings of its parts come in, numbers of regions go out for all of them. What is kept
of the rings in between is what lies on the blocks' borders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tissuebridge.outlines import Rings


@dataclass(frozen=True, slots=True)
class Seam:
    """The pieces of parts' borders that lie on the lines between blocks: those of constant x, or of constant y.

    Attributes:
        pieces: float64 (m, 3): line, and start and end along it, in px.
        part: int64 (m,): which part's border it is.
        begins: bool (m,): whether the line is where the part's block begins.
    """

    pieces: NDArray[np.float64]
    part: NDArray[np.int64]
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, rings: Rings, origin: tuple[int, int], side: int, axis: int) -> Self:
        """Those of the parts of one block.

        Args:
            rings: The parts, in px of the map (x, y).
            origin: (x, y) where the block begins.
            side: Of the blocks, in px.
            axis: 0 for lines of constant x, 1 for lines of constant y.
        """
        _, after = rings.neighbours()
        here, along = rings.xy[:, axis], rings.xy[:, 1 - axis]
        on = np.flatnonzero((here == here[after]) & (here % side == 0))
        ends = np.sort(np.stack([along[on], along[after[on]]]), axis=0)
        return cls(np.stack([here[on], *ends], axis=1), rings.owners[on], here[on] == origin[axis])

    @classmethod
    def joined(cls, several: Sequence[Self], counts: NDArray[np.int64]) -> Self:
        """Those of several blocks, which have so many parts each."""
        firsts = (np.cumsum(counts) - counts).tolist()
        return cls(
            np.concatenate([seam.pieces for seam in several]),
            np.concatenate([seam.part + first for seam, first in zip(several, firsts, strict=True)]),
            np.concatenate([seam.begins for seam in several]),
        )


def regions_of(seams: Sequence[Seam], classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of the region that each part belongs to.

    Parts of a class belong together where they have a piece of the border between two blocks in common.

    Args:
        seams: Of all blocks, one for each axis.
        classes: uint8 (n,), of all parts.

    Returns:
        int (n,), from 0.
    """
    pairs = [_across(seam.pieces, seam.part, seam.begins, classes) for seam in seams]
    one, other = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(len(classes), len(classes)))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _across(
    pieces: NDArray[np.float64],
    part: NDArray[np.int64],
    begins: NDArray[np.bool_],
    classes: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """The pairs, int (2, k), of parts of one class that meet at a line, from both sides of it.

    On each side of a line, pieces are disjoint: sorted by their starts, they are sorted by their ends.
    """
    order = np.lexsort((pieces[:, 1], pieces[:, 0]))
    pieces, part, begins = pieces[order], part[order], begins[order]
    # One number that sorts by line, then along it.
    stretch = 1.0 + (pieces[:, 2].max() if len(pieces) else 0.0)
    start, end = pieces[:, 0] * stretch + pieces[:, 1], pieces[:, 0] * stretch + pieces[:, 2]
    before, after = np.flatnonzero(~begins), np.flatnonzero(begins)
    first = np.searchsorted(end[after], start[before], side="right")
    counts = np.maximum(np.searchsorted(start[after], end[before], side="left") - first, 0)
    one = np.repeat(before, counts)
    within = np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
    other = after[np.repeat(first, counts) + within]
    pairs = np.stack([part[one], part[other]])
    return pairs[:, classes[pairs[0]] == classes[pairs[1]]]
