"""What everything beside the network costs, beside the peers' engines. By hand, never in CI.

    python tests/benchmarks/null_network.py IMAGES [--side 8192] [--rounds 3] [--model MODEL]
        [--labels-alone] [--openvino] [--monai PYTHON] [--tiatoolbox PYTHON]

Makes a tiled JPEG TIFF of the images of the folder IMAGES, side by side, and lets each engine take its turn, in a
process of its own on one thread (`engines.py`): ours as far as label map and cells (polygons apart), MONAI's
sliding-window inferer and TIAToolbox's engine as far as the label map, with the same network and halo; PYTHON is one
where the peer is installed. The network is a 1x1 convolution, so that the rest shows, or MODEL's, which ours computes
in torch and with `--openvino` in OpenVINO too. Prints CPU seconds per megapixel of the slide, for ours also without
what the network itself took, memory above the imports, and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from pipeline_over_forward import mosaic

from tissuebridge.memory import core_for, machine_memory
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.tiles import halo_px
from tissuemodel.inference import normalise

REGIONS, CELLS, REACH, PIXEL_UM = 5, 2, 96, 0.25
PEERS_TILE = 1024


class NullNetwork:
    """One 1x1 convolution, as wide as a network for five regions and two cell classes.

    Args:
        labels_alone: No cells, no mode filter: what is left is what the peers make.
    """

    def __init__(self, *, labels_alone: bool = False) -> None:
        cells = 0 if labels_alone else CELLS
        weights = np.random.default_rng(0).normal(size=(REGIONS + cells, 3, 1, 1)).astype(np.float32)
        self.weights = torch.from_numpy(weights) * 3 / 255
        self.seconds = 0.0
        self.description = ModelDescription(
            name="null", digest="0" * 64, colors={}, pixel_size_um=PIXEL_UM, stride=16, reach=REACH,
            region_classes=tuple(f"R{i}" for i in range(REGIONS)), cell_classes=tuple(f"C{i}" for i in range(cells)),
            pad_value=(240, 240, 240), cell_diameters_um=(6.0,) * cells, min_distance_um=(2.5,) * cells,
            thresholds=(0.5,) * cells, floor=0.4, cross_class_radius_um=2.5, mode_filter=not labels_alone,
        )  # fmt: skip

    @torch.inference_mode()
    def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
        start = time.thread_time()
        maps = self(torch.from_numpy(tiles).permute(0, 3, 1, 2).contiguous().float()).numpy()
        self.seconds += time.thread_time() - start
        return Prediction(maps[:, :REGIONS], maps[:, REGIONS:])

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(pixels, self.weights)

    def for_image(self, statistics: Any = None, squares: Any = None) -> NullNetwork:
        return self


def multiplied(logits: list[torch.Tensor]) -> torch.Tensor:
    """The paper's fusion, as it is written there."""
    size = logits[0].shape[-2:]
    levels = [torch.nn.functional.log_softmax(level, dim=1) for level in logits]
    return sum(torch.nn.functional.interpolate(level, size=size, mode="bilinear") for level in levels)


class PeersNetwork(torch.nn.Module):
    """A model's network as somebody would give it to a peer: pixels in, maps out, nothing folded."""

    def __init__(self, predictor: LocalPredictor) -> None:
        super().__init__()
        config = predictor.checkpoint.config
        self.network = predictor.checkpoint.network.eval()
        self.mean, self.std = (torch.tensor([values]) for values in config.statistics)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.network(normalise(pixels, self.mean, self.std))
        return torch.cat([*([multiplied(maps.regions)] if maps.regions else []), *maps.heat[:1]], dim=1)


def traced(predictor: LocalPredictor | NullNetwork, path: Path) -> None:
    """Writes the network for processes that know no tissuebridge."""
    network = predictor.__call__ if isinstance(predictor, NullNetwork) else PeersNetwork(predictor)
    with torch.inference_mode():
        torch.jit.trace(network, torch.zeros(1, 3, 256, 256), check_trace=False).save(str(path))


def turn(python: str, engine: str, slide: Path, network: Path, more: list[str]) -> dict[str, float]:
    """An engine's figures, from a process of its own."""
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
    )
    command = [python, str(Path(__file__).with_name("engines.py")), engine, str(slide), str(network), *more]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"{engine}: {found.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(found.stdout.strip().splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument(
        "--labels-alone", action="store_true", help="No cells and no mode filter, as the peers."
    )
    parser.add_argument("--tile-size", type=int, default=core_for(machine_memory()))
    parser.add_argument("--openvino", action="store_true", help="Ours with OpenVINO as well; needs --model.")
    parser.add_argument("--monai", metavar="PYTHON")
    parser.add_argument("--tiatoolbox", metavar="PYTHON")
    asked = parser.parse_args()
    if asked.openvino and not asked.model:
        parser.error("--openvino needs --model")
    predictor = (
        LocalPredictor.load(asked.model) if asked.model else NullNetwork(labels_alone=asked.labels_alone)
    )
    model, megapixels = predictor.description, asked.side**2 / 1e6
    halo = halo_px(model.reach, [um / model.pixel_size_um for um in model.min_distance_um], model.stride)
    classes = max(len(model.region_classes), 1)
    with tempfile.TemporaryDirectory() as name:
        slide, network = Path(name) / "slide.tif", Path(name) / "network.pt"
        pixels = cv2.GaussianBlur(mosaic(asked.images, asked.side), (0, 0), 0.1 if asked.model else 3)
        tifffile.imwrite(slide, pixels, tile=(512, 512), compression="jpeg", compressionargs={"level": 85})
        del pixels
        traced(predictor, network)
        own = ["--tile", str(asked.tile_size), *(["--model", str(asked.model)] if asked.model else [])]
        own += ["--labels-alone"] if asked.labels_alone else []
        peers = ["--tile", str(PEERS_TILE), "--halo", str(halo), "--classes", str(classes)]
        ways = {
            "ours": (sys.executable, own),
            "openvino": (sys.executable if asked.openvino else None, own),
            "monai": (asked.monai, peers),
            "tiatoolbox": (asked.tiatoolbox, peers),
        }
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(asked.rounds):
            for way, (python, more) in ways.items():
                if python is None:
                    continue
                figures = turn(python, way, slide, network, more)
                found.setdefault(way, []).append(figures)
                print(
                    f"round {number}: {way:10} {figures['cpu'] / megapixels:.4f} CPU-s/Mpx, "
                    f"{figures['seconds']:.0f} s, {figures['peak_mib']:.0f} MiB",
                    flush=True,
                )
    told(found, megapixels)


def told(found: dict[str, list[dict[str, float]]], megapixels: float) -> None:
    """Medians, spread and ratios."""
    own = statistics.median(figures["cpu"] for figures in found["ours"])
    for way, rounds in found.items():
        cpu = sorted(figures["cpu"] / megapixels for figures in rounds)
        print(
            f"{way:10} {statistics.median(cpu):.4f} CPU-s/Mpx ({cpu[0]:.4f} to {cpu[-1]:.4f}), "
            f"{max(figures['peak_mib'] for figures in rounds):.0f} MiB above the imports, "
            f"{statistics.median(cpu) * megapixels / own:.2f} times ours"
        )
    if found["ours"][0]["network"]:
        beyond = statistics.median(figures["cpu"] - figures["network"] for figures in found["ours"])
        print(f"ours without the network's own time: {beyond / megapixels:.4f} CPU-s/Mpx")


if __name__ == "__main__":
    main()
