"""`tissuebridge train`: annotated images in, a model out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tissuebridge import training
from tissuebridge.cli.console import (
    CaseKey,
    CasePattern,
    CaseTable,
    Classes,
    Json,
    PixelSize,
    Seed,
    Source,
    bar,
    class_map,
    print_json,
    say,
)
from tissuebridge.errors import Cancelled, UsageError
from tissuebridge.project.source import open_source
from tissuebridge.settings import read_settings
from tissuebridge.splits import SplitOptions


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
    settings: Annotated[
        Path | None,
        typer.Option("--settings", metavar="FILE", help="TOML file with any option of the method."),
    ] = None,
    case_pattern: CasePattern = None,
    case_key: CaseKey = None,
    cases: CaseTable = None,
    validation_blocks: Annotated[
        bool,
        typer.Option("--validation-blocks", help="Validate on blocks inside slides, with a gap round them."),
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option("--devices", metavar="N", min=1, help="GPUs (or CPU processes) that train together."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the curves for TensorBoard too.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where an unfinished training lies in DIR.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to learn from, and stop.")
    ] = False,
    pixel_size: PixelSize = None,
    seed: Seed = None,
    classes: Classes = None,
    json: Json = False,
) -> None:
    """Train a network on the annotations of SOURCE; an interrupted training goes on when the command is given again."""
    if minutes is not None and epochs is not None:
        raise UsageError("--minutes and --epochs exclude each other; give one")
    if minutes is not None and not 0 < minutes < 1e5:
        raise UsageError(f"--minutes {minutes:g}: must be more than 0")
    options = training.TrainingOptions(
        preset=preset.value,
        minutes=minutes,
        epochs=epochs,
        seed=seed,
        class_map=class_map(classes),
        settings=read_settings(settings) if settings else {},
        splitting=SplitOptions(case_pattern, case_key, cases, validation_blocks),
        devices=devices,
        tensorboard=tensorboard,
        restart=restart,
    )
    project = open_source(source, pixel_size)
    if dry_run:
        _tell_only(project, options, json)
        return
    with bar("training", "step") as step:
        done = training.train(project, output, options, training.Progress(found=say, step=step))
    if json:
        print_json(done)
    else:
        say(_told(done))
    if done["interrupted"]:
        raise Cancelled(
            f"stopped after step {done['steps']}; the model so far is in {output}, and the same command goes on"
        )


def _tell_only(project: Any, options: training.TrainingOptions, json: bool) -> None:
    found = training.found_for(project, options, training.Progress(found=say))
    config = training.model_config(found, options)
    if json:
        images = {part: list(names) for part, names in found.images.items()}
        print_json(
            {
                "images": images,
                "split": found.split.how,
                "found": found.summary.as_dict(),
                "config": config.to_dict(),
            }
        )


def _told(done: dict[str, Any]) -> str:
    chosen = ", ".join(f"{name} {value:.2f}" for name, value in done["thresholds"].items())
    lines = [f"model      {done['model']}", f"steps      {done['steps']}"]
    if chosen:
        lines.append(f"thresholds {chosen} (chosen on {done['thresholds_from']})")
    return "\n".join(lines)
