"""`tissuebridge export`: a QuPath project as a folder of images with GeoJSON, or such a folder as a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tissuebridge.cli.console import Json, PixelSize, Source, bar, print_json
from tissuebridge.cli.project_run import Images
from tissuebridge.errors import UsageError
from tissuebridge.project.folder import FolderProject
from tissuebridge.project.qupath_project import QuPathProject
from tissuebridge.project.source import open_source
from tissuebridge.qupath.export import folder_of_project, project_of_folder
from tissuebridge.qupath.run import chosen_images


def export(
    source: Source,
    output: Annotated[
        Path,
        typer.Option("--output", metavar="DIR", help="An empty folder; NAME.qpproj in it names the project."),
    ],
    images: Images = None,
    pixel_size: PixelSize = None,
    json: Json = False,
) -> None:
    """Make a folder of images and GeoJSON from a QuPath project, or a QuPath project from such a folder."""
    project = open_source(source, pixel_size)
    with bar("exporting", "image") as step:
        if isinstance(project, QuPathProject):
            written = folder_of_project(chosen_images(project, images), output, step)
        elif isinstance(project, FolderProject):
            written = [project_of_folder(project, output, step)]
        else:
            raise UsageError(f"{source}: a QuPath project or a folder of images is meant, not one image")
    if json:
        print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            typer.echo(path)
