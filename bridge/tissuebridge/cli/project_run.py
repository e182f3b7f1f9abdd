"""What commands share that write into a QuPath project: choose images, go through them, tell what became of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from tqdm import tqdm

from tissuebridge.cli.console import each_image, print_json, refuse_failures
from tissuebridge.errors import PartialResult, TissuebridgeError
from tissuebridge.project.base import Image
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.qupath.run import ProjectRun

Images = Annotated[
    str | None,
    typer.Option(
        "--images", metavar="GLOB", help="Only images with such a name (QuPath projects): 'case 1*'."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]

Do = Callable[[QuPathImage], dict[str, Any]]
"""Works on an image, and says what became of it."""


def go_through(
    project: QuPathProject, images: Sequence[QuPathImage], run: ProjectRun, do: Do, json: bool
) -> None:
    """Works on every image, one line each; one that fails is told, noted and listed, and the others go on.

    Raises:
        PartialResult: Some images failed.
        TissuebridgeError: The only image failed, or going on is of no use.
    """

    def one(image: Image) -> dict[str, Any]:
        if not isinstance(image, QuPathImage):
            raise TypeError(image)
        try:
            result = do(image)
        except TissuebridgeError as error:
            run.failed(image, error)
            raise
        finally:
            every.update()
        tqdm.write(f"{image.entry.entry_name}: {told(result)}", file=sys.stderr)
        return result

    with tqdm(
        desc="images", unit="image", total=len(images), file=sys.stderr, disable=len(images) == 1
    ) as every:
        done, failed = each_image(_Chosen(project, images), one)
    if json:
        print_json({"run": run.run_id, "project": str(project.file), "images": done, "failed": failed})
    elif done and run.can_be_undone:
        typer.echo(f"run {run.run_id}; take it back with: tissuebridge undo {run.run_id} {project.file}")
    refuse_failures(done, failed)


def told(result: Mapping[str, Any]) -> str:
    """One line on an image.

    >>> told({"cells": {"CD3": 1234}, "regions": {}, "objects": {"added": 1234, "replaced": 0}})
    '1,234 CD3; 1,234 added'
    """
    found = result.get("proposed", {**result.get("cells", {}), **result.get("regions", {})})
    parts = [", ".join(f"{count:,} {name}" for name, count in found.items())] if found else []
    changed = ", ".join(f"{count:,} {what}" for what, count in result.get("objects", {}).items() if count)
    return "; ".join([*parts, changed or result.get("state", "nothing to change")])


def tell_only(
    project: QuPathProject, images: Sequence[QuPathImage], state: Callable[[QuPathImage], str], json: bool
) -> None:
    """What a dry run says, from the project's files alone: Java is not started.

    Raises:
        PartialResult: An image would be refused.
    """
    states = {image.entry.entry_name: _trouble(image) or state(image) for image in images}
    if json:
        print_json({"project": str(project.file), "images": states})
    else:
        for name, what in states.items():
            typer.echo(f"{name}: {what}")
    refused = [image.entry.entry_name for image in images if _trouble(image)]
    if refused:
        raise PartialResult(f"{len(refused)} of {len(images)} images would be refused: {', '.join(refused)}")


def _trouble(image: QuPathImage) -> str | None:
    if trouble := image.entry.files.trouble():
        return f"refused: {trouble}"
    try:
        image.check_reachable()
    except TissuebridgeError as error:
        return f"refused: {error}"
    return None


class _Chosen:
    """Some images of a project, as a `Project`."""

    def __init__(self, project: QuPathProject, images: Sequence[QuPathImage]) -> None:
        self._project = project
        self.images: Sequence[QuPathImage] = images

    @property
    def name(self) -> str:
        return self._project.name

    @property
    def splits(self) -> Mapping[str, Sequence[str]] | None:
        return self._project.splits
