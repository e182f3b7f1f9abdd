"""What an evaluation tells a person: one page, and the same scores as JSON beside it.

Comes in from `tissuebridge.evaluation` (scores, curves) and `worst` (pictures); two files go out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tissuebridge.evaluation import Evaluated
from tissuebridge.files import atomic_write
from tissuebridge.report.curves import SHOWN_PX, precision_recall_picture
from tissuebridge.report.page import (
    Content,
    Estimate,
    Matrix,
    Notice,
    Picture,
    Section,
    Table,
    Text,
    Value,
    write_page,
)
from tissuebridge.report.worst import Drawn, WorstImages

PAGE: Final = "evaluation.html"
SCORES: Final = "evaluation.json"

MOST_ROWS: Final = 200
"""Of more images only the first stand in the page's table; all are in the JSON."""

_PICTURE_PX: Final = 525
_BORDERS: Final = (
    "People outline the inside of things and leave the borders out, where a model errs most: a score over all labelled "
    "pixels flatters it. The F1 at borders counts only labelled pixels within {border:g} µm of the edge of what was "
    "drawn, the F1 at interfaces only those within {border:g} µm of a pixel labelled with another class."
)
_CELLS: Final = (
    "A cell is found if the model puts one of its class within {tolerance} of where a person marked it, one to one. "
    "A cell of the model is false only where all cells of its class are marked (“Cells marked*”); elsewhere nobody "
    "knows, and it is left out. Precision is the share of the model's cells that are right, recall the share of the "
    "marked ones that it found; F1 is between them. AP (average precision) goes over all thresholds."
)
_CURVES: Final = (
    "Each curve: what other thresholds would give, over all candidates. The disc is what the model gives with its own "
    "threshold. Dashed lines: equal F1."
)
_SHOWN_CELLS: Final = (
    "Rings are the model's cells: green found a marked one, orange is false, purple stands on a cell that is marked as "
    "another class, grey lies where not all cells are marked. A blue dot is a marked cell that was missed. Of a large "
    "image the part with most mistakes is shown."
)
_SHOWN_REGIONS: Final = (
    "Lines are what a person drew, in the colour of its class. Filled is where the model called such a pixel another "
    "class, in the colour of that class. What is not filled is right, or was not drawn. Of a large image the part with "
    "most mistakes is shown."
)


@dataclass(frozen=True, slots=True)
class Written:
    """Where the results of an evaluation lie."""

    page: Path
    scores: Path


def write_evaluation(folder: Path, evaluated: Evaluated, worst: WorstImages) -> Written:
    """Writes the scores and the page into a folder; those of an earlier evaluation there are replaced.

    Raises:
        StorageError: A file could not be written.
    """
    written = Written(folder / PAGE, folder / SCORES)
    with atomic_write(written.scores) as file:
        file.write(orjson.dumps(evaluated.scores, option=orjson.OPT_INDENT_2))
    write_page(written.page, f"How well does {evaluated.model.name} do?", sections(evaluated, worst))
    return written


def sections(evaluated: Evaluated, worst: WorstImages) -> list[Section]:
    """The page's sections; a kind of which nothing was marked has none.

    Args:
        evaluated: What was measured.
        worst: The pictures of mistakes.
    """
    scores = evaluated.scores
    parts = [
        Section("What was measured", [*map(Notice, scores["warnings"]), _about(scores), _intervals(scores)])
    ]
    if any(entry["pixels"] for entry in scores["regions"].values()):
        parts.append(_regions(scores))
    if any(entry["marked"] for entry in scores["cells"].values()):
        parts.append(_cells(evaluated))
    if worst.cells:
        shown = [_worst(drawn, "cells") for drawn in worst.cells]
        parts.append(Section("Cells: the images that did worst", [Text(_SHOWN_CELLS), *shown]))
    if worst.regions:
        shown = [_worst(drawn, "regions") for drawn in worst.regions]
        parts.append(Section("Regions: the images that did worst", [Text(_SHOWN_REGIONS), *shown]))
    return [*parts, Section("Every image", _every_image(scores))]


# ---- What was measured ------------------------------------------------------------------------------------


def _about(scores: Mapping[str, Any]) -> Table:
    model, chosen, intervals = scores["model"], scores["settings"], scores["intervals"]
    images = f"{len(scores['images'])}"
    if intervals["unit"] == "case":
        images += f", of {intervals['units']} cases"
    rows: list[list[Value]] = [
        ["Model", f"{model['name']} ({model['digest'][:12]}), {model['pixel_size_um']:g} µm per pixel"],
        ["Project", chosen["project"]],
        ["Part", "all images" if chosen["split"] == "all" else f"split “{chosen['split']}”"],
        ["Images", images],
        ["A cell is found within", _tolerance(chosen)],
        ["tissuebridge", chosen["version"]],
    ]
    return Table("The measurement", ["Setting", "Value"], rows)


def _tolerance(settings: Mapping[str, Any]) -> str:
    if "tolerance_um" in settings:
        return f"{settings['tolerance_um']:g} µm"
    return f"{settings['tolerance_px']:g} px of the full resolution"


def _intervals(scores: Mapping[str, Any]) -> Text:
    made = scores["intervals"]
    unit, drawn, times, level = made["unit"], made["units"], made["resamples"], f"{made['level']:.0%}"
    return Text(
        f"Below each score: its {level} interval, from drawing the {drawn} {unit}s anew {times:,} times. "
        f"It says how far the score would move with other {unit}s of the same kind; with fewer than about 20 {unit}s "
        f"it is too narrow, and where fewer than three {unit}s have a class there is none."
    )


# ---- Scores -----------------------------------------------------------------------------------------------


def scored(entry: Mapping[str, Any], key: str) -> Estimate | None:
    """A score with its interval; None where there is no score.

    >>> scored({"f1": 0.5, "f1_interval": (0.25, 0.75)}, "f1")
    Estimate(value=0.5, interval=(0.25, 0.75))
    """
    value = entry.get(key)
    return None if value is None else Estimate(value, entry.get(f"{key}_interval"))


def _rows(scores: Mapping[str, Any], kind: str, keys: Sequence[str], count: str) -> list[list[Value]]:
    """A row for each class, and for more than one class their averages."""
    rows = [
        [name, entry[count], *(scored(entry, key) for key in keys)] for name, entry in scores[kind].items()
    ]
    if len(rows) > 1:
        total = sum(entry[count] for entry in scores[kind].values())
        rows.append(
            ["Mean of the classes (macro)", None, *(scored(scores["macro"][kind], key) for key in keys)]
        )
        rows.append(
            ["All counted together (micro)", total, *(scored(scores["micro"][kind], key) for key in keys)]
        )
    return rows


def _regions(scores: Mapping[str, Any]) -> Section:
    keys = ("f1", "precision", "recall", "border_f1", "interface_f1")
    header = ["Class", "Labelled px", "F1", "Precision", "Recall", "F1 at borders", "F1 at interfaces"]
    rows = _rows(scores, "regions", keys, "pixels")
    return Section(
        "Regions",
        [
            Table("Regions, by labelled pixels", header, rows),
            Text(_BORDERS.format(border=scores["settings"]["border_um"])),
            _matrix(
                scores,
                "regions",
                "Labelled pixels: how a person drew them (rows), what the model called them",
            ),
        ],
    )


def _cells(evaluated: Evaluated) -> Section:
    scores = evaluated.scores
    keys = ("f1", "precision", "recall", "ap")
    rows = _rows(scores, "cells", keys, "marked")
    if len(rows) > 1:
        any_class = (scored(scores["detection"], key) for key in keys)
        rows.append(["Found, whatever the class", rows[-1][1], *any_class])
    header = ["Class", "Marked", "F1", "Precision", "Recall", "AP"]
    caption = "Cells: how a person marked them (rows), what the model called them"
    return Section(
        "Cells",
        [
            Table("Cells, by one-to-one matches", header, rows),
            Text(_CELLS.format(tolerance=_tolerance(scores["settings"]))),
            *_curves(evaluated),
            Text(_CURVES),
            _matrix(scores, "cells", caption),
        ],
    )


def _matrix(scores: Mapping[str, Any], kind: str, caption: str) -> Matrix:
    confusion = scores["confusion"][kind]
    return Matrix(caption, "Person \\ model", confusion["true"], confusion["predicted"], confusion["counts"])


def _curves(evaluated: Evaluated) -> list[Content]:
    shown: list[Content] = []
    thresholds = dict(zip(evaluated.model.cell_classes, evaluated.model.thresholds, strict=True))
    for name, curve in evaluated.curves.items():
        entry = evaluated.scores["cells"][name]
        if entry["ap"] is None:
            continue
        precision, recall = entry["precision"], entry["recall"]
        point = None if precision is None else (recall, precision)
        light, dark = (precision_recall_picture(curve, point, dark=is_dark) for is_dark in (False, True))
        at = f"threshold {thresholds[name]:.2f}, F1 {entry['f1']:.3f}"
        alt = f"Precision over recall of {name}: average precision {entry['ap']:.3f}; {at}."
        shown.append(Picture(light, alt, f"{name}: AP {entry['ap']:.3f}; disc: {at}", SHOWN_PX, dark))
    return shown


# ---- Images -----------------------------------------------------------------------------------------------


def _worst(drawn: Drawn, kind: str) -> Picture:
    alt = f"{drawn.name} with the mistakes of the model's {kind} drawn over it."
    return Picture(drawn.picture, alt, f"{drawn.name}: F1 {drawn.f1:.3f}", _PICTURE_PX, is_photograph=True)


def _every_image(scores: Mapping[str, Any]) -> list[Content]:
    """A row for each image; a column only where some image has something to say in it."""
    shown = list(scores["images"].items())[:MOST_ROWS]
    seen = scores["seen_in_training"]
    columns: dict[str, list[Value]] = {
        "Image": [name for name, _ in shown],
        "Case": [entry.get("case") for _, entry in shown],
        "F1 of regions": [entry["micro"]["regions"] for _, entry in shown],
        "F1 of cells": [entry["micro"]["cells"] for _, entry in shown],
        "Remarks": [_remarks(name, entry, seen) for name, entry in shown],
    }
    told = {
        heading: values for heading, values in columns.items() if any(v not in (None, "") for v in values)
    }
    rows = list(zip(*told.values(), strict=True))
    content: list[Content] = [Table("F1 of all classes' counts together", list(told), rows)]
    if len(scores["images"]) > len(shown):
        content.append(Text(f"{len(scores['images']) - len(shown):,} more images stand in {SCORES}."))
    return content


def _remarks(name: str, entry: Mapping[str, Any], seen: Mapping[str, Sequence[str]]) -> str:
    remarks = ["learnt from"] if name in seen["train"] else []
    if name in seen["validation"]:
        remarks.append("thresholds chosen on it")
    return "; ".join([*remarks, *entry["warnings"]])
