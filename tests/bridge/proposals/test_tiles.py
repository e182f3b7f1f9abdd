"""Tiles of a proposal are exactly those of one tile, for any size of tile and image, area and skipped blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from drawn_tissue import ArrayImage, draw_tissue
from tissuebridge.journal import Journal
from tissuebridge.project.resample import BlockCache, Grid, grid_of
from tissuebridge.proposals.settings import CellSettings, RegionSettings
from tissuebridge.proposals.tiles import ColourTiles, NucleusTiles
from tissuebridge.strips import Work, compute_missing
from tissuebridge.tiles import BLOCK_PX, AnalysedArea, TilePlan, Window
from tissuemodel.detection import Candidates
from tissuemodel.labels import IGNORE_LABEL

Worker = ColourTiles | NucleusTiles
Maker = Callable[[Grid], Worker]
Found = tuple[NDArray[np.uint8], Candidates]

REGIONS = RegionSettings(
    pixel_size_um=0.5,
    palette=((92.0, 4.0, -3.0), (65.0, 50.0, -15.0), (65.0, -30.0, 33.0), (43.0, 22.0, -50.0)),
)
CELLS = CellSettings(
    diameter_um=5.0,
    stains=("Hematoxylin", "DAB"),
    vectors=((0.65, 0.7, 0.29), (0.27, 0.57, 0.78)),
    nuclear=("Hematoxylin", "DAB"),
    noise=(0.05, 0.03, 0.02),
)
STAR = Polygon(
    [(-20, 30), (200, 10), (395.5, 60), (210, 120.5), (380, 300), (120, 220), (60, 390), (90, 150)]
)
AREAS = st.sampled_from([None, STAR, box(100, 100, 180, 333).union(box(260.5, 5, 290.5, 190))])


def colours(grid: Grid) -> ColourTiles:
    return ColourTiles(REGIONS)


def nuclei(grid: Grid) -> NucleusTiles:
    return NucleusTiles(CELLS, grid)


def ringed(grid: Grid) -> NucleusTiles:
    return NucleusTiles(replace(CELLS, ring_um=12.0), grid)


MAKERS = pytest.mark.parametrize("make", [colours, nuclei, ringed])


def worked(
    pixels: NDArray[np.uint8],
    make: Maker,
    tile_size: int = 16_384,
    *,
    halo: int | None = None,
    area: BaseGeometry | None = None,
    skipped: NDArray[np.bool_] | None = None,
    batch_size: int = 1,
) -> Found:
    """The engine alone, whose halo can be another than the worker's; without a tile size one tile covers everything."""
    image = ArrayImage(pixels)
    grid = grid_of(image.levels, image.pixel_size_um, 0.5)
    worker = make(grid)
    plan = TilePlan.of(
        grid.height,
        grid.width,
        stride=1,
        tile_size=tile_size,
        halo=worker.halo_px if halo is None else halo,
    )
    analysed = AnalysedArea(grid.height, grid.width, grid.downsample, area, skipped)
    with TemporaryDirectory() as folder, BlockCache(image.open_pixels()) as source:
        journal = Journal.open(Path(folder), plan, worker.numbers, {})
        work = Work(image.name, source, grid, plan, analysed, batch_size)
        compute_missing(work, worker, journal, lambda done, total: None, lambda: False)
        return journal.labels(), journal.candidates()


def differences(one: Found, other: Found) -> list[str]:
    """In what two results differ, to the last bit; the order of nuclei is the tiles'."""
    found = [] if np.array_equal(one[0], other[0]) else ["labels"]
    mine, others = (_in_row_order(result[1]) for result in (one, other))
    return found + [
        name
        for name in ("pixels", "xy", "class_index", "scores")
        if not np.array_equal(getattr(mine, name), getattr(others, name))
    ]


def _in_row_order(found: Candidates) -> Candidates:
    order = np.lexsort(found.pixels.T[::-1])
    return found.take(order)


@MAKERS
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(150, 420), st.integers(150, 420)),
    seed=st.integers(0, 99),
    area=AREAS,
    skips=st.integers(0, 2),
    tile_size=st.sampled_from([61, 128, 257]),
    batch_size=st.integers(1, 3),
)
@example(size=(257, 401), seed=5, area=STAR, skips=1, tile_size=100, batch_size=3)
@example(size=(301, 399), seed=6, area=None, skips=2, tile_size=61, batch_size=2)
def test_tiles_are_those_of_one_tile(
    make: Maker,
    size: tuple[int, int],
    seed: int,
    area: BaseGeometry | None,
    skips: int,
    tile_size: int,
    batch_size: int,
) -> None:
    pixels = draw_tissue(*size, seed)
    skipped = np.zeros((-(-size[0] // BLOCK_PX), -(-size[1] // BLOCK_PX)), np.bool_)
    skipped.ravel()[seed % skipped.size : seed % skipped.size + skips] = skips > 0

    one = worked(pixels, make, area=area, skipped=skipped)
    tiled = worked(pixels, make, tile_size, area=area, skipped=skipped, batch_size=batch_size)

    assert differences(one, tiled) == []


@MAKERS
def test_the_image_tests_something_and_a_smaller_halo_leaves_seams(make: Maker) -> None:
    pixels = draw_tissue(257, 401, seed=5)
    one = worked(pixels, make)
    halo = make(Grid(401, 257, 1.0)).halo_px

    assert differences(one, worked(pixels, make, 61, halo=halo)) == []
    assert differences(one, worked(pixels, make, 61, halo=halo // 4)) != []
    if make is colours:
        assert np.bincount(one[0].ravel(), minlength=4).min() > 0.03 * one[0].size
    else:
        assert len(one[1]) > 150
        assert len(one[1].scores.T) == 3


@MAKERS
def test_a_worker_that_promises_too_little_is_noticed(make: Maker) -> None:
    pixels = draw_tissue(200, 240, seed=8)

    with mock.patch.object(type(make(Grid(240, 200, 1.0))), "halo_px", 1):
        tiled = worked(pixels, make, 61)

    assert differences(worked(pixels, make), tiled) != []


@MAKERS
def test_what_is_not_analysed_is_left_out_and_changes_no_nucleus_and_no_colour_inside(make: Maker) -> None:
    pixels = draw_tissue(300, 399, seed=6)
    inside = AnalysedArea(300, 399, 1.0, STAR).within(Window(0, 0, 300, 399))

    labels, found = worked(pixels, make, 128, area=STAR)

    all_labels, all_found = worked(pixels, make, 128)
    expected = all_found.take(inside[tuple(all_found.pixels.T)])
    assert differences((labels, found), (labels, expected)) == []
    if make is colours:
        assert np.array_equal(labels == IGNORE_LABEL, ~inside)
        # At the border a pixel has fewer neighbours to outvote it.
        assert (labels == all_labels)[inside].mean() > 0.97


@MAKERS
def test_skipped_blocks_have_nothing(make: Maker) -> None:
    pixels, skipped = draw_tissue(300, 399, seed=6), np.array([[True, False], [False, False]])

    labels, found = worked(pixels, make, 100, skipped=skipped)

    assert (labels[:BLOCK_PX, :BLOCK_PX] == IGNORE_LABEL).all()
    assert not (found.pixels < BLOCK_PX).all(axis=1).any()
    assert make is colours or len(found) > 20
    assert make is not colours or (labels[BLOCK_PX:] != IGNORE_LABEL).all()


def test_a_nucleus_is_where_it_was_drawn_with_its_stain() -> None:
    rows, cols = np.mgrid[:90, :120]
    density = np.zeros((90, 120, 3))
    for (x, y), vector in zip(((30, 40), (80, 52)), CELLS.vectors, strict=True):
        disc = np.hypot(cols + 0.5 - x, rows + 0.5 - y) <= 5
        density[disc] = np.array(vector) / np.linalg.norm(vector)
    pixels = (256 * np.exp(-density) - 1).round().astype(np.uint8)

    _, found = worked(pixels, nuclei, 33)

    found = found.take(np.argsort(found.xy[:, 0]))
    assert found.xy == pytest.approx(np.array([[30, 40], [80, 52]]), abs=0.3)
    assert found.scores[:, 1:].argmax(axis=1).tolist() == [0, 1]
    assert found.scores[:, 1:].max(axis=1) == pytest.approx(1.0, abs=0.15)
    assert found.scores[:, 1:].min(axis=1) == pytest.approx(0.0, abs=0.05)
