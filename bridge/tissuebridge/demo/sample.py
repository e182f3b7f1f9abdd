"""The demo's material: one real image, annotations of it, and the folder project that both make.

The image is scikit-image's `immunohistochemistry` (colon, DAB brown at the epithelium, haematoxylin blue), which
lies in its wheel, so nothing is downloaded. The annotations beside this file are ours. A strip in the middle belongs
to neither part, so that nothing that is learnt from reaches into what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.files import atomic_write
from tissuebridge.geojson import read_objects, write_objects
from tissuebridge.objects import PathObject
from tissuebridge.project.folder import FolderProject
from tissuebridge.project.split_file import SPLITS_FILE
from tissuebridge.report.overlay import save_png

PIXEL_SIZE_UM: Final = 0.5
"""Nobody recorded the true one; with half a um the nuclei are as long as colon nuclei are."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the image, over its whole height.

    Attributes:
        name: Name of the part's image.
        left: First column.
        right: The column behind the last.
    """

    name: str
    left: int
    right: int

    def pixels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of uint8 (row, col, 3)."""
        return np.ascontiguousarray(image[:, self.left : self.right])

    def objects(self, objects: Iterable[PathObject], height: int) -> list[PathObject]:
        """The objects inside the part, moved into its coordinates (x, y)."""
        return clipped(objects, (self.left, 0, self.right, height))


LEARN: Final = Part("learnt-from", 0, 344)
HELD_OUT: Final = Part("held-out", 360, 512)


def load_image() -> NDArray[np.uint8]:
    """The image: uint8 (512, 512, 3)."""
    from skimage.data import immunohistochemistry

    return np.asarray(immunohistochemistry(), np.uint8)


def load_annotations() -> list[PathObject]:
    """The annotations of the whole image, in its px (x, y)."""
    with as_file(files("tissuebridge.demo") / "immunohistochemistry.geojson") as path:
        return read_objects(path)


def clipped(objects: Iterable[PathObject], bounds: tuple[float, float, float, float]) -> list[PathObject]:
    """What of the objects lies inside a rectangle, as it looks from the rectangle's corner.

    Args:
        objects: Areas and points; px (x, y).
        bounds: (left, top, right, bottom); a point on the left or top edge is inside, on the others outside.

    Returns:
        The objects without ids, since a part of an object is another object; those with nothing inside are left out.

    >>> part = clipped([PathObject(shapely.MultiPoint([(3, 4), (9, 9)]))], (2, 2, 8, 8))
    >>> shapely.get_coordinates(part[0].geometry).tolist()
    [[1.0, 2.0]]
    """
    inside = [(obj, _inside(obj.geometry, bounds)) for obj in objects]
    return [
        replace(obj, id=None, geometry=shapely.transform(geometry, lambda xy: xy - np.array(bounds[:2])))
        for obj, geometry in inside
        if not geometry.is_empty
    ]


def _inside(geometry: BaseGeometry, bounds: tuple[float, float, float, float]) -> BaseGeometry:
    left, top, right, bottom = bounds
    if geometry.geom_type in ("Point", "MultiPoint"):
        x, y = shapely.get_coordinates(geometry).T
        here = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        return shapely.MultiPoint(np.stack([x[here], y[here]], axis=1))
    cut = shapely.intersection(geometry, shapely.box(*bounds))
    # Where an outline only touches the rectangle, the intersection has lines and points too.
    areas = [part for part in shapely.get_parts(cut) if part.geom_type == "Polygon"]
    return areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)


def write_project(
    folder: Path, parts: Sequence[tuple[str, str, NDArray[np.uint8], Sequence[PathObject]]]
) -> FolderProject:
    """Writes images, annotations and splits in the folder layout, and opens them.

    Args:
        folder: Where; a project that an earlier demo wrote there is replaced.
        parts: For each image its split, name, pixels (uint8 (row, col, 3)) and annotations.

    Raises:
        Conflict: An annotation file there is a person's.
        StorageError: Something could not be written.
    """
    splits: dict[str, list[str]] = {"validation": []}  # said, so that all of the one image is learnt from
    for split, name, pixels, objects in parts:
        splits.setdefault(split, []).append(name)
        save_png(folder / "images" / f"{name}.png", pixels)
        # Saying who wrote the file lets the next demo replace it; the objects in it stay a person's.
        write_objects(folder / "annotations" / f"{name}.geojson", objects, about={"method": "demo"})
    with atomic_write(folder / SPLITS_FILE) as file:
        file.write(orjson.dumps(splits, option=orjson.OPT_INDENT_2))
    return FolderProject(folder, PIXEL_SIZE_UM)
