"""Numbers back on QuPath's objects: what `cell_table` and `measure` found, as measurements under clear names.

Comes in from `measure`, goes out to whoever writes objects (`geojson_write`, later write-back). Measurements are no
part of an object's digest: an object of ours does not look edited for them, and nothing else of an object changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tissuebridge.objects import ObjectType, PathObject
from tissuebridge.spatial.measure import Statistics

_NOT_MEASURED = ("Class", "x µm", "y µm", "Region", "Object")


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
