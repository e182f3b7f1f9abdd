"""`tissuebridge propose`: regions by colour and nuclei by stain, for a person to review; no training, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from tissuebridge import pipeline
from tissuebridge.analysis import Analysis
from tissuebridge.cli.console import (
    Certificate,
    Json,
    PixelSize,
    Server,
    Source,
    bar,
    each_image,
    forget_journal,
    given_token,
    print_json,
    refuse_failures,
)
from tissuebridge.cli.project_run import Images, go_through
from tissuebridge.errors import UsageError
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.base import Image, Project
from tissuebridge.project.folder import PROPOSALS, FolderImage, FolderProject, SingleImage
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.project.source import open_source
from tissuebridge.proposals.files import check_proposals_file, write_parameters, write_proposals
from tissuebridge.proposals.propose import Watch, settings_of
from tissuebridge.proposals.propose import propose as propose_for
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings, stains_of
from tissuebridge.qupath.run import check_identities, chosen_images, open_run
from tissuebridge.report.proposals import ProposalsPage
from tissuebridge.training import check_writable
from tissuebridge.writeback.reconcile import PROPOSE

PAGE: Final = "proposals.html"

Finder = Callable[[Image, ProposalSettings, Path, "_Run"], Analysis]
"""Proposes what the one table asks for; the path is the journal's."""


def propose(
    source: Source,
    regions: Annotated[bool, typer.Option("--regions", help="Propose regions of the same colour.")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="Propose nuclei. (Neither: both.)")] = False,
    stains: Annotated[
        str | None,
        typer.Option(
            "--stains",
            metavar="STAINS",
            help="What the images are stained with (Hematoxylin,DAB); or how many stains (2); or the text in braces of "
            "QuPath's setColorDeconvolutionStains. A chromogen that is named tells positive nuclei.",
        ),
    ] = None,
    diameter: Annotated[
        float | None, typer.Option("--diameter", metavar="UM", help="Diameter of a nucleus in um (8).")
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option("--parameters", metavar="FILE", help="What an earlier proposal wrote, perhaps edited."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder for the proposals; without: SOURCE/proposals."),
    ] = None,
    pixel_size: PixelSize = None,
    tile_size: Annotated[
        int, typer.Option("--tile-size", metavar="PX", help="Side of a tile's core in px.")
    ] = pipeline.DEFAULT_TILE_SIZE,
    server: Server = None,
    ca: Certificate = None,
    images: Images = None,
    json: Json = False,
) -> None:
    """Propose regions and nuclei without training; `accept` or QuPath makes them yours, nothing else does."""
    settings = _settings(regions, cells, stains, diameter, parameters)
    project = open_source(source, pixel_size)
    folder = output or _place_of(project)
    check_writable(folder)
    options = AnalysisOptions(tile_size=tile_size, run_id=uuid4().hex)
    with _engine(server, ca) as find, bar("proposing", "tile") as step:
        run = _Run(folder, settings, options, ProposalsPage(), step, find)
        if isinstance(project, QuPathProject) and output is None:
            _into_project(project, images, run, json)
        elif images is not None:
            raise UsageError("--images is for a QuPath project, and without --output")
        else:
            _into_folder(project, run, json)


def _into_folder(project: Project, run: _Run, json: bool) -> None:
    done, failed = each_image(project, lambda image: _proposed(image, run))
    if done:
        run.page.write(run.folder / PAGE)
    if json:
        page = str(run.folder / PAGE)
        print_json({"run": run.options.run_id, "images": done, "failed": failed, "page": page})
    else:
        for result in done:
            typer.echo(result["geojson"])
        if done:
            typer.echo(run.folder / PAGE)
    refuse_failures(done, failed)


def _into_project(project: QuPathProject, images: str | None, run: _Run, json: bool) -> None:
    """Puts proposals into the project, where a person reviews them in QuPath."""
    chosen = chosen_images(project, images)
    check_identities(chosen)
    with open_run(project, run.options.run_id, PROPOSE) as project_run:

        def do(image: QuPathImage) -> dict[str, Any]:
            image.check_reachable()
            journal = project_run.journal(image)
            parts = _parts(image, journal, run)
            changed = project_run.write(image, parts)
            parameters = run.folder / f"{image.name}.toml"
            write_parameters(parameters, image.name, settings_of(parts).as_text())
            forget_journal(journal)
            run.page.add(image, parts)
            run.page.write(run.folder / PAGE)
            return _told(image, parts, {"parameters": str(parameters), "objects": dict(changed)})

        go_through(project, chosen, project_run, do, json)
    if not json:
        typer.echo(run.folder / PAGE)


def _place_of(project: FolderProject | SingleImage | QuPathProject) -> Path:
    """Where the images look for their proposals."""
    first = project.images[0]
    place = first.proposals if isinstance(first, FolderImage) else None
    return project.default_output.parent / PROPOSALS if place is None else place.parent


def _settings(
    regions: bool, cells: bool, stains: str | None, diameter_um: float | None, parameters: Path | None
) -> ProposalSettings:
    """What the command line says, over the parameter file, over the defaults.

    Raises:
        UsageError: Options that contradict each other, or a bad file or value.
    """
    given = ProposalSettings(RegionSettings(), CellSettings())
    if parameters is not None:
        given = ProposalSettings.read(parameters)
    if regions != cells:
        given = _only(given, regions, parameters)
    if stains is None and diameter_um is None:
        return given
    if given.cells is None:
        raise UsageError("--stains and --diameter are about nuclei; add --cells")
    changed = given.cells
    if stains is not None:
        of = stains_of(stains)
        # What was found with other stains does not hold for these.
        changed = replace(
            changed, stains=of.stains, vectors=of.vectors, white=of.white, nuclear=(), positive=(), noise=(),
            thresholds={},
        )  # fmt: skip
    if diameter_um is not None:
        try:
            changed = replace(changed, diameter_um=diameter_um, noise=())
        except ValueError as error:
            raise UsageError(f"--diameter {diameter_um:g}: {error}") from error
    return replace(given, cells=changed)


def _only(given: ProposalSettings, regions: bool, parameters: Path | None) -> ProposalSettings:
    kept = given.regions if regions else given.cells
    if kept is None:
        name = "regions" if regions else "cells"
        raise UsageError(f"{parameters}: has no table [{name}], which --{name} asks for")
    return replace(given, cells=None) if regions else replace(given, regions=None)


@dataclass(frozen=True, slots=True)
class _Run:
    """What is the same for all images of a run."""

    folder: Path
    settings: ProposalSettings
    options: AnalysisOptions
    page: ProposalsPage
    step: Callable[..., None]
    find: Finder


@contextmanager
def _engine(address: str | None, ca: Path | None) -> Iterator[Finder]:
    """Proposes in this process, or lets a server; pixels are read here in any case."""
    if address is None:
        yield _find_here
        return
    from tissuebridge.client import Client

    with Client.connect(address, given_token(), ca=ca) as client:

        def find(image: Image, settings: ProposalSettings, journal: Path, run: _Run) -> Analysis:
            return client.propose(image, settings.as_text(), options=run.options, progress=run.step)

        yield find


def _find_here(image: Image, settings: ProposalSettings, journal: Path, run: _Run) -> Analysis:
    return propose_for(
        image, settings, journal_dir=journal, options=run.options, watch=Watch(progress=run.step)
    )


def _proposed(image: Image, run: _Run) -> dict[str, Any]:
    """Proposes, writes, draws; says what and where."""
    geojson = run.folder / f"{image.name}.geojson"
    check_proposals_file(geojson)
    journal = run.folder / "journal" / image.name
    parts = _parts(image, journal, run)
    new = write_proposals(geojson, image, parts)
    forget_journal(journal)
    run.page.add(image, parts)
    places = {"geojson": str(geojson), "parameters": str(geojson.with_suffix(".toml"))}
    return _told(image, parts, {**places, "written": len(new)})


def _parts(image: Image, journal: Path, run: _Run) -> list[Analysis]:
    regions, cells = run.settings.regions, run.settings.cells
    parts: list[Analysis] = []
    if regions is not None:
        parts.append(run.find(image, ProposalSettings(regions=regions), journal / "regions", run))
    if cells is not None:
        parts.append(run.find(image, ProposalSettings(cells=cells), journal / "cells", run))
    return parts


def _told(image: Image, parts: Sequence[Analysis], where: Mapping[str, Any]) -> dict[str, Any]:
    used = settings_of(parts).cells
    return {
        "name": image.name,
        **where,
        "proposed": {name: count for part in parts for name, count in _counts(part).items()},
        "reconstruction_error": None if used is None else used.reconstruction_error,
        "warnings": [warning for part in parts for warning in part.summary.warnings],
    }


def _counts(found: Analysis) -> dict[str, int]:
    return {**found.summary.regions, **found.summary.cells}
