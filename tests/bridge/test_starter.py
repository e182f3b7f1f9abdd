"""Without --model the starter model is used, and says so; the one that is shipped is what it says it is."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from drawn_project import write_image
from tissuebridge import starter
from tissuebridge.cli import main
from tissuebridge.client import Client
from tissuebridge.errors import UsageError
from tissuebridge.model_card import CARD_FILE
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.rpc import discovery
from tissuemodel.checkpoint import build_network, make_checkpoint, save_checkpoint
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig

MAX_BYTES = 6_000_000


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of random weights in the starter's place."""
    config = ModelConfig(
        (),
        ("Nucleus",),
        {},
        0.5,
        network=NetworkConfig((4, 8)),
        targets=TargetConfig((5.0,)),
        inference=InferenceConfig(min_distance_um=(2.5,), thresholds=(-9.0,), floor=-10.0),
    )
    torch.manual_seed(0)
    folder = tmp_path / "starter"
    record = {"description": "nuclei in drawings"}
    save_checkpoint(make_checkpoint("tiny", config, build_network(config), record), folder)
    monkeypatch.setattr(starter, "starter_folder", lambda: folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path, "drawn", 0, 96)
    return tmp_path / "images" / "drawn.png"


def test_without_a_model_the_starter_is_used_and_named(
    tiny: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["analyse", str(image), "--pixel-size", "0.5", "--json"]

    assert main([*common, "--output", str(tmp_path / "a")]) == 0
    without = capsys.readouterr()
    assert main([*common, "--output", str(tmp_path / "b"), "--model", str(tiny)]) == 0
    named = capsys.readouterr()

    (line,) = [line for line in without.err.splitlines() if "starter" in line]
    assert "nuclei in drawings; 0.5 µm per pixel" in line
    assert line.endswith(str(tiny / CARD_FILE))
    assert "starter model" not in named.err
    found = [json.loads(said.out)["images"][0]["cells"] for said in (without, named)]
    assert found[0] == found[1]
    assert found[0]["Nucleus"] > 0


def test_a_server_without_a_model_serves_the_starter(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, listed = tmp_path / "server.json", []
    monkeypatch.setattr(discovery, "default_path", lambda: place)
    expected = LocalPredictor.load(tiny).description

    def ask_and_stop() -> None:
        try:
            while not place.exists():
                time.sleep(0.05)
            with Client.connect(discovery_file=place) as client:
                listed.append(client.models())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask_and_stop)
    asking.start()
    code = main(["serve", "--port", "0"])
    asking.join()

    assert code == 0
    assert listed == [{"starter": expected}]


def test_an_installation_without_a_starter_says_what_to_do(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starter.resources, "files", lambda _package: tmp_path)

    with pytest.raises(UsageError, match="--model DIR"):
        starter.starter_folder()
    assert main(["analyse", str(image), "--pixel-size", "0.5"]) == 2
    assert main(["serve", "--port", "0"]) == 2
    assert "tissuebridge train" in capsys.readouterr().err


def test_the_shipped_model_is_small_loads_and_has_a_card_that_tells() -> None:
    folder = starter.starter_folder()

    model = LocalPredictor.load(folder)
    card = (folder / CARD_FILE).read_text("utf-8")

    assert sum(path.stat().st_size for path in folder.glob("model.*")) < MAX_BYTES
    assert model.description.cell_classes
    assert model.description.digest in card
    for fact in (
        "Licence of the data: ",
        "Nothing was chosen on them.",
        "| Class | F1",
        "not a medical device",
    ):
        assert fact in card
