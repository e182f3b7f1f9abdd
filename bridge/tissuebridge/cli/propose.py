"""`tissuebridge propose`: regions by colour and nuclei by stain, for a person to review; no training, no network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from tissuebridge import pipeline
from tissuebridge.analysis import Analysis
from tissuebridge.cli.console import Json, PixelSize, Source, bar, given_token, open_source, print_json, say
from tissuebridge.client import Client
from tissuebridge.errors import (
    Cancelled,
    PartialResult,
    StorageError,
    TissuebridgeError,
    UsageError,
)
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.base import Image, Project
from tissuebridge.project.folder import PROPOSALS, FolderProject, SingleImage
from tissuebridge.proposals.files import check_proposals_file, write_proposals
from tissuebridge.proposals.propose import Watch, propose_cells, propose_regions
from tissuebridge.proposals.settings import CellSettings, ProposalSettings, RegionSettings, stains_of
from tissuebridge.report.proposals import ProposalsPage
from tissuebridge.training import check_writable

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
    server: Annotated[
        str | None, typer.Option("--server", metavar="HOST:PORT", help="Let a `tissuebridge serve` compute.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="PEM", help="Certificate that signed the --server's own.")
    ] = None,
    json: Json = False,
) -> None:
    """Propose regions and nuclei without training; `accept` or QuPath makes them yours, nothing else does."""
    settings = _settings(regions, cells, stains, diameter, parameters)
    project = open_source(source, pixel_size)
    folder = output or _place_of(project)
    check_writable(folder)
    options = AnalysisOptions(tile_size=tile_size, run_id=uuid4().hex)
    page = ProposalsPage()
    with _engine(server, ca) as find, bar("proposing", "tile") as step:
        run = _Run(folder, settings, options, page, step, find)
        done, failed = _propose_all(project, run)
    if done:
        page.write(folder / PAGE)
    if json:
        print_json({"run": options.run_id, "images": done, "failed": failed, "page": str(folder / PAGE)})
    else:
        for result in done:
            typer.echo(result["geojson"])
        if done:
            typer.echo(folder / PAGE)
    if failed:
        raise PartialResult(
            f"{len(failed)} of {len(done) + len(failed)} images failed: {', '.join(sorted(failed))}"
        )


def _place_of(project: FolderProject | SingleImage) -> Path:
    """Where the images look for their proposals."""
    place = project.images[0].proposals
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
    with Client.connect(address, given_token(), ca=ca) as client:

        def find(image: Image, settings: ProposalSettings, journal: Path, run: _Run) -> Analysis:
            return client.propose(image, settings.as_text(), options=run.options, progress=run.step)

        yield find


def _find_here(image: Image, settings: ProposalSettings, journal: Path, run: _Run) -> Analysis:
    watch = Watch(progress=run.step)
    if settings.regions is not None:
        return propose_regions(
            image, settings.regions, journal_dir=journal / "regions", options=run.options, watch=watch
        )
    return propose_cells(
        image,
        settings.cells or CellSettings(),
        journal_dir=journal / "cells",
        options=run.options,
        watch=watch,
    )


def _propose_all(project: Project, run: _Run) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Every image by itself: one that fails is told and listed, and the others go on."""
    done: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for image in project.images:
        try:
            done.append(_proposed(image, run))
        except (Cancelled, StorageError, UsageError):
            raise
        except TissuebridgeError as error:
            if len(project.images) == 1:
                raise
            say(f"error: {error}")
            failed[image.name] = str(error)
    return done, failed


def _proposed(image: Image, run: _Run) -> dict[str, Any]:
    """Proposes, writes, draws; says what and where."""
    geojson = run.folder / f"{image.name}.geojson"
    check_proposals_file(geojson)
    journal = run.folder / "journal" / image.name
    regions = cells = None
    if run.settings.regions is not None:
        found = run.find(image, ProposalSettings(regions=run.settings.regions), journal, run)
        regions = (found, _filled(found).regions or run.settings.regions)
    if run.settings.cells is not None:
        found = run.find(image, ProposalSettings(cells=run.settings.cells), journal, run)
        cells = (found, _filled(found).cells or run.settings.cells)
    parts = [part[0] for part in (regions, cells) if part is not None]
    filled = ProposalSettings(regions and regions[1], cells and cells[1])
    new = write_proposals(geojson, image, parts, filled)
    shutil.rmtree(journal, ignore_errors=True)
    with suppress(OSError):
        journal.parent.rmdir()
    run.page.add(image, regions, cells)
    counts = {name: count for part in parts for name, count in _counts(part).items()}
    return {
        "name": image.name,
        "geojson": str(geojson),
        "parameters": str(geojson.with_suffix(".toml")),
        "proposed": counts,
        "written": len(new),
        "reconstruction_error": None if cells is None else cells[1].reconstruction_error,
        "warnings": [warning for part in parts for warning in part.summary.warnings],
    }


def _filled(found: Analysis) -> ProposalSettings:
    return ProposalSettings.of_text(found.parameters)


def _counts(found: Analysis) -> dict[str, int]:
    return {**found.summary.regions, **found.summary.cells}
