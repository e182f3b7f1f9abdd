"""What a training set can teach, said before training starts; what cannot be learnt is refused.

Stands between `targets` and training: examples come in, a table for the person and a refusal with the cure go
out. Rules: METHOD.md, "Annotations to targets".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import AnnotationError
from tissuebridge.objects import CELLS_MARKED, NOT_A_CELL
from tissuemodel.labels import Example, LabelSet


@dataclass(frozen=True, slots=True)
class RegionSummary:
    """How much of a region class is labelled.

    Attributes:
        area_um2: Labelled area.
        pieces: In how many examples.
    """

    area_um2: float
    pieces: int


@dataclass(frozen=True, slots=True)
class CellSummary:
    """How much of a cell class is marked.

    Attributes:
        marked: Number of cells.
        complete_um2: Area in which every cell of the class is marked.
        hard_negatives: Points of `Not a cell*`; they speak for all cell classes.
        pieces: In how many examples cells are marked.
    """

    marked: int
    complete_um2: float
    hard_negatives: int
    pieces: int


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a person annotated, inside the examples and outside `Ignore*`.

    Attributes:
        pieces: Number of examples; a small image is one, of a large one there are several.
        regions: Name of each region class to what there is of it.
        cells: Name of each cell class to what there is of it.
    """

    pieces: int
    regions: dict[str, RegionSummary]
    cells: dict[str, CellSummary]

    @staticmethod
    def of(examples: Iterable[Example], classes: LabelSet, pixel_size_um: float) -> TrainingSummary:
        """Counts what examples hold; where they overlap, it counts twice.

        Args:
            examples: Pieces of images; cells in their margins are not counted.
            classes: The classes that the examples' indices refer to.
            pixel_size_um: Size of the examples' pixels.
        """
        held = [_Held.in_(example, classes) for example in examples]
        area_um2 = pixel_size_um**2
        regions = {
            name: RegionSummary(
                area_um2=area_um2 * sum(one.labelled[index] for one in held),
                pieces=sum(one.labelled[index] > 0 for one in held),
            )
            for index, name in enumerate(classes.regions)
        }
        cells = {
            name: CellSummary(
                marked=sum(one.marked[index] for one in held),
                complete_um2=area_um2 * sum(one.complete[index] for one in held),
                hard_negatives=sum(one.negatives for one in held),
                pieces=sum(one.marked[index] > 0 for one in held),
            )
            for index, name in enumerate(classes.cells)
        }
        return TrainingSummary(len(held), regions, cells)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What can be trained but will disappoint."""
        if len(self.regions) != 1:
            return ()
        (only,) = self.regions
        return (
            f"{only!r} is the only region class, so the model will call every place {only!r}; outline a second "
            "class to tell it from (all other tissue, say).",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The summary as text, one line a class, and the warnings.

        >>> print(TrainingSummary(2, {}, {"Mast cell": CellSummary(40, 2.5e5, 3, 2)}).table())
        Cell class  marked  complete area  not a cell  pieces
        Mast cell       40       0.25 mm²           3       2
        """
        width = (
            max(12, *(len(name) for name in (*self.regions, *self.cells)))
            if self.regions or self.cells
            else 12
        )
        lines = [
            f"{name:<{width}}  {_area_text(region.area_um2):>13}  {region.pieces:>6}"
            for name, region in self.regions.items()
        ]
        if lines:
            lines.insert(0, f"{'Region class':<{width}}  labelled area  pieces")
        if self.cells:
            lines.append(f"{'Cell class':<{width}}  marked  complete area  not a cell  pieces")
        lines += [
            f"{name:<{width}}  {cell.marked:>6}  {_area_text(cell.complete_um2):>13}  {cell.hard_negatives:>10}  "
            f"{cell.pieces:>6}"
            for name, cell in self.cells.items()
        ]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


def check_learnable(summary: TrainingSummary) -> None:
    """Refuses annotations that cannot be learnt from, naming every problem and its cure.

    A network is told that a place is no cell only where cells are complete or at a hard negative; a marked cell's
    own disc shows little but its skirt. So a class that has neither, anywhere, would fire everywhere.

    Raises:
        AnnotationError: Nothing is annotated; or there is one region class and no cell class; or a region class
            has no pixel; or a cell class has no cell or no negatives.

    >>> check_learnable(TrainingSummary(1, {}, {"Mast cell": CellSummary(40, 0.0, 1, 1)}))
    """
    problems = _problems(summary)
    if problems:
        raise AnnotationError("The annotations cannot be learnt from. " + " ".join(problems))


def _problems(summary: TrainingSummary) -> list[str]:
    labelled = any(region.area_um2 for region in summary.regions.values())
    if not labelled and not any(cell.marked for cell in summary.cells.values()):
        return [
            "No pixel is labelled and no cell is marked by a person: outline regions or mark cells, give them a "
            "class and save (what a run wrote counts once it is accepted)."
        ]
    if len(summary.regions) == 1 and not summary.cells:
        (only,) = summary.regions
        return [f"{only!r} is the only class: outline a second one to tell it from, or mark cells."]
    problems = [
        f"Region class {name!r} has no labelled pixel: its outlines lie outside the images to learn from, under "
        "other annotations or Ignore*, or are smaller than a pixel of the model; draw larger ones or leave the "
        "class out (--classes)."
        for name, region in summary.regions.items()
        if not region.area_um2
    ]
    return problems + [
        _cell_problem(name, cell) for name, cell in summary.cells.items() if not _is_learnable(cell)
    ]


def _is_learnable(cell: CellSummary) -> bool:
    return cell.marked > 0 and (cell.complete_um2 > 0 or cell.hard_negatives > 0)


def _cell_problem(name: str, cell: CellSummary) -> str:
    if not cell.marked:
        return (
            f"Cell class {name!r} has no marked cell in the images to learn from (outside Ignore*): mark some or "
            "leave the class out (--classes)."
        )
    return (
        f"Cell class {name!r} has {cell.marked} marked cells, but nothing says where there is none, so the model "
        f"would see one everywhere: outline an area in which every {name!r} is marked and class it "
        f"'{CELLS_MARKED}', or put points of class '{NOT_A_CELL}' on what only looks like a cell."
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """What one example holds outside ignored areas: labelled pixels, cells and complete pixels of each class."""

    labelled: list[int]
    marked: list[int]
    complete: list[int]
    negatives: int

    @staticmethod
    def in_(example: Example, classes: LabelSet) -> _Held:
        complete = example.complete[~example.ignored]
        cells = example.point_classes[_count(example.points, example.ignored)]
        return _Held(
            labelled=np.bincount(example.regions.ravel(), minlength=256)[: len(classes.regions)].tolist(),
            marked=np.bincount(cells, minlength=len(classes.cells)).tolist(),
            complete=[int((complete >> index & 1).sum()) for index in range(len(classes.cells))],
            negatives=int(_count(example.negatives, example.ignored).sum()),
        )


def _count(points: NDArray[np.float32], ignored: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which points (x, y) lie inside the array and outside its ignored areas (row, col)."""
    height, width = ignored.shape
    col, row = np.floor(points).astype(np.int64).T
    inside: NDArray[np.bool_] = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    inside[inside] = ~ignored[row[inside], col[inside]]
    return inside


def _area_text(um2: float) -> str:
    return f"{um2 / 1e6:.3g} mm²" if um2 >= 1e5 else f"{um2:.0f} µm²"
