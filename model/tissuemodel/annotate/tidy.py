"""Label maps of proposed regions without crumbs and pinholes.

Comes after `quantize` and the mode filter and before polygons. How large a region is shows only when all of it is
there, so this needs the label map of the whole image; at 2 to 8 um a pixel that of a large slide is some tens of MB,
and three to twelve times that is used meanwhile.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tissuemodel.labels import IGNORE_LABEL


def tidy_labels(
    labels: NDArray[np.uint8], pixel_size_um: float, min_area_um2: float, max_hole_um2: float = 0.0
) -> NDArray[np.uint8]:
    """Gives small regions to what surrounds them, then fills holes.

    A region is a 4-connected component, as polygons are. One smaller than the minimum area goes: each of its pixels
    takes the label of the nearest region that stays. If all are too small, the largest stays. A hole is all that one
    region encloses, of whatever labels; pixels that were not analysed are never a part of it, and stay as they are.

    Args:
        labels: uint8 (row, col), or `IGNORE_LABEL` where it was not analysed; the whole image's.
        pixel_size_um: Size of its pixels.
        min_area_um2: Smallest area of a region.
        max_hole_um2: Holes below this area are filled.

    Returns:
        uint8 (row, col), a new array.

    Raises:
        ValueError: The pixel size is not positive, or an area is negative.

    >>> labels = np.zeros((5, 5), np.uint8); labels[2, 2] = 1
    >>> tidy_labels(labels, pixel_size_um=4.0, min_area_um2=40.0).max()
    np.uint8(0)
    """
    if not (math.isfinite(pixel_size_um) and pixel_size_um > 0 and min_area_um2 >= 0 and max_hole_um2 >= 0):
        raise ValueError(
            f"the pixel size ({pixel_size_um} um) must be positive, the smallest region ({min_area_um2} um^2) and the "
            f"largest hole ({max_hole_um2} um^2) at least 0"
        )
    pixel_um2 = pixel_size_um**2
    return _without_holes(_without_crumbs(labels, min_area_um2 / pixel_um2), max_hole_um2 / pixel_um2)


def _without_crumbs(labels: NDArray[np.uint8], min_area_px: float) -> NDArray[np.uint8]:
    """A new map whose regions have the minimum area."""
    while True:
        crumbs = _crumbs(labels, min_area_px)
        gone = np.where(crumbs, _nearest(labels, ~crumbs & (labels != IGNORE_LABEL)), labels)
        # A crumb's pixels may hang on to what they joined by a corner only: then they are crumbs once more.
        if np.array_equal(gone, labels):
            return gone
        labels = gone


def _crumbs(labels: NDArray[np.uint8], min_area_px: float) -> NDArray[np.bool_]:
    """The pixels of regions that are too small, but for the largest of all."""
    crumbs = np.zeros(labels.shape, np.bool_)
    largest, kept = 0, crumbs
    for label in np.unique(labels[labels != IGNORE_LABEL]):
        regions, areas, _ = _components(labels == label, 4)
        is_small = areas < min_area_px
        is_small[0] = False
        crumbs |= is_small[regions]
        if areas[1:].max() > largest:
            largest = areas[1:].max()
            kept = regions == 1 + areas[1:].argmax()
    return crumbs & ~kept


def _nearest(labels: NDArray[np.uint8], stays: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """For every pixel the label of the nearest pixel that stays."""
    if stays.all() or not stays.any():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        (~stays).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(nearest.max()) + 1, np.uint8)
    values[nearest[stays]] = labels[stays]
    found: NDArray[np.uint8] = values[nearest]
    return found


def _without_holes(labels: NDArray[np.uint8], max_hole_px: float) -> NDArray[np.uint8]:
    """A new map in which small holes have the label of what encloses them."""
    labels = labels.copy()
    unknown = labels == IGNORE_LABEL
    for label in np.unique(labels[~unknown]) if max_hole_px > 0 else ():
        # Eight neighbours outside go with four inside: what touches by a corner only is enclosed by nothing.
        regions, areas, boxes = _components(labels != label, 8)
        is_hole = areas < max_hole_px
        ends = boxes[:, :2] + boxes[:, 2:]
        is_hole &= (boxes[:, :2] > 0).all(axis=1) & (ends < labels.shape[::-1]).all(axis=1)
        is_hole[0] = False
        is_hole[np.unique(regions[unknown])] = False
        labels[is_hole[regions]] = label
    return labels


def _components(
    mask: NDArray[np.bool_], neighbours: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Connected components from 1 on, their areas and boxes (x, y, width, height); 0 is what is outside the mask."""
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=neighbours)
    table: NDArray[Any] = stats.astype(np.int64)
    return regions, table[:, cv2.CC_STAT_AREA], table[:, : cv2.CC_STAT_AREA]
