"""What proposals of a whole slide cost: run by hand, never in CI.

    python tests/benchmarks/proposals_of_a_slide.py IMAGE [--side 20000] [--pixel-size 0.5] [--kind regions]

Makes a tiled JPEG TIFF of SIDE x SIDE px by repeating IMAGE, without a pyramid (the worst case: all of it is decoded),
and prints time and peak memory of proposing regions at 8 um, or nuclei.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tissuebridge.project.folder import open_image
from tissuebridge.proposals.propose import propose_cells, propose_regions
from tissuebridge.proposals.settings import CellSettings, RegionSettings

TILE = 512


def tiles(piece: NDArray[np.uint8], side: int) -> Iterator[NDArray[np.uint8]]:
    """The slide's tiles, row by row, each a turned or mirrored cut of the piece."""
    height, width = piece.shape[0] // TILE, piece.shape[1] // TILE
    count = -(-side // TILE)
    for number in range(count * count):
        row, col = divmod(number % (height * width), width)
        cut = piece[row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        yield np.ascontiguousarray(np.rot90(cut, number % 4))


def write_slide(path: Path, piece: NDArray[np.uint8], side: int, pixel_size_um: float) -> None:
    resolution = 1e4 / pixel_size_um
    tifffile.imwrite(
        path,
        tiles(piece, side),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        resolution=(resolution, resolution),
        resolutionunit="CENTIMETER",
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--pixel-size", type=float, default=0.5)
    parser.add_argument("--kind", choices=("regions", "cells"), default="regions")
    asked = parser.parse_args()
    piece = np.asarray(Image.open(asked.image).convert("RGB"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "slide.tif")
        write_slide(path, piece, asked.side, asked.pixel_size)
        image = open_image(path, asked.pixel_size).images[0]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        journal = Path(folder, "journal")
        if asked.kind == "regions":
            found = propose_regions(image, RegionSettings(pixel_size_um=8.0), journal_dir=journal)
        else:
            found = propose_cells(image, CellSettings(), journal_dir=journal)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{asked.side} px, {found.parameters_in_short}")
    print(f"{len(found.regions)} regions, {len(found.cells)} nuclei: wall {wall:.1f} s, CPU {cpu:.1f} s")
    print(f"peak memory {peak / 1024:.0f} MiB, {(peak - before) / 1024:.0f} MiB above what was there")


if __name__ == "__main__":
    main()
