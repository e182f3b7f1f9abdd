"""What one would do without learning: the baseline that the demo's model must beat.

A predictor like any other, so that it is measured in the same way. Every pixel gets the region class that covers most
of what was annotated; nuclei are the connected components of dark haematoxylin (colour deconvolution of Ruifrok and
Johnston 2001, as scikit-image has it; Otsu's threshold), and all of them get the most frequent cell class, since a
threshold knows no classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.learnable import TrainingSummary
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuemodel.labels import ChannelStatistics

SMALLEST_NUCLEUS_UM2: Final = 10.0
SMOOTHING_UM: Final = 0.5


class ObviousPredictor:
    """Haematoxylin above Otsu's threshold is a nucleus, and all tissue is of one class.

    Args:
        model: Whose classes and pixel size it takes over.
        summary: What was annotated to learn from: decides the majority classes.
    """

    def __init__(self, model: ModelDescription, summary: TrainingSummary) -> None:
        self._regions = np.array([summary.regions[name].area_um2 for name in model.region_classes])
        self._cells = np.array([summary.cells[name].marked for name in model.cell_classes])
        self._pixel_size_um = model.pixel_size_um
        cells = len(model.cell_classes)
        self._description = ModelDescription(
            name="stain threshold and majority class",
            digest="obvious",
            region_classes=model.region_classes,
            cell_classes=model.cell_classes,
            colors=model.colors,
            pixel_size_um=model.pixel_size_um,
            stride=1,
            reach=0,
            pad_value=(255, 255, 255),
            cell_diameters_um=model.cell_diameters_um,
            min_distance_um=(model.pixel_size_um,) * cells,
            thresholds=(0.5,) * cells,
            floor=0.1,
            cross_class_radius_um=None,
            mode_filter=False,
        )

    @property
    def description(self) -> ModelDescription:
        """What the engine must know of it."""
        return self._description

    def for_image(
        self, statistics: ChannelStatistics | None = None, squares: NDArray[np.uint8] | None = None
    ) -> ObviousPredictor:
        """The same for every image."""
        return self

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        """One class everywhere, and a peak of 1 at the centre of each dark component.

        The threshold is that of the tile, so an image must be a single tile.
        """
        shape = tiles.shape[:3]
        logits = np.full((shape[0], len(self._regions), *shape[1:]), -20.0, np.float32)
        logits[:, self._regions.argmax()] = 0
        heat = np.zeros((shape[0], len(self._cells), *shape[1:]), np.float32)
        for tile, maps in zip(tiles, heat, strict=True):
            rows, cols = nuclei_by_threshold(tile, self._pixel_size_um)
            maps[self._cells.argmax(), rows, cols] = 1
        return Prediction(logits, heat)


def nuclei_by_threshold(
    image: NDArray[np.uint8], pixel_size_um: float
) -> tuple[Sequence[int], Sequence[int]]:
    """Where connected components of dark haematoxylin have their centres.

    Args:
        image: uint8 (row, col, 3).
        pixel_size_um: Size of its pixels.

    Returns:
        Rows and columns of the pixels at the centroids.

    >>> image = np.full((40, 40, 3), 240, np.uint8)
    >>> image[10:20, 20:30] = (60, 60, 140)
    >>> nuclei_by_threshold(image, 0.5)
    ([14], [24])
    """
    from scipy import ndimage
    from skimage.color import rgb2hed
    from skimage.filters import threshold_otsu

    haematoxylin = ndimage.gaussian_filter(rgb2hed(image)[..., 0], SMOOTHING_UM / pixel_size_um)
    components, count = ndimage.label(haematoxylin > threshold_otsu(haematoxylin))
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:] * pixel_size_um**2
    large = np.flatnonzero(sizes >= SMALLEST_NUCLEUS_UM2) + 1
    centres = np.floor(np.array(ndimage.center_of_mass(components > 0, components, large)).reshape(-1, 2))
    rows, cols = centres.astype(int).T.tolist() if len(large) else ([], [])
    return rows, cols
