"""Numbers back on QuPath's objects: what `cell_table` and `measure` found, as measurements under clear names.

Comes in from `measure`, goes out to whoever writes objects (`geojson_write`, later write-back). Measurements are no
part of an object's digest: an object of ours does not look edited for them, and nothing else of an object changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import ObjectType, PathObject, measurement_table
from tissuebridge.spatial.measure import Statistics, Watch, cell_table, measure
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import Tissue, tissue_of

_NOT_MEASURED = ("Class", "x µm", "y µm", "Region", "Object")


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredImage:
    """All that is measured of an image.

    Attributes:
        tissue: What was measured.
        tables: From `measure`.
        columns: From `cell_table`.
        objects: The image's objects with their numbers, in the order they came in.
    """

    tissue: Tissue
    tables: Mapping[str, Sequence[Row]]
    columns: Mapping[str, NDArray[np.generic]]
    objects: Sequence[PathObject]


def measured_image(
    objects: Sequence[PathObject],
    pixel_size_um: float,
    width_px: int,
    height_px: int,
    settings: SpatialSettings,
    watch: Watch | None = None,
) -> MeasuredImage:
    """Measures an image and puts the numbers on its objects.

    Args:
        objects: All of the image.
        pixel_size_um: Of a full-resolution pixel.
        width_px: Of the image.
        height_px: Of the image.
        settings: How.
        watch: Told how many steps are done, of how many; may raise to stop.

    Raises:
        InputRefused: No area is left in the window.
    """
    tissue = tissue_of(objects, pixel_size_um, width_px, height_px, settings)
    found = measure(tissue, settings, watch)
    columns = cell_table(tissue, settings)
    measured = with_region_measurements(with_cell_measurements(objects, columns), found)
    return MeasuredImage(tissue, found.tables, columns, measured)


def changed_measurements(
    before: Sequence[PathObject], after: Sequence[PathObject]
) -> tuple[list[UUID], list[str], NDArray[np.float64]]:
    """What measuring has added: ids, names of measurements, and float64 (id, name), NaN for none.

    Args:
        before: The objects.
        after: The same in the same order, with more measurements; those without an id are left out.
    """
    pairs = zip(before, after, strict=True)
    return measurement_table(
        {new.id: new.measurements for old, new in pairs if new is not old and new.id is not None}
    )


def with_cell_measurements(
    objects: Sequence[PathObject], columns: Mapping[str, NDArray[np.generic]]
) -> list[PathObject]:
    """The objects with the numbers of their cells.

    An object of several points (a point annotation of many cells) has no place for a number each and stays as it is.

    Args:
        objects: The image's, as `tissue_of` got them.
        columns: From `cell_table`.

    Returns:
        As many objects, in the same order.
    """
    owners = np.asarray(columns["Object"], np.intp)
    times = np.bincount(owners, minlength=len(objects))
    numbers = {name: column.tolist() for name, column in columns.items() if name not in _NOT_MEASURED}
    found = list(objects)
    for row, owner in enumerate(owners.tolist()):
        if times[owner] == 1 and objects[owner].geometry.geom_type != "MultiPoint":
            own = {name: float(values[row]) for name, values in numbers.items()}
            found[owner] = replace(found[owner], measurements={**found[owner].measurements, **own})
    return found


def with_region_measurements(objects: Sequence[PathObject], statistics: Statistics) -> list[PathObject]:
    """The objects with each region class's densities and coupling on its annotations.

    Names are `Spatial: CLASS per mm^2`, and for the border `Spatial: CLASS at border: z`, `... p` and `... coupled
    fraction`; z is the largest of the bands. All annotations of a class carry the class's numbers.

    Args:
        objects: The image's.
        statistics: From `measure`.

    Returns:
        As many objects, in the same order.
    """
    by_region: dict[str, dict[str, float]] = {}
    for row in statistics.tables["densities"]:
        if isinstance(row["cells_per_mm2"], float):
            by_region.setdefault(str(row["region"]), {})[f"Spatial: {row['class']} per mm^2"] = row[
                "cells_per_mm2"
            ]
    for row in statistics.tables["coupling"]:
        region = str(row["structure"]).removeprefix("border of ")
        name = f"Spatial: {row['class']} at border"
        own = by_region.setdefault(region, {})
        if row["moved_um"] != 0.0:
            continue
        if isinstance(row["z"], float):
            own[f"{name}: z"] = max(row["z"], own.get(f"{name}: z", -np.inf))
        for key, column in (("p", "p_maximum"), ("coupled fraction", "coupled_fraction")):
            if isinstance(value := row[column], float):
                own[f"{name}: {key}"] = value
    return [
        replace(obj, measurements={**obj.measurements, **by_region[obj.class_name or ""]})
        if obj.object_type is ObjectType.ANNOTATION and obj.class_name in by_region
        else obj
        for obj in objects
    ]
