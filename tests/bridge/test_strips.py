import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drawn_tissue import ArrayImage, NullNetwork, draw_tissue
from tissuebridge.journal import Journal
from tissuebridge.project.resample import BlockCache, grid_of
from tissuebridge.strips import FinishedTile, Work, compute_missing
from tissuebridge.tile_network import NetworkTiles
from tissuebridge.tiles import AnalysedArea, Tile, TilePlan

WAIT_S = 20


class LateTiles(NetworkTiles):
    """Each batch is finished only when the network was asked about the next, of the next strip too."""

    def __init__(self, network: NullNetwork, batches: int) -> None:
        super().__init__(network)
        self._asked = [threading.Event() for _ in range(batches)]
        self._network = network

    def finished(
        self, work: Work, batch: Sequence[Tile], pixels: NDArray[np.uint8]
    ) -> Iterator[FinishedTile]:
        tiles = super().finished(work, batch, pixels)
        self._asked[self._network.calls - 1].set()
        return self._late(tiles, min(self._network.calls, len(self._asked) - 1))

    def _late(self, tiles: Iterator[FinishedTile], next_call: int) -> Iterator[FinishedTile]:
        assert self._asked[next_call].wait(WAIT_S), "the network waits for what comes after it"
        yield from tiles


def test_the_network_has_the_next_tiles_while_its_last_answer_is_finished_and_written(tmp_path: Path) -> None:
    image, network = ArrayImage(draw_tissue(190, 190, seed=4)), NullNetwork()
    model = network.description
    grid = grid_of(image.levels, image.pixel_size_um, model.pixel_size_um)
    plan = TilePlan.of(grid.height, grid.width, stride=16, tile_size=96, halo=64)
    journal = Journal.open(tmp_path, plan, len(model.cell_classes), {})

    with BlockCache(image.open_pixels()) as source:
        area = AnalysedArea(grid.height, grid.width, grid.downsample)
        work = Work(image.name, source, grid, plan, area, batch_size=1)
        compute_missing(work, LateTiles(network, 4), journal, lambda done, total: None, lambda: False)

    assert network.calls == 4
    assert journal.missing == ()
