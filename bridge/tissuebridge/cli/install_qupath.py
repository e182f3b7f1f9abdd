"""`tissuebridge install-qupath`: the scripts and the client into QuPath's user directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tissuebridge.cli.console import Json, print_json
from tissuebridge.errors import InputRefused, UsageError
from tissuebridge.qupath.install import build_client, check, install, remove, user_directories


def install_qupath(
    user_dir: Annotated[
        Path | None,
        typer.Option(
            "--user-dir", metavar="DIR", help="QuPath's user directory (in its preferences); without: found."
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", metavar="DIR", help="Model of a server that a script starts; may be repeated."
        ),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="Say what is missing, and change nothing.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Take out what was installed.")] = False,
    build: Annotated[
        bool, typer.Option("--build-client", help="Build the client first, with Maven.")
    ] = False,
    json: Json = False,
) -> None:
    """Install scripts for QuPath's menu Automate, and the client they use."""
    if check_only and (uninstall or build):
        raise UsageError("--check changes nothing; leave out the other option")
    if build:
        build_client()
    place = user_dir or _found()
    if not place.is_dir():
        raise UsageError(f"{place}: no such folder. QuPath's preferences name its user directory.")
    if check_only:
        problems = check(place)
        if json:
            print_json({"user_dir": str(place), "problems": problems})
        else:
            typer.echo("\n".join(problems) or f"{place}: all is well")
        if problems:
            raise InputRefused(f"{len(problems)} things have to be put right")
        return
    changed = remove(place) if uninstall else install(place, model or ())
    if json:
        print_json(
            {"user_dir": str(place), "removed" if uninstall else "written": [str(path) for path in changed]}
        )
        return
    for path in changed:
        typer.echo(path)
    if not uninstall:
        typer.echo("Start QuPath anew; the scripts are in its menu Automate, Shared scripts, tissuebridge.")


def _found() -> Path:
    found = user_directories()
    if not found:
        raise UsageError(
            "QuPath's user directory was not found. Start QuPath once and let it make one (Edit, Preferences, "
            "Extensions), or give it: --user-dir DIR"
        )
    return found[0]
