"""`tissuebridge demo`: the whole way on one real image, from nothing but the install."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tissuebridge.cli.console import Json, bar, print_json, say


def demo(
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for everything the demo writes.")
    ] = Path("tissuebridge-demo"),
    json: Json = False,
) -> None:
    """Learn from a few annotations of a real image, and find regions and cells in the rest."""
    from tissuebridge.demo import run_demo, told

    with bar("demo", "step") as step:
        result = run_demo(output, found=say, step=step)
    if json:
        print_json(result)
    else:
        typer.echo(told(result))
