"""`tissuebridge evaluate`: a model against annotated images; scores and a page out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tissuebridge import evaluation
from tissuebridge.cases import cases_of
from tissuebridge.cli.console import (
    CaseKey,
    CasePattern,
    CaseTable,
    Classes,
    Json,
    PixelSize,
    Source,
    bar,
    chosen_model,
    class_map,
    print_json,
    say,
)
from tissuebridge.errors import UsageError
from tissuebridge.project.source import open_source
from tissuebridge.training import check_writable

FOLDER: Final = "evaluation"
"""Beside the folder that `analyse` writes to, unless told otherwise."""


def evaluate(
    source: Source,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="DIR", help="A folder that `train` wrote. Without: the starter model."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Part of splits.json, or all; without: test, or all images where there are no splits.",
        ),
    ] = None,
    tolerance_px: Annotated[
        float | None,
        typer.Option(
            "--tolerance-px",
            metavar="PX",
            help=f"A cell this near, in full-resolution px, is found; without: {evaluation.TOLERANCE_PX:g}.",
        ),
    ] = None,
    tolerance_um: Annotated[
        float | None, typer.Option("--tolerance-um", metavar="UM", help="The same in um.")
    ] = None,
    case_pattern: CasePattern = None,
    case_key: CaseKey = None,
    cases: CaseTable = None,
    pixel_size: PixelSize = None,
    classes: Classes = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="DIR", help=f"Folder for scores and page; without: SOURCE/{FOLDER}."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score a model on the annotations of SOURCE; write the scores and a page that shows them."""
    from tissuebridge.predictor.local import LocalPredictor
    from tissuebridge.report.evaluation import write_evaluation
    from tissuebridge.report.worst import WorstImages

    _check_tolerance(tolerance_px, tolerance_um)
    project = open_source(source, pixel_size)
    folder = output or project.default_output.with_name(FOLDER)
    predictor = LocalPredictor.of(chosen_model(model))
    looked_at = evaluation.images_of_split(project, split)
    options = evaluation.EvaluationOptions(
        split=split,
        tolerance_px=evaluation.TOLERANCE_PX if tolerance_px is None else tolerance_px,
        tolerance_um=tolerance_um,
        class_map=class_map(classes),
        cases=cases_of(looked_at, case_pattern, case_key, cases, everything=project.images),
        learnt_from=predictor.checkpoint.record.get("images", {}),
    )
    check_writable(folder)
    worst = WorstImages()
    with bar("evaluating", "image") as step:
        evaluated = evaluation.measure(project, predictor, options, step, worst.add)
    written = write_evaluation(folder, evaluated, worst)
    for warning in evaluated.scores["warnings"]:
        say(f"warning: {warning}")
    if json:
        paths = {"page": str(written.page), "scores": str(written.scores)}
        print_json(evaluated.scores | {"paths": paths})
    else:
        typer.echo(f"{told(evaluated.scores)}\n\npage {written.page}")


def _check_tolerance(px: float | None, um: float | None) -> None:
    if px is not None and um is not None:
        raise UsageError("--tolerance-px and --tolerance-um exclude each other; give one")
    for option, value in (("--tolerance-px", px), ("--tolerance-um", um)):
        if value is not None and not 0 < value < 1e4:
            raise UsageError(f"{option} {value:g}: must be more than 0 and less than 10,000")


def told(scores: Mapping[str, Any]) -> str:
    """The scores as tables for people.

    >>> entry = {"f1": 0.5, "f1_interval": (0.25, 0.75), "precision": 0.5, "recall": None, "border_f1": 0.25}
    >>> print(told({"regions": {"Tumor": entry}, "cells": {}, "macro": {}, "detection": {}}))
    regions  F1                   precision  recall  F1 at borders
    Tumor    0.500 (0.250-0.750)      0.500       -          0.250
    """
    tables = []
    for kind, (key, heading) in {"regions": ("border_f1", "F1 at borders"), "cells": ("ap", "AP")}.items():
        rows = list(scores[kind].items())
        if len(rows) > 1:
            rows.append(("mean", scores["macro"][kind]))
            rows += [("any class", scores["detection"])] if kind == "cells" else []
        if rows:
            tables.append(_table(kind, rows, key, heading))
    return "\n\n".join(tables)


def _table(kind: str, rows: Sequence[tuple[str, Mapping[str, Any]]], key: str, heading: str) -> str:
    name_px = max(len(kind), *(len(name) for name, _ in rows))
    lines = [f"{kind:{name_px}}  {'F1':19}  precision  recall  {heading}"]
    for name, entry in rows:
        numbers = [_number(entry.get(which)) for which in ("precision", "recall", key)]
        interval = entry.get("f1_interval")
        f1 = _number(entry["f1"]) + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")
        lines.append(
            f"{name:{name_px}}  {f1:19}  {numbers[0]:>9}  {numbers[1]:>6}  {numbers[2]:>{len(heading)}}"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
