"""How much the whole way costs beside the network: run by hand, never in CI.

    python tests/benchmarks/pipeline_over_forward.py IMAGES MODEL [--side 4096] [--tile-size 1024] [--rounds 3]

Makes a tiled JPEG TIFF of real tissue (the images of the folder IMAGES, side by side), and alternates in one process
A: the bare network, fed ready pixels of the same tiles with their halos, and B: the pipeline (`pipeline.analyse`, from
reading to polygons and journal), and on from there the whole way (objects, GeoJSON and label map are written). Then C:
as A, but the network as torch computes it (batch norm folded, channels last) without our fusing; not alternated with
the others, since what followed it was slower.
Prints the ratios of B's medians to those of A and C, and the peak memory of A and B.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TypeAlias
from unittest import mock

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tissuebridge.geojson_write import write_objects
from tissuebridge.pipeline import DEFAULT_TILE_SIZE, AnalysisOptions, analyse, write_label_map
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.folder import open_image
from tissuebridge.tiles import TilePlan, halo_px

Way: TypeAlias = Callable[[], Iterator[str]]
"""What is timed: yields a name each time when so much of it is done."""


def mosaic(folder: Path, side: int) -> NDArray[np.uint8]:
    """Real tissue, repeated until the square is full."""
    pieces = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    slide = np.zeros((side, side, 3), np.uint8)
    row = turn = 0
    while row < side:
        col, height = 0, side
        while col < side:
            piece = np.rot90(pieces[turn % len(pieces)], turn // len(pieces))
            turn += 1
            height = min(height, piece.shape[0])
            part = piece[: side - row, : side - col]
            slide[row : row + part.shape[0], col : col + part.shape[1]] = part
            col += piece.shape[1]
        row += height
    return slide


def bare_network(predictor: LocalPredictor, slide: NDArray[np.uint8], core: int, name: str) -> Way:
    """The network on the pixels that it gets from the whole way: each tile with its halo, and padded."""
    model = predictor.description
    halo = halo_px(model.reach, [um / model.pixel_size_um for um in model.min_distance_um], model.stride)
    plan = TilePlan.of(*slide.shape[:2], stride=model.stride, tile_size=core, halo=halo)
    padded = np.pad(
        slide, ((0, plan.padded_height - plan.height), (0, plan.padded_width - plan.width), (0, 0))
    )
    contexts = [tile.context for strip in range(plan.strips) for tile in plan.tiles(strip)]

    def forward() -> Iterator[str]:
        for seen in contexts:
            predictor.predict(padded[None, seen.row : seen.bottom, seen.col : seen.right])
        yield name

    return forward


def whole_way(predictor: LocalPredictor, path: Path, pixel_size_um: float, core: int) -> Way:
    def run() -> Iterator[str]:
        gc.freeze()  # as the command does
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            image = open_image(path, pixel_size_um).images[0]
            options = AnalysisOptions(tile_size=core)
            found = analyse(image, predictor, journal_dir=folder / "journal", options=options)
            yield "pipeline"
            write_objects(folder / "found.geojson", found.objects(), about={"run": found.run_id})
            write_label_map(folder / "labels.tif", found)
        gc.unfreeze()
        yield "whole way"

    return run


def unfused(model: Path) -> LocalPredictor:
    """The same network, each of its operations by itself."""
    with mock.patch("tissuemodel.inference.can_fuse", return_value=False):
        return LocalPredictor.load(model)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--tile-size", type=int, default=DEFAULT_TILE_SIZE)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    predictor = LocalPredictor.load(asked.model)
    pixel_size_um = predictor.description.pixel_size_um
    slide = mosaic(asked.images, asked.side)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "slide.tif"
        tifffile.imwrite(path, slide, tile=(512, 512), compression="jpeg", compressionargs={"level": 85})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        bare = bare_network(predictor, slide, asked.tile_size, "bare network")
        whole = whole_way(predictor, path, pixel_size_um, asked.tile_size)
        plain = bare_network(unfused(asked.model), slide, asked.tile_size, "unfused network")
        seconds = timed([bare, whole], asked.rounds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds |= timed([plain], asked.rounds)
    medians = {
        way: [statistics.median(column) for column in zip(*times, strict=True)]
        for way, times in seconds.items()
    }
    for way, other in product(("pipeline", "whole way"), ("bare network", "unfused network")):
        wall, cpu = (a / b for a, b in zip(medians[way], medians[other], strict=True))
        print(f"{way} / {other}: wall {wall:.3f}, CPU {cpu:.3f}")
    print(
        f"peak memory {peak / 1024:.0f} MiB, {(peak - before) / 1024:.0f} MiB above model, imports and slide in memory"
    )


def timed(ways: Sequence[Way], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds from the start of a way to each of its marks in each round, told as they come."""
    seconds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for run in ways:
            wall, cpu = time.perf_counter(), time.process_time()
            for mark in run():
                took = (time.perf_counter() - wall, time.process_time() - cpu)
                seconds.setdefault(mark, []).append(took)
                print(f"{mark:15} wall {took[0]:7.2f} s  CPU {took[1]:7.2f} s", flush=True)
    return seconds


if __name__ == "__main__":
    main()
