"""What everything beside the network costs: a 1x1 convolution through the whole way. By hand, never in CI.

    OMP_NUM_THREADS=1 python tests/benchmarks/null_network.py IMAGES [--side 8192] [--rounds 3]

Makes a tiled JPEG TIFF of the images of the folder IMAGES, side by side, and alternates in one process, on one thread:
A: `pipeline.analyse` as far as label map and cells (polygons apart), B: MONAI's sliding-window inferer (where it is
installed) on the same tiles, read by tifffile, with the label map alone. Prints CPU seconds per megapixel of the slide,
with and without what the convolution itself takes, their medians, and the peak memory above the imports.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from pipeline_over_forward import mosaic

from tissuebridge import pipeline
from tissuebridge.pipeline import DEFAULT_TILE_SIZE, AnalysisOptions, analyse
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuebridge.project.folder import open_image

REGIONS, CELLS, REACH, PIXEL_UM = 5, 2, 96, 0.25


class NullNetwork:
    """One 1x1 convolution, as wide as a network for five regions and two cell classes."""

    def __init__(self) -> None:
        weights = np.random.default_rng(0).normal(size=(REGIONS + CELLS, 3, 1, 1)).astype(np.float32)
        self.weights = torch.from_numpy(weights) * 3 / 255
        self.seconds = 0.0
        self.description = ModelDescription(
            name="null", digest="0" * 64, colors={}, pixel_size_um=PIXEL_UM, stride=16, reach=REACH,
            region_classes=tuple(f"R{i}" for i in range(REGIONS)), cell_classes=tuple(f"C{i}" for i in range(CELLS)),
            pad_value=(240, 240, 240), cell_diameters_um=(6.0,) * CELLS, min_distance_um=(2.5,) * CELLS,
            thresholds=(0.5,) * CELLS, floor=0.4, cross_class_radius_um=2.5, mode_filter=True,
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


def ours(path: Path, network: NullNetwork) -> Callable[[], float]:
    """The whole way up to label map and cells; gives the CPU seconds until then."""

    def run() -> float:
        image, marks = open_image(path, PIXEL_UM).images[0], []
        concluded = pipeline.analysis_of

        def marked(*given: Any) -> Any:
            marks.append(time.process_time())
            return concluded(*given)

        pipeline.analysis_of = marked
        try:
            with tempfile.TemporaryDirectory() as folder:
                begin = time.process_time()
                options = AnalysisOptions(tile_size=DEFAULT_TILE_SIZE, skip_glass=False)
                analyse(image, network, journal_dir=Path(folder), options=options)
        finally:
            pipeline.analysis_of = concluded
        return float(marks[0] - begin)

    return run


def monai(path: Path, network: NullNetwork) -> Callable[[], float] | None:
    """MONAI's inferer with the same halo, the label map by argmax; None where it is not installed."""
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        return None

    @torch.inference_mode()
    def run() -> float:
        begin = time.process_time()
        pixels = torch.from_numpy(tifffile.imread(path)).permute(2, 0, 1)[None].float()
        overlap = 2 * REACH / DEFAULT_TILE_SIZE
        maps = sliding_window_inference(pixels, (DEFAULT_TILE_SIZE,) * 2, 1, network, overlap=overlap)
        maps[0, :REGIONS].argmax(0).to(torch.uint8).numpy()
        return time.process_time() - begin

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    megapixels, network = asked.side**2 / 1e6, NullNetwork()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "slide.tif"
        slide = cv2.GaussianBlur(mosaic(asked.images, asked.side), (0, 0), 3)
        tifffile.imwrite(path, slide, tile=(512, 512), compression="jpeg", compressionargs={"level": 85})
        del slide
        ways = {"ours": ours(path, network), "MONAI": monai(path, network)}
        seconds: dict[str, list[float]] = {}
        for turn in range(asked.rounds):
            for way, run in ways.items():
                if run is None:
                    continue
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                network.seconds = 0.0
                took = run()
                peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
                seconds.setdefault(way, []).append(took / megapixels)
                beyond = (
                    f", {(took - network.seconds) / megapixels:.4f} beyond the network"
                    if way == "ours"
                    else ""
                )
                print(
                    f"round {turn}: {way:6} {took / megapixels:.4f} CPU-s/Mpx{beyond}, peak {peak:+.0f} MiB",
                    flush=True,
                )
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    print(", ".join(f"{way} {median:.4f} CPU-s/Mpx" for way, median in medians.items()))
    if "MONAI" in medians:
        print(f"MONAI / ours: {medians['MONAI'] / medians['ours']:.2f}")


if __name__ == "__main__":
    main()
