"""A checkpoint as the engine sees it: described truly, asked in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tissuebridge.errors import ModelError
from tissuebridge.predictor.base import Predictor
from tissuebridge.predictor.local import LocalPredictor
from tissuemodel.checkpoint import Checkpoint, build_network, make_checkpoint, save_checkpoint
from tissuemodel.colours import COLOURS_KEY
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig
from tissuemodel.inference import Inference
from tissuemodel.labels import ChannelStatistics

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("T", "NK"),
    colors={"Tumor": (200, 0, 0)},
    pixel_size_um=0.5,
    mean=(180.0, 150.0, 127.0),
    network=NetworkConfig((4, 6, 8, 8)),
    targets=TargetConfig((5.0, 7.0)),
    inference=InferenceConfig(
        mode_filter=False,
        min_distance_um=(2.5, 3.0),
        thresholds=(0.3, 0.6),
        floor=0.05,
        cross_class_radius_um=None,
    ),
)
TILES = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)


def checkpoint(config: ModelConfig = CONFIG, record: dict[str, object] | None = None) -> Checkpoint:
    torch.manual_seed(0)
    return make_checkpoint("drawn", config, build_network(config), record or {})


def test_the_description_says_what_the_checkpoint_says() -> None:
    model = checkpoint()

    predictor: Predictor = LocalPredictor(model)
    described = predictor.description

    assert (described.name, described.digest) == ("drawn", model.digest)
    assert (described.region_classes, described.cell_classes) == (("Tumor", "Stroma"), ("T", "NK"))
    assert described.colors == {"Tumor": (200, 0, 0)}
    assert (described.pixel_size_um, described.stride, described.reach) == (0.5, 8, 65)
    assert described.pad_value == (180, 150, 127)
    assert described.cell_diameters_um == (5.0, 7.0)
    assert (described.min_distance_um, described.thresholds) == ((2.5, 3.0), (0.3, 0.6))
    assert (described.floor, described.cross_class_radius_um, described.mode_filter) == (0.05, None, False)


@pytest.mark.parametrize(("record", "usual"), [({COLOURS_KEY: "ff00"}, "ff00"), ({}, "")])
def test_the_description_says_which_colours_were_learnt_from(record: dict[str, object], usual: str) -> None:
    assert LocalPredictor(checkpoint(record=record)).description.usual_colours == usual


def test_a_prediction_is_the_networks_maps() -> None:
    model = checkpoint()

    prediction = LocalPredictor(model).predict(TILES)

    regions, heat = Inference(model.network, CONFIG)(TILES)
    np.testing.assert_array_equal(prediction.logits, regions)
    np.testing.assert_array_equal(prediction.heat, heat)
    assert prediction.heat.shape == (3, 2, 16, 24)


@pytest.mark.parametrize(("regions", "cells"), [((), ("T", "NK")), (("Tumor",), ())])
def test_a_model_of_one_task_predicts_no_class_of_the_other(
    regions: tuple[str, ...], cells: tuple[str, ...]
) -> None:
    config = replace(CONFIG, region_classes=regions, cell_classes=cells)

    prediction = LocalPredictor(checkpoint(config)).predict(TILES)

    assert prediction.logits.shape == (3, len(regions), 16, 24)
    assert prediction.heat.shape == (3, len(cells), 16, 24)


def test_a_saved_model_is_loaded_and_predicts_the_same(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(), tmp_path)

    loaded = LocalPredictor.load(tmp_path)

    assert loaded.description == LocalPredictor(checkpoint()).description
    np.testing.assert_array_equal(
        loaded.predict(TILES).heat, LocalPredictor(checkpoint()).predict(TILES).heat
    )


def test_a_model_that_normalises_each_image_says_so_and_is_told() -> None:
    own = ChannelStatistics((90.0, 60.0, 30.4), (20.0, 30.0, 40.0))
    model = checkpoint(replace(CONFIG, normalisation="image"))
    predictor = LocalPredictor(model)

    bound = predictor.for_image(own)

    assert predictor.description.normalises_each_image
    assert not LocalPredictor(checkpoint()).description.normalises_each_image
    assert bound.description == replace(predictor.description, pad_value=(90, 60, 30))
    as_fixed = replace(CONFIG, mean=own.mean, std=own.std)
    np.testing.assert_array_equal(bound.predict(TILES).heat, Inference(model.network, as_fixed)(TILES)[1])


def test_a_folder_that_is_no_model_is_a_model_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.json: cannot be read") as caught:
        LocalPredictor.load(tmp_path)

    assert caught.value.exit_code == 3
