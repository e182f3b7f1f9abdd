"""A model is described before its network is there, and the network is that of the description."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tissuebridge.errors import ModelError
from tissuebridge.predictor.base import Predictor
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.predictor.on_demand import OnDemand
from tissuebridge.predictor.saved import describe, read_saved
from tissuemodel.checkpoint import Checkpoint, build_network, make_checkpoint, save_checkpoint
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig
from tissuemodel.labels import ChannelStatistics
from tissuemodel.saved_model import WEIGHTS_FILE

CONFIG = ModelConfig(
    ("Tumor", "Stroma"),
    ("T",),
    {},
    0.5,
    network=NetworkConfig((4, 6, 8)),
    targets=TargetConfig((5.0,)),
    inference=InferenceConfig(min_distance_um=(2.5,), thresholds=(0.3,)),
)
TILES = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)


def checkpoint(config: ModelConfig = CONFIG, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    return make_checkpoint("drawn", config, build_network(config), {})


def on_demand(folder: Path, loads: list[str]) -> Predictor:
    saved = read_saved(folder)

    def load() -> LocalPredictor:
        loads.append(saved.name)
        return LocalPredictor.of(saved)

    return OnDemand(describe(saved), load)


def test_a_saved_model_is_described_as_the_loaded_one(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(), tmp_path)

    assert describe(read_saved(tmp_path)) == LocalPredictor.load(tmp_path).description


def test_to_describe_a_model_takes_no_torch(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(), tmp_path)
    script = """
import sys
from pathlib import Path
from tissuebridge.predictor.saved import describe, read_saved
describe(read_saved(Path(sys.argv[1])))
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_the_network_is_loaded_by_the_first_question_and_never_again(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(), tmp_path)
    loads: list[str] = []
    predictor = on_demand(tmp_path, loads)
    assert not loads

    for _ in range(2):
        found = predictor.predict(TILES)

    assert loads == ["drawn"]
    np.testing.assert_array_equal(found.heat, LocalPredictor.load(tmp_path).predict(TILES).heat)


def test_the_network_is_the_described_one_though_another_was_saved_since(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(), tmp_path)
    predictor = on_demand(tmp_path, [])

    save_checkpoint(checkpoint(seed=1), tmp_path)

    expected = LocalPredictor(checkpoint()).predict(TILES)
    np.testing.assert_array_equal(predictor.predict(TILES).logits, expected.logits)


def test_for_an_image_it_is_described_and_asked_as_the_loaded_one(tmp_path: Path) -> None:
    own = ChannelStatistics((90.0, 60.0, 30.4), (20.0, 30.0, 40.0))
    save_checkpoint(checkpoint(replace(CONFIG, normalisation="image")), tmp_path)
    loads: list[str] = []
    predictor, expected = on_demand(tmp_path, loads), LocalPredictor.load(tmp_path)

    images = [predictor.for_image(own), predictor.for_image(own)]

    assert not loads
    for image in images:
        assert image.description == expected.for_image(own).description
        np.testing.assert_array_equal(image.predict(TILES).heat, expected.for_image(own).predict(TILES).heat)
    assert loads == ["drawn"]


def test_a_damaged_model_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(checkpoint(), tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")

    with pytest.raises(ModelError, match="do not belong together"):
        read_saved(tmp_path)
