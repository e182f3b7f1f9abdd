"""Which share of each pixel of a raster a polygon covers, exactly.

Polygons come in as their edges in px (`borders.edges_of`, moved and scaled), go out as rows of pixels. What is summed
over pixels with these shares is as right as the polygon is, however coarse the pixels are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """What edges add to the covered share of their pixel and of all that follow in its row, by row.

    Attributes:
        row: int (n,), never decreasing.
        col: int (n,).
        added: float64 (n,).
    """

    row: NDArray[np.intp]
    col: NDArray[np.intp]
    added: NDArray[np.float64]

    @staticmethod
    def of(edges: NDArray[np.float64]) -> Coverage:
        """Of edges that have the inside on their left: one takes off what lies on its right as it comes down.

        Args:
            edges: float64 (n, 4), x and y of start and end, px, none below 0.

        >>> square = np.array([[0, 0, 1.5, 0], [1.5, 0, 1.5, 1], [1.5, 1, 0, 1], [0, 1, 0, 0]])
        >>> Coverage.of(square).rows(0, 1, 3).tolist()
        [[1.0, 0.5, 0.0]]
        """
        start, step = edges[:, :2], edges[:, 2:] - edges[:, :2]
        edge, share = [np.arange(len(edges))] * 2, [np.zeros(len(edges)), np.ones(len(edges))]
        for axis in (0, 1):
            first = np.floor(edges[:, [axis, axis + 2]].min(axis=1)) + 1
            crossed = np.maximum(np.ceil(edges[:, [axis, axis + 2]].max(axis=1)) - first, 0).astype(np.intp)
            index = np.repeat(np.arange(len(edges)), crossed)
            line = first[index] + np.arange(len(index)) - np.repeat(np.cumsum(crossed) - crossed, crossed)
            edge.append(index)
            share.append((line - start[index, axis]) / step[index, axis])
        edges_, shares = np.concatenate(edge), np.concatenate(share)
        order = np.lexsort((shares, edges_))
        edges_, shares = edges_[order], shares[order]
        at = start[edges_] + shares[:, None] * step[edges_]
        within = edges_[1:] == edges_[:-1]
        down = (at[:-1, 1] - at[1:, 1])[within]
        x, y = ((at[1:] + at[:-1]) / 2)[within].T
        row, col = np.floor(y).astype(np.intp), np.floor(x).astype(np.intp)
        rows, cols = np.concatenate([row, row]), np.concatenate([col, col + 1])
        added = np.concatenate([down * (1 - (x - col)), down * (x - col)])
        order = np.argsort(rows, kind="stable")
        return Coverage(rows[order], cols[order], added[order])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that hold everything."""
        return int(self.row.max()) + 1, int(self.col.max()) + 1

    def rows(self, first: int, last: int, width: int) -> NDArray[np.float64]:
        """The covered share of each pixel in some rows, float64 (last - first, width).

        Args:
            first: Row.
            last: Row after the last one.
            width: Columns; at least those of `shape`.
        """
        some = slice(*np.searchsorted(self.row, (first, last)))
        place = (self.row[some] - first) * width + self.col[some]
        added = np.bincount(place, self.added[some], (last - first) * width)
        return np.cumsum(added.reshape(last - first, width), axis=1)
