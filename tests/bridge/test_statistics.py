"""A whole image's colours, read once and alike for every way of cutting it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapely.geometry import box

from drawn import DrawnImage
from drawn_tissue import ArrayImage, colours_of, draw_tissue
from tissuebridge.errors import Cancelled
from tissuebridge.pipeline import AnalysisOptions, analyse
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.resample import BlockCache
from tissuebridge.project.statistics import colour_warning, image_statistics
from tissuemodel.checkpoint import build_network, make_checkpoint
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T",),
    colors={},
    pixel_size_um=0.5,
    normalisation="image",
    network=NetworkConfig((4, 6, 8)),
    targets=TargetConfig((5.0,)),
    inference=InferenceConfig(min_distance_um=(2.5,), thresholds=(-9.0,), floor=-10.0),
)


def predictor(config: ModelConfig = CONFIG) -> LocalPredictor:
    torch.manual_seed(0)
    return LocalPredictor(make_checkpoint("random", config, build_network(config), {}))


def test_statistics_are_those_of_the_mean_over_squares_of_8_um() -> None:
    pixels = draw_tissue(640, 960, seed=1)

    found = image_statistics(ArrayImage(pixels, 0.5, is_closed=False), 0.5)

    coarse = np.floor(pixels.reshape(40, 16, 60, 16, 3).mean(axis=(1, 3)) + 0.5)
    assert found.mean == pytest.approx(coarse.mean(axis=(0, 1)), abs=1e-9)
    assert found.std == pytest.approx(coarse.std(axis=(0, 1)), abs=1e-9)


def test_an_image_coarser_than_that_is_taken_as_it_is() -> None:
    pixels = draw_tissue(300, 20, seed=1)

    found = image_statistics(ArrayImage(pixels, 10.0, is_closed=False), 10.0)

    assert found.mean == pytest.approx(pixels.mean(axis=(0, 1)), abs=1e-9)


def test_a_blank_image_has_a_spread_of_one() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)

    assert image_statistics(ArrayImage(white, 0.5, is_closed=False), 0.5) == ((255.0,) * 3, (1.0,) * 3)


def test_only_the_coarsest_level_that_is_fine_enough_is_read_and_each_block_once() -> None:
    image = DrawnImage(4500, 2500, levels=6, pixel_size_um=0.25)  # the last level has 8 um a pixel
    flat = DrawnImage(2500, 2500, levels=1, pixel_size_um=0.25)

    for drawn in (image, flat):
        with BlockCache(drawn.open_pixels()) as source:
            image_statistics(source, 0.25)

    assert image.blocks == 1
    assert flat.blocks == 9


def test_reading_can_be_stopped() -> None:
    image = ArrayImage(draw_tissue(64, 64, seed=1), is_closed=False)

    with pytest.raises(Cancelled, match="drawn: stopped"):
        image_statistics(image, 0.5, lambda: True)


@pytest.mark.parametrize(
    "options",
    [
        AnalysisOptions(tile_size=64),
        AnalysisOptions(tile_size=96, batch_size=3),
        AnalysisOptions(tile_size=64, region_of_interest=box(0, 0, 150, 217)),
    ],
)
def test_an_image_normalised_by_its_own_statistics_is_the_same_in_tiles(
    options: AnalysisOptions, tmp_path: Path
) -> None:
    image = ArrayImage(draw_tissue(217, 301, seed=3))
    image.pixels[:, 150:] //= 2  # a tile's own statistics are not the image's

    whole = analyse(image, predictor(), journal_dir=tmp_path / "whole")
    tiled = analyse(image, predictor(), journal_dir=tmp_path / "tiled", options=options)

    covered = whole.cells.pixels[:, 1] < (150 if options.region_of_interest else 301)
    assert covered.sum() > 100
    np.testing.assert_array_equal(tiled.cells.pixels, whole.cells.pixels[covered])
    np.testing.assert_allclose(tiled.cells.score, whole.cells.score[covered], atol=1e-4)


def test_an_image_is_normalised_by_its_own_statistics(tmp_path: Path) -> None:
    image = ArrayImage(draw_tissue(128, 128, seed=3))
    own = image_statistics(image.open_pixels(), 0.5)
    fixed = predictor(replace(CONFIG, normalisation="dataset", mean=own.mean, std=own.std))

    found = analyse(image, predictor(), journal_dir=tmp_path / "own")
    expected = analyse(image, fixed, journal_dir=tmp_path / "fixed")

    np.testing.assert_array_equal(found.cells.scores, expected.cells.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_journal_of_other_pixels_is_not_continued(tmp_path: Path) -> None:
    image = ArrayImage(draw_tissue(128, 128, seed=3))
    before = analyse(image, predictor(), journal_dir=tmp_path)
    image.pixels = image.pixels // 2

    after = analyse(image, predictor(), journal_dir=tmp_path)

    assert not np.array_equal(before.candidates.scores, after.candidates.scores)


# ---- Colours ----------------------------------------------------------------------------------------------


def warning_for(pixels: np.ndarray, usual: str, pixel_size_um: float = 2.0) -> str | None:
    return colour_warning(ArrayImage(pixels, pixel_size_um, is_closed=False), pixel_size_um, usual)


def test_colours_that_a_model_learnt_from_are_no_reason_to_warn() -> None:
    usual = colours_of(draw_tissue(300, 300, seed=1), 2.0)

    assert warning_for(draw_tissue(300, 300, seed=2), usual) is None


def test_other_colours_are_told_with_their_share_of_the_tissue() -> None:
    noise = np.random.default_rng(0).normal(0, 6, (256, 256, 3))
    tissue = (np.array([200, 120, 170]) + noise).astype(np.uint8)
    mixed = tissue.copy()
    mixed[:102] = (np.array([90, 170, 110]) + noise[:102]).astype(np.uint8)

    told = warning_for(mixed, colours_of(tissue, 2.0))

    assert told is not None
    assert 20 < int(told.split("%")[0]) <= 50
    assert "colours that the model did not learn from" in told


def test_a_model_that_does_not_say_its_colours_costs_no_pixel() -> None:
    image = DrawnImage(900, 900)

    assert colour_warning(image.open_pixels(), 0.25, "") is None
    assert image.blocks == 0


@pytest.mark.parametrize("pixel_size_um", [0.5, 2.0, 4.0])
def test_colours_are_compared_at_one_size_whatever_the_images(pixel_size_um: float) -> None:
    usual = colours_of(draw_tissue(200, 200, seed=1, noise=0), 2.0)
    k = int(4 / pixel_size_um)
    pixels = np.repeat(np.repeat(draw_tissue(200, 200, seed=1, noise=0), k, axis=0), k, axis=1)

    assert warning_for(pixels, usual, pixel_size_um) is None


def test_of_a_large_image_36_squares_are_looked_at_from_edge_to_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[tuple[int, ...]] = []

    def noted(source: object, grid: object, *window: int) -> np.ndarray:
        windows.append(window)
        return np.full((*window[2:], 3), 120, np.uint8)

    monkeypatch.setattr("tissuebridge.project.statistics.read_grid", noted)
    image = ArrayImage(np.broadcast_to(np.uint8(120), (5000, 3000, 3)), 2.0, is_closed=False)

    colour_warning(image, 2.0, "ff")

    assert len(set(windows)) == 36
    assert {(height, width) for _, _, height, width in windows} == {(128, 128)}
    assert (min(windows)[:2], max(windows)[:2]) == ((0, 0), (5000 - 128, 3000 - 128))
