"""`tissuebridge accept`: a person's word on proposals, for whole classes or colours at once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tissuebridge.cli.console import Json, print_json
from tissuebridge.errors import UsageError
from tissuebridge.geojson import default_color
from tissuebridge.objects import PROPOSED, PathClass
from tissuebridge.project.folder import PROPOSALS
from tissuebridge.proposals.files import review
from tissuebridge.proposals.review import Decision


def accept(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of images with proposals, a folder of proposals, or one image's GeoJSON.",
        ),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROPOSED=CLASS]...", help='What is what: "colour 3=Stroma".', show_default=False
        ),
    ] = None,
    reject: Annotated[
        list[str] | None,
        typer.Option(
            "--reject",
            metavar="PROPOSED",
            help="Wrong; nuclei become hard negatives (Not a cell*). Repeatable.",
        ),
    ] = None,
    undo: Annotated[
        list[str] | None,
        typer.Option("--undo", metavar="PROPOSED", help="Make these proposals again. Repeatable."),
    ] = None,
    images: Annotated[
        str, typer.Option("--images", metavar="GLOB", help="Only images whose names fit, such as 'case1*'.")
    ] = "*",
    reviewer: Annotated[
        str, typer.Option("--reviewer", metavar="NAME", help="Who decides; kept with each object.")
    ] = "",
    json: Json = False,
) -> None:
    """Accept, reject or undo proposals by class; what was edited or locked in QuPath is left alone."""
    decision = _decision(changes or [], reject or [], undo or [], reviewer)
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    folder = source / PROPOSALS if (source / PROPOSALS).is_dir() else source
    counts = review(folder, decision, images)
    if json:
        print_json({"images": {name: dict(changed) for name, changed in counts.items()}})
        return
    for name, changed in counts.items():
        told = ", ".join(f"{count} {what}" for what, count in sorted(changed.items()))
        typer.echo(f"{name}: {told or 'nothing to change'}")


def _decision(changes: list[str], reject: list[str], undo: list[str], reviewer: str) -> Decision:
    """What the command line says.

    Raises:
        UsageError: Nothing is said, a change is no PROPOSED=CLASS, or two things are said of a class.
    """
    accepted: dict[str, PathClass] = {}
    for change in changes:
        proposed, _, name = (part.strip() for part in change.partition("="))
        if not proposed or not name or name.startswith(PROPOSED.strip()):
            raise UsageError(f'{change!r}: write PROPOSED=CLASS, such as "colour 3=Stroma"')
        if proposed.removeprefix(PROPOSED) in accepted:
            raise UsageError(f"{proposed!r} is accepted twice; leave one of them")
        accepted[proposed.removeprefix(PROPOSED)] = PathClass(name, default_color(name))
    rejected = frozenset(name.strip().removeprefix(PROPOSED) for name in reject)
    undone = frozenset(name.strip().removeprefix(PROPOSED) for name in undo)
    if not (accepted or rejected or undone):
        raise UsageError('say what is accepted ("colour 3=Stroma"), or give --reject or --undo')
    if twice := (accepted.keys() & rejected) | (accepted.keys() & undone) | (rejected & undone):
        raise UsageError(f"{min(twice)!r}: two different things are said of it; leave one of them")
    return Decision(accepted, rejected, undone, datetime.now(UTC).date().isoformat(), reviewer.strip())
