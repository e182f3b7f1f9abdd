"""Which parts of regions belong together across the borders of a grid's blocks.

Under `vectorize`: of each block the rings of its parts come in, numbers of regions go out for all of them. What is kept
of the rings in between is what lies on the blocks' borders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tissuebridge.outlines import Rings


@dataclass(frozen=True, slots=True)
class Seams:
    """The pieces of parts' borders that lie on the lines between blocks, for the lines of constant x and of constant y.

    Attributes:
        pieces: For each kind of line, float64 (m, 3): line, and start and end along it, in px.
        part: Likewise, int64 (m,): which part's border it is.
        begins: Likewise, bool (m,): whether the line is where the part's block begins.
    """

    pieces: tuple[NDArray[np.float64], NDArray[np.float64]]
    part: tuple[NDArray[np.int64], NDArray[np.int64]]
    begins: tuple[NDArray[np.bool_], NDArray[np.bool_]]

    @classmethod
    def of(cls, rings: Rings, origin: tuple[int, int], side: int) -> Self:
        """Those of the parts of one block.

        Args:
            rings: The parts, in px of the map (x, y).
            origin: (row, col) where the block begins.
            side: Of the blocks, in px.
        """
        _, after = rings.neighbours()
        across, along = [], (1, 0)
        for axis in (0, 1):
            here, other = rings.xy[:, axis], rings.xy[:, along[axis]]
            on = np.flatnonzero((here == here[after]) & (here % side == 0))
            ends = np.sort(np.stack([other[on], other[after[on]]]), axis=0)
            pieces = np.stack([here[on], *ends], axis=1)
            across.append((pieces, rings.owners[on], here[on] == origin[along[axis]]))
        (x, x_part, x_begins), (y, y_part, y_begins) = across
        return cls((x, y), (x_part, y_part), (x_begins, y_begins))

    @classmethod
    def joined(cls, several: Sequence[tuple[Self, int]]) -> Self:
        """Those of several blocks, of each with the number of its parts."""
        counts = np.array([count for _, count in several], np.int64)
        firsts = (np.cumsum(counts) - counts).tolist()
        blocks = [seams for seams, _ in several]

        def both(values: Callable[[Self, int, int], NDArray[Any]]) -> Any:
            return tuple(
                np.concatenate(
                    [values(seams, axis, first) for seams, first in zip(blocks, firsts, strict=True)]
                )
                for axis in (0, 1)
            )

        return cls(
            both(lambda seams, axis, _: seams.pieces[axis]),
            both(lambda seams, axis, first: seams.part[axis] + first),
            both(lambda seams, axis, _: seams.begins[axis]),
        )


def regions_of(seams: Seams, classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of the region that each part belongs to.

    Parts of a class belong together where they have a piece of the border between two blocks in common.

    Args:
        seams: Of all blocks.
        classes: uint8 (n,), of all parts.

    Returns:
        int (n,), from 0.
    """
    pairs = [
        _across(pieces, part, begins, classes)
        for pieces, part, begins in zip(seams.pieces, seams.part, seams.begins, strict=True)
    ]
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
