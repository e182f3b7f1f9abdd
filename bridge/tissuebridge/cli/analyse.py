"""`tissuebridge analyse`: images and a model in, QuPath GeoJSON out."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from tissuebridge import pipeline
from tissuebridge.analysis import label_map_path, refuse_a_persons_map
from tissuebridge.batch.ahead import Ahead
from tissuebridge.cli.console import (
    Certificate,
    Engine,
    EngineOption,
    Json,
    PixelSize,
    Precision,
    PrecisionOption,
    Server,
    Source,
    bar,
    chosen_model,
    each_image,
    forget_journal,
    given_token,
    print_json,
    refuse_failures,
)
from tissuebridge.cli.project_analyse import Analyser, Asked, ProjectOptions, into_project
from tissuebridge.cli.project_run import DryRun, Images
from tissuebridge.errors import UsageError
from tissuebridge.geojson_write import refuse_a_persons_file, write_objects
from tissuebridge.memory import core_for, machine_memory
from tissuebridge.pipeline import Analysis, AnalysisOptions, write_label_map
from tissuebridge.predictor.base import Predictor
from tissuebridge.predictor.on_demand import load, predictors
from tissuebridge.project.base import Image
from tissuebridge.project.folder import result_path
from tissuebridge.project.qupath_project import QuPathProject
from tissuebridge.project.source import open_source
from tissuebridge.starter import starter_folder
from tissuebridge.training import check_writable
from tissuemodel.saved_model import CONFIG_FILE, SavedModel


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
        int | None,
        typer.Option(
            "--tile-size",
            metavar="PX",
            help="Side of a tile's core, in px of the model's grid; without, as large as the memory allows.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Tiles at once.")] = 1,
    precision: PrecisionOption = Precision.FP32,
    engine: EngineOption = Engine.TORCH,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Processes that compute, an image or a part of a huge one each.",
        ),
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="TCP", help="A Dask cluster that computes: tcp://HOST:8786."),
    ] = None,
    server: Server = None,
    ca: Certificate = None,
    images: Images = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="GLOB", help="Analyse only inside drawn areas of such a class: 'Tumor'."
        ),
    ] = None,
    glass: Annotated[
        bool, typer.Option("--glass", help="Analyse empty glass too, which is skipped otherwise.")
    ] = False,
    simplify: Annotated[
        float,
        typer.Option(
            "--simplify", metavar="UM", help="Leave out corners of outlines that matter less than this."
        ),
    ] = 0.0,
    restore_deleted: Annotated[
        bool,
        typer.Option(
            "--restore-deleted", help="Write also what you deleted after an earlier run (projects)."
        ),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Find regions and cells in the images of SOURCE: into a QuPath project, or as NAME.geojson for each image."""
    if server and (precision is not Precision.FP32 or engine is not Engine.TORCH):
        raise UsageError(
            "--precision and --engine are the server's to choose: tissuebridge serve --precision bf16"
        )
    if server and (workers > 1 or scheduler):
        raise UsageError("--workers and --scheduler compute here; a --server computes by itself")
    project = open_source(source, pixel_size)
    folder = None if model is None else Path(model)
    ahead = Ahead(source, pixel_size, folder, precision.value, engine.value, workers, scheduler)
    tiles = _tile_size(workers, elsewhere=bool(server or scheduler)) if tile_size is None else tile_size
    asked = Asked(tiles, batch_size, region, glass, simplify)
    analysing = _remote(server, model or "", ca) if server else _local(folder, precision.value, engine.value)
    if isinstance(project, QuPathProject) and output is None:
        key = f"server {model or ''}" if server else f"{_model_key(model)} {precision.value}"
        into_project(
            project, analysing, ahead, asked, ProjectOptions(images, key, restore_deleted, dry_run, json)
        )
        return
    if dry_run or restore_deleted or images:
        raise UsageError(
            "--images, --dry-run and --restore-deleted are for a QuPath project, and write no --output"
        )
    results, run = output or project.default_output, uuid4().hex
    check_writable(results)
    with (
        # Workers first: they load the network while this process makes itself ready.
        ahead.of(
            [(image, _journal(results, image)) for image in project.images],
            lambda image: asked.options(image, run),
        ) as computing,
        analysing as analyser,
        bar("analysing", "tile") as step,
    ):

        def do(image: Image) -> dict[str, Any]:
            computing.wait_for(image.name, step)
            return _analysed(image, analyser, results, asked.options(image, run), step)

        done, failed = each_image(project, do)
    if json:
        print_json({"run": run, "images": done, "failed": failed})
    else:
        for result in done:
            typer.echo(result["geojson"])
    refuse_failures(done, failed)


def _tile_size(workers: int, *, elsewhere: bool) -> int:
    """What the memory of each process here is enough for; nobody knows that of another machine."""
    return pipeline.DEFAULT_TILE_SIZE if elsewhere else core_for(machine_memory() // workers)


def _journal(folder: Path, image: Image) -> Path:
    return folder / "journal" / image.name


def _analysed(
    image: Image, analyser: Analyser, folder: Path, options: AnalysisOptions, step: Callable[..., None]
) -> dict[str, Any]:
    journal, geojson = _journal(folder, image), result_path(folder, image)
    # Before computing: a person's file is a reason to stop only as long as nobody has waited for hours.
    refuse_a_persons_file(geojson)
    refuse_a_persons_map(label_map_path(geojson))
    result = _written(analyser(image, journal, options, step), image.name, geojson)
    forget_journal(journal)
    return result


@contextmanager
def _local(folder: Path | None, precision: str, engine: str) -> Iterator[Analyser]:
    """Analyses in this process; without a folder, with the starter model."""
    predictor, exact = predictors(chosen_model(folder), precision, engine, _load)

    def analyser(
        image: Image, journal: Path, options: AnalysisOptions, step: Callable[..., None]
    ) -> Analysis:
        return pipeline.analyse(
            image, predictor, journal_dir=journal, exact=exact, options=options, progress=step
        )

    # What is loaded by now stays: to look through it for garbage again and again was a quarter of writing objects.
    gc.freeze()
    try:
        yield analyser
    finally:
        gc.unfreeze()


def _load(saved: SavedModel, precision: str, engine: str) -> Predictor:
    predictor = load(saved, precision, engine)
    gc.freeze()
    return predictor


@contextmanager
def _remote(address: str, model: str, ca: Path | None) -> Iterator[Analyser]:
    """Lets a server analyse; pixels are read here."""
    from tissuebridge.client import Client

    with Client.connect(address, given_token(), ca=ca) as client:

        def analyser(
            image: Image, _journal: Path, options: AnalysisOptions, step: Callable[..., None]
        ) -> Analysis:
            return client.analyse(image, model, options=options, progress=step)

        yield analyser


def _model_key(model: str | None) -> str:
    """What tells one model from another, without loading it: a resumed run has to have the same."""
    folder = starter_folder() if model is None else Path(model)
    try:
        return hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()
    except OSError:  # told when it is loaded
        return str(folder)


def _written(found: Analysis, name: str, geojson: Path) -> dict[str, Any]:
    """Writes an image's results, and says what and where."""
    labels = label_map_path(geojson)
    write_label_map(labels, found)
    write_objects(geojson, found.objects(), about=found.about())
    counts = {"cells": dict(found.summary.cells), "regions": dict(found.summary.regions)}
    places = {"name": name, "geojson": str(geojson), "labels": str(labels)}
    tiles = {"tiles": found.summary.tiles, "skipped_tiles": found.summary.skipped_tiles}
    told = {"agreement": found.summary.agreement, "warnings": list(found.summary.warnings)}
    return {**places, **counts, **tiles, **told}
