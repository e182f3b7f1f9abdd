"""Proposals of whole images: the same for any tiling, repeatable, resumable, and clear about what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import shapely
import skimage.data
from numpy.typing import NDArray

from drawn_tissue import ArrayImage
from tissuebridge.analysis import Analysis
from tissuebridge.errors import (
    CalibrationError,
    Cancelled,
    InputRefused,
    ResourceLimit,
    TissuebridgeError,
    UsageError,
)
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.folder import FolderImage
from tissuebridge.proposals.propose import Watch, _classified, propose_cells, propose_regions
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings
from tissuebridge.proposals.tiles import ColourTiles, NucleusTiles
from tissuebridge.report.overlay import save_png
from tissuemodel.detection import Candidates

IHC = CellSettings(stains=("Hematoxylin", "DAB"))
SMALL = RegionSettings(min_area_um2=0.0, max_hole_um2=0.0)


def tissue() -> NDArray[np.uint8]:
    """Real tissue whose sides are no multiples of anything."""
    return np.ascontiguousarray(skimage.data.immunohistochemistry()[3:500, 7:512])


def image_of(pixels: NDArray[np.uint8]) -> ArrayImage:
    return ArrayImage(pixels, 0.5)


def proposed(
    find: Callable[..., Analysis],
    settings: object,
    folder: Path,
    image: ArrayImage | None = None,
    **options: object,
) -> Analysis:
    chosen = AnalysisOptions(run_id="run", **options)  # type: ignore[arg-type]
    return find(image or image_of(tissue()), settings, journal_dir=folder / "journal", options=chosen)


def assert_same(one: Analysis, other: Analysis) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    for name in ("xy", "class_index", "score", "scores", "pixels"):
        np.testing.assert_array_equal(getattr(one.cells, name), getattr(other.cells, name))
    assert one.parameters == other.parameters
    assert list(one.objects()) == list(other.objects())


@pytest.mark.parametrize("tile_size", [37, 100, 256])
@pytest.mark.parametrize(("find", "settings"), [(propose_regions, SMALL), (propose_cells, IHC)])
def test_tiled_equals_untiled(
    find: Callable[..., Analysis], settings: object, tile_size: int, tmp_path: Path
) -> None:
    if find is propose_cells and tile_size == 37:
        tile_size = 137  # many small tiles see the same nuclei over and over
    whole = proposed(find, settings, tmp_path / "whole")

    tiled = proposed(find, settings, tmp_path / "tiled", tile_size=tile_size, batch_size=2)

    assert len(list(whole.objects())) > 20
    assert_same(tiled, whole)


@pytest.mark.parametrize(
    ("find", "settings", "worker", "too_small"),
    [(propose_regions, SMALL, ColourTiles, 0), (propose_cells, IHC, NucleusTiles, 20)],
)
def test_a_smaller_halo_leaves_seams(
    find: Callable[..., Analysis], settings: object, worker: type, too_small: int, tmp_path: Path
) -> None:
    whole = proposed(find, settings, tmp_path / "whole")

    with mock.patch.object(worker, "halo_px", too_small):
        tiled = proposed(find, settings, tmp_path / "tiled", tile_size=100)

    with pytest.raises(AssertionError):
        assert_same(tiled, whole)


@pytest.mark.parametrize(("find", "settings"), [(propose_regions, SMALL), (propose_cells, IHC)])
def test_a_region_of_interest_masks_and_changes_nothing_inside(
    find: Callable[..., Analysis], settings: object, tmp_path: Path
) -> None:
    whole = proposed(find, settings, tmp_path / "whole")
    area = shapely.box(100, 120, 400, 380)

    part = proposed(find, settings, tmp_path / "part", region_of_interest=area)

    assert part.parameters == whole.parameters or find is propose_cells  # thresholds are of the nuclei found
    inside = shapely.contains_xy(area, whole.cells.xy)
    np.testing.assert_array_equal(part.cells.xy, whole.cells.xy[inside])
    # One pixel at the border has no neighbours outside to be outvoted by.
    rows, cols = np.nonzero(part.labels != 255)
    if len(rows):
        core = (slice(rows.min() + 1, rows.max()), slice(cols.min() + 1, cols.max()))
        np.testing.assert_array_equal(part.labels[core], whole.labels[core])


@pytest.mark.parametrize(("find", "settings"), [(propose_regions, RegionSettings()), (propose_cells, IHC)])
def test_the_parameters_give_the_same_proposal(
    find: Callable[..., Analysis], settings: object, tmp_path: Path
) -> None:
    first = proposed(find, settings, tmp_path / "first")
    filled = ProposalSettings.of_text(first.parameters)

    again = proposed(find, filled.regions or filled.cells, tmp_path / "again")

    assert_same(again, first)


def test_a_threshold_that_is_set_moves_classes_and_no_nucleus(tmp_path: Path) -> None:
    first = proposed(propose_cells, IHC, tmp_path / "first")
    strict = CellSettings(stains=IHC.stains, thresholds={"DAB": 2.0})

    moved = proposed(propose_cells, strict, tmp_path / "again")

    np.testing.assert_array_equal(moved.cells.xy, first.cells.xy)
    assert moved.summary.cells["Proposed: Positive"] < first.summary.cells["Proposed: Positive"]


def assert_repeats(density: NDArray[np.float64]) -> None:
    settings = CellSettings(
        stains=("Hematoxylin", "DAB"), vectors=((0.65, 0.7, 0.29), (0.27, 0.57, 0.78)), positive=("DAB",)
    )
    count = len(density)
    scores = np.column_stack([np.ones(count), np.ones(count), density]).astype(np.float32)
    nuclei = Candidates(
        np.zeros((count, 2), np.int32), np.zeros((count, 2)), np.zeros(count, np.uint8), scores
    )
    first, filled, _ = _classified(nuclei, settings)

    written = ProposalSettings.of_text(ProposalSettings(cells=filled).as_text()).cells
    assert written is not None
    again, _, _ = _classified(nuclei, written)

    assert filled.thresholds["DAB"] > 0
    assert 0 < np.count_nonzero(first.class_index) < count
    np.testing.assert_array_equal(again.class_index, first.class_index)


@pytest.mark.parametrize("seed", range(6))
def test_the_thresholds_in_the_file_give_the_same_classes(seed: int) -> None:
    random = np.random.default_rng(seed)
    halves = [random.normal(0.2, 0.1, 100_000), random.normal(0.7, 0.2, 100_000)]

    assert_repeats(np.concatenate(halves).clip(0))


def test_a_stain_that_is_hardly_there_has_a_threshold_above_zero() -> None:
    assert_repeats(np.array([0, 0, 1e-5, 2e-5]))


def test_an_edited_diameter_has_its_own_noise(tmp_path: Path) -> None:
    image = image_of(tissue()[:150, :150])
    first = ProposalSettings.of_text(proposed(propose_cells, IHC, tmp_path / "first", image).parameters).cells
    assert first is not None

    smaller = proposed(propose_cells, replace(first, diameter_um=2.0), tmp_path / "smaller", image)

    assert len(smaller.cells) > 0
    assert np.isfinite(smaller.cells.scores).all()


def test_an_image_without_a_pixel_size_is_refused(tmp_path: Path) -> None:
    save_png(tmp_path / "plain.png", tissue()[:60, :60])

    for find, settings in ((propose_regions, SMALL), (propose_cells, IHC)):
        with pytest.raises(CalibrationError, match="carries no pixel size"):
            find(FolderImage(tmp_path / "plain.png"), settings, journal_dir=tmp_path / "journal")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("find", "settings", "um"), [(propose_regions, SMALL, 150.0), (propose_cells, IHC, 12.0)]
)
def test_an_image_that_is_too_coarse_is_refused(
    find: Callable[..., Analysis], settings: object, um: float, tmp_path: Path
) -> None:
    with pytest.raises(CalibrationError, match=f"drawn: the image has {um:g} µm a pixel"):
        proposed(find, settings, tmp_path, ArrayImage(tissue(), um))


def test_an_interrupted_proposal_goes_on(tmp_path: Path) -> None:
    calls: list[int] = []
    stop = Watch(
        progress=lambda done, total: calls.append(done), cancelled=lambda: max(calls, default=0) >= 5
    )
    options, image = AnalysisOptions(tile_size=137, run_id="run"), image_of(tissue())
    with pytest.raises(Cancelled):
        propose_cells(image, IHC, journal_dir=tmp_path, options=options, watch=stop)
    first: list[int] = []

    resumed = propose_cells(
        image, IHC, journal_dir=tmp_path, options=options, watch=Watch(lambda done, total: first.append(done))
    )

    assert first[0] >= 4
    assert_same(resumed, proposed(propose_cells, IHC, tmp_path / "straight", tile_size=137))


def test_classes_colours_and_metadata_are_a_proposals(tmp_path: Path) -> None:
    cells = proposed(propose_cells, IHC, tmp_path / "cells")

    objects = list(cells.objects())

    assert {obj.class_name for obj in objects} == {"Proposed: Positive", "Proposed: Negative"}
    assert objects[0].metadata["tissuebridge:method"] == "propose"
    assert "Hematoxylin + DAB" in objects[0].metadata["tissuebridge:parameters"]
    assert list(objects[0].measurements) == [
        "tissuebridge: contrast",
        "tissuebridge: Hematoxylin density",
        "tissuebridge: DAB density",
    ]


def test_a_chromogen_that_nobody_named_is_told_and_not_believed(tmp_path: Path) -> None:
    found = proposed(propose_cells, CellSettings(), tmp_path)

    assert found.model.cell_classes == ("Proposed: Nucleus",)
    assert any("a stain has the colour of DAB" in warning for warning in found.summary.warnings)


def test_two_halves_are_two_colours(tmp_path: Path) -> None:
    pixels = np.full((400, 400, 3), (235, 230, 240), np.uint8)
    pixels[:, 200:] = (150, 90, 160)

    found = proposed(propose_regions, RegionSettings(), tmp_path, image_of(pixels))

    # At 2 um a pixel of the map is 4 px of the image; smoothing leaves the border where it is.
    bounds = {obj.class_name: obj.geometry.bounds for obj in found.objects()}
    assert bounds == {"Proposed: colour 1": (0, 0, 200, 400), "Proposed: colour 2": (200, 0, 400, 400)}


WHITE = np.full((300, 300, 3), 255, np.uint8)
PINK = np.full((300, 300, 3), (200, 120, 180), np.uint8)
BLACK = np.zeros((300, 300, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "settings", "told"),
    [
        (WHITE, CellSettings(), "tissue"),
        (BLACK, CellSettings(), "tissue"),
        (PINK, CellSettings(), "fewer than 2 colours"),
        (PINK, CellSettings(stains=4), "fewer than 4 colours"),
        (tissue(), CellSettings(diameter_um=300), "larger than the image"),
        (tissue(), CellSettings(diameter_um=1), "cannot be looked for"),
        (tissue(), CellSettings(stains=2, nuclear=("Eosin",)), "is none of the stains"),
    ],
    ids=[
        "white",
        "black",
        "one colour",
        "more stains than colours",
        "too large",
        "too small",
        "no such stain",
    ],
)
def test_nuclei_that_cannot_be_proposed_are_refused_by_image_and_reason(
    pixels: NDArray[np.uint8], settings: CellSettings, told: str, tmp_path: Path
) -> None:
    image = image_of(pixels)

    with pytest.raises((InputRefused, UsageError), match=told) as refused:
        proposed(propose_cells, settings, tmp_path, image)

    assert image.name in str(refused.value)


@pytest.mark.parametrize("pixels", [WHITE, BLACK, PINK], ids=["white", "black", "one colour"])
def test_an_image_of_one_colour_is_one_region(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    (region,) = proposed(propose_regions, RegionSettings(), tmp_path, image_of(pixels)).objects()

    assert region.geometry.equals(shapely.box(0, 0, 300, 300))


def test_a_tiny_image_is_no_trouble(tmp_path: Path) -> None:
    pixels = tissue()[200:216, 200:216]

    regions = proposed(propose_regions, RegionSettings(), tmp_path / "regions", image_of(pixels))
    try:
        cells = proposed(propose_cells, IHC, tmp_path / "cells", image_of(pixels))
    except TissuebridgeError as refused:
        assert "colours" in str(refused)  # noqa: PT017
    else:
        assert np.isfinite(cells.cells.scores).all()

    assert regions.summary.analysed_um2 == pytest.approx(64)


def test_a_map_that_memory_cannot_hold_is_refused(tmp_path: Path) -> None:
    with (
        mock.patch("tissuebridge.proposals.propose.MAX_MAP_PX", 1000),
        pytest.raises(ResourceLimit, match="choose a larger pixel size"),
    ):
        proposed(propose_regions, RegionSettings(), tmp_path)
