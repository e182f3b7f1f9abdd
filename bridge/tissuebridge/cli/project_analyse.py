"""`tissuebridge analyse PROJECT`: every image analysed, and its objects put into the QuPath project."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tissuebridge.analysis import Analysis, label_map_path, refuse_a_persons_map, write_label_map
from tissuebridge.batch.ahead import Ahead
from tissuebridge.cli.console import bar, forget_journal
from tissuebridge.cli.project_run import go_through, tell_only
from tissuebridge.drawn_area import named_region
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.base import Image
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.qupath.run import ProjectRun, check_identities, chosen_images, open_run, unfinished
from tissuebridge.training import check_writable

COMMAND = "analyse"

Analyser = Callable[[Image, Path, AnalysisOptions, Callable[..., None]], Analysis]
"""Analyses an image; the path is the journal's, for resuming."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked of the analysis.

    Attributes:
        tile_size: As `AnalysisOptions`.
        batch_size: As `AnalysisOptions`.
        region: Pattern of the classes of areas to analyse, or None.
        glass: Analyse empty glass too.
        simplify_um: As `AnalysisOptions`.
    """

    tile_size: int
    batch_size: int
    region: str | None
    glass: bool = False
    simplify_um: float = 0.0

    def options(self, image: Image, run_id: str) -> AnalysisOptions:
        """The options for an image.

        Raises:
            AnnotationError: A region was asked for, and the image has none.
        """
        area = None if self.region is None else named_region(image, self.region)
        return AnalysisOptions(
            tile_size=self.tile_size,
            batch_size=self.batch_size,
            region_of_interest=area,
            skip_glass=not self.glass,
            simplify_um=self.simplify_um,
            run_id=run_id,
        )


@dataclass(frozen=True, slots=True)
class ProjectOptions:
    """What a person asked of the batch.

    Attributes:
        images: Pattern of the names of images, or None for all.
        model: What tells the model from others.
        restore_deleted: Write also what a person deleted.
        dry_run: Only say what would be done.
        json: Print one JSON document.
    """

    images: str | None
    model: str
    restore_deleted: bool
    dry_run: bool
    json: bool


def into_project(
    project: QuPathProject,
    engine: AbstractContextManager[Analyser],
    ahead: Ahead,
    asked: Asked,
    options: ProjectOptions,
) -> None:
    """Analyses images and writes their objects into the project; an interrupted run goes on where it was.

    Raises:
        PartialResult: Some images failed.
        TissuebridgeError: As for `pipeline.analyse` and `apply.write_back`.
    """
    chosen = chosen_images(project, options.images)
    decides = {
        "command": COMMAND,
        "model": options.model,
        "region": asked.region,
        "images": [image.entry.id for image in chosen],
        "restore deleted": options.restore_deleted,
        "glass": asked.glass,
    }
    if options.dry_run:
        done = unfinished(project, decides)
        tell_only(
            project, chosen, lambda image: "done" if image.entry.id in done else "to analyse", options.json
        )
        return
    check_writable(project.default_output)
    check_identities(chosen)
    with (
        open_run(project, uuid4().hex, COMMAND, decides=decides) as run,
        # Workers first: they load the network while this process makes itself ready.
        ahead.of(
            [(image, run.journal(image)) for image in chosen if not run.is_done(image)],
            lambda image: asked.options(image, run.run_id),
        ) as workers,
        engine as analyser,
        bar("analysing", "tile") as step,
    ):

        def do(image: QuPathImage) -> dict[str, Any]:
            if run.is_done(image):
                return {"name": image.name, "state": "done before the run was interrupted"}
            workers.wait_for(image.name, step)
            return _into_image(image, run, analyser, asked, options, step)

        go_through(project, chosen, run, do, options.json)


def _into_image(
    image: QuPathImage,
    run: ProjectRun,
    analyser: Analyser,
    asked: Asked,
    options: ProjectOptions,
    step: Callable[..., None],
) -> dict[str, Any]:
    labels = label_map_path(image.project_output / f"{image.name}.geojson")
    # Before computing: a reason to stop only as long as nobody has waited for hours.
    refuse_a_persons_map(labels)
    image.check_reachable()
    journal = run.journal(image)
    found = analyser(image, journal, asked.options(image, run.run_id), step)
    write_label_map(labels, found)
    changed = run.write(image, [found], restore_deleted=options.restore_deleted)
    forget_journal(journal)
    return {
        "name": image.name,
        "labels": str(labels),
        "cells": dict(found.summary.cells),
        "regions": dict(found.summary.regions),
        "objects": dict(changed),
        "tiles": found.summary.tiles,
        "skipped_tiles": found.summary.skipped_tiles,
        "agreement": found.summary.agreement,
        "warnings": list(found.summary.warnings),
    }
