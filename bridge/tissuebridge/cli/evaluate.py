"""`tissuebridge evaluate`: a model against annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tissuebridge import evaluation
from tissuebridge.cli.console import (
    Classes,
    Json,
    PixelSize,
    Source,
    bar,
    class_map,
    open_source,
    print_json,
    score_table,
)
from tissuebridge.errors import UsageError


def evaluate(
    source: Source,
    model: Annotated[Path, typer.Option("--model", metavar="DIR", help="A folder that `train` wrote.")],
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Part of splits.json; without: test, or all images where there are no splits."
        ),
    ] = None,
    tolerance_px: Annotated[
        float,
        typer.Option(
            "--tolerance-px", metavar="PX", help="A cell this near, in full-resolution px, is found."
        ),
    ] = evaluation.TOLERANCE_PX,
    pixel_size: PixelSize = None,
    classes: Classes = None,
    json: Json = False,
) -> None:
    """Score a model on the annotations of SOURCE."""
    from tissuebridge.predictor.local import LocalPredictor

    if not 0 < tolerance_px < 1e4:
        raise UsageError(f"--tolerance-px {tolerance_px:g}: must be more than 0")
    project = open_source(source, pixel_size)
    options = evaluation.EvaluationOptions(split, tolerance_px, class_map(classes))
    with bar("evaluating", "image") as step:
        result = evaluation.evaluate(project, LocalPredictor.load(model), options, step)
    if json:
        print_json(result)
    else:
        typer.echo(score_table(result))
