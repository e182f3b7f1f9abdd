"""From region probabilities to a label map: the most probable class, then the 3x3 mode filter.

Stands behind the network: logits of a tile's core (and one px round it) come in, labels go to the
bridge's journal. Nothing here looks farther than one pixel.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tissuemodel.labels import IGNORE_LABEL

_ROWS: Final = 32


def argmax_labels(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The most probable class of each pixel; of equal ones the first.

    A running maximum over the classes: one pass each over two small arrays, several times faster than argmax
    along the first axis.

    Args:
        logits: float32 (class, row, col), at least one class and fewer than `IGNORE_LABEL`; any
            increasing function of the probabilities will do.

    Returns:
        uint8 (row, col), class index.

    >>> argmax_labels(np.log(np.array([[[0.2, 0.5]], [[0.8, 0.5]]], np.float32)))
    array([[1, 0]], dtype=uint8)
    """
    labels = np.zeros(logits.shape[1:], np.uint8)
    # A few rows at a time stay in the cache over all classes: 1.9 times faster than whole maps.
    for row in range(0, len(labels), _ROWS):
        part, rows = labels[row : row + _ROWS], logits[:, row : row + _ROWS]
        best = rows[0]
        for index in range(1, len(rows)):
            higher = rows[index] > best
            # The classes come in rising order: a maximum is a masked copy, and 20 times faster.
            np.maximum(part, higher.view(np.uint8) * np.uint8(index), out=part)
            best = np.maximum(rows[index], best)
    return labels


def mode_filter(labels: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """Gives each pixel the label that most pixels of its 3x3 window have (METHOD, "After the network").

    Of labels with equally many votes the centre's own wins, if it is among them, else the lowest class index.
    Pixels of `IGNORE_LABEL` were not analysed: they have no vote and stay as they are. Nothing votes from
    outside the array.

    The votes are counted by a box filter for each class. Votes, the centre's extra weight and the class are
    packed in one number, (2 votes + is centre) * classes + (classes - 1 - class), so that one running maximum
    decides.

    Args:
        labels: uint8 (row, col), class index below `classes` or `IGNORE_LABEL`.
        classes: Number of classes.

    Returns:
        uint8 (row, col), a new array.

    >>> mode_filter(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8), 2)[1, 1]
    np.uint8(0)
    """
    if labels.size == 0 or labels.min() == labels.max():
        return labels.copy()
    # (2 * 9 + 1) * classes + classes - 1 is the largest packed number.
    kind = np.uint8 if 20 * classes - 1 <= 255 else np.uint16
    best = np.zeros(labels.shape, kind)
    for index in range(classes):
        own = (labels == index).view(np.uint8)
        votes = cv2.boxFilter(own, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT).astype(kind)
        votes *= kind(2 * classes)
        votes += own * kind(classes)
        votes += kind(classes - 1 - index)
        np.maximum(best, votes, out=best)
    winner = classes - 1 - np.arange(20 * classes) % classes
    table = winner.astype(np.uint8)
    filtered = cv2.LUT(best, np.resize(table, 256)) if kind is np.uint8 else table[best]
    np.copyto(filtered, IGNORE_LABEL, where=labels == IGNORE_LABEL)
    return filtered
