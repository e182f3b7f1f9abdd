"""What clients sent to learn from, as folders of images with GeoJSON: the format that `tissuebridge train` takes.

An image and its objects come in; of large images only those blocks are kept that hold something to learn, each as a
TIFF of its own, so that the network later sees exactly the pixels that it would see in the image.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import AnnotationError, Cancelled, ResourceLimit
from tissuebridge.files import atomic_write, storage_error
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import IGNORE, REGION_OF_INTEREST, PathObject, is_persons
from tissuebridge.project.base import Image
from tissuebridge.project.resample import BlockCache, Grid, read_grid
from tissuebridge.targets import annotated_windows

CASE_PATTERN: Final = r"^(.+)_x\d+_y\d+$"
"""Finds in a part's name the image it is of: parts of one image stay on one side of a split."""
MAX_PIXELS: Final = 2**32
"""Of all parts of a set; uncompressed these are 12 GB."""
MARGIN_PX: Final = 128
"""Objects reach so far beyond their part: the heat of a cell outside counts inside."""

_NO_FILE_NAME: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f]')

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Added:
    """What came of an image.

    Attributes:
        objects: Objects that a person drew, accepted or edited.
        parts: Files that were written.
        pixels: Of all of them.
    """

    objects: int
    parts: int
    pixels: int


class TrainingSet:
    """A folder of annotated parts of images.

    Args:
        folder: Made when something is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Forgets all images.

        Raises:
            StorageError: The folder cannot be emptied.
        """
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise storage_error(self.folder, error) from error

    def add(
        self, image: Image, objects: Sequence[PathObject], progress: Progress, cancelled: Callable[[], bool]
    ) -> Added:
        """Adds an image's annotated parts; those that it had before are gone.

        Args:
            image: Where pixels come from.
            objects: All its objects; only a person's are learnt from.
            progress: Called with (parts written, parts in all).
            cancelled: Asked before every part.

        Raises:
            AnnotationError: A person's objects are not on the image.
            Cancelled: `cancelled` said so.
            ResourceLimit: The set becomes too large.
            StorageError: It cannot be written.
        """
        drawn = [obj for obj in objects if obj.class_name is not None and is_persons(obj)]
        size = image.identity
        grid = Grid(size.width, size.height, 1.0)
        windows = annotated_windows(drawn, size.width, size.height, 1.0)
        if not windows and any(_teaches(obj) for obj in drawn):
            raise AnnotationError(f"{image.name}: none of the {len(drawn)} annotations is on the image")
        self._forget(image.name)
        pixels = sum(height * width for _, _, height, width in windows)
        self._check_size(pixels + self._pixels())
        with BlockCache(image.open_pixels()) as source:
            for done, window in enumerate(windows):
                progress(done, len(windows))
                if cancelled():
                    raise Cancelled("the call has ended")
                self._write(image, window, read_grid(source, grid, *window), drawn)
        progress(len(windows), max(len(windows), 1))
        return Added(len(drawn), len(windows), pixels)

    def _write(
        self,
        image: Image,
        window: tuple[int, int, int, int],
        pixels: NDArray[np.uint8],
        drawn: Sequence[PathObject],
    ) -> None:
        name = f"{_file_name(image.name)}_x{window[1]}_y{window[0]}"
        per_cm = 1e4 / image.pixel_size_um
        with atomic_write(self.folder / "images" / f"{name}.tif") as file:
            tifffile.imwrite(
                file, pixels, photometric="rgb", tile=(256, 256), compression="zlib", predictor=True,
                compressionargs={"level": 1}, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
                metadata=None, software="tissuebridge",
            )  # fmt: skip
        about = {"method": "training set", "image": image.name}
        inside = [part for obj in drawn if (part := _inside(obj, window)) is not None]
        write_objects(self.folder / "annotations" / f"{name}.geojson", inside, about=about)

    def _forget(self, image_name: str) -> None:
        stem = re.compile(re.escape(_file_name(image_name)) + r"_x\d+_y\d+")
        for kind in ("images", "annotations"):
            for path in (self.folder / kind).glob("*"):
                if stem.fullmatch(path.stem):
                    path.unlink(missing_ok=True)

    def _pixels(self) -> int:
        total = 0
        for path in (self.folder / "images").glob("*.tif"):
            with tifffile.TiffFile(path) as tif:
                height, width = tif.pages.first.shape[:2]
                total += height * width
        return total

    def _check_size(self, pixels: int) -> None:
        if pixels > MAX_PIXELS:
            raise ResourceLimit(
                f"the annotated parts have {pixels / 1e9:.1f} gigapixels together; at most "
                f"{MAX_PIXELS / 1e9:.1f} are taken. "
                "Annotate smaller areas, or train where the images are: tissuebridge train PROJECT --output DIR"
            )


def _teaches(obj: PathObject) -> bool:
    return obj.class_name not in (IGNORE, REGION_OF_INTEREST)


def _inside(obj: PathObject, window: tuple[int, int, int, int]) -> PathObject | None:
    """What of an object lies in a part or near it, in the part's px; None for nothing. Who wrote it does not matter."""
    row, col, height, width = window
    box = (col - MARGIN_PX, row - MARGIN_PX, col + width + MARGIN_PX, row + height + MARGIN_PX)
    left, top, right, bottom = obj.geometry.bounds
    if left > box[2] or right < box[0] or top > box[3] or bottom < box[1]:
        return None
    geometry, is_ellipse = obj.geometry, obj.is_ellipse
    if not shapely.box(*box).covers(geometry):
        geometry, is_ellipse = shapely.intersection(geometry, shapely.box(*box)), False
        if geometry.is_empty or geometry.geom_type == "GeometryCollection":
            return None
    nucleus = None if obj.nucleus is None else _moved(obj.nucleus, col, row)
    bare = replace(obj, metadata={}, measurements={}, id=None, is_ellipse=is_ellipse)
    return replace(bare, geometry=_moved(geometry, col, row), nucleus=nucleus)


def _moved(geometry: BaseGeometry, x: int, y: int) -> BaseGeometry:
    moved: BaseGeometry = shapely.transform(geometry, lambda xy: xy - (x, y))
    return moved


def _file_name(name: str) -> str:
    return _NO_FILE_NAME.sub("_", name).strip(" .") or "image"
