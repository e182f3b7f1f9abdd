"""How good nuclei proposals are without any training: run by hand, never in CI.

    python tests/benchmarks/proposals.py FOLDER --pixel-size 0.25 [--split test] [--stains learnt] [--diameter-um 8]

FOLDER is a folder project whose cells are points, complete inside `Cells marked*` areas that cover the images. Every
image gets the same setting: nothing is fitted to the annotations. Prints F1 by one-to-one matching, of each image and
of all together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import PathObject
from tissuebridge.project.folder import FolderImage, FolderProject
from tissuemodel.annotate.separation import separate
from tissuemodel.annotate.stains import KNOWN_STAINS, Stains, given_stains, learn_stains
from tissuemodel.annotate.wavelet import SpotOptions, Spots, find_spots
from tissuemodel.metrics import match, precision_recall_f1

HEMATOXYLIN_EOSIN = (KNOWN_STAINS["Hematoxylin"], KNOWN_STAINS["Eosin"])


def pixels_of(image: FolderImage) -> NDArray[np.uint8]:
    with image.open_pixels() as pixels:
        full = pixels.levels[0]
        return pixels.read_block(0, 0, 0, full.width, full.height)


def points_of(objects: list[PathObject]) -> NDArray[np.float64]:
    """All points (x, y) of the objects, in px of the image."""
    found = [
        point.coords[0]
        for thing in objects
        for point in getattr(thing.geometry, "geoms", [thing.geometry])
        if point.geom_type == "Point"
    ]
    return np.array(found, np.float64).reshape(-1, 2)


def proposed(
    pixels: NDArray[np.uint8], stains: Stains, scale: float, options: SpotOptions
) -> tuple[NDArray[np.float64], Spots]:
    """Nuclei of the first stain, found at a coarser pixel size; their centres in px of the image."""
    density = separate(pixels, stains)[0]
    height, width = (max(1, round(side * scale)) for side in density.shape)
    coarse = cv2.resize(density, (width, height), interpolation=cv2.INTER_AREA)
    spots = find_spots(coarse, options)
    return spots.xy * (density.shape[1] / width, density.shape[0] / height), spots


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pixel-size", type=float)
    parser.add_argument("--split", default="test")
    parser.add_argument("--stains", choices=("learnt", "fixed"), default="learnt")
    parser.add_argument("--diameter-um", type=float, default=8.0)
    parser.add_argument("--work-pixel-um", type=float, default=0.5)
    parser.add_argument("--noise-factor", type=float, default=SpotOptions((1,)).noise_factor)
    parser.add_argument("--min-contrast", type=float, default=SpotOptions((1,)).min_contrast)
    parser.add_argument("--tolerance-px", type=float, default=12.0)
    asked = parser.parse_args()
    project = FolderProject(asked.folder, asked.pixel_size)
    options = SpotOptions.for_diameter(
        asked.diameter_um / asked.work_pixel_um, asked.noise_factor, asked.min_contrast
    )
    print(options)
    totals = np.zeros(3, np.int64)
    for image in project.images:
        if image.name not in (project.splits or {}).get(asked.split, [image.name]):
            continue
        pixels = pixels_of(image)
        stains = learn_stains(pixels, 2) if asked.stains == "learnt" else given_stains(HEMATOXYLIN_EOSIN)
        xy, spots = proposed(pixels, stains, image.pixel_size_um / asked.work_pixel_um, options)
        found = match(xy, points_of(list(image.objects())), spots.score, asked.tolerance_px)
        counts = np.array([found.tp, len(xy) - found.tp, found.fn])
        totals += counts
        precision, recall, f1 = (value or 0.0 for value in precision_recall_f1(*counts.tolist()))
        print(f"{image.name:16} precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}", flush=True)
    precision, recall, f1 = (value or 0.0 for value in precision_recall_f1(*totals.tolist()))
    print(
        f"all {totals.sum() - totals[1]} nuclei: precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}"
    )


if __name__ == "__main__":
    main()
