"""What a proposal must know of the whole image before its tiles: colours, stains, noise.

Pixels and settings come in, the same settings with everything filled in go out. Read at a fixed scale and at fixed
places of the image, so that the numbers are the same for any tile size, region of interest and transport. What is
filled in is rounded as the parameter file writes it: the file then gives the same proposal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import CalibrationError, Cancelled, InputRefused, UsageError
from tissuebridge.project.base import PixelSource
from tissuebridge.project.resample import Grid, grid_of, read_grid
from tissuebridge.project.statistics import looks
from tissuebridge.proposals.settings import CHROMOGENS, COUNTERSTAINS, CellSettings, RegionSettings, Triple
from tissuemodel.annotate.density import GLASS_DENSITY, WHITE, optical_density, tissue_sample
from tissuemodel.annotate.quantize import PaletteOptions, make_palette, smoothed
from tissuemodel.annotate.separation import reconstruction, separate
from tissuemodel.annotate.stains import KNOWN_STAINS, Stains, given_stains, learn_stains, named_stains
from tissuemodel.annotate.wavelet import SpotOptions, noise_levels

REGION_PIXEL_UM: Final = (2.0, 8.0)
"""Regions are looked for at so many um a pixel: the finest for small images, the coarsest for slides."""
_REGION_SIDE_PX: Final = 512
"""A small image still gets a map of about so many pixels along its longer side."""

_THUMBNAIL_PX: Final = 4_000_000
_STRIP_ROWS: Final = 512

GUESS: Final = "?"
"""Behind the name of a chromogen that nobody named."""

_LOOK_PX: Final = 512
"""Stains and noise are learnt from squares of so many px."""
_TISSUE_SHARE: Final = 0.05
"""A square with less tissue says nothing of the noise."""

Stop = Callable[[], bool]
_Settings = TypeVar("_Settings", RegionSettings, CellSettings)


def region_pixel_size(settings: RegionSettings, source: PixelSource, pixel_size_um: float) -> float:
    """The pixel size of the map of regions: as set, else chosen for the image; never finer than the image.

    Args:
        settings: 0 chooses.
        source: The image.
        pixel_size_um: Of its full resolution.
    """
    if settings.pixel_size_um:
        return max(settings.pixel_size_um, pixel_size_um)
    longest_um = max(source.levels[0].width, source.levels[0].height) * pixel_size_um
    fine, coarse = REGION_PIXEL_UM
    return max(round(min(max(longest_um / _REGION_SIDE_PX, fine), coarse), 2), pixel_size_um)


def with_palette(
    settings: RegionSettings, source: PixelSource, pixel_size_um: float, cancelled: Stop
) -> RegionSettings:
    """The settings with pixel size and palette filled in; the palette is the thumbnail's.

    Raises:
        CalibrationError: The image is too coarse.
        Cancelled: `cancelled` said so.
        ImageError: Pixels cannot be decoded.
    """
    settings = _at(settings, region_pixel_size(settings, source, pixel_size_um))
    if settings.palette:
        return settings
    grid = grid_of(source.levels, pixel_size_um, settings.pixel_size_um)
    coarser = math.ceil(math.sqrt(grid.width * grid.height / _THUMBNAIL_PX))
    if coarser > 1:
        grid = grid_of(source.levels, pixel_size_um, settings.pixel_size_um * coarser)
    options = PaletteOptions(settings.split_above, settings.merge_below, settings.max_colours)
    palette = make_palette(smoothed(_all_of(source, grid, cancelled)), options)
    colours: list[Triple] = [(light, a, b) for light, a, b in palette.lab.round(2).tolist()]
    return replace(settings, palette=tuple(colours))


def _at(settings: _Settings, pixel_size_um: float) -> _Settings:
    """The settings at a pixel size that the image decides.

    Raises:
        CalibrationError: Nothing can be looked for at it.
    """
    try:
        return replace(settings, pixel_size_um=pixel_size_um)
    except ValueError as error:
        raise CalibrationError(
            f"the image has {pixel_size_um:g} µm a pixel, but {error}; give the right one with --pixel-size UM"
        ) from error


def _all_of(source: PixelSource, grid: Grid, cancelled: Stop) -> NDArray[np.uint8]:
    pixels = np.empty((grid.height, grid.width, 3), np.uint8)
    for row in range(0, grid.height, _STRIP_ROWS):
        _stop_if(cancelled, source.name)
        rows = min(_STRIP_ROWS, grid.height - row)
        pixels[row : row + rows] = read_grid(source, grid, row, 0, rows, grid.width)
    return pixels


def with_stains(
    settings: CellSettings, source: PixelSource, pixel_size_um: float, cancelled: Stop
) -> CellSettings:
    """The settings with pixel size, stain vectors and noise filled in, from a sample of the image.

    Raises:
        CalibrationError: The image is too coarse.
        Cancelled: `cancelled` said so.
        ImageError: Pixels cannot be decoded.
        InputRefused: The image has too little tissue or too few colours to learn the stains from, none of them is
            one that the settings name, or it is smaller than a nucleus.
        UsageError: Nuclei are too small or too large for the pixel size.
    """
    settings = _at(settings, max(settings.pixel_size_um, pixel_size_um))
    grid = grid_of(source.levels, pixel_size_um, settings.pixel_size_um)
    options = spot_options(settings, grid)
    tiles = list(_looks(source, grid, cancelled))
    sample = tissue_sample(tiles, white=settings.white)
    settings, stains = _with_vectors(settings, sample)
    settings = replace(
        settings,
        nuclear=settings.nuclear or _those(stains.names, (*COUNTERSTAINS, *CHROMOGENS)) or stains.names[:1],
        positive=settings.positive or _those(stains.names, CHROMOGENS),
        reconstruction_error=round(reconstruction(sample, stains).relative, 4),
    )
    # A file in which a person changed the diameter has the noise of other levels.
    if len(settings.noise) == len(options.levels):
        return settings
    _stop_if(cancelled, source.name)
    tissue = [tile for tile in tiles if _has_tissue(tile)] or tiles
    noise = noise_levels((nuclear_density(separate(tile, stains), settings) for tile in tissue), options)
    return replace(settings, noise=tuple(float(f"{level:.6g}") for level in noise))


def spot_options(settings: CellSettings, grid: Grid) -> SpotOptions:
    """Levels and sizes for the nuclei that are asked for.

    Raises:
        InputRefused: They are larger than the image, which says nothing against the next image.
        UsageError: Too small or too large for the pixel size.
    """
    diameter_px = settings.diameter_um / settings.pixel_size_um
    if diameter_px > max(grid.width, grid.height):
        raise InputRefused(
            f"nuclei of {settings.diameter_um:g} µm are larger than the image "
            f"({max(grid.width, grid.height) * settings.pixel_size_um:.3g} µm); check the pixel size or give a "
            "smaller diameter"
        )
    try:
        return SpotOptions.for_diameter(diameter_px, settings.noise_factor, settings.min_contrast)
    except ValueError as error:
        raise UsageError(
            f"nuclei of {settings.diameter_um:g} µm at {settings.pixel_size_um:g} µm a pixel: {error}"
        ) from error


def stains_in(settings: CellSettings) -> Stains:
    """The stains of settings that are filled in."""
    return given_stains(settings.vectors, settings.names, white=settings.white)


def nuclear_density(densities: NDArray[np.float32], settings: CellSettings) -> NDArray[np.float32]:
    """What marks nuclei: the sum of the nuclear stains' densities.

    Args:
        densities: float32 (stain, row, col), in the settings' order.
        settings: Filled in.

    Returns:
        float32 (row, col).
    """
    total: NDArray[np.float32] = np.zeros(densities.shape[1:], np.float32)
    for name in settings.nuclear:
        total += densities[settings.names.index(name)]
    return total


def _with_vectors(settings: CellSettings, sample: NDArray[np.uint8]) -> tuple[CellSettings, Stains]:
    """The settings with the stains' names and vectors, and the stains."""
    try:
        names, vectors = _found_vectors(settings, sample)
        rounded = tuple((red, green, blue) for red, green, blue in vectors.round(4).tolist())
        return replace(settings, stains=names, vectors=rounded), given_stains(
            rounded, names, white=settings.white
        )
    except ValueError as error:
        raise InputRefused(str(error)) from error


def _found_vectors(
    settings: CellSettings, sample: NDArray[np.uint8]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names and vectors: given, or learnt from the tissue; a single stain cannot be learnt and has its known vector."""
    if settings.vectors:
        return settings.names, np.array(settings.vectors, np.float64)
    if len(settings.names) == 1:
        return settings.names, np.array([KNOWN_STAINS[settings.names[0]]])
    count = settings.stains if isinstance(settings.stains, int) else len(settings.stains)
    learnt = learn_stains(sample, count)
    if settings.names:
        return settings.names, named_stains(learnt, settings.names).vectors
    # A guess from colour alone, and a brownish eosin has DAB's: only a person knows a chromogen.
    return tuple(f"{name}{GUESS}" if name in CHROMOGENS else name for name in learnt.names), learnt.vectors


def _those(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in wanted)


def _looks(source: PixelSource, grid: Grid, cancelled: Stop) -> Iterator[NDArray[np.uint8]]:
    for square in looks(grid, _LOOK_PX):
        _stop_if(cancelled, source.name)
        yield read_grid(source, grid, *square)


def _has_tissue(tile: NDArray[np.uint8]) -> bool:
    share = (optical_density(tile, WHITE).mean(axis=-1) > GLASS_DENSITY).mean()
    return bool(share >= _TISSUE_SHARE)


def _stop_if(cancelled: Stop, image_name: str) -> None:
    if cancelled():
        raise Cancelled(f"{image_name}: stopped while its colours were measured; run again")
