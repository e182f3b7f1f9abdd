"""READ FIRST of proposals: an image and settings in, proposed regions or nuclei out.

The same way as `pipeline.analyse`: grid, plan, tiles, journal, polygons and cells; only what the tiles are asked is
another, and what belongs to the whole image is measured before (`measure`) and decided after (thresholds, small
regions). A proposal is an `Analysis` whose classes are `Proposed: ...`, so that everything behind it is the same.
"""

from __future__ import annotations

import colorsys
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.analysis import Analysis
from tissuebridge.errors import InputRefused, ResourceLimit, UsageError
from tissuebridge.journal import Journal
from tissuebridge.objects import PROPOSED
from tissuebridge.pipeline import AnalysisOptions, Found, analysed_area, analysis_of, check_options
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.project.base import Image
from tissuebridge.project.resample import BlockCache, Grid, grid_of
from tissuebridge.proposals.measure import GUESS, with_palette, with_stains
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings
from tissuebridge.proposals.tiles import ColourTiles, NucleusTiles
from tissuebridge.strips import TileWorker, Work, compute_missing
from tissuebridge.tiles import TilePlan
from tissuemodel.annotate.cell_classes import NEGATIVE, Threshold, classify, threshold_of
from tissuemodel.annotate.tidy import tidy_labels
from tissuemodel.detection import Candidates

_log = logging.getLogger(__name__)

MAX_MAP_PX: Final = 2**26
"""Regions are tidied on the whole map: more pixels than these would need more than a GiB."""
TWO_GROUPS: Final = 0.76
"""Otsu's threshold cuts up to 0.75 of a single hump's variance: from here on there are two groups."""

CONTRAST: Final = "tissuebridge: contrast"
NUCLEUS, POSITIVE_CLASS, NEGATIVE_CLASS = (PROPOSED + name for name in ("Nucleus", "Positive", "Negative"))
_CELL_COLORS: Final = {
    NUCLEUS: (0, 110, 200),
    POSITIVE_CLASS: (250, 62, 62),
    NEGATIVE_CLASS: (112, 112, 225),
}
"""QuPath's own colours of positive and negative cells."""

Described = Callable[[ModelDescription], object]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller wants to hear and to say while an image is worked off.

    Attributes:
        progress: Told (tiles done, tiles in all).
        cancelled: Asked often; True stops.
        described: Told once what the classes are, before any result.
    """

    progress: Callable[[int, int], None] = lambda done, total: None
    cancelled: Callable[[], bool] = lambda: False
    described: Described = lambda model: None


def propose(
    image: Image,
    settings: ProposalSettings,
    *,
    journal_dir: Path,
    options: AnalysisOptions | None = None,
    watch: Watch | None = None,
) -> Analysis:
    """Proposes what the one table of the settings asks for: `propose_regions` or `propose_cells`.

    Raises:
        UsageError: Both tables are there.
        TissuebridgeError: As for these.
    """
    if settings.regions is not None and settings.cells is not None:
        raise UsageError("one call proposes regions or cells; leave out one of the tables")
    if settings.regions is not None:
        return propose_regions(image, settings.regions, journal_dir=journal_dir, options=options, watch=watch)
    cells = settings.cells or CellSettings()
    return propose_cells(image, cells, journal_dir=journal_dir, options=options, watch=watch)


def settings_of(found: Iterable[Analysis]) -> ProposalSettings:
    """What decided some proposals of an image, everything filled in."""
    return reduce(ProposalSettings.with_missing, (ProposalSettings.of_text(one.parameters) for one in found))


def propose_regions(
    image: Image,
    settings: RegionSettings,
    *,
    journal_dir: Path,
    options: AnalysisOptions | None = None,
    watch: Watch | None = None,
) -> Analysis:
    """Proposes regions of the same colour.

    Args:
        image: The image.
        settings: What is not given is found in the image; `Analysis.parameters` has all of it.
        journal_dir: A folder for this image and for regions alone.
        options: Area, tiles and run; its smallest region does not count, the settings' does.
        watch: Progress and stopping.

    Returns:
        Regions of classes "Proposed: colour 1", from light to dark.

    Raises:
        CalibrationError: The image has no pixel size, or is too coarse.
        ImageError: A tile could not be read.
        ResourceLimit: The map of regions would be too large.
        StorageError: The journal could not be written.
        Cancelled: `watch` said so.
    """
    watch, chosen = watch or Watch(), _checked(options)
    with BlockCache(image.open_pixels()) as source:
        with _naming(image):
            full = with_palette(settings, source, image.pixel_size_um, watch.cancelled)
        told, worker = ProposalSettings(regions=full), ColourTiles(full)
        grid = grid_of(source.levels, image.pixel_size_um, full.pixel_size_um)
        if grid.width * grid.height > MAX_MAP_PX:
            raise ResourceLimit(
                f"{image.name}: regions at {full.pixel_size_um:g} µm make a map of {grid.width} x {grid.height} px, "
                f"more than {MAX_MAP_PX}; choose a larger pixel size for them"
            )
        model = _region_model(full, told.digest(), worker)
        work = _work(image, source, grid, worker.halo_px, chosen)
        journal, tiles = _worked_off(image, work, worker, model, journal_dir, watch)
    pixel_um = image.pixel_size_um * grid.downsample
    labels = tidy_labels(journal.labels(), pixel_um, full.min_area_um2, full.max_hole_um2)
    none = Candidates.none(0)
    found = analysis_of(image, model, work, Found(labels, none, none, 0, tiles), chosen)
    return replace(found, parameters=told.as_text(), parameters_in_short=full.in_short)


def propose_cells(
    image: Image,
    settings: CellSettings,
    *,
    journal_dir: Path,
    options: AnalysisOptions | None = None,
    watch: Watch | None = None,
) -> Analysis:
    """Proposes nuclei, and by their stains which are positive.

    Args:
        image: The image.
        settings: What is not given is found in the image; `Analysis.parameters` has all of it.
        journal_dir: A folder for this image and for nuclei alone.
        options: Area, tiles and run.
        watch: Progress and stopping.

    Returns:
        Cells of class "Proposed: Nucleus", or "Proposed: Positive" and "Proposed: Negative" where a chromogen is there;
        each with its contrast and the density of each stain.

    Raises:
        CalibrationError: The image has no pixel size, or is too coarse.
        InputRefused: Too little tissue or too few colours to learn the stains from, a stain that is not there, or an
            image smaller than a nucleus.
        UsageError: Nuclei too small or too large for the pixel size.
        ImageError: A tile could not be read.
        StorageError: The journal could not be written.
        Cancelled: `watch` said so.
    """
    watch, chosen = watch or Watch(), _checked(options)
    with BlockCache(image.open_pixels()) as source:
        with _naming(image):
            full = with_stains(settings, source, image.pixel_size_um, watch.cancelled)
        grid = grid_of(source.levels, image.pixel_size_um, full.pixel_size_um)
        worker = NucleusTiles(full, grid)
        model = _cell_model(full, ProposalSettings(cells=full).digest(), worker)
        work = _work(image, source, grid, worker.halo_px, chosen)
        journal, tiles = _worked_off(image, work, worker, model, journal_dir, watch)
    cells, full, warnings = _classified(journal.candidates(), full)
    warnings += _guesses(full)
    for warning in warnings:
        _log.warning("%s: %s", image.name, warning)
    found = analysis_of(image, model, work, Found(journal.labels(), cells, cells, 0, tiles, warnings), chosen)
    told = ProposalSettings(cells=full)
    return replace(found, parameters=told.as_text(), parameters_in_short=full.in_short)


def thresholds_of(scores: NDArray[np.float32], settings: CellSettings) -> dict[str, Threshold]:
    """The threshold of each stain that makes nuclei positive, with its histogram over all nuclei.

    Args:
        scores: float32 (n, 1 + stain), as `Analysis.cells.scores` has them.
        settings: Filled in.
    """
    return {
        name: threshold_of(scores[:, 1 + settings.names.index(name)], settings.thresholds.get(name))
        for name in settings.positive
    }


def _classified(
    found: Candidates, settings: CellSettings
) -> tuple[Candidates, CellSettings, tuple[str, ...]]:
    """Nuclei with their classes, the settings with the thresholds, and what to tell about these."""
    if not settings.positive:
        return found, settings, ()
    thresholds = thresholds_of(found.scores, settings)
    # As the parameter file writes them: it then gives the same classes. Never rounded to 0, which is no threshold.
    values = {name: float(f"{threshold.value:.4g}") for name, threshold in thresholds.items()}
    columns = [1 + settings.names.index(name) for name in settings.positive]
    best = classify(found.scores[:, columns], list(values.values()))
    # Negative is the last class.
    kinds = np.where(best == NEGATIVE, len(columns), best).astype(np.uint8)
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    warnings = tuple(
        f"{name}: the nuclei's densities do not fall into two groups, so the threshold {threshold.value:.3g} tells "
        f"little; set one: thresholds = {{ {name!r} = ... }}"
        for name, threshold in thresholds.items()
        if not threshold.is_given and threshold.separation < TWO_GROUPS
    )
    return replace(found, class_index=kinds), replace(settings, thresholds=finite), warnings


def _guesses(settings: CellSettings) -> tuple[str, ...]:
    """What to tell where a stain has the colour of a chromogen that nobody named."""
    names = ",".join(name.removesuffix(GUESS) for name in settings.names)
    return tuple(
        f"a stain has the colour of {name.removesuffix(GUESS)}; if that is what it is, say so (stains {names}), and "
        "nuclei are told positive or negative by it"
        for name in settings.names
        if name.endswith(GUESS)
    )


def _cell_classes(settings: CellSettings) -> tuple[str, ...]:
    """Class of each index: one for each stain that makes positive, then negative; else just nuclei."""
    if not settings.positive:
        return (NUCLEUS,)
    if len(settings.positive) == 1:
        return (POSITIVE_CLASS, NEGATIVE_CLASS)
    return (*(f"{PROPOSED}{name} positive" for name in settings.positive), NEGATIVE_CLASS)


def _region_model(settings: RegionSettings, digest: str, worker: ColourTiles) -> ModelDescription:
    names = [f"{PROPOSED}colour {number}" for number in range(1, 1 + len(settings.palette))]
    colors = dict(zip(names, _distinct_colors(len(names)), strict=True))
    model = _description("colour quantisation", digest, settings.pixel_size_um, worker.halo_px, colors)
    return replace(model, region_classes=tuple(names), mode_filter=True)


def _cell_model(settings: CellSettings, digest: str, worker: NucleusTiles) -> ModelDescription:
    names = _cell_classes(settings)
    fallback = _distinct_colors(len(names))
    colors = {name: _CELL_COLORS.get(name, fallback[place]) for place, name in enumerate(names)}
    none = (0.0,) * len(names)
    return replace(
        _description("wavelet nuclei", digest, settings.pixel_size_um, worker.halo_px, colors),
        cell_classes=names,
        cell_diameters_um=(settings.diameter_um,) * len(names),
        min_distance_um=none,
        thresholds=none,
        pad_value=settings.white,
        other_numbers=(CONTRAST, *(f"tissuebridge: {name} density" for name in settings.names)),
    )


def _description(
    name: str, digest: str, pixel_size_um: float, reach: int, colors: Mapping[str, tuple[int, int, int]]
) -> ModelDescription:
    """What stands where a network's description would: the method and its parameters' digest; no classes yet."""
    return ModelDescription(
        name=name,
        digest=digest,
        region_classes=(),
        cell_classes=(),
        colors=dict(colors),
        pixel_size_um=pixel_size_um,
        stride=1,
        reach=reach,
        pad_value=(255, 255, 255),
        cell_diameters_um=(),
        min_distance_um=(),
        thresholds=(),
        floor=0.0,
        cross_class_radius_um=None,
        mode_filter=False,
    )


def _distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Colours that are told apart on tissue: hues in steps of the golden angle, strong."""
    found = []
    for place in range(count):
        red, green, blue = colorsys.hsv_to_rgb((0.33 + place * 0.618034) % 1, 0.85, 0.85)
        found.append((round(red * 255), round(green * 255), round(blue * 255)))
    return found


def _work(image: Image, source: BlockCache, grid: Grid, halo_px: int, options: AnalysisOptions) -> Work:
    area = analysed_area(image, grid, options)
    plan = TilePlan.of(grid.height, grid.width, stride=1, tile_size=options.tile_size, halo=halo_px)
    return Work(image.name, source, grid, plan, area, options.batch_size)


def _checked(options: AnalysisOptions | None) -> AnalysisOptions:
    """The options; small regions are tidied away before there are objects."""
    chosen = replace(options or AnalysisOptions(), min_region_area_um2=0.0)
    check_options(chosen)
    return chosen


def _worked_off(
    image: Image,
    work: Work,
    worker: TileWorker,
    model: ModelDescription,
    journal_dir: Path,
    watch: Watch,
) -> tuple[Journal, int]:
    """The journal with all strips, and how many tiles had something to analyse."""
    watch.described(model)
    journal = Journal.open(journal_dir, work.plan, worker.numbers, _decides(image, model, work))
    return journal, compute_missing(work, worker, journal, watch.progress, watch.cancelled)


def _decides(image: Image, model: ModelDescription, work: Work) -> dict[str, object]:
    """What decides labels and nuclei besides the plan."""
    region_digest, skipped_digest = work.area.digests
    return {
        "image": image.identity.key(),
        "proposal": model.digest,
        "downsample": work.grid.downsample,
        "region_of_interest": region_digest,
        "skipped_blocks": skipped_digest,
    }


@contextmanager
def _naming(image: Image) -> Iterator[None]:
    """Lets what is refused say which image it was."""
    try:
        yield
    except (InputRefused, UsageError) as error:
        text = str(error)
        raise type(error)(text if image.name in text else f"{image.name}: {text}") from error
