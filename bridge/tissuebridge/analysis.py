"""What an analysis found, and how it becomes QuPath's objects.

`pipeline.analyse` makes an `Analysis`; `geojson`, `writeback` and the server take its objects. Nothing in it
is random but the run's id: the same image, model and parameters give the same objects with the same ids,
whatever tile size, batch size, number of threads or transport.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

import numpy as np
import tifffile
from numpy.typing import NDArray
from shapely import points as shapely_points
from shapely.geometry.base import BaseGeometry

from tissuebridge import __version__
from tissuebridge.files import atomic_write, not_ours
from tissuebridge.objects import (
    PARAMETERS,
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    all_with_provenance,
)
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.project.base import ImageIdentity
from tissuebridge.project.resample import to_full_resolution
from tissuebridge.vectorize import RegionPolygon, discs
from tissuemodel.detection import Candidates
from tissuemodel.labels import IGNORE_LABEL

OBJECT_NAMESPACE: Final = UUID("6f1d3a52-0c3e-5b8e-9a57-2d9b1c64e7a0")
"""The namespace of the ids (UUIDv5) of all objects that an analysis writes. Never change it."""
_REGION: Final = "tissuebridge:region"
"""Metadata of a cell: the class of the region that it lies in."""
_CHUNK: Final = 8192
"""Objects that are marked at once: quick in bulk, and never all of a slide's in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The cells of an image, as a struct of n-long arrays, sorted by (row, col, class) of the peak.

    Attributes:
        xy: float64 (n, 2), centres (x, y) in full-resolution px.
        class_index: uint8 (n,), index into the model's cell classes.
        score: float32 (n,), unclamped heat of the own class at the peak.
        scores: float32 (n, number), unclamped heat of every class at the peak; of a proposal, the model's `numbers`.
        region_index: uint8 (n,), region class at the peak's pixel; `IGNORE_LABEL` for none.
        pixels: int32 (n, 2), the peak's (row, col) on the model's grid: the cell's key, with its class.
    """

    xy: NDArray[np.float64]
    class_index: NDArray[np.uint8]
    score: NDArray[np.float32]
    scores: NDArray[np.float32]
    region_index: NDArray[np.uint8]
    pixels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.class_index)

    def in_chunks(self, size: int) -> Iterator[Cells]:
        """The same, so many at a time."""
        arrays = [getattr(self, name) for name in self.__dataclass_fields__]
        for first in range(0, len(self), size):
            yield Cells(*(array[first : first + size] for array in arrays))


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of an analysis.

    Attributes:
        cells: Number of cells of each cell class.
        regions: Number of region objects of each region class.
        area_um2: Area of each region class on the label map, small regions included.
        analysed_um2: Area that was analysed.
        suppressed_across_classes: Cells removed because one of another class nearby scored higher.
        tiles: Tiles of the plan.
        skipped_tiles: Tiles without an analysed pixel, which the network never saw.
        warnings: Why the result may be worse than the model's measures say: an image unlike those it learnt from.
        agreement: Of a network in reduced precision, how far it agreed with full precision on this image; "" else.
    """

    cells: Mapping[str, int]
    regions: Mapping[str, int]
    area_um2: Mapping[str, float]
    analysed_um2: float
    suppressed_across_classes: int
    tiles: int
    skipped_tiles: int
    warnings: tuple[str, ...] = ()
    agreement: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The result of one image.

    Attributes:
        image: Which image.
        model: The model that looked at it.
        run_id: Id of the run; only in the objects' metadata.
        downsample: Full-resolution px per px of the model's grid.
        labels: uint8 (row, col) on the model's grid: region class index, `IGNORE_LABEL` where not analysed
            (and everywhere for a model without regions).
        cells: At or above their thresholds, after suppression across classes.
        candidates: All peaks from the model's floor on, so that a threshold can be moved without the network.
        regions: One for each connected component above the minimum area, in row order of their first pixels.
        summary: Counts.
        min_region_area_um2: The smallest region that became an object.
        cells_as_points: Write cells as points instead of discs.
        parameters: Of a proposal, all that decided it as TOML; "" for a network's analysis.
        parameters_in_short: The same in one line, for the objects.
    """

    image: ImageIdentity
    model: ModelDescription
    run_id: str
    downsample: float
    labels: NDArray[np.uint8]
    cells: Cells
    candidates: Candidates
    regions: tuple[RegionPolygon, ...]
    summary: Summary
    min_region_area_um2: float
    cells_as_points: bool
    parameters: str = ""
    parameters_in_short: str = ""

    @property
    def method(self) -> str:
        """How it was found: "analyse", or "propose" where no network was asked."""
        return "propose" if self.parameters else "analyse"

    def about(self) -> dict[str, object]:
        """What a results file says of itself: which run wrote it, with which model."""
        about: dict[str, object] = {
            "run": self.run_id,
            "method": self.method,
            "model": self.model.name,
            "digest": self.model.digest,
            "version": __version__,
        }
        return about | ({"parameters": self.parameters} if self.parameters else {})

    def unfiltered(self) -> Analysis:
        """The same with every candidate as a cell, before thresholds and across classes; ids stay what they are.

        For whoever moves thresholds afterwards. A threshold so chosen is a filter, as a region of interest is: the ids
        are those of the model's own thresholds.
        """
        return replace(self, cells=cells_of(self.candidates, self.labels, self.downsample, self.model))

    def objects(self) -> Iterator[PathObject]:
        """QuPath's objects: regions as annotations, then cells as detections; each with id and provenance.

        Coordinates are full-resolution px (x, y), not yet rounded to `COORDINATE_STEP` (the writer does
        that).
        """
        yield from self.region_objects()
        yield from self.cell_objects()

    def region_objects(self) -> Iterator[PathObject]:
        """Regions as annotations, with their area in um²."""
        return self._marked(self._bare_regions())

    def cell_objects(self) -> Iterator[PathObject]:
        """Cells as detections: discs of the trained diameter (or points), score per class, region context."""
        return self._marked(self._bare_cells())

    def _bare_regions(self) -> Iterator[tuple[PathObject, str]]:
        """Regions without id and provenance, each with its key."""
        um2 = self.image.pixel_size_um**2
        for region in self.regions:
            name = self.model.region_classes[region.class_index]
            key = f"region|{name}|{region.row}|{region.col}" + (f"|{region.block}" if region.block else "")
            obj = PathObject(
                region.polygon,
                ObjectType.ANNOTATION,
                path_class=self._path_class(name),
                measurements={"Area µm^2": region.polygon.area * um2},
                metadata=self._told,
            )
            yield obj, key

    def _bare_cells(self) -> Iterator[tuple[PathObject, str]]:
        """Cells without id and provenance, each with its key."""
        measured, told = self.model.numbers, self._told
        classes = [self._path_class(name) for name in self.model.cell_classes]
        contexts = [{_REGION: name} | told for name in self.model.region_classes]
        for cells in self.cells.in_chunks(_CHUNK):
            numbers = (cells.class_index, cells.region_index, cells.scores, cells.pixels)
            each = zip(self._cell_geometries(cells), *(array.tolist() for array in numbers), strict=True)
            for geometry, kind, region, scores, (row, col) in each:
                obj = PathObject(
                    geometry,
                    ObjectType.DETECTION,
                    path_class=classes[kind],
                    measurements=dict(zip(measured, scores, strict=True)),
                    metadata=told if region == IGNORE_LABEL else contexts[region],
                )
                yield obj, f"cell|{classes[kind].name}|{row}|{col}"

    def _marked(self, objects: Iterator[tuple[PathObject, str]]) -> Iterator[PathObject]:
        """Gives objects their ids (UUIDv5 of image, model, parameters and the object's key) and their provenance."""
        prefix = f"{self.image.key()}|{self.model.digest}|{self.parameters_digest()}|"
        origin = Provenance(self.run_id, self.method, self.model.name, self.model.digest, __version__)
        while chunk := list(islice(objects, _CHUNK)):
            ids = [uuid5(OBJECT_NAMESPACE, prefix + key) for _, key in chunk]
            yield from all_with_provenance([obj for obj, _ in chunk], origin, ids)

    @property
    def _told(self) -> dict[str, str]:
        """What each object says of its parameters."""
        return {PARAMETERS: self.parameters_in_short} if self.parameters else {}

    def _cell_geometries(self, cells: Cells) -> NDArray[np.object_] | list[BaseGeometry]:
        if self.cells_as_points:
            return np.asarray(shapely_points(cells.xy), dtype=np.object_)
        diameters = np.asarray(self.model.cell_diameters_um, np.float64) / self.image.pixel_size_um
        return discs(cells.xy, diameters[cells.class_index])

    def _path_class(self, name: str) -> PathClass:
        return PathClass(name, self.model.colors.get(name))

    def parameters_digest(self) -> str:
        """A digest of what decides the result besides image and model weights; part of the objects' ids.

        Tile size, batch size, threads and transport do not decide it, nor does the area that is analysed: the
        same cell found again in another region of interest is the same cell.
        """
        model, radius = self.model, self.model.cross_class_radius_um
        # As floats: 100 and 100.0 are the same parameter, and messages know only the second.
        values: list[object] = [
            float(model.pixel_size_um),
            [float(distance) for distance in model.min_distance_um],
            [float(threshold) for threshold in model.thresholds],
            float(model.floor),
            None if radius is None else float(radius),
            bool(model.mode_filter),
            float(self.min_region_area_um2),
        ]
        if model.precision != "fp32":
            values.append(model.precision)
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def cells_of(
    found: Candidates, labels: NDArray[np.uint8], downsample: float, model: ModelDescription
) -> Cells:
    """Cells in full-resolution px, each with the region class at its peak.

    Args:
        found: Those candidates that are cells; places in px of the model's grid.
        labels: uint8 (row, col) on that grid.
        downsample: Full-resolution px per px of the grid.
        model: The model that found them.
    """
    return Cells(
        xy=to_full_resolution(found.xy, downsample),
        class_index=found.class_index,
        score=model.score_of(found.scores, found.class_index),
        scores=found.scores,
        region_index=labels[found.pixels[:, 0], found.pixels[:, 1]],
        pixels=found.pixels,
    )


def write_label_map(path: Path, analysis: Analysis) -> None:
    """Writes the label map as a compressed, tiled 8-bit TIFF with its pixel size; no timestamp inside.

    Raises:
        Conflict: There is a file of that name that we did not write.
        StorageError: The file could not be written.
    """
    refuse_a_persons_map(path)
    pixels_per_cm = 1e4 / (analysis.image.pixel_size_um * analysis.downsample)
    description = {"classes": list(analysis.model.region_classes), "not analysed": IGNORE_LABEL}
    with atomic_write(path) as file:
        tifffile.imwrite(
            file,
            analysis.labels,
            photometric="minisblack",
            tile=(256, 256),
            compression="zlib",
            resolution=(pixels_per_cm, pixels_per_cm),
            resolutionunit="CENTIMETER",
            description=json.dumps(description),
            metadata=None,
            software="tissuebridge",
        )


def label_map_path(geojson: Path) -> Path:
    """Where the label map lies that belongs to a result.

    >>> label_map_path(Path("results/a.b.geojson")).name
    'a.b.labels.tif'
    """
    return geojson.with_name(f"{geojson.name.removesuffix('.geojson')}.labels.tif")


def refuse_a_persons_map(path: Path) -> None:
    """Refuses a place where a label map would take that of something else.

    Raises:
        Conflict: There is a folder, or a file that we did not write.
    """
    if not path.exists():
        return
    try:
        with tifffile.TiffFile(path) as tif:
            is_ours = tif.pages.first.software == "tissuebridge"
    except (tifffile.TiffFileError, OSError, ValueError, struct.error):  # a TIFF that ends too early
        is_ours = False
    if not is_ours:
        raise not_ours(path)
