"""Label maps and cells are the same for any tile size and batch size, on a hand-made and on a trained network.

The reference is the network on the whole image, padded once. Results may differ only where the reference itself is
undecided: where the two best classes, or the heat of two pixels of one peak, tie within the rounding of float32.
Each kind of disagreement is also provoked, so that a test that tests nothing would show.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from drawn_tissue import ArrayImage, NullNetwork, draw_example, draw_tissue
from tissuebridge.journal import Journal
from tissuebridge.pipeline import AnalysisOptions, analyse
from tissuebridge.predictor.base import ModelDescription, Predictor
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.resample import BlockCache, grid_of
from tissuebridge.strips import Work, compute_missing
from tissuebridge.tile_network import NetworkTiles
from tissuebridge.tiles import AnalysedArea, TilePlan, Window, halo_px, round_up
from tissuemodel.calibration import choose_detection
from tissuemodel.checkpoint import make_checkpoint
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig, TrainingConfig
from tissuemodel.labels import IGNORE_LABEL
from tissuemodel.mosaic import mode_filter
from tissuemodel.training import prepare, train_network

TOLERANCE = 1e-4
HEIGHT, WIDTH = 601, 787
"""Two primes: no multiple of any stride or tile."""

WHOLE = AnalysisOptions(tile_size=16_384)
"""One core that covers everything."""


NOISE = 50.0
"""So much that the trained network must look round a pixel to tell what it is."""


def train() -> LocalPredictor:
    """The compact network with half its widths, trained for some seconds on drawn tissue."""
    examples = [draw_example(256, 256, seed, NOISE) for seed in range(4)]
    config = ModelConfig(
        region_classes=("Tumor", "Stroma", "Empty", "Vessel"),
        cell_classes=("Lymphocyte", "Mast cell"),
        colors={},
        pixel_size_um=0.5,
        network=NetworkConfig((8, 16, 32, 64)),
        targets=TargetConfig((5.0, 5.0)),
        training=TrainingConfig(learning_rate=3e-3, batch_size=4, crop_px=128, epochs=12),
        inference=InferenceConfig(min_distance_um=(2.5, 2.5)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Lightning uses of torch is not tested here
        trained = train_network(examples, prepare(config, examples))
    config = choose_detection(trained.network, trained.config, examples[:1])
    return LocalPredictor(make_checkpoint("drawn", config, trained.network, {}))


@pytest.fixture(scope="module")
def trained() -> LocalPredictor:
    return train()


@dataclass(frozen=True)
class Case:
    """A network, an image, and the single pass that everything is measured against."""

    predictor: Predictor
    pixels: NDArray[np.uint8]
    maps: "Maps"
    reference: "Found"


@pytest.fixture(scope="module", params=["null", "trained"])
def case(request: pytest.FixtureRequest) -> Case:
    is_null = request.param == "null"
    predictor = NullNetwork() if is_null else request.getfixturevalue("trained")
    pixels = draw_tissue(HEIGHT, WIDTH, seed=11, noise=12 if is_null else NOISE)
    return Case(predictor, pixels, Maps.of(pixels, predictor), through_the_pipeline(pixels, predictor, WHOLE))


@dataclass(frozen=True)
class Found:
    """What is compared: labels, and cells at or above their thresholds."""

    labels: NDArray[np.uint8]
    pixels: NDArray[np.int32]
    class_index: NDArray[np.uint8]
    score: NDArray[np.float32]

    def cells(self) -> dict[tuple[int, int, int], float]:
        keys = zip(self.class_index.tolist(), *self.pixels.T.tolist(), strict=True)
        return dict(zip(keys, self.score.tolist(), strict=True))


def through_the_pipeline(pixels: NDArray[np.uint8], predictor: Predictor, options: AnalysisOptions) -> Found:
    with TemporaryDirectory() as folder:
        found = analyse(ArrayImage(pixels), predictor, journal_dir=Path(folder), options=options)
    return Found(found.labels, found.cells.pixels, found.cells.class_index, found.cells.score)


def with_halo(pixels: NDArray[np.uint8], predictor: Predictor, core: int, halo: int) -> Found:
    """The engine with a halo that is not the model's; without suppression across classes."""
    image, model = ArrayImage(pixels), predictor.description
    grid = grid_of(image.levels, image.pixel_size_um, model.pixel_size_um)
    plan = TilePlan.of(grid.height, grid.width, stride=model.stride, tile_size=core, halo=halo)
    area = AnalysedArea(grid.height, grid.width, grid.downsample)
    with TemporaryDirectory() as folder, BlockCache(image.open_pixels()) as source:
        journal = Journal.open(Path(folder), plan, len(model.cell_classes), {})
        work = Work(image.name, source, grid, plan, area, batch_size=4)
        compute_missing(work, NetworkTiles(predictor), journal, lambda done, total: None, lambda: False)
        labels, candidates = journal.labels(), journal.candidates()
    above = candidates.take(candidates.score >= np.array(model.thresholds)[candidates.class_index])
    return Found(labels, above.pixels, above.class_index, above.score)


def right_halo(model: ModelDescription) -> int:
    return halo_px(model.reach, [um / model.pixel_size_um for um in model.min_distance_um], model.stride)


@dataclass(frozen=True)
class Maps:
    """The network on the whole image, padded once: what everything is measured against."""

    logits: NDArray[np.float32]
    heat: NDArray[np.float32]

    @staticmethod
    def of(pixels: NDArray[np.uint8], predictor: Predictor) -> "Maps":
        height, width = pixels.shape[:2]
        stride = predictor.description.stride
        padded = np.empty((round_up(height, stride), round_up(width, stride), 3), np.uint8)
        padded[:] = predictor.description.pad_value
        padded[:height, :width] = pixels
        prediction = predictor.predict(padded[None])
        return Maps(prediction.logits[0, :, :height, :width], prediction.heat[0, :, :height, :width])


def disagreements(reference: Found, other: Found, maps: Maps) -> list[str]:
    """Where two results differ although the network's maps decide it."""
    best = np.sort(maps.logits, axis=0)
    tied = (best[-1] - best[-2] <= TOLERANCE).astype(np.uint8)
    tied = cv2.dilate(tied, np.ones((3, 3), np.uint8))  # the mode filter looks one pixel far
    labels = np.argwhere((reference.labels != other.labels) & (tied == 0))
    found = [f"label at {place}" for place in labels.tolist()]
    mine, others = reference.cells(), other.cells()
    for key in mine.keys() | others.keys():
        if key in mine and key in others:
            if abs(mine[key] - others[key]) > TOLERANCE:
                found.append(f"score of {key}")
        elif not _moved_between_ties(key, others if key in mine else mine, maps):
            found.append(f"cell {key} on one side only")
    return found


def _moved_between_ties(
    key: tuple[int, int, int], others: dict[tuple[int, int, int], float], maps: Maps
) -> bool:
    """Whether the other side has the same peak on a neighbouring pixel of the same heat."""
    index, row, col = key
    near = [
        (index, row + i, col + j)
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (index, row + i, col + j) in others
    ]
    return any(abs(maps.heat[index, r, c] - maps.heat[index, row, col]) <= TOLERANCE / 10 for _, r, c in near)


def cells_near_core_borders(found: Found, core: int, within: int = 16) -> int:
    distance = np.abs((found.pixels + core // 2) % core - core // 2).min(axis=1)
    inner = (found.pixels >= core - within).any(axis=1)
    return int(((distance < within) & inner).sum())


@pytest.mark.parametrize("core", [128, 256, 512])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiled_results_equal_the_single_pass(case: Case, core: int, batch_size: int) -> None:
    options = AnalysisOptions(tile_size=core, batch_size=batch_size)

    tiled = through_the_pipeline(case.pixels, case.predictor, options)

    assert disagreements(case.reference, tiled, case.maps) == []


def test_fused_heat_is_the_same_in_tiles(trained: LocalPredictor) -> None:
    config = trained.checkpoint.config
    fusing = replace(config, inference=replace(config.inference, cell_fusion=True, thresholds=(0.2, 0.2)))
    predictor = LocalPredictor(make_checkpoint("fusing", fusing, trained.checkpoint.network, {}))
    pixels = draw_tissue(257, 401, seed=5, noise=NOISE)
    maps, alone = Maps.of(pixels, predictor), Maps.of(pixels, trained)

    reference = through_the_pipeline(pixels, predictor, WHOLE)
    tiled = through_the_pipeline(pixels, predictor, AnalysisOptions(tile_size=128))

    assert disagreements(reference, tiled, maps) == []
    assert len(reference.pixels) >= 100
    assert np.abs(maps.heat - alone.heat).max() > 0.1


def test_the_image_tests_something(case: Case) -> None:
    labels = case.reference.labels

    shares = np.bincount(labels.ravel(), minlength=4) / labels.size
    borders = (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()

    assert (shares > 0.05).sum() >= 3
    assert borders > 10_000
    assert cells_near_core_borders(case.reference, 128) >= 200
    assert cells_near_core_borders(case.reference, 256) >= 200


def test_the_reference_is_the_network_on_the_whole_image(case: Case) -> None:
    best, found = case.maps.logits.argmax(0).astype(np.uint8), case.reference

    assert np.array_equal(found.labels, mode_filter(best, 4))
    assert np.array_equal(found.score, case.maps.heat[found.class_index, *found.pixels.T])


SIZES = st.tuples(st.integers(200, 420), st.integers(200, 420))
STAR = Polygon(
    [(-20, 30), (200, 10), (395.5, 60), (210, 120.5), (380, 300), (120, 220), (60, 390), (90, 150)]
)
REGIONS = st.sampled_from([None, STAR, box(100, 100, 180, 333).union(box(260.5, 5, 290.5, 190))])


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    size=SIZES,
    seed=st.integers(0, 99),
    region=REGIONS,
    skips=st.integers(0, 3),
    core=st.sampled_from([40, 128, 256]),
    batch_size=st.integers(1, 4),
)
@example(size=(257, 401), seed=5, region=STAR, skips=1, core=128, batch_size=4)
@example(size=(300, 399), seed=6, region=None, skips=2, core=128, batch_size=2)
def test_tiled_results_equal_the_single_pass_for_any_size_region_and_skips(
    trained: Predictor,
    size: tuple[int, int],
    seed: int,
    region: BaseGeometry | None,
    skips: int,
    core: int,
    batch_size: int,
) -> None:
    pixels = draw_tissue(*size, seed, NOISE if seed % 2 else 12)
    skipped = np.zeros((-(-size[0] // 256), -(-size[1] // 256)), np.bool_)
    skipped.ravel()[seed % skipped.size : seed % skipped.size + skips] = skips > 0
    area = {"region_of_interest": region, "skipped_blocks": skipped}
    predictor = trained if seed % 2 else NullNetwork()

    tiled = through_the_pipeline(
        pixels, predictor, AnalysisOptions(tile_size=core, batch_size=batch_size, **area)
    )

    reference = through_the_pipeline(pixels, predictor, AnalysisOptions(tile_size=16_384, **area))
    assert disagreements(reference, tiled, Maps.of(pixels, predictor)) == []


def test_what_is_not_analysed_is_masked_and_changes_nothing_else() -> None:
    null = NullNetwork()
    pixels = draw_tissue(300, 399, seed=6)
    everything = through_the_pipeline(pixels, null, WHOLE)

    masked = through_the_pipeline(pixels, null, AnalysisOptions(tile_size=128, region_of_interest=STAR))

    analysed = AnalysedArea(300, 399, 1.0, STAR).within(Window(0, 0, 300, 399))
    inner = cv2.erode(analysed.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert np.array_equal(masked.labels == IGNORE_LABEL, ~analysed)
    assert np.array_equal(masked.labels[inner], everything.labels[inner])
    assert analysed[masked.pixels[:, 0], masked.pixels[:, 1]].all()
    assert 0 < len(masked.pixels) < len(everything.pixels)


# ---- each kind of disagreement, provoked ----


def test_the_engines_halo_agrees_and_a_smaller_one_does_not(case: Case) -> None:
    pixels, predictor, halo = case.pixels, case.predictor, right_halo(case.predictor.description)
    reference = with_halo(pixels, predictor, 1024, halo)

    right = with_halo(pixels, predictor, 128, halo)
    short = with_halo(pixels, predictor, 128, halo - 32)

    assert disagreements(reference, right, case.maps) == []
    assert disagreements(reference, short, case.maps) != []


def test_maps_agree_to_rounding_with_the_halo_and_not_with_a_smaller_one(case: Case) -> None:
    halo = right_halo(case.predictor.description)

    def error(of_halo: int) -> float:
        tiles = _tiles_of_one_row(case.pixels, case.predictor, of_halo)
        errors = [
            (
                np.abs(got.logits - case.maps.logits[at]).max(),
                np.abs(got.heat - case.maps.heat[at]).max(),
            )
            for at, got in tiles
        ]
        return float(np.max(errors))

    assert error(halo) <= TOLERANCE
    assert error(halo - 32) > 2 * TOLERANCE


def _tiles_of_one_row(
    pixels: NDArray[np.uint8], predictor: Predictor, halo: int
) -> Iterator[tuple[tuple[slice, slice, slice], Maps]]:
    stride = predictor.description.stride
    plan = TilePlan.of(HEIGHT, WIDTH, stride=stride, tile_size=128, halo=halo)
    for tile in plan.tiles(2)[1:-2]:  # whose context lies inside the image
        whole = Window(0, 0, HEIGHT, WIDTH)
        prediction = predictor.predict(pixels[tile.context.slices(whole)][None])
        core = tile.core.slices(tile.context)
        maps = Maps(prediction.logits[0][:, *core], prediction.heat[0][:, *core])
        yield (slice(None), *tile.core.slices(whole)), maps


def test_a_reflected_border_does_not_agree(case: Case) -> None:
    margin = right_halo(case.predictor.description)
    reflected = np.pad(case.pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    inside = box(margin, margin, margin + WIDTH, margin + HEIGHT)
    predictor = case.predictor

    larger = through_the_pipeline(reflected, predictor, AnalysisOptions(region_of_interest=inside))

    cut = Found(
        larger.labels[margin : margin + HEIGHT, margin : margin + WIDTH],
        larger.pixels - margin,
        larger.class_index,
        larger.score,
    )
    assert len(disagreements(case.reference, cut, case.maps)) > 20


def _without_a_cell(found: Found) -> Found:
    return Found(found.labels, found.pixels[1:], found.class_index[1:], found.score[1:])


def _with_another_class(found: Found) -> Found:
    return Found(found.labels, found.pixels, 1 - found.class_index, found.score)


def _with_another_score(found: Found) -> Found:
    return Found(found.labels, found.pixels, found.class_index, found.score + np.float32(3e-4))


def _with_moved_cells(found: Found) -> Found:
    return Found(found.labels, found.pixels + 3, found.class_index, found.score)


def _with_another_label(found: Found) -> Found:
    labels = found.labels.copy()
    labels[100:103, 100:103] = (labels[100:103, 100:103] + 1) % 4
    return Found(labels, found.pixels, found.class_index, found.score)


@pytest.mark.parametrize(
    "change",
    [_without_a_cell, _with_another_class, _with_another_score, _with_moved_cells, _with_another_label],
)
def test_the_comparison_sees_every_kind_of_change(change: Callable[[Found], Found]) -> None:
    null, pixels = NullNetwork(), draw_tissue(200, 300, seed=3)
    maps, found = Maps.of(pixels, null), through_the_pipeline(pixels, null, WHOLE)

    assert disagreements(found, found, maps) == []
    assert disagreements(found, change(found), maps) != []
