"""One engine, one slide, one network, in a process of its own: what `null_network.py` starts in turn.

    python engines.py {ours,openvino,monai,tiatoolbox} SLIDE NETWORK [--model MODEL] [--halo PX] [--tile PX]
        [--classes N]

NETWORK is TorchScript, (tile, 3, row, col) of 0..255 to (tile, map, row, col) whose first N maps are regions, for the
peers; MODEL is the same network as a model folder, for ours in torch or in OpenVINO (without: the 1x1 convolution).
Each makes the label map in memory or in a file; ours makes the cells too. Prints JSON: seconds, seconds of CPU, of the
network alone where that is known, and the peak of memory above what was there before, in MiB. Needs nothing but the
engine and torch.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch


def peak_mib() -> float:
    """The most memory that this process had (Linux); `getrusage` counts what its parent had, too."""
    [line] = [text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def ours(asked: argparse.Namespace, engine: str = "torch") -> Callable[[], dict[str, float]]:
    from null_network import PIXEL_UM, NullNetwork

    from tissuebridge import pipeline
    from tissuebridge.pipeline import AnalysisOptions, analyse
    from tissuebridge.predictor.local import LocalPredictor
    from tissuebridge.project.folder import open_image

    predictor: Any = (
        LocalPredictor.load(asked.model, engine=engine)
        if asked.model
        else NullNetwork(labels_alone=asked.labels_alone)
    )
    image = open_image(asked.slide, predictor.description.pixel_size_um or PIXEL_UM).images[0]
    concluded, known = pipeline.analysis_of, {}

    def marked(*given: Any) -> Any:
        known.update(cpu=time.process_time(), seconds=time.perf_counter())
        return concluded(*given)

    pipeline.analysis_of = marked  # polygons come after the label map; the peers make none

    def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            options = AnalysisOptions(tile_size=asked.tile, skip_glass=False)
            analyse(image, predictor, journal_dir=Path(folder), options=options)
        return {**known, "network": getattr(predictor, "seconds", 0.0)}

    return run


def monai(asked: argparse.Namespace) -> Callable[[], dict[str, float]]:
    import tifffile
    from monai.inferers import sliding_window_inference

    network = torch.jit.load(asked.network)
    overlap = 2 * asked.halo / asked.tile

    @torch.inference_mode()
    def run() -> dict[str, float]:
        pixels = torch.from_numpy(tifffile.imread(asked.slide)).permute(2, 0, 1)[None].float()
        maps = sliding_window_inference(pixels, (asked.tile,) * 2, 1, network, overlap=overlap)
        maps[0, : asked.classes].argmax(0).to(torch.uint8).numpy()
        return {}

    return run


def tiatoolbox(asked: argparse.Namespace) -> Callable[[], dict[str, float]]:
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC

    halo, classes = asked.halo, asked.classes

    class Network(ModelABC):
        def __init__(self) -> None:
            super().__init__()
            self.network = torch.jit.load(asked.network)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.network(pixels)

        @staticmethod
        @torch.inference_mode()
        def infer_batch(model: Any, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
            maps = model(batch_data.permute(0, 3, 1, 2).contiguous().float())[:, :classes]
            inner = slice(halo, maps.shape[-1] - halo)
            return maps[:, :, inner, inner].softmax(1).permute(0, 2, 3, 1).numpy()

        @staticmethod
        def postproc(image: Any) -> Any:
            return image.argmax(axis=-1) if hasattr(image, "argmax") else np.argmax(image, axis=-1)

    inner, scale = asked.tile - 2 * halo, [{"units": "baseline", "resolution": 1.0}]
    config = IOSegmentorConfig(
        input_resolutions=scale, output_resolutions=scale, save_resolution=scale[0],
        patch_input_shape=(asked.tile,) * 2, patch_output_shape=(inner,) * 2, stride_shape=(inner,) * 2,
    )  # fmt: skip
    engine = SemanticSegmentor(model=Network(), batch_size=1, num_workers=0, verbose=False)

    def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            engine.run(
                images=[asked.slide], patch_mode=False, ioconfig=config, save_dir=Path(folder) / "out",
                output_type="zarr", auto_get_mask=False, wsireader_kwargs={"mpp": (0.25, 0.25)},
            )  # fmt: skip
        return {}

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=("ours", "openvino", "monai", "tiatoolbox"))
    parser.add_argument("slide", type=Path)
    parser.add_argument("network", type=str)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--labels-alone", action="store_true")
    parser.add_argument("--halo", type=int, default=96)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    engines = {
        "ours": ours,
        "openvino": partial(ours, engine="openvino"),
        "monai": monai,
        "tiatoolbox": tiatoolbox,
    }
    run = engines[asked.engine](asked)
    before = peak_mib()
    cpu, seconds = time.process_time(), time.perf_counter()
    known = run()
    ended = {"cpu": time.process_time(), "seconds": time.perf_counter(), "network": 0.0, **known}
    print(
        json.dumps(
            {
                "cpu": ended["cpu"] - cpu,
                "seconds": ended["seconds"] - seconds,
                "network": ended["network"],
                "peak_mib": peak_mib() - before,
            }
        )
    )


if __name__ == "__main__":
    main()
