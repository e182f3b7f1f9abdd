"""What tests of client and server need beside `drawn_tissue`: a pyramid that counts, a network that can be held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drawn_tissue import ArrayImage, NullNetwork, draw_tissue
from tissuebridge.predictor.base import Prediction
from tissuebridge.project.base import Level

DESCRIPTION = NullNetwork(reach=24).description


class HeldNetwork(NullNetwork):
    """A network that calls `before` with the number of predictions so far, before each.

    Args:
        before: What is called; may wait or raise.
    """

    def __init__(self, before: Callable[[int], None] | None = None) -> None:
        super().__init__(reach=24)
        self._before = before

    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        if self._before is not None:
            self._before(self.calls)
        return super().predict(tiles)


class DrawnImage(ArrayImage):
    """Drawn tissue with a pyramid, at half the pixel size of the network; counts the blocks that are read.

    Args:
        width: In px.
        height: In px.
        levels: Each half as large as the one before.
        reading: Called before each block is read.
        more: What `ArrayImage` takes.
    """

    def __init__(
        self,
        width: int = 500,
        height: int = 400,
        *,
        levels: int = 2,
        reading: Callable[[], object] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(draw_tissue(height, width, seed=0), **{"pixel_size_um": 0.25, **more})
        self.blocks, self._reading = 0, reading
        self._pyramid = [self.pixels]
        for _ in range(levels - 1):
            self._pyramid.append(_halved(self._pyramid[-1]))

    @property
    def levels(self) -> Sequence[Level]:
        sizes = [(level.shape[1], level.shape[0]) for level in self._pyramid]
        return [Level(*size, float(2**index)) for index, size in enumerate(sizes)]

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        assert not self.is_closed
        if self._reading is not None:
            self._reading()
        self.blocks += 1
        return self._pyramid[level][y : y + height, x : x + width]


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2].astype(np.uint16)
    return ((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2] + 2) // 4).astype(np.uint8)
