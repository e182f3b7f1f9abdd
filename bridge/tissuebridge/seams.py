"""Which parts of regions belong together across the borders of a grid's blocks.

Under `vectorize`: rings of many blocks, each inside one, come in; numbers of regions go out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tissuebridge.outlines import Rings


def regions_of(
    rings: Rings, classes: NDArray[np.uint8], blocks: NDArray[np.int64], side: int
) -> NDArray[np.int64]:
    """The number of the region that each part belongs to.

    Parts of a class belong together where they have a piece of the border between two blocks in common.

    Args:
        rings: n parts in px (x, y).
        classes: uint8 (n,).
        blocks: int (n, 2), (row, col) of each part's block.
        side: Of the blocks, in px.

    Returns:
        int (n,), from 0.
    """
    pairs = [_across(*_on_lines(rings, blocks, side, axis), classes) for axis in (0, 1)]
    one, other = np.concatenate(pairs, axis=1)
    links = coo_array((np.ones(len(one), np.bool_), (one, other)), shape=(len(rings), len(rings)))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _on_lines(
    rings: Rings, blocks: NDArray[np.int64], side: int, axis: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """The pieces of borders on the grid's lines of constant x (`axis` 0) or y (1).

    Returns:
        float64 (m, 3), line and start and end along it; int (m,), the part; bool (m,), whether the line is where
        the part's block begins.
    """
    _, after = rings.neighbours()
    here, along = rings.xy[:, axis], rings.xy[:, 1 - axis]
    on = np.flatnonzero((here == here[after]) & (here % side == 0))
    part = rings.owners[on]
    ends = np.sort(np.stack([along[on], along[after[on]]]), axis=0)
    begins = here[on] == blocks[part, 1 - axis] * side
    return np.stack([here[on], *ends], axis=1), part, begins


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
