"""L functions of images made into one a patient.

The images of a patient are pooled as K = sum of n_i K_i / sum of n_i, n_i being the cells of image i that K is of (of
both classes, between two): Diggle, Lange & Benes 1991, J. Am. Stat. Assoc. 86, 618-625. K comes from the tables, as
pi L^2. Radii are the same steps in all images; a small image has fewer of them, and its patient no more. Comes in from
`measure`, goes out to `group_functions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.tissue import TISSUE

What = tuple[str, str, str]
"""Name of the function and its two classes."""


def case_functions(
    functions: Sequence[Row], densities: Sequence[Row], case_of: Mapping[str, str]
) -> list[Row]:
    """The L function of each class and each pair of classes, per patient.

    Args:
        functions: Of the table "functions", each with its "image".
        densities: Of the table "densities", likewise: how many cells an image has.
        case_of: Image name to patient.

    Returns:
        Rows with "case", "images", "function", "class", "other", "cells", "r_um", "value_um".

    >>> about = {"function": "L", "class": "CD3", "other": "CD3", "r_um": 10.0}
    >>> curves = [{"image": "a", **about, "value_um": 10.0}, {"image": "b", **about, "value_um": 20.0}]
    >>> cells = [{"image": name, "class": "CD3", "region": "tissue", "cells": n} for name, n in (("a", 75), ("b", 25))]
    >>> case_functions(curves, cells, {"a": "P1", "b": "P1"})[0]["value_um"] ** 2
    175.0
    """
    cells = {
        (row["image"], row["class"]): int(row["cells"] or 0) for row in densities if row["region"] == TISSUE
    }
    found: list[Row] = []
    for (case, (function, first, second)), images in sorted(_curves(functions, case_of).items()):
        weights = np.array(
            [sum(cells[image, name] for name in {first, second}) for image in images], np.float64
        )
        about: Row = {
            "case": case, "images": len(images), "function": function, "class": first, "other": second,
            "cells": int(weights.sum()),
        }  # fmt: skip
        r, pooled = _pooled(list(images.values()), weights)
        found += [
            {**about, "r_um": float(at), "value_um": float(value)}
            for at, value in zip(r, pooled, strict=True)
        ]
    return found


def _curves(
    functions: Sequence[Row], case_of: Mapping[str, str]
) -> dict[tuple[str, What], dict[str, dict[float, float]]]:
    """Of each patient and function, each image's radius to L; radii without a value are left out."""
    found: dict[tuple[str, What], dict[str, dict[float, float]]] = {}
    for row in functions:
        image, what = str(row["image"]), (str(row["function"]), str(row["class"]), str(row["other"]))
        curve = found.setdefault((case_of[image], what), {}).setdefault(image, {})
        if row["value_um"] is not None:
            curve[float(row["r_um"] or 0)] = float(row["value_um"])
    return found


def _pooled(
    curves: Sequence[Mapping[float, float]], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The radii that all curves have, and L of the weighted mean of K there; both (k,), um."""
    r = sorted(set.intersection(*(set(curve) for curve in curves)))
    squares = np.array([[curve[at] ** 2 for at in r] for curve in curves])
    return np.array(r), np.sqrt(weights @ squares / weights.sum())
