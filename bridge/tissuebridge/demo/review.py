"""The demo's review: what the sample's annotations, made by a person, say of each proposal.

Comes in from `proposals`: objects proposed for the part that is learnt from, and what was drawn and dotted there. Out
go the reviewed proposals and what had still to be drawn by hand. In QuPath a person does this with eyes and mouse.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from tissuebridge.classes import RESERVED
from tissuebridge.demo.sample import PIXEL_SIZE_UM
from tissuebridge.evaluation import TOLERANCE_PX
from tissuebridge.objects import CELLS_MARKED, ObjectType, PathClass, PathObject, is_area
from tissuebridge.project.base import Image
from tissuebridge.proposals.files import write_proposals
from tissuebridge.proposals.propose import propose_cells, propose_regions
from tissuebridge.proposals.review import Decision, decided, proposed_name, state_of
from tissuebridge.proposals.settings import CellSettings, RegionSettings
from tissuemodel.metrics import match

REVIEWER: Final = "the demo's annotations"
SAME_NUCLEUS_UM: Final = 2.5
"""A proposal farther from a dot is not well placed: the person dots that nucleus by hand."""
SAME_SHARE: Final = 0.95
"""So much of a proposed region must lie in drawn areas of one class."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What became of the proposals.

    Attributes:
        proposed: The proposals as they were made.
        objects: All of them, each with its state.
        by_hand: What was drawn and the proposals did not have: outlines, areas, and dots on nuclei that were missed.
        counts: "nuclei" and "regions", each with how many were proposed, accepted, rejected and left; of nuclei also
            how many were dotted by hand.
    """

    proposed: list[PathObject]
    objects: list[PathObject]
    by_hand: list[PathObject]
    counts: dict[str, dict[str, int]]


def propose_into(place: Path, image: Image) -> list[PathObject]:
    """Proposes regions and nuclei of an image, and writes them as `propose` does.

    DAB lies round the nuclei here, not in them: haematoxylin alone marks them, DAB tells the epithelium's.
    """
    with tempfile.TemporaryDirectory(prefix="tissuebridge-") as journal:
        regions = propose_regions(image, RegionSettings(), journal_dir=Path(journal, "regions"))
        nuclei = CellSettings(stains=("Hematoxylin", "DAB"), nuclear=("Hematoxylin",))
        cells = propose_cells(image, nuclei, journal_dir=Path(journal, "cells"))
    return write_proposals(place, image, [regions, cells])


def reviewed(proposals: Sequence[PathObject], drawn: Sequence[PathObject]) -> Reviewed:
    """Accepts what the annotations confirm, rejects nuclei that they do not have where they are complete.

    Args:
        proposals: Of the part that is learnt from.
        drawn: The person's annotations of it.
    """
    date = datetime.now(UTC).date().isoformat()
    nuclei = [obj for obj in proposals if obj.object_type is ObjectType.DETECTION]
    regions = [obj for obj in proposals if obj.object_type is not ObjectType.DETECTION]
    dots, classes = _dots(drawn)
    said, missed = _said_of_nuclei(nuclei, dots, classes, drawn)
    after_nuclei = [_with(obj, kind, date) for obj, kind in zip(nuclei, said, strict=True)]
    after_regions = [_with(obj, _class_of(obj, drawn), date) for obj in regions]
    by_hand = [_without_found(obj, dots[missed]) for obj in drawn]
    counts = {"nuclei": _counted(after_nuclei), "regions": _counted(after_regions)}
    counts["nuclei"]["dotted by hand"] = int(missed.sum())
    return Reviewed(
        list(proposals),
        [*after_regions, *after_nuclei],
        [obj for obj in by_hand if obj is not None],
        counts,
    )


_REJECTED: Final = PathClass("")


def _with(obj: PathObject, kind: PathClass | None, date: str) -> PathObject:
    """A proposal after a person's word on it alone; None says nothing."""
    name = proposed_name(obj)
    if kind is None or name is None:
        return obj
    if kind is _REJECTED:
        return decided(obj, Decision({}, frozenset((name,)), frozenset(), date, REVIEWER))
    return decided(obj, Decision({name: kind}, frozenset(), frozenset(), date, REVIEWER))


def _dots(drawn: Sequence[PathObject]) -> tuple[NDArray[np.float64], list[PathClass]]:
    """Dots on nuclei (n, 2), and the class of each."""
    marked = [obj for obj in drawn if _is_dots(obj)]
    classes = [
        obj.path_class
        for obj in marked
        for _ in range(shapely.get_num_geometries(obj.geometry))
        if obj.path_class
    ]
    return shapely.get_coordinates([obj.geometry for obj in marked]).reshape(-1, 2), classes


def _is_dots(obj: PathObject) -> bool:
    return obj.geometry.geom_type in ("Point", "MultiPoint") and obj.class_name not in (None, *RESERVED)


def _said_of_nuclei(
    nuclei: Sequence[PathObject],
    dots: NDArray[np.float64],
    classes: Sequence[PathClass],
    drawn: Sequence[PathObject],
) -> tuple[list[PathClass | None], NDArray[np.bool_]]:
    """The class of the dot that each proposed nucleus meets, one to one; and which dots none has met.

    What lies beside a nucleus, neither on it nor on nothing, is left as it is.
    """
    centres = shapely.get_coordinates(shapely.centroid([obj.geometry for obj in nuclei])).reshape(-1, 2)
    contrast = np.array([next(iter(obj.measurements.values()), 0.0) for obj in nuclei])
    found = match(centres, dots, contrast, SAME_NUCLEUS_UM / PIXEL_SIZE_UM)
    complete = shapely.union_all([obj.geometry for obj in drawn if obj.class_name == CELLS_MARKED])
    wrong = shapely.contains_xy(complete, centres)
    if len(dots) and len(centres):
        wrong &= KDTree(dots).query(centres)[0] > TOLERANCE_PX
    said: list[PathClass | None] = [_REJECTED if inside else None for inside in wrong.tolist()]
    missed = np.ones(len(dots), np.bool_)
    for place, dot in enumerate(found.truth.tolist()):
        if dot >= 0:
            said[place], missed[dot] = classes[dot], False
    return said, missed


def _class_of(region: PathObject, drawn: Sequence[PathObject]) -> PathClass | None:
    """The class whose drawn areas hold nearly all of a region; None for none."""
    held: dict[PathClass, float] = {}
    for obj in drawn:
        if obj.path_class and is_area(obj.geometry) and obj.class_name not in RESERVED:
            area = shapely.intersection(obj.geometry, region.geometry).area
            held[obj.path_class] = held.get(obj.path_class, 0.0) + area
    kind = max(held, key=lambda name: held[name], default=None)
    return kind if kind is not None and held[kind] >= SAME_SHARE * region.geometry.area else None


def _without_found(obj: PathObject, missed: NDArray[np.float64]) -> PathObject | None:
    """An annotation without the dots that a proposal replaces; None without any left."""
    if not _is_dots(obj):
        return obj
    own = shapely.get_coordinates(obj.geometry)
    left = own[(own[:, None] == missed[None]).all(axis=2).any(axis=1)]
    return replace(obj, geometry=shapely.MultiPoint(left)) if len(left) else None


def _counted(objects: Sequence[PathObject]) -> dict[str, int]:
    states = Counter(state_of(obj) for obj in objects)
    return {
        "proposed": len(objects),
        "accepted": states["accepted"],
        "rejected": states["rejected"],
        "left": states["proposed"],
    }
