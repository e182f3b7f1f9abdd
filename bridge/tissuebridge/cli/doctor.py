"""`tissuebridge doctor` and `repair`: what could lose objects in a QuPath project, and putting it right."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tissuebridge.cli.console import Json, print_json
from tissuebridge.errors import InputRefused
from tissuebridge.qupath.doctor import findings
from tissuebridge.qupath.doctor import repair as repair_project

Place = Annotated[Path, typer.Argument(metavar="PROJECT", help="A QuPath project (.qpproj), or its folder.")]


def doctor(project: Place, json: Json = False) -> None:
    """Look for what could lose objects in a QuPath project; changes nothing, and needs no QuPath."""
    found = findings(project)
    if json:
        print_json({"findings": [asdict(finding) for finding in found]})
    for finding in found if not json else ():
        typer.echo(f"{finding.where}: {finding.what}.\n  Cure: {finding.cure}.")
    if not found and not json:
        typer.echo("nothing is wrong")
    if serious := sum(finding.is_serious for finding in found):
        raise InputRefused(
            f"{serious} things have to be put right before anything is written to this project"
        )


def repair(project: Place, json: Json = False) -> None:
    """Put whole objects back in place after broken-off saves; what is damaged is put aside, nothing is deleted."""
    done = repair_project(project)
    if json:
        print_json({"done": done})
    else:
        typer.echo("\n".join(done) or "nothing was wrong")
