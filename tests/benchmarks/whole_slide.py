"""A slide of 95,310 x 205,272 px through the whole way: does memory stay bounded? By hand, never in CI.

    OMP_NUM_THREADS=1 python tests/benchmarks/whole_slide.py IMAGES [--model MODEL] [--part 1] [--scratch DIR]

The slide is virtual: a tile of real tissue (the images of the folder IMAGES, side by side), repeated, with a pyramid;
0.25 um a pixel. `--part 64` takes a 64th of its area. Without a model a 1x1 convolution at 0.5 um takes the network's
place, so that everything else shows. Prints CPU and wall time, what they are per megapixel, what the whole slide would
take, what was found, and the peak of the memory that belongs to the process alone (label maps of whole slides lie in
files).
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import shapely
from null_network import CELLS, REGIONS, NullNetwork
from numpy.typing import NDArray
from pipeline_over_forward import mosaic

from tissuebridge.objects import PathObject
from tissuebridge.pipeline import AnalysisOptions, analyse, write_label_map
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.base import ImageIdentity, Level

WIDTH, HEIGHT, PIXEL_UM, TILE, LEVELS = 95_310, 205_272, 0.25, 4096, (1, 4, 16, 64)


@dataclass
class RepeatedImage:
    """One tile repeated over a slide."""

    tile: NDArray[np.uint8]
    width: int
    height: int
    name: str = "slide"
    pixel_size_um: float = PIXEL_UM
    files: Sequence[Path] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tiles = [
            cv2.resize(self.tile, None, fx=1 / s, fy=1 / s, interpolation=cv2.INTER_AREA) for s in LEVELS
        ]

    @property
    def identity(self) -> ImageIdentity:
        return ImageIdentity("slide.tif", 0, "", self.width, self.height, PIXEL_UM)

    @property
    def levels(self) -> Sequence[Level]:
        return [Level(self.width // s, self.height // s, float(s)) for s in LEVELS]

    def objects(self) -> Sequence[PathObject]:
        return ()

    def open_pixels(self) -> Self:
        return self

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        tile = self._tiles[level]
        rows, cols = np.arange(y, y + height) % len(tile), np.arange(x, x + width) % len(tile)
        return np.ascontiguousarray(tile[rows][:, cols])

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryWatch(threading.Thread):
    """The peak of what belongs to the process alone (Linux), in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.over = threading.Event()

    @staticmethod
    def now() -> float:
        [line] = [
            text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("RssAnon")
        ]
        return int(line.split()[1]) / 1024

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.peak = max(self.peak, self.now())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--part", type=int, default=1)
    parser.add_argument("--scratch", type=Path)
    asked = parser.parse_args()
    if asked.model is None:
        predictor = NullNetwork()
        # Colour decides on regions, not brightness, so that there are some; cells are as many as in a whole slide.
        predictor.weights[:REGIONS] -= predictor.weights[:REGIONS].mean(dim=1, keepdim=True)
        predictor.description = replace(
            predictor.description, pixel_size_um=2 * PIXEL_UM, min_distance_um=(12.0,) * CELLS
        )
    else:
        predictor = LocalPredictor.load(asked.model)
    side = asked.part**0.5
    # Without a network's smoothness, regions would be the grain of the tissue; so they are of some um.
    tissue = cv2.GaussianBlur(mosaic(asked.images, TILE), (0, 0), 6 if asked.model is None else 0.1)
    image = RepeatedImage(tissue, round(WIDTH / side), round(HEIGHT / side))
    watch = MemoryWatch()
    before = watch.now()
    watch.start()
    with tempfile.TemporaryDirectory(dir=asked.scratch) as name:
        cpu, wall = time.process_time(), time.perf_counter()
        options = AnalysisOptions(skip_glass=False)
        analysis = analyse(image, predictor, journal_dir=Path(name) / "journal", options=options)
        made = (time.process_time() - cpu, time.perf_counter() - wall)
        write_label_map(Path(name) / "labels.tif", analysis)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    watch.over.set()
    watch.join()
    megapixels = image.width * image.height / 1e6
    print(
        f"{image.width} x {image.height} px: {cpu:.0f} CPU-s ({made[0]:.0f} without the label map's file), "
        f"{wall:.0f} s; "
        f"{cpu / megapixels:.4f} CPU-s/Mpx of the slide; the whole slide {wall * asked.part / 3600:.2f} h; "
        f"{len(analysis.cells)} cells, {len(analysis.regions)} regions of "
        f"{shapely.get_num_coordinates([region.polygon for region in analysis.regions]).sum()} vertices; "
        f"memory {before:.0f} MiB before, {watch.peak:.0f} MiB at its peak"
    )


if __name__ == "__main__":
    main()
