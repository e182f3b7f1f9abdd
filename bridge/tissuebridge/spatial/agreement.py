"""How far an analysis counts as a person does: Bland & Altman's limits of agreement.

The only place where a person's cells and the analysis's of the same tissue are looked at together: everywhere else one
of them counts. A pair is an area where every cell of a class is marked (`Cells marked*`), without `Ignore*`.

Of the differences d = automatic - manual of n pairs: mean and standard deviation s, limits mean -+ 1.96 s (Bland &
Altman 1986, Lancet 327, 307, https://doi.org/10.1016/S0140-6736(86)90837-8). Intervals by Bland & Altman 1999 (Stat
Methods Med Res 8, 135, https://doi.org/10.1177/096228029900800204), with t of n - 1 degrees of freedom: t s sqrt(1 / n)
round the mean, t s sqrt(1 / n + 1.96^2 / 2(n - 1)) round each limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import stats
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import AnnotationError
from tissuebridge.objects import (
    CELLS_MARKED,
    REGION_OF_INTEREST,
    PathObject,
    are_persons,
    cell_marks,
    is_area,
    provenance,
)
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.settings import Whose
from tissuebridge.spatial.tissue import source_of
from tissuebridge.spatial.window import UM2_PER_MM2, polygons_of
from tissuebridge.targets import annotations_of
from tissuemodel.labels import LabelSet

MIN_PAIRS: Final = 3
LEVEL: Final = 0.95
_Z: Final = float(stats.norm.ppf((1 + LEVEL) / 2))

_NUMBERS: Final = (
    "mean_difference", "mean_low", "mean_high", "sd", "lower_limit", "lower_limit_low", "lower_limit_high",
    "upper_limit", "upper_limit_low", "upper_limit_high",
)  # fmt: skip


def bland_altman(differences: NDArray[np.float64]) -> Row:
    """Mean difference and limits of agreement, with 95 % intervals.

    Args:
        differences: float64 (n,), one a pair.

    Returns:
        "mean_difference", "sd", "lower_limit", "upper_limit", ends of the intervals as "..._low" and "..._high", and
        "reason", which says why there are no numbers where there are none.

    >>> found = bland_altman(np.array([-1.0, 0.0, 1.0]))
    >>> [round(found[name], 2) for name in ("mean_difference", "sd", "lower_limit", "upper_limit")]
    [0.0, 1.0, -1.96, 1.96]
    """
    n = len(differences)
    if n < MIN_PAIRS:
        return {**dict.fromkeys(_NUMBERS), "reason": f"fewer than {MIN_PAIRS} areas"}
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    t = float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    of_mean = t * sd / np.sqrt(n)
    of_limit = t * sd * np.sqrt(1 / n + _Z**2 / (2 * (n - 1)))
    lower, upper = mean - _Z * sd, mean + _Z * sd
    ends = [(mean, of_mean), (lower, of_limit), (upper, of_limit)]
    (m, m_low, m_high), (lo, lo_low, lo_high), (up, up_low, up_high) = (
        (middle, float(middle - half), float(middle + half)) for middle, half in ends
    )
    values = (m, m_low, m_high, sd, lo, lo_low, lo_high, up, up_low, up_high)
    return {**dict(zip(_NUMBERS, values, strict=True)), "reason": None}


@dataclass(frozen=True, slots=True)
class _Counted:
    """What is kept of an image with complete areas: a person's objects, the analysis's cells, px."""

    image: str
    pixel_size_um: float
    persons: Sequence[PathObject]
    analysed: Sequence[PathObject]


class Agreement:
    """Gathers the images with complete areas, then compares the counts of classes that both sources know.

    Attributes:
        left_out: Images whose annotations cannot be understood, and why; known after `rows`.
    """

    def __init__(self) -> None:
        self._images: list[_Counted] = []
        self.left_out: list[str] = []

    def add(self, image: str, objects: Sequence[PathObject], pixel_size_um: float) -> None:
        """Takes an image if a person marked all cells of an area in it and an analysis looked at it.

        Args:
            image: Its name.
            objects: All of it, in full-resolution px.
            pixel_size_um: Of a full-resolution pixel.
        """
        if not any(obj.class_name == CELLS_MARKED and is_area(obj.geometry) for obj in objects):
            return
        places, _ = source_of(objects, Whose.ANALYSIS, lambda k: bool(cell_marks(objects[k])))
        if places:
            # A prediction that a person accepted is no count of a person's own.
            persons = [
                obj for obj in objects if (origin := provenance(obj)) is None or origin.method != "analyse"
            ]
            self._images.append(_Counted(image, pixel_size_um, persons, [objects[k] for k in places]))

    def areas(self) -> list[Row]:
        """The counts of each class in each area.

        Returns:
            Rows with "image", "class", "area" (its number in the image), "area_mm2", "manual", "automatic",
            "difference" (automatic less manual), "edited" (of the automatic ones, accepted or edited by a person).
        """
        self.left_out = []
        classes = self._classes()
        rows: list[Row] = []
        for counted in self._images if classes else ():
            try:
                rows += _area_rows(counted, classes)
            except AnnotationError as error:
                self.left_out.append(str(error))
        return rows

    def _classes(self) -> tuple[str, ...]:
        """Those that a person marks and an analysis finds, wherever."""
        marked = [obj for one in self._images for obj in one.persons if cell_marks(obj)]
        drawn = zip(marked, are_persons(marked), strict=True)
        manual = {obj.class_name for obj, is_one in drawn if is_one}
        automatic = {obj.class_name or "" for one in self._images for obj in one.analysed}
        return tuple(sorted(automatic & manual))


def agreement_rows(areas: Sequence[Row]) -> list[Row]:
    """Bland & Altman's numbers of each class, from the rows of `Agreement.areas`.

    Returns:
        Rows with "class", "areas", "images", "manual" and "automatic" (sums), those of `bland_altman`, and "note".
    """
    rows: list[Row] = []
    for name in dict.fromkeys(str(row["class"]) for row in areas):
        own = [row for row in areas if row["class"] == name]
        images = len({row["image"] for row in own})
        numbers = bland_altman(np.array([float(row["difference"] or 0) for row in own], np.float64))
        sums = {key: sum(int(row[key] or 0) for row in own) for key in ("manual", "automatic", "edited")}
        notes = [
            "areas of one image are alike: the limits are too narrow" if images < len(own) else "",
            "a person corrected some of the automatic cells: the limits are too narrow"
            if sums["edited"]
            else "",
        ]
        note = "; ".join(filter(None, notes)) or None
        rows.append({"class": name, "areas": len(own), "images": images, **sums, **numbers, "note": note})
    return rows


def _area_rows(counted: _Counted, classes: tuple[str, ...]) -> list[Row]:
    drawn = annotations_of(counted.persons, LabelSet((), classes, {}), counted.image)
    limits = [obj.geometry for obj in counted.persons if obj.class_name == REGION_OF_INTEREST]
    rows: list[Row] = []
    for index, name in enumerate(classes):
        complete = drawn.complete[(drawn.complete_bits >> index) & 1 == 1]
        manual = drawn.points[drawn.point_classes == index]
        own = [obj for obj in counted.analysed if obj.class_name == name]
        automatic = _centres(own)
        edited = automatic[np.array(are_persons(own), bool)]
        for number, piece in enumerate(_apart(list(complete), limits, list(drawn.ignored)), 1):
            n, m, k = (
                int(shapely.intersects_xy(piece, points).sum()) for points in (manual, automatic, edited)
            )
            rows.append(
                {
                    "image": counted.image, "class": name, "area": number,
                    "area_mm2": piece.area * counted.pixel_size_um**2 / UM2_PER_MM2,
                    "manual": n, "automatic": m, "difference": m - n, "edited": k,
                }
            )  # fmt: skip
    return rows


def _apart(
    areas: Sequence[BaseGeometry], limits: Sequence[BaseGeometry], ignored: Sequence[BaseGeometry]
) -> Iterator[BaseGeometry]:
    """The areas without what they share with those before, so that no cell counts twice."""
    frame, taken = _union(limits), _union(ignored)
    for area in map(polygons_of, areas):
        piece = polygons_of(shapely.difference(area, taken))
        if not frame.is_empty:
            piece = polygons_of(shapely.intersection(piece, frame))
        taken = shapely.union(taken, area)
        if piece.area > 0:
            yield piece


def _union(areas: Sequence[BaseGeometry]) -> BaseGeometry:
    return shapely.union_all([polygons_of(area) for area in areas])


def _centres(objects: Sequence[PathObject]) -> NDArray[np.float64]:
    """One a cell; an analysis writes one mark an object."""
    marks = np.empty(len(objects), object)
    marks[:] = [cell_marks(obj)[0] for obj in objects]
    return shapely.get_coordinates(shapely.centroid(marks))
