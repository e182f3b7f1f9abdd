"""A folder project drawn in code: tissue images as PNG, annotations as QuPath exports them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
from PIL import Image

from drawn_tissue import draw_example
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import CELLS_MARKED, PathClass, PathObject

REGIONS = ("Tumor", "Stroma", "Empty", "Vessel")
CELLS = ("Lymphocyte", "Mast cell")


def write_project(folder: Path, images: int = 3, side: int = 192) -> Path:
    """`images` completely annotated images; the last is the test split, the one before it validation."""
    names = [f"drawn-{i}" for i in range(images)]
    for seed, name in enumerate(names):
        write_image(folder, name, seed, side)
    splits = {"train": names[:-2] or names, "validation": names[-2:-1], "test": names[-1:]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def write_image(folder: Path, name: str, seed: int, side: int) -> None:
    """One image and its annotation file, as a person would have exported it."""
    example = draw_example(side, side, seed)
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(example.image).save(folder / "images" / f"{name}.png")
    objects = [
        PathObject(shapely.geometry.shape(outline), path_class=PathClass(REGIONS[int(value)], (10, 20, 30)))
        for outline, value in rasterio.features.shapes(example.regions, connectivity=4)
    ]
    for index, cells in enumerate(CELLS):
        points = shapely.MultiPoint(example.points[example.point_classes == index].astype(np.float64))
        objects.append(PathObject(points, path_class=PathClass(cells)))
    objects.append(PathObject(shapely.box(0, 0, side, side), path_class=PathClass(CELLS_MARKED)))
    target = folder / "annotations" / f"{name}.geojson"
    write_objects(target, objects)
