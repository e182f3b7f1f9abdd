"""`tissuebridge undo` and `remove`: a run's objects out of a QuPath project, with a person's work kept."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

import typer

from tissuebridge.cli.console import Json, Source
from tissuebridge.cli.project_run import DryRun, Images, go_through, tell_only
from tissuebridge.errors import UsageError
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.project.source import open_source
from tissuebridge.qupath.run import chosen_images, open_run
from tissuebridge.writeback.runs import UNDO, UNDONE, Runs


def undo(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The run's id, or its beginning, as `analyse` told it.")
    ],
    source: Source,
    images: Images = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Undo a run over a QuPath project: byte for byte where nobody saved since, else object by object."""
    project = _project(source)
    record = Runs(project.folder).get(run)
    if record.command == UNDO:
        raise UsageError(f"{record.run} is an undoing itself; give the command that was undone again instead")
    todo = {key for key, image in record.images.items() if image.changed and image.state != UNDONE}
    chosen = [image for image in chosen_images(project, images) if image.entry.id in todo]
    if not chosen:
        raise UsageError(
            f"run {record.run} ({record.command}, {record.started}) has changed nothing that is left to undo"
        )
    if dry_run:
        tell_only(project, chosen, lambda image: f"{dict(record.images[image.entry.id].told)} to undo", json)
        return
    with open_run(project, uuid4().hex, UNDO) as undoing:

        def do(image: QuPathImage) -> dict[str, Any]:
            return {"name": image.name, "objects": dict(undoing.undo(image, record.run))}

        go_through(project, chosen, undoing, do, json)


def remove(
    source: Source,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN", help="Only what this run wrote; may be repeated."),
    ] = None,
    images: Images = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Remove results from a QuPath project; what you edited, accepted, rejected or locked stays, and all of yours."""
    project = _project(source)
    runs = Runs(project.folder)
    of_runs = [runs.get(given).run for given in run] if run else None
    chosen = chosen_images(project, images)
    if dry_run:
        tell_only(project, chosen, lambda image: "untouched results to remove", json)
        return
    with open_run(project, uuid4().hex, "remove") as removing:

        def do(image: QuPathImage) -> dict[str, Any]:
            return {"name": image.name, "objects": dict(removing.remove(image, of_runs))}

        go_through(project, chosen, removing, do, json)


def _project(source: Any) -> QuPathProject:
    project = open_source(source, None)
    if not isinstance(project, QuPathProject):
        raise UsageError(
            f"{source}: this is no QuPath project; results in a folder are files, which you may delete"
        )
    return project
