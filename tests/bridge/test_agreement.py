"""A network in reduced precision: nearly the same, told how nearly, and never taken for the exact one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
import torch

from drawn_tissue import ArrayImage
from tissuebridge.cli import main
from tissuebridge.pipeline import analyse
from tissuebridge.predictor.agreement import TILES, Compared
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.starter import starter_folder
from tissuemodel.config import NetworkConfig
from tissuemodel.network import COMPACT_WIDTHS, MultitaskUNet
from tissuemodel.openvino_network import OpenVinoNetwork


@pytest.fixture(scope="module")
def exact() -> LocalPredictor:
    return LocalPredictor.load(starter_folder())


Analysed = Callable[..., tuple[str, set[str]]]


@pytest.fixture
def analysed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Analysed:
    """Analyses one image with more options; gives the agreement that is told, and the objects' ids."""
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", skimage.data.immunohistochemistry(), photometric="rgb")

    def run(*more: str) -> tuple[str, set[str]]:
        output = tmp_path / "-".join(["out", *more])
        command = ["analyse", str(tmp_path), "--pixel-size", "0.5", "--output", str(output)]
        assert main([*command, "--json", *more]) == 0
        [image] = json.loads(capsys.readouterr().out)["images"]
        features = json.loads(Path(image["geojson"]).read_text())["features"]
        return image["agreement"], {feature["id"] for feature in features}

    return run


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


def test_the_command_tells_the_agreement_and_keeps_ids_apart(analysed: Analysed) -> None:
    agreements, ids = zip(
        analysed(), analysed("--precision", "bf16"), analysed("--precision", "bf16", "--tile-size", "128"),
        strict=True,
    )  # fmt: skip
    assert ["bf16 against fp32 on 1 tiles" in agreement for agreement in agreements] == [False, True, False]
    assert len(ids[0]) > 20
    assert not ids[0] & ids[1]
    # Tiled equals untiled, in every precision against itself.
    assert ids[1] == ids[2]


def test_what_a_worker_measured_is_told_by_the_process_that_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    tissue = skimage.data.immunohistochemistry()
    for name, part in (("a", tissue[:192, :192]), ("b", tissue[192:384, :192])):
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", np.ascontiguousarray(part), photometric="rgb")
    command = ["analyse", str(tmp_path), "--pixel-size", "0.5", "--json", "--precision", "bf16"]

    told = []
    for workers in ("1", "2"):
        assert main([*command, "--workers", workers, "--output", str(tmp_path / workers)]) == 0
        images = json.loads(capsys.readouterr().out)["images"]
        told.append([image["agreement"].split(":")[0] for image in images])

    assert told[0] == told[1] == ["bf16 against fp32 on 1 tiles"] * 2


def test_an_analysis_that_goes_on_tells_what_was_measured_before(
    exact: LocalPredictor, tmp_path: Path
) -> None:
    image = ArrayImage(np.ascontiguousarray(skimage.data.immunohistochemistry()[:192, :192]))
    fast = LocalPredictor(exact.checkpoint, "bf16")

    first, again = (analyse(image, fast, journal_dir=tmp_path, exact=exact) for _ in range(2))
    alone = analyse(image, exact, journal_dir=tmp_path / "exact")

    assert first.summary.agreement.startswith("bf16 against fp32 on 1 tiles: scores of cells differ by up to")
    assert again.summary == first.summary
    assert alone.summary.agreement == ""


def test_openvino_finds_the_same_and_tells_nobody(exact: LocalPredictor) -> None:
    pixels = np.ascontiguousarray(skimage.data.immunohistochemistry()[None])
    called: list[object] = []
    sys.addaudithook(lambda event, arguments: called.append(arguments) if event == "socket.connect" else None)

    compiled = LocalPredictor(exact.checkpoint, engine="openvino")

    assert compiled.description == exact.description
    for side in (256, 128):  # one compiled network for tiles of any size
        tiles = np.ascontiguousarray(pixels[:, :side, :side])
        np.testing.assert_allclose(compiled.predict(tiles).heat, exact.predict(tiles).heat, atol=2e-5)
    assert called == []


@pytest.mark.parametrize(("regions", "cells"), [(3, 2), (3, 0), (0, 2)])
def test_openvino_keeps_tasks_and_scales_apart(regions: int, cells: int) -> None:
    torch.manual_seed(0)
    network = MultitaskUNet(NetworkConfig(widths=COMPACT_WIDTHS), regions, cells).eval()
    image = torch.rand(2, 3, 96, 64)

    found = OpenVinoNetwork(network, "fp32")(image)

    with torch.inference_mode():
        expected = network(image)
    for levels, wanted in ((found.regions, expected.regions), (found.heat, expected.heat)):
        assert [level.shape for level in levels] == [level.shape for level in wanted]
        for level, same in zip(levels, wanted, strict=True):
            torch.testing.assert_close(level, same, atol=1e-4, rtol=1e-3)


def test_the_command_finds_the_same_objects_by_openvino(analysed: Analysed) -> None:
    ids = [
        analysed("--engine", engine, "--tile-size", tile)[1]
        for engine, tile in (("torch", "512"), ("openvino", "512"), ("openvino", "128"))
    ]
    assert len(ids[0]) > 20
    assert ids[1] == ids[2]
    assert ids[0] == ids[1]


def test_int8_sees_an_image_first_and_finds_nearly_the_same(
    exact: LocalPredictor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tissuebridge.predictor.local.has_int8", lambda: False)
    tissue = np.ascontiguousarray(skimage.data.immunohistochemistry()[None])
    rounding = LocalPredictor(exact.checkpoint, "int8", "openvino")
    assert "gains nothing by int8" in caplog.text
    assert rounding.description.is_quantised
    with pytest.raises(ValueError, match="has to see pixels first"):
        rounding.predict(tissue[:, :128, :128])

    fast = rounding.for_image(squares=tissue[:, :256, :256])

    heat, wanted = (p.predict(tissue[:, 256:512, :256]).heat for p in (fast, exact))
    difference = float(np.abs(heat - wanted).max())
    assert 1e-4 < difference < 0.15
    assert np.corrcoef(heat.ravel(), wanted.ravel())[0, 1] > 0.999


def test_the_command_computes_in_int8_the_same_for_any_tiles(analysed: Analysed) -> None:
    agreements, cells = zip(
        *(
            analysed("--engine", "openvino", "--precision", precision, "--tile-size", tile)
            for precision, tile in (("fp32", "512"), ("int8", "512"), ("int8", "128"))
        ),
        strict=True,
    )
    assert ["int8 against fp32" in agreement for agreement in agreements] == [False, True, True]
    assert cells[1] == cells[2]
    assert not cells[0] & cells[1]
    assert len(cells[1]) == pytest.approx(len(cells[0]), rel=0.05)


def test_int8_needs_the_engine_that_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    tifffile.imwrite(tmp_path / "a" / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")

    assert main(["analyse", str(tmp_path / "a"), "--pixel-size", "0.5", "--precision", "int8"]) == 2

    assert "only OpenVINO computes in int8; add --engine openvino" in capsys.readouterr().err


def test_precision_is_the_servers_own(tmp_path: Path) -> None:
    assert main(["analyse", str(tmp_path), "--server", "127.0.0.1:9", "--precision", "bf16"]) == 2
