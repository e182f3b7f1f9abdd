"""`tissuebridge spatial`: how the cells of every image lie to its tissue; tables and a page out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from shapely.errors import GEOSException

from tissuebridge import __version__
from tissuebridge.cases import cases_of
from tissuebridge.classes import ClassMap, renamed
from tissuebridge.cli.console import (
    CaseKey,
    CasePattern,
    CaseTable,
    Classes,
    Json,
    PixelSize,
    Source,
    bar,
    class_map,
    print_json,
    say,
)
from tissuebridge.errors import PartialResult, StorageError, TissuebridgeError
from tissuebridge.geojson import read_objects
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import PathObject, of_other_runs
from tissuebridge.project.base import Image, Project
from tissuebridge.project.folder import result_path
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.project.source import open_source
from tissuebridge.qupath.run import open_run
from tissuebridge.report.checks import Checks
from tissuebridge.report.gallery import Gallery
from tissuebridge.report.groups import group_sections
from tissuebridge.report.spatial import SpatialPage
from tissuebridge.spatial.case_functions import case_functions
from tissuebridge.spatial.cohort import case_table, with_project_q
from tissuebridge.spatial.export import write_anndata, write_parquet
from tissuebridge.spatial.group_functions import group_function_rows
from tissuebridge.spatial.groups import group_rows, groups_of
from tissuebridge.spatial.measure import Watch
from tissuebridge.spatial.measurements import MeasuredImage, measured_image
from tissuebridge.spatial.nulls import SIMULATIONS
from tissuebridge.spatial.rows import Row, write_columns, write_rows
from tissuebridge.spatial.sensitivity import scores_of
from tissuebridge.spatial.settings import SpatialSettings, Whose
from tissuebridge.spatial.told import told

FOLDER: Final = "spatial"
"""Beside the folder that `analyse` writes to, unless told otherwise."""


PAGE: Final = "spatial.html"


def spatial(
    source: Source,
    cells: Annotated[
        Whose,
        typer.Option(
            "--cells", help="Whose cells; latest: the analysis's where there is one, else a person's."
        ),
    ] = Whose.LATEST,
    regions: Annotated[Whose, typer.Option("--regions", help="Whose regions, likewise.")] = Whose.LATEST,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="DIR", help="Where `analyse` wrote; without: its default folder."),
    ] = None,
    simulations: Annotated[
        int, typer.Option("--simulations", metavar="N", help="Simulations of every test, at least 19.")
    ] = SIMULATIONS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same numbers.")] = 0,
    measurements: Annotated[
        bool,
        typer.Option(
            "--measurements",
            help="Put the numbers on the objects too: into the QuPath project, else as NAME.geojson.",
        ),
    ] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write the tables as Parquet too.")] = False,
    anndata: Annotated[
        bool, typer.Option("--anndata", help="Write the cells of each image as AnnData too: NAME.h5ad.")
    ] = False,
    case_pattern: CasePattern = None,
    case_key: CaseKey = None,
    cases: CaseTable = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            "--groups", metavar="FILE", help="Compare groups of patients: CSV with the columns patient,group."
        ),
    ] = None,
    pixel_size: PixelSize = None,
    classes: Classes = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help=f"Folder for the tables; without: SOURCE/{FOLDER}."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure how cells lie to tissue in SOURCE, against named nulls; write tables, one row a number."""
    settings = SpatialSettings(cells=cells, regions=regions, simulations=simulations, seed=seed)
    project = open_source(source, pixel_size)
    folder = output or project.default_output.with_name(FOLDER)
    results = results or project.default_output
    names = class_map(classes)
    case_of = cases_of(project.images, case_pattern, case_key, cases)
    group_of = groups_of(groups, case_of)
    tables: dict[str, list[Row]] = {}
    failed: list[str] = []
    page, gallery, checks = SpatialPage(), Gallery(seed), Checks()
    with _numbers_on_objects(project, folder, measurements) as put:
        for image in project.images:
            try:
                with bar(image.name, "step") as step:
                    out = _Out(folder, anndata, page, gallery, checks, put)
                    measured = _measured(image, results, names, settings, out, step)
            except StorageError:
                raise
            except (TissuebridgeError, GEOSException) as error:
                cure = (
                    ". Repair or simplify its regions in QuPath." if isinstance(error, GEOSException) else ""
                )
                say(f"{image.name}: {error}{cure}")
                failed.append(image.name)
                continue
            for name, rows in measured.tables.items():
                tables.setdefault(name, []).extend({"image": image.name, **row} for row in rows)
    tables = {**_together(tables, case_of, group_of, settings), **gallery.tables(), **checks.tables()}
    paths = _write(folder, tables)
    if parquet:
        for name, rows in tables.items():
            write_parquet(folder / f"{name}.parquet", rows)
    if tables:
        compared = group_sections(tables, group_of, settings)
        page.write(folder / PAGE, [gallery.section(), *checks.sections()], compared)
    if json:
        print_json({"tables": _short(tables), "failed": failed, "paths": paths, "page": str(folder / PAGE)})
    else:
        typer.echo(
            f"{told(tables)}\n\npage   {folder / PAGE}\ntables {folder}" if tables else "nothing was measured"
        )
    if failed:
        raise PartialResult(f"{len(failed)} of {len(project.images)} images failed: {', '.join(failed)}")


Put = Callable[[Image, Sequence[PathObject]], None]
"""Takes an image's objects with their numbers, if anybody wants them."""


@dataclass(frozen=True, slots=True)
class _Out:
    """Where an image's numbers go, beside the tables."""

    folder: Path
    anndata: bool
    page: SpatialPage
    gallery: Gallery
    checks: Checks
    put: Put


def _measured(
    image: Image, results: Path, names: ClassMap | None, settings: SpatialSettings, out: _Out, watch: Watch
) -> MeasuredImage:
    objects, size = objects_of(image, results, names), image.identity
    found = measured_image(objects, image.pixel_size_um, size.width, size.height, settings, watch)
    write_columns(out.folder / f"{image.name}.cells.csv", found.columns)
    if out.anndata:
        write_anndata(out.folder / f"{image.name}.h5ad", found.columns)
    out.page.add(image.name, found.tissue, found.tables)
    scores = scores_of(found.tissue, objects)
    out.gallery.add(image, found.tissue, objects, scores)
    out.checks.add(image.name, image.pixel_size_um, found.tissue, objects, scores)
    out.put(image, found.objects)
    return found


@contextmanager
def _numbers_on_objects(project: Project, folder: Path, wanted: bool) -> Iterator[Put]:
    """Where numbers go: into the QuPath project, as a run that can be undone; else into a file for each image."""
    if not wanted:
        yield lambda image, objects: None
    elif isinstance(project, QuPathProject):
        with open_run(project, uuid4().hex, "spatial") as run:

            def into_project(image: Image, objects: Sequence[PathObject]) -> None:
                if isinstance(image, QuPathImage):
                    say(
                        f"{image.entry.entry_name}: {run.measure(image, objects)['measured']:,} objects measured"
                    )

            yield into_project
    else:
        about = {"method": "spatial", "version": __version__}
        yield lambda image, objects: write_objects(folder / f"{image.name}.geojson", objects, about=about)


def objects_of(image: Image, results: Path, names: ClassMap | None) -> list[PathObject]:
    """The image's objects: its annotations, and what `analyse` wrote.

    A run whose objects came back from QuPath with the annotations is read there alone, with a person's edits.
    """
    drawn = list(image.objects())
    path = result_path(results, image)
    found: Sequence[PathObject] = read_objects(path) if path.is_file() else ()
    return list(renamed([*drawn, *of_other_runs(found, drawn)], names))


_TESTS: Final = {
    "tests": ("p_mad", ("image", "class", "other")),
    "pair_tests": ("p_mad", ("image", "region", "class", "other")),
    "coupling": ("p_maximum", ("image", "class", "structure", "moved_um")),
    "cell_coupling": ("p_maximum", ("image", "class", "structure")),
    "enrichment": ("p", ("image", "class", "other")),
}
"""The column of each table's p-values, and what tells its tests apart."""


def _together(
    tables: Mapping[str, list[Row]],
    cases: Mapping[str, str] | None,
    group_of: Mapping[str, str],
    settings: SpatialSettings,
) -> dict[str, list[Row]]:
    """The tables with q-values over the whole project, and patients and groups of them where these are named."""
    together = dict(tables)
    for name, (p, test) in _TESTS.items():
        if name in tables:
            together[name] = with_project_q(tables[name], p, test)
    if cases and "densities" in tables:
        together["cases"] = case_table(tables, cases)
        curves = together["case_functions"] = case_functions(tables["functions"], tables["densities"], cases)
        if group_of:
            together["groups"] = group_rows(together["cases"], group_of)
            together["group_functions"] = group_function_rows(curves, group_of, settings)
    return together


def _write(folder: Path, tables: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    paths = {}
    for name, rows in tables.items():
        path = folder / f"{name}.csv"
        write_rows(path, rows)
        paths[name] = str(path)
    return paths


def _short(tables: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """What JSON shows: all but the curves, which are long."""
    return {
        name: rows for name, rows in tables.items() if "functions" not in name or name == "group_functions"
    }
