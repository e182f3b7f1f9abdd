"""The images that did worst, kept while an evaluation goes through all of them.

Each image comes in once it is compared (`tissuebridge.evaluation.measure`); what is drawn of the worst stays, so that
no analysis is held in memory.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.comparison import Compared
from tissuebridge.report.mistakes import draw_cell_mistakes, draw_region_mistakes
from tissuemodel.metrics import micro_f1

MOST: Final = 3
"""So many images are shown for cells, and so many for regions: a page of a few MB."""


@dataclass(frozen=True, slots=True, order=True)
class Drawn:
    """An image's mistakes.

    Attributes:
        f1: Of all classes' counts together.
        name: The image's name.
        picture: uint8 (row, col, 3).
    """

    f1: float
    name: str
    picture: NDArray[np.uint8] = field(compare=False)


class WorstImages:
    """Draws the images of lowest F1, of cells and of regions, as they come.

    Args:
        most: How many of each kind are kept.

    Attributes:
        cells: The worst by the F1 of their cells, worst first.
        regions: The worst by the F1 of their labelled pixels, worst first.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.cells: list[Drawn] = []
        self.regions: list[Drawn] = []

    def add(self, compared: Compared) -> None:
        """Keeps an image if it is among the worst so far.

        Raises:
            ImageError: Its pixels cannot be decoded.
        """
        model, name = compared.found.model, compared.image.name
        classes = len(model.cell_classes)
        cells = micro_f1(compared.cells.confusion(classes), classes)
        self._keep(self.cells, cells, name, lambda: draw_cell_mistakes(compared))
        regions = micro_f1(compared.all_regions.labelled, len(model.region_classes))
        self._keep(self.regions, regions, name, lambda: draw_region_mistakes(compared))

    def _keep(
        self, kept: list[Drawn], f1: float | None, name: str, draw: Callable[[], NDArray[np.uint8]]
    ) -> None:
        if f1 is None or (len(kept) == self._most and f1 >= kept[-1].f1):
            return
        insort(kept, Drawn(f1, name, draw()))
        del kept[self._most :]
