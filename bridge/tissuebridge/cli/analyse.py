"""`tissuebridge analyse`: images and a model in, QuPath GeoJSON out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from tissuebridge import pipeline
from tissuebridge.analysis import label_map_path, refuse_a_persons_map
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
    load_starter,
    open_source,
    print_json,
    refuse_failures,
)
from tissuebridge.client import Client
from tissuebridge.geojson_write import refuse_a_persons_file, write_objects
from tissuebridge.pipeline import Analysis, AnalysisOptions, write_label_map
from tissuebridge.project.base import Image
from tissuebridge.project.folder import result_path
from tissuebridge.training import check_writable

Analyser = Callable[[Image, Path, AnalysisOptions, Callable[..., None]], Analysis]
"""Analyses an image; the path is the journal's, for resuming."""


def analyse(
    source: Source,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="DIR",
            help="A folder that `train` wrote; with --server: a model's name. Without: the starter model.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder for the results; without: SOURCE/results."),
    ] = None,
    pixel_size: PixelSize = None,
    tile_size: Annotated[
        int,
        typer.Option("--tile-size", metavar="PX", help="Side of a tile's core, in px of the model's grid."),
    ] = pipeline.DEFAULT_TILE_SIZE,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Tiles at once.")] = 1,
    server: Server = None,
    ca: Certificate = None,
    json: Json = False,
) -> None:
    """Find regions and cells in the images of SOURCE; write NAME.geojson for each, for QuPath."""
    project = open_source(source, pixel_size)
    folder = output or project.default_output
    options = AnalysisOptions(tile_size=tile_size, batch_size=batch_size, run_id=uuid4().hex)
    engine = _remote(server, model or "", ca) if server else _local(None if model is None else Path(model))
    check_writable(folder)
    with engine as analyser, bar("analysing", "tile") as step:
        done, failed = each_image(project, lambda image: _analysed(image, analyser, folder, options, step))
    if json:
        print_json({"run": options.run_id, "images": done, "failed": failed})
    else:
        for result in done:
            typer.echo(result["geojson"])
    refuse_failures(done, failed)


def _analysed(
    image: Image, analyser: Analyser, folder: Path, options: AnalysisOptions, step: Callable[..., None]
) -> dict[str, Any]:
    journal, geojson = folder / "journal" / image.name, result_path(folder, image)
    # Before computing: a person's file is a reason to stop only as long as nobody has waited for hours.
    refuse_a_persons_file(geojson)
    refuse_a_persons_map(label_map_path(geojson))
    result = _written(analyser(image, journal, options, step), image.name, geojson)
    forget_journal(journal)
    return result


@contextmanager
def _local(folder: Path | None) -> Iterator[Analyser]:
    """Analyses in this process; without a folder, with the starter model."""
    from tissuebridge.predictor.local import LocalPredictor

    predictor = load_starter() if folder is None else LocalPredictor.load(folder)

    def analyser(
        image: Image, journal: Path, options: AnalysisOptions, step: Callable[..., None]
    ) -> Analysis:
        return pipeline.analyse(image, predictor, journal_dir=journal, options=options, progress=step)

    yield analyser


@contextmanager
def _remote(address: str, model: str, ca: Path | None) -> Iterator[Analyser]:
    """Lets a server analyse; pixels are read here."""
    with Client.connect(address, given_token(), ca=ca) as client:

        def analyser(
            image: Image, _journal: Path, options: AnalysisOptions, step: Callable[..., None]
        ) -> Analysis:
            return client.analyse(image, model, options=options, progress=step)

        yield analyser


def _written(found: Analysis, name: str, geojson: Path) -> dict[str, Any]:
    """Writes an image's results, and says what and where."""
    labels = label_map_path(geojson)
    write_label_map(labels, found)
    write_objects(geojson, found.objects(), about=found.about())
    counts = {"cells": dict(found.summary.cells), "regions": dict(found.summary.regions)}
    places = {"name": name, "geojson": str(geojson), "labels": str(labels)}
    return {**places, **counts, "warnings": list(found.summary.warnings)}
