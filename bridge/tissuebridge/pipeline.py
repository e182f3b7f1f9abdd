"""READ FIRST: an image and a network in, regions and cells out.

The way of the data, top to bottom: the image's model grid, the tile plan, pixels (read ahead by a thread),
the network, the mosaic and the peaks of each strip and the journal (in another thread, while the network has the
next tiles), and from the journal polygons and cells.
`Analysis` (in `analysis`) turns them into QuPath's objects.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.analysis import Analysis, Cells, Summary, cells_of, write_label_map
from tissuebridge.drawn_area import drawn_region
from tissuebridge.errors import AnnotationError, UsageError
from tissuebridge.journal import Journal
from tissuebridge.predictor.agreement import Compared
from tissuebridge.predictor.base import ModelDescription, Predictor
from tissuebridge.project.base import Image, PixelSource
from tissuebridge.project.glass import LEAST_PX, glass_blocks
from tissuebridge.project.resample import BlockCache, Grid, coarse_warning, grid_of
from tissuebridge.project.statistics import colour_warning, image_statistics
from tissuebridge.strips import Work, area_squares, compute_missing
from tissuebridge.tile_network import NetworkTiles
from tissuebridge.tiles import AnalysedArea, TilePlan, halo_px
from tissuebridge.vectorize import polygonise
from tissuemodel.detection import Candidates, suppress_across_classes

__all__ = ["Analysis", "AnalysisOptions", "Cells", "Summary", "analyse", "write_label_map"]

_log = logging.getLogger(__name__)

DEFAULT_TILE_SIZE: Final = 1536
"""Side of a tile's core in px of the model's grid. Larger cores spend less on halos and take more memory: with 1024,
1536 and 2048 the whole way took 1.37, 1.14 and 1.11 times the bare network's time; 1.1, 2.1 and 2.5 GiB (`compact`)."""

MAX_BATCH: Final = 256
"""A larger batch is a slip of the finger: a single tile keeps a CPU busy, a few a GPU."""

_PIECE: Final = 2**24


@dataclass(frozen=True, slots=True, eq=False)
class AnalysisOptions:
    """What a person may choose about an analysis. Nothing here changes what the network sees of a place.

    Attributes:
        tile_size: Side of a tile's core in px of the model's grid; rounded up to the model's stride.
        batch_size: Tiles the network gets at once.
        region_of_interest: Area to analyse, in full-resolution px (x, y). None: the image's own `Region*`
            annotations that a person drew, or the whole image if there are none.
        skipped_blocks: bool (row, col), True for blocks of 256 x 256 px of the model's grid, from its origin,
            that are not analysed.
        skip_glass: Do not analyse blocks either that show nothing but empty glass (`project.glass`); small images
            are always analysed as a whole.
        min_region_area_um2: Smaller connected regions do not become objects (they stay in the label map).
        simplify_um: Outlines of regions lose corners that make less than about this difference; 0: only the steps
            of their pixels are cut. The label map stays exact.
        cells_as_points: Write cells as points instead of discs.
        run_id: Id of the run, kept in the objects' metadata.
    """

    tile_size: int = DEFAULT_TILE_SIZE
    batch_size: int = 1
    region_of_interest: BaseGeometry | None = None
    skipped_blocks: NDArray[np.bool_] | None = None
    skip_glass: bool = True
    min_region_area_um2: float = 25.0
    simplify_um: float = 0.0
    cells_as_points: bool = False
    run_id: str = field(default_factory=lambda: uuid4().hex)


def analyse(
    image: Image,
    predictor: Predictor,
    *,
    journal_dir: Path,
    exact: Predictor | None = None,
    options: AnalysisOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Analysis:
    """Applies a network to an image.

    Args:
        image: The image; its pixels are opened once and read from one thread.
        predictor: The network; called from the calling thread only.
        journal_dir: A folder for this image alone; an interrupted analysis with the same parameters resumes
            there.
        exact: Where the network computes in a reduced precision, the same in full precision: it is asked about the
            first tiles, too, and `Summary.agreement` tells how far they agree.
        options: What to analyse and how; the defaults of `AnalysisOptions` if None.
        progress: Called with (tiles done, tiles in all), from the calling thread.
        cancelled: Asked before every call of the network; True stops the analysis.

    Returns:
        Label map, cells, regions and counts: the same for any tile size and batch size.

    Raises:
        CalibrationError: The image has no pixel size.
        UsageError: An option is impossible.
        ImageError: A tile could not be read; names image and tile.
        ModelError: The network gave NaN or infinity; names image and tile. Nothing of that strip is kept.
        StorageError: The journal could not be written.
        Cancelled: `cancelled` said so; finished strips stay in the journal.
    """
    chosen = options or AnalysisOptions()
    computed = compute(
        image,
        predictor,
        journal_dir=journal_dir,
        exact=exact,
        options=chosen,
        progress=progress,
        cancelled=cancelled,
    )
    return _concluded(image, predictor.description, computed, chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What the network's part of an analysis leaves.

    Attributes:
        work: What was to be done.
        journal: Has all strips, or those of the part.
        tiles: Tiles that had something to analyse.
        warnings: As in `Summary`.
        agreement: As in `Summary`.
    """

    work: Work
    journal: Journal
    tiles: int
    warnings: tuple[str, ...]
    agreement: str


def compute(
    image: Image,
    predictor: Predictor,
    *,
    journal_dir: Path,
    exact: Predictor | None = None,
    options: AnalysisOptions,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    part: tuple[int, int] = (0, 1),
) -> Computed:
    """The network's part of `analyse`: fills the journal, makes nothing of it.

    Args:
        image: As for `analyse`, like all the others.
        predictor: The network.
        journal_dir: A folder for this image alone.
        exact: Asked for the first part alone.
        options: What to analyse and how.
        progress: Called with (tiles done, tiles in all).
        cancelled: Asked before every call of the network.
        part: (k, n): only the k-th of n runs of strips, while other processes fill the same journal.

    Raises:
        TissuebridgeError: As for `analyse`.
    """
    check_options(options)
    model = predictor.description
    compared = Compared(predictor, exact) if exact is not None and part[0] == 0 else None
    predictor = compared or predictor
    with BlockCache(image.open_pixels()) as source:
        grid = grid_of(source.levels, image.pixel_size_um, model.pixel_size_um)
        area = analysed_area(image, grid, _without_glass(source, grid, options, cancelled or _never))
        plan = _plan(grid, model, options.tile_size)
        decides = _decides(image, model, grid, area)
        statistics = squares = None
        if model.normalises_each_image:
            statistics = image_statistics(source, image.pixel_size_um, cancelled or _never)
            decides["statistics"] = statistics
        if model.is_quantised:
            squares = area_squares(source, grid, area, model.pad_value)
        if statistics is not None or squares is not None:
            predictor = predictor.for_image(statistics, squares)
        warnings = _warnings(image, source, model)
        alone = part == (0, 1)
        journal = Journal.open(journal_dir, plan, len(model.cell_classes), decides, alone=alone)
        work = Work(image.name, source, grid, plan, area, options.batch_size)
        tiles = compute_missing(
            work, NetworkTiles(predictor), journal, progress or _silent, cancelled or _never, part
        )
        if compared is not None and (told := compared.told()):
            journal.keep_agreement(told)
    return Computed(work, journal, tiles, warnings, journal.agreement)


def _without_glass(
    source: PixelSource, grid: Grid, options: AnalysisOptions, cancelled: Callable[[], bool]
) -> AnalysisOptions:
    """The options with empty glass among the skipped blocks, where that is wanted."""
    if not options.skip_glass or grid.width * grid.height < LEAST_PX:
        return options
    glass = glass_blocks(source, grid, cancelled)
    if not glass.any():
        return options
    given = options.skipped_blocks
    if given is not None and given.shape != glass.shape:
        return options  # refused where it is used
    _log.info("%s: %.0f %% of the image is empty glass and is skipped", source.name, 100 * glass.mean())
    return replace(options, skipped_blocks=glass if given is None else given | glass)


def _silent(done: int, total: int) -> None:
    pass


def _never() -> bool:
    return False


def check_options(options: AnalysisOptions) -> None:
    """Refuses what cannot be.

    Raises:
        UsageError: Says which option, and what it may be.
    """
    if not 1 <= options.batch_size <= MAX_BATCH:
        raise UsageError(f"batch size {options.batch_size}: must be from 1 to {MAX_BATCH}")
    if not 0 <= options.min_region_area_um2 < float("inf"):
        raise UsageError(f"smallest region {options.min_region_area_um2:g} um²: must be 0 or more")
    if not 0 <= options.simplify_um < float("inf"):
        raise UsageError(f"outlines simplified by {options.simplify_um:g} um: must be 0 or more")


def analysed_area(image: Image, grid: Grid, options: AnalysisOptions) -> AnalysedArea:
    """What to analyse: as asked, else inside the areas that a person drew for it, else everything.

    Raises:
        AnnotationError: The region covers no pixel.
    """
    region = options.region_of_interest
    if region is None:
        region = drawn_region(image)
    area = AnalysedArea(grid.height, grid.width, grid.downsample, region, options.skipped_blocks)
    if region is not None and options.skipped_blocks is None and area.count() == 0:
        raise AnnotationError(
            f"{image.name}: the region to analyse covers no pixel of the image; "
            "draw it on the image, or remove it to analyse everything"
        )
    return area


def _plan(grid: Grid, model: ModelDescription, tile_size: int) -> TilePlan:
    radii_px = [distance_um / model.pixel_size_um for distance_um in model.min_distance_um]
    halo = halo_px(model.reach, radii_px, model.stride)
    return TilePlan.of(grid.height, grid.width, stride=model.stride, tile_size=tile_size, halo=halo)


def _decides(image: Image, model: ModelDescription, grid: Grid, area: AnalysedArea) -> dict[str, object]:
    """What decides labels and candidates besides the plan. Thresholds do not: they act afterwards."""
    region_digest, skipped_digest = area.digests
    return {
        "image": image.identity.key(),
        "model": model.digest,
        "downsample": grid.downsample,
        "pad_value": model.pad_value,
        "min_distance_um": model.min_distance_um,
        "floor": model.floor,
        "mode_filter": model.mode_filter,
        "precision": model.precision,
        "region_of_interest": region_digest,
        "skipped_blocks": skipped_digest,
    }


def _warnings(image: Image, source: PixelSource, model: ModelDescription) -> tuple[str, ...]:
    """In what the image is unlike those that the model learnt from; also into the log (`grid_of` did the first)."""
    coarse = coarse_warning(image.pixel_size_um, model.pixel_size_um)
    colours = colour_warning(source, image.pixel_size_um, model.usual_colours)
    if colours is not None:
        _log.warning("%s: %s", image.name, colours)
    return tuple(warning for warning in (coarse, colours) if warning is not None)


def _concluded(
    image: Image, model: ModelDescription, computed: Computed, options: AnalysisOptions
) -> Analysis:
    """The analysis, from a journal that has all strips."""
    journal, tiles, warnings = computed.journal, computed.tiles, computed.warnings
    candidates = journal.candidates()
    found = _above_threshold(candidates, model)
    stays = _outdone_by_none(found, model)
    result = Found(journal.labels(), candidates, found.take(stays), int((~stays).sum()), tiles, warnings)
    analysis = analysis_of(image, model, computed.work, result, options)
    return replace(analysis, summary=replace(analysis.summary, agreement=computed.agreement))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was found in an image, on the grid.

    Attributes:
        labels: uint8 (row, col), as in `Analysis`.
        candidates: As in `Analysis`.
        cells: Those candidates that are cells.
        suppressed: Cells outdone by one of another class.
        tiles: Tiles that had something to analyse.
        warnings: As in `Summary`.
    """

    labels: NDArray[np.uint8]
    candidates: Candidates
    cells: Candidates
    suppressed: int
    tiles: int
    warnings: tuple[str, ...] = ()


def analysis_of(
    image: Image, model: ModelDescription, work: Work, found: Found, options: AnalysisOptions
) -> Analysis:
    """What was found, as regions, cells and counts in full-resolution px and um^2."""
    grid, identity = work.grid, image.identity
    cells = cells_of(found.cells, found.labels, grid.downsample, model)
    pixel_um2 = (identity.pixel_size_um * grid.downsample) ** 2
    regions = polygonise(
        found.labels,
        grid.downsample,
        image_size=(identity.width, identity.height),
        min_area_px=options.min_region_area_um2 / pixel_um2,
        simplify_px=options.simplify_um / math.sqrt(pixel_um2),
    )
    planned = sum(len(work.plan.tiles(strip)) for strip in range(work.plan.strips))
    return Analysis(
        image=identity,
        model=model,
        run_id=options.run_id,
        downsample=grid.downsample,
        labels=found.labels,
        cells=cells,
        candidates=found.candidates,
        regions=tuple(regions),
        summary=Summary(
            cells=_counts(cells.class_index, model.cell_classes),
            regions=_counts(
                np.array([region.class_index for region in regions], np.uint8), model.region_classes
            ),
            area_um2={name: n * pixel_um2 for name, n in _counts(found.labels, model.region_classes).items()},
            analysed_um2=work.area.count() * pixel_um2,
            suppressed_across_classes=found.suppressed,
            tiles=planned,
            skipped_tiles=planned - found.tiles,
            warnings=found.warnings,
        ),
        min_region_area_um2=options.min_region_area_um2,
        cells_as_points=options.cells_as_points,
    )


def _above_threshold(candidates: Candidates, model: ModelDescription) -> Candidates:
    thresholds = np.array(model.thresholds, np.float32)
    return candidates.take(candidates.score >= thresholds[candidates.class_index])


def _outdone_by_none(found: Candidates, model: ModelDescription) -> NDArray[np.bool_]:
    """Which cells no better cell of another class outdoes, if the model wants that."""
    if model.cross_class_radius_um is None:
        return np.ones(len(found), np.bool_)
    return suppress_across_classes(found, model.cross_class_radius_um / model.pixel_size_um)


def _counts(index: NDArray[np.uint8], names: Sequence[str]) -> dict[str, int]:
    """How often each class occurs; in pieces small enough for the float32 counts of OpenCV, 20 times faster."""
    flat, counts = index.reshape(1, -1), np.zeros(256, np.int64)
    for start in range(0, flat.size, _PIECE):
        piece = flat[:, start : start + _PIECE]
        counts += cv2.calcHist([piece], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return dict(zip(names, counts.tolist(), strict=False))
