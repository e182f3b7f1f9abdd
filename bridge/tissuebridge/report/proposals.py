"""The page that a person reviews proposals with: which colour is which, what was taken for positive, and why.

Comes in from `proposals.propose`, an image at a time, so that no slide is held; one self-contained HTML file goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.analysis import Analysis
from tissuebridge.objects import PROPOSED, PathObject
from tissuebridge.project.base import Image
from tissuebridge.project.resample import BlockCache, grid_of, read_grid
from tissuebridge.proposals.propose import settings_of, thresholds_of
from tissuebridge.proposals.settings import CellSettings, RegionSettings
from tissuebridge.report.histograms import SHOWN_PX, threshold_picture
from tissuebridge.report.overlay import render_overlay
from tissuebridge.report.page import Content, Notice, Picture, Section, Table, Text, Value, write_page
from tissuemodel.annotate.quantize import given_palette

MOST_IMAGES: Final = 12
"""So many images are shown: a page of some ten MB."""

_OVERVIEW_PX: Final = 1000
_CLOSE_UP_PX: Final = 400
_SWATCH_PX: Final = (36, 60)
_REVIEW: Final = (
    "These are proposals: nothing is trained on, counted or measured before a person has accepted it. In QuPath, give "
    "an object another class and it is yours; or accept a class at once: tissuebridge accept FOLDER "
    '"colour 3=Stroma" "Positive=Tumor: Positive" --reject Negative'
)
_FOOLED: Final = (
    "Brown is not always DAB: melanin, haemosiderin, formalin pigment, red blood cells and ink look alike. Reject "
    "such nuclei; they become hard negatives ('Not a cell*') that a network learns from."
)


class ProposalsPage:
    """Gathers what is shown of each image, then writes the page."""

    def __init__(self) -> None:
        self._rows: list[list[Value]] = []
        self._sections: list[Section] = []

    def add(self, image: Image, found: Sequence[Analysis]) -> None:
        """Draws an image's proposals.

        Args:
            image: Its pixels are read again, in part.
            found: Proposed regions, proposed nuclei, or both.

        Raises:
            ImageError: Its pixels cannot be read.
        """
        counts = [count for part in found for count in {**part.summary.regions, **part.summary.cells}.items()]
        told = ", ".join(f"{name.removeprefix(PROPOSED)}: {count:,}" for name, count in counts)
        self._rows.append([image.name, told])
        if len(self._sections) < MOST_IMAGES:
            content: list[Content] = [Notice(text) for part in found for text in part.summary.warnings]
            for part in found:
                settings = settings_of([part])
                content += _of_regions(image, part, settings.regions) if settings.regions else []
                content += _of_cells(image, part, settings.cells) if settings.cells else []
            self._sections.append(Section(image.name, content))

    def write(self, path: Path) -> None:
        """Writes the page.

        Raises:
            StorageError: It could not be written.
        """
        intro: list[Content] = [Text(_REVIEW), Text(_FOOLED)]
        if len(self._rows) > 1:
            intro.append(Table("All images", ["Image", "Proposed objects"], self._rows))
        if len(self._rows) > len(self._sections):
            intro.append(Text(f"The first {len(self._sections)} images are shown."))
        write_page(path, "tissuebridge: proposals", [Section("To be reviewed", intro), *self._sections])


def _of_regions(image: Image, found: Analysis, settings: RegionSettings) -> list[Content]:
    total = sum(found.summary.area_um2.values()) or 1.0
    palette = given_palette(settings.palette)
    rows: list[list[Value]] = [
        [
            name.removeprefix(PROPOSED),
            f"{rgb[0]} {rgb[1]} {rgb[2]}",
            f"{area / 1e6:.4g}",
            f"{area / total:.1%}",
        ]
        for (name, area), rgb in zip(found.summary.area_um2.items(), palette.rgb.tolist(), strict=True)
    ]
    overview, swatches = _overview(image, found), _swatches(palette.rgb)
    return [
        Picture(
            overview,
            "The image with the outlines of the proposed regions",
            settings.in_short,
            width=overview.shape[1] // 2,
            is_photograph=True,
        ),
        Picture(swatches, "The colours in the order of their numbers", "The colours, from the first on"),
        Table("Colours", ["Proposed", "Red green blue", "Area mm²", "Share"], rows),
    ]


def _of_cells(image: Image, found: Analysis, settings: CellSettings) -> list[Content]:
    vectors: list[list[Value]] = [
        [name, *vector] for name, vector in zip(settings.names, settings.vectors, strict=True)
    ]
    close_up = _close_up(image, found)
    error = settings.reconstruction_error or 0.0
    content: list[Content] = [
        Picture(
            close_up,
            "A part of the image with many nuclei, each proposed one ringed",
            settings.in_short,
            width=close_up.shape[1] // 2,
            is_photograph=True,
        )
    ]
    for name, threshold in thresholds_of(found.cells.scores, settings).items():
        axis = f"{name}: mean optical density of a nucleus"
        content.append(
            Picture(
                threshold_picture(threshold, axis),
                f"Histogram of {name}'s density over all nuclei, with the threshold",
                f"Positive from {threshold.value:.3g} on; {threshold.separation:.0%} of the variance lies between the "
                "two groups (a single hump gives up to 75%). Another can be set in the parameter file.",
                width=SHOWN_PX[0],
                dark=threshold_picture(threshold, axis, dark=True),
            )
        )
    return [
        *content,
        Table("Stains (optical density)", ["Stain", "Red", "Green", "Blue"], vectors),
        Text(
            f"{error:.1%} of the tissue's optical density has a colour that no mixture of these stains gives"
            + (": a stain may be missing, or the vectors are another laboratory's." if error > 0.2 else ".")
        ),
    ]


def _overview(image: Image, found: Analysis) -> NDArray[np.uint8]:
    """The whole image, small, with its regions."""
    longest_um = max(found.image.width, found.image.height) * image.pixel_size_um
    pixel_um = max(longest_um / _OVERVIEW_PX, image.pixel_size_um)
    with BlockCache(image.open_pixels()) as source:
        grid = grid_of(source.levels, image.pixel_size_um, pixel_um)
        pixels = read_grid(source, grid, 0, 0, grid.height, grid.width)
    objects = _moved(list(found.region_objects()), 0, 0, grid.downsample)
    scale = max(1.0, min(3.0, _OVERVIEW_PX / max(grid.width, grid.height)))
    return render_overlay(
        pixels, objects, scale=scale, pixel_size_um=image.pixel_size_um * grid.downsample, fills=False
    )


def _close_up(image: Image, found: Analysis) -> NDArray[np.uint8]:
    """The square with most nuclei, at the pixel size they were looked for."""
    with BlockCache(image.open_pixels()) as source:
        grid = grid_of(source.levels, image.pixel_size_um, found.model.pixel_size_um)
        row, col = _densest(found, grid.height, grid.width)
        height, width = min(_CLOSE_UP_PX, grid.height), min(_CLOSE_UP_PX, grid.width)
        pixels = read_grid(source, grid, row, col, height, width)
    near = shapely.box(col, row, col + width, row + height)
    objects = [
        obj
        for obj in found.cell_objects()
        if near.intersects(shapely.Point(shapely.get_coordinates(obj.geometry.centroid)[0] / grid.downsample))
    ]
    moved = _moved(objects, col * grid.downsample, row * grid.downsample, grid.downsample)
    return render_overlay(pixels, moved, scale=2.0, pixel_size_um=image.pixel_size_um * grid.downsample)


def _densest(found: Analysis, height: int, width: int) -> tuple[int, int]:
    """Top left corner of the square with most nuclei, among squares on a lattice."""
    if not len(found.cells):
        return 0, 0
    places, counts = np.unique(found.cells.pixels // _CLOSE_UP_PX, axis=0, return_counts=True)
    row, col = (places[np.argmax(counts)] * _CLOSE_UP_PX).tolist()
    return max(0, min(row, height - _CLOSE_UP_PX)), max(0, min(col, width - _CLOSE_UP_PX))


def _moved(objects: list[PathObject], left: float, top: float, downsample: float) -> list[PathObject]:
    """Objects in the px of a piece of the image that begins at (left, top)."""
    geometries = shapely.transform(
        np.array([obj.geometry for obj in objects], object), lambda xy: (xy - (left, top)) / downsample
    )
    return [replace(obj, geometry=geometry) for obj, geometry in zip(objects, geometries, strict=True)]


def _swatches(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fields of the palette's colours side by side."""
    return np.repeat(np.repeat(colors[None], _SWATCH_PX[0], axis=0), _SWATCH_PX[1], axis=1)
