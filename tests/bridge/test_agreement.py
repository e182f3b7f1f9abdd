"""A network in reduced precision: nearly the same, told how nearly, and never taken for the exact one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile

from tissuebridge.cli import main
from tissuebridge.predictor.agreement import TILES, Compared
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.starter import starter_folder


@pytest.fixture(scope="module")
def exact() -> LocalPredictor:
    return LocalPredictor.load(starter_folder())


def test_bf16_is_nearly_the_same_and_says_how_nearly(exact: LocalPredictor) -> None:
    fast = Compared(LocalPredictor(exact.checkpoint, "bf16"), exact)
    tile = np.ascontiguousarray(skimage.data.immunohistochemistry()[None, :256, :256])

    found = [fast.predict(tile) for _ in range(TILES + 1)]

    assert fast.description.precision == "bf16"
    difference = float(np.abs(found[0].heat - exact.predict(tile).heat).max())
    assert 0 < difference < 0.1
    assert (
        fast.told() == f"bf16 against fp32 on {TILES} tiles: scores of cells differ by up to {difference:.3f}"
    )
    assert fast.told() == ""


def test_the_command_tells_the_agreement_and_keeps_ids_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", skimage.data.immunohistochemistry(), photometric="rgb")
    ids = []
    for more in ([], ["--precision", "bf16"], ["--precision", "bf16", "--tile-size", "128"]):
        command = ["analyse", str(tmp_path), "--pixel-size", "0.5", "--output", str(tmp_path / str(len(ids)))]
        assert main([*command, "--json", *more]) == 0
        [image] = json.loads(capsys.readouterr().out)["images"]
        assert ("bf16 against fp32 on 1 tiles" in image["agreement"]) == (len(ids) == 1)
        features = json.loads(Path(image["geojson"]).read_text())["features"]
        ids.append({feature["id"] for feature in features})
    assert len(ids[0]) > 20
    assert not ids[0] & ids[1]
    # Tiled equals untiled, in every precision against itself.
    assert ids[1] == ids[2]


def test_precision_is_the_servers_own(tmp_path: Path) -> None:
    assert main(["analyse", str(tmp_path), "--server", "127.0.0.1:9", "--precision", "bf16"]) == 2
