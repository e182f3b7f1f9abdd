"""What becomes of a tile in a proposal: the colour of each pixel, or the nuclei and their stain densities.

The workers (`strips.TileWorker`) of `propose`. Settings that are filled in come in, with tiles of pixels; labels and
candidates go out. Each depends on its tile's context alone, as far as `halo_px` says: tiled results equal untiled ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tissuebridge.project.resample import Grid
from tissuebridge.proposals.measure import nuclear_density, spot_options, stains_in
from tissuebridge.proposals.settings import CellSettings, RegionSettings
from tissuebridge.strips import FinishedTile, Work
from tissuebridge.tiles import Tile, Window
from tissuemodel.annotate.cell_classes import Ring, densities_round
from tissuemodel.annotate.quantize import (
    SMOOTHING_REACH_PX,
    given_palette,
    label_colours,
    label_table,
    smoothed,
)
from tissuemodel.annotate.separation import separate
from tissuemodel.annotate.wavelet import find_spots
from tissuemodel.detection import Candidates
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.mosaic import mode_filter


class ColourTiles:
    """Gives each pixel the nearest colour of a palette, and lets its neighbours outvote it.

    Args:
        settings: With a palette.
    """

    numbers = 0

    def __init__(self, settings: RegionSettings) -> None:
        self._colours = len(settings.palette)
        self._table = label_table(given_palette(settings.palette))

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """Never seen: a tile ends where the image does."""
        return (255, 255, 255)

    @property
    def halo_px(self) -> int:
        """How far smoothing and the vote look."""
        return SMOOTHING_REACH_PX + 1

    def finished(
        self, work: Work, batch: Sequence[Tile], pixels: NDArray[np.uint8]
    ) -> Iterator[FinishedTile]:
        """The labels of each tile's core."""
        for tile, seen in zip(batch, pixels, strict=True):
            core = tile.core.clipped(work.grid.height, work.grid.width)
            near = core.grown(1).shared(tile.context)
            labels = label_colours(smoothed(seen)[near.slices(tile.context)], self._table)
            if not work.area.is_everything:
                labels[~work.area.within(near)] = IGNORE_LABEL
            voted = mode_filter(labels, self._colours)[core.slices(near)]
            yield core, voted, Candidates.none(self.numbers)


class NucleusTiles:
    """Finds nuclei, and measures the density of each stain in or round them.

    A candidate's numbers are its contrast, then the density of each stain.

    Args:
        settings: With stain vectors and noise.
        grid: The grid that they are looked for on.
    """

    def __init__(self, settings: CellSettings, grid: Grid) -> None:
        self._settings, self._stains = settings, stains_in(settings)
        self._options = spot_options(settings, grid)
        self._ring = (
            Ring.round_nucleus(settings.diameter_um, settings.ring_um, settings.pixel_size_um)
            if settings.ring_um
            else Ring(0.0, settings.diameter_um / 2, settings.pixel_size_um)
        )
        self.numbers = 1 + len(self._stains)

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """Never seen: a tile ends where the image does."""
        return self._settings.white

    @property
    def halo_px(self) -> int:
        """How far nuclei and rings reach."""
        return max(self._options.halo_px, self._ring.reach_px) + 1

    def finished(
        self, work: Work, batch: Sequence[Tile], pixels: NDArray[np.uint8]
    ) -> Iterator[FinishedTile]:
        """The nuclei whose centres lie in each tile's core."""
        for tile, seen in zip(batch, pixels, strict=True):
            core = tile.core.clipped(work.grid.height, work.grid.width)
            labels = np.full((core.height, core.width), IGNORE_LABEL, np.uint8)
            yield core, labels, self._nuclei(work, tile, core, seen)

    def _nuclei(self, work: Work, tile: Tile, core: Window, pixels: NDArray[np.uint8]) -> Candidates:
        densities = separate(pixels, self._stains)
        spots = find_spots(nuclear_density(densities, self._settings), self._options, self._settings.noise)
        origin = np.array([tile.context.col, tile.context.row])
        place = np.floor(spots.xy).astype(np.int64)[:, ::-1] + origin[::-1] - (core.row, core.col)
        owned = ((place >= 0) & (place < (core.height, core.width))).all(axis=1)
        if not work.area.is_everything:
            owned[owned] = work.area.within(core)[tuple(place[owned].T)]
        # A spot in the hollow of another may have its centre in the same pixel, which is a nucleus's key.
        chosen = np.flatnonzero(owned)
        chosen = chosen[np.sort(np.unique(place[chosen], axis=0, return_index=True)[1])]
        xy = spots.xy[chosen]
        measured = densities_round(densities, xy, self._ring)
        return Candidates(
            (place[chosen] + (core.row, core.col)).astype(np.int32),
            xy + origin,
            np.zeros(len(chosen), np.uint8),
            np.column_stack([spots.score[chosen], measured]).astype(np.float32),
        )
