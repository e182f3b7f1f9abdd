"""`tissuebridge train`: annotated images in, a model out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tissuebridge import training
from tissuebridge.cli.console import (
    Classes,
    Json,
    PixelSize,
    Seed,
    Source,
    bar,
    class_map,
    open_source,
    print_json,
    say,
)
from tissuebridge.errors import UsageError


class Preset(StrEnum):
    """The networks on offer."""

    PAPER = "paper"
    COMPACT = "compact"


def train(
    source: Source,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Folder for the model.")],
    preset: Annotated[
        Preset,
        typer.Option("--preset", help="paper: as published, for a GPU; compact: for a CPU, in minutes."),
    ] = Preset.COMPACT,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="Train about this long.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", min=1, help="Train this many passes: exactly repeatable."),
    ] = None,
    pixel_size: PixelSize = None,
    seed: Seed = 0,
    classes: Classes = None,
    json: Json = False,
) -> None:
    """Train a network on the annotations of SOURCE."""
    if minutes is not None and epochs is not None:
        raise UsageError("--minutes and --epochs exclude each other; give one")
    if minutes is not None and not 0 < minutes < 1e5:
        raise UsageError(f"--minutes {minutes:g}: must be more than 0")
    options = training.TrainingOptions(preset.value, minutes, epochs, seed, class_map(classes))
    project = open_source(source, pixel_size)
    with bar("training", "step") as step:
        done = training.train(project, output, options, training.Progress(found=say, step=step))
    if json:
        print_json(done)
    else:
        say(_told(done))


def _told(done: dict[str, Any]) -> str:
    thresholds = done["thresholds"]
    chosen = (
        ", ".join(f"{name} {value:.2f}" for name, value in thresholds.items())
        if isinstance(thresholds, dict)
        else ""
    )
    lines = [f"model      {done['model']}", f"steps      {done['steps']}"]
    if chosen:
        lines.append(f"thresholds {chosen} (chosen on {done['thresholds_from']})")
    return "\n".join(lines)
