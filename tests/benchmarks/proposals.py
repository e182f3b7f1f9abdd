"""How good nuclei proposals are without any training: run by hand, never in CI.

    python tests/benchmarks/proposals.py FOLDER --pixel-size 0.25 [--split test] [--stains 2] [--diameter-um 8]

FOLDER is a folder project whose cells are points, complete inside `Cells marked*` areas that cover the images. Every
image gets the same setting: nothing is fitted to the annotations. Prints F1 by one-to-one matching, of each image and
of all together.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.objects import PathObject
from tissuebridge.project.folder import FolderProject
from tissuebridge.proposals.propose import propose_cells
from tissuebridge.proposals.settings import CellSettings, stains_of
from tissuemodel.metrics import match, precision_recall_f1


def points_of(objects: Iterable[PathObject]) -> NDArray[np.float64]:
    """All points (x, y) of the objects, in px of the image."""
    found = [obj.geometry for obj in objects if obj.geometry.geom_type in ("Point", "MultiPoint")]
    return np.asarray(shapely.get_coordinates(found), np.float64).reshape(-1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pixel-size", type=float)
    parser.add_argument("--split", default="test")
    parser.add_argument("--stains", default="2", help="as tissuebridge propose --stains")
    parser.add_argument("--diameter-um", type=float, default=CellSettings().diameter_um)
    parser.add_argument("--noise-factor", type=float, default=CellSettings().noise_factor)
    parser.add_argument("--min-contrast", type=float, default=CellSettings().min_contrast)
    parser.add_argument("--tolerance-px", type=float, default=12.0)
    asked = parser.parse_args()
    project = FolderProject(asked.folder, asked.pixel_size)
    settings = replace(
        stains_of(asked.stains),
        diameter_um=asked.diameter_um,
        noise_factor=asked.noise_factor,
        min_contrast=asked.min_contrast,
    )
    totals = np.zeros(3, np.int64)
    for image in project.images:
        if image.name not in (project.splits or {}).get(asked.split, [image.name]):
            continue
        with tempfile.TemporaryDirectory() as journal:
            cells = propose_cells(image, settings, journal_dir=Path(journal)).cells
        found = match(cells.xy, points_of(image.objects()), cells.score, asked.tolerance_px)
        totals += np.array([found.tp, len(cells) - found.tp, found.fn])
        precision, recall, f1 = (
            value or 0.0 for value in precision_recall_f1(found.tp, len(cells) - found.tp, found.fn)
        )
        print(f"{image.name:16} precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}", flush=True)
    precision, recall, f1 = (value or 0.0 for value in precision_recall_f1(*totals.tolist()))
    print(
        f"all {totals.sum() - totals[1]} nuclei: precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}"
    )


if __name__ == "__main__":
    main()
