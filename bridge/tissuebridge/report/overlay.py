"""What was found, drawn over the image as a person would mark it: outlines, rings, a legend, a scale bar.

Stands at the end of the way of the data: pixels and QuPath's objects come in, an RGB picture (or a PNG) goes out
for reports. Areas become coloured outlines with a faint fill, cells become rings, and points become dots, so that
found and marked cells can be told apart in one picture. Lines, tiles and unclassified objects are left out.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry.base import BaseGeometry

from tissuebridge.files import atomic_write
from tissuebridge.geojson import default_color
from tissuebridge.objects import ObjectType, PathObject, is_area
from tissuebridge.report.legend import Entry, draw_legend

FILL_OPACITY: Final = 0.12
CASING: Final = (255, 255, 255)
"""Lines lie on a wider white one, so that a class colour is seen on tissue of the same colour."""

_SHIFT: Final = 4
"""OpenCV takes coordinates as integers with this many binary digits behind the point."""
_SMALLEST_RING_PX: Final = 4.0
_INSET_PX: Final = 1.0
"""Outlines are drawn this far inside, so that neighbours show both colours of their common border."""


@dataclass(frozen=True, slots=True)
class _Marks:
    """Objects of one class and kind."""

    name: str
    color: tuple[int, int, int]
    geometries: NDArray[np.object_]

    @property
    def is_reserved(self) -> bool:
        """Areas of QuPath's reserved classes lie over regions: a fill would tint these."""
        return self.name.endswith("*")


def render_overlay(
    image: NDArray[np.uint8],
    objects: Iterable[PathObject],
    *,
    scale: float = 2.0,
    pixel_size_um: float | None = None,
    fills: bool = True,
    dot_px: float = 3.5,
) -> NDArray[np.uint8]:
    """Draws objects over an image, with a legend below.

    Args:
        image: uint8 (row, col, 3), red, green, blue.
        objects: In px (x, y) of `image`, origin at the outer corner of its first pixel. A class whose name ends in
            an asterisk, as QuPath's reserved ones do, is outlined but not filled.
        scale: Output px per px of `image`; at 2 a nucleus of 10 px can be told from its ring.
        pixel_size_um: Size of a px of `image` in um, for the scale bar; None draws none.
        fills: Whether areas are faintly filled; without, only outlined.
        dot_px: Radius of a point's dot in output px.

    Returns:
        uint8 (row, col, 3): `scale` times the image, and below it the legend.

    Raises:
        ValueError: The image is not uint8 RGB, or the scale is not positive.

    >>> picture = render_overlay(np.full((50, 100, 3), 240, np.uint8), [], scale=2)
    >>> picture.shape
    (100, 200, 3)
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image of {image.dtype} {image.shape} is not uint8 (row, col, 3)")
    if not scale > 0:
        raise ValueError(f"scale {scale:g} is not positive")
    canvas = _enlarged(image, scale)
    areas, cells, points = _sorted(objects)
    filled = [fills and not marks.is_reserved for marks in areas]
    _draw_areas(canvas, areas, filled, scale)
    for marks in cells:
        _draw_rings(canvas, marks, scale)
    for marks in points:
        _draw_dots(canvas, marks, scale, dot_px)
    legend = draw_legend(
        canvas.shape[1],
        [
            *(
                Entry(m.name, m.color, "area" if fill else "outline")
                for m, fill in zip(areas, filled, strict=True)
            ),
            *(Entry(f"{m.name} ({len(m.geometries):,})", m.color, "ring") for m in cells),
            *(Entry(f"{m.name} ({len(m.geometries):,})", m.color, "dot") for m in points),
        ],
        output_px_per_um=scale / pixel_size_um if pixel_size_um else None,
    )
    return np.concatenate([canvas, legend])


def png_bytes(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file's bytes.

    Args:
        picture: uint8 (row, col, 3), red, green, blue.

    >>> png_bytes(np.zeros((1, 1, 3), np.uint8))[1:4]
    b'PNG'
    """
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def jpeg_bytes(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a JPEG file's bytes, for pages: colours of thin lines are kept, noise is not.

    Args:
        picture: uint8 (row, col, 3), red, green, blue.

    >>> jpeg_bytes(np.zeros((1, 1, 3), np.uint8))[:2].hex()
    'ffd8'
    """
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88, subsampling=0, optimize=True)
    return file.getvalue()


def save_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes a picture (uint8 (row, col, 3)) as a PNG; the file appears whole or not at all.

    Raises:
        StorageError: The file could not be written.
    """
    with atomic_write(path) as file:
        file.write(png_bytes(picture))


def _enlarged(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=how))


# ---- Which object is drawn how ----------------------------------------------------------------------------


def _sorted(objects: Iterable[PathObject]) -> tuple[list[_Marks], list[_Marks], list[_Marks]]:
    """Areas, cells and points by class; inside each list the class with most objects comes first."""
    found: dict[str, dict[str, list[BaseGeometry]]] = {"area": {}, "ring": {}, "dot": {}}
    colors: dict[str, tuple[int, int, int]] = {}
    for obj in objects:
        kind = _kind(obj)
        if kind is None or obj.path_class is None:
            continue
        name = obj.path_class.name
        colors.setdefault(name, obj.path_class.color or default_color(name))
        found[kind].setdefault(name, []).extend(shapely.get_parts(obj.geometry))
    areas, rings, dots = (
        [
            _Marks(name, colors[name], _array(geometries))
            for name, geometries in sorted(by_class.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        for by_class in found.values()
    )
    return areas, rings, dots


def _kind(obj: PathObject) -> str | None:
    if obj.geometry.is_empty:
        return None
    if obj.object_type in (ObjectType.DETECTION, ObjectType.CELL):
        return "ring"
    if obj.object_type is ObjectType.ANNOTATION:
        if is_area(obj.geometry):
            return "area"
        if obj.geometry.geom_type in ("Point", "MultiPoint"):
            return "dot"
    return None


def _array(geometries: Sequence[BaseGeometry]) -> NDArray[np.object_]:
    array = np.empty(len(geometries), object)
    array[:] = geometries
    return array


# ---- Drawing ----------------------------------------------------------------------------------------------


def _draw_areas(
    canvas: NDArray[np.uint8], areas: Sequence[_Marks], filled: Sequence[bool], scale: float
) -> None:
    """All fills first, then all lines, so that no fill dims a line."""
    drawn = [
        (marks, [_rings(polygon, scale) for polygon in _inset(marks.geometries, _INSET_PX / scale)])
        for marks in areas
    ]
    for (marks, polygons), fill in zip(drawn, filled, strict=True):
        if fill:
            tinted = canvas.copy()
            for rings in polygons:
                cv2.fillPoly(tinted, rings, marks.color, cv2.LINE_AA, _SHIFT)
            cv2.addWeighted(tinted, FILL_OPACITY, canvas, 1 - FILL_OPACITY, 0, dst=canvas)
    for thickness in (4, 2):
        for marks, polygons in drawn:
            color = CASING if thickness == 4 else marks.color
            for rings in polygons:
                cv2.polylines(canvas, rings, True, color, thickness, cv2.LINE_AA, _SHIFT)


def _inset(polygons: NDArray[np.object_], distance: float) -> list[BaseGeometry]:
    """Polygons made smaller all round; those too small for it as they are."""
    smaller = shapely.buffer(polygons, -distance, join_style="mitre")
    kept = np.where(shapely.is_empty(smaller), polygons, smaller)
    return [part for geometry in kept for part in shapely.get_parts(geometry) if is_area(part)]


def _rings(polygon: BaseGeometry, scale: float) -> list[NDArray[np.int32]]:
    """Outline and holes in OpenCV's coordinates; filled together, holes stay open (even-odd)."""
    outline = shapely.get_exterior_ring(polygon)
    holes = [shapely.get_interior_ring(polygon, i) for i in range(shapely.get_num_interior_rings(polygon))]
    return [_fixed_point(shapely.get_coordinates(ring), scale) for ring in (outline, *holes)]


def _fixed_point(xy: NDArray[np.float64], scale: float) -> NDArray[np.int32]:
    """QuPath's corners of pixels to OpenCV's centres of pixels, as fixed-point integers."""
    return np.round((xy * scale - 0.5) * 2**_SHIFT).astype(np.int32)


def _draw_rings(canvas: NDArray[np.uint8], marks: _Marks, scale: float) -> None:
    """A ring round each cell, as large as the cell's outline."""
    centres = _fixed_point(shapely.get_coordinates(shapely.centroid(marks.geometries)), scale)
    radii = np.sqrt(shapely.area(marks.geometries) / np.pi) * scale
    radii = np.maximum(radii, _SMALLEST_RING_PX)
    fixed = np.round(radii * 2**_SHIFT).astype(int).tolist()
    for color, thickness in ((CASING, 4), (marks.color, 2)):
        for (x, y), radius in zip(centres.tolist(), fixed, strict=True):
            cv2.circle(canvas, (x, y), radius, color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_dots(canvas: NDArray[np.uint8], marks: _Marks, scale: float, radius_px: float) -> None:
    cased, radius = (round(px * 2**_SHIFT) for px in (radius_px + 1.5, radius_px))
    for x, y in _fixed_point(shapely.get_coordinates(marks.geometries), scale).tolist():
        cv2.circle(canvas, (x, y), cased, CASING, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, (x, y), radius, marks.color, -1, cv2.LINE_AA, _SHIFT)
