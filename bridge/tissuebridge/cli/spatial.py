"""`tissuebridge spatial`: how the cells of every image lie to its tissue; tables out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from shapely.errors import GEOSException

from tissuebridge.cases import cases_of
from tissuebridge.classes import ClassMap, renamed
from tissuebridge.cli.console import (
    CaseKey,
    CasePattern,
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
from tissuebridge.objects import PathObject, of_other_runs
from tissuebridge.project.base import Image
from tissuebridge.project.folder import result_path
from tissuebridge.project.source import open_source
from tissuebridge.spatial.cohort import pooled_densities, with_project_q
from tissuebridge.spatial.measure import Statistics, Watch, cell_table, measure
from tissuebridge.spatial.nulls import SIMULATIONS
from tissuebridge.spatial.rows import Row, write_columns, write_rows
from tissuebridge.spatial.settings import SpatialSettings, Whose
from tissuebridge.spatial.tissue import Tissue, tissue_of

FOLDER: Final = "spatial"
"""Beside the folder that `analyse` writes to, unless told otherwise."""


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
    case_pattern: CasePattern = None,
    case_key: CaseKey = None,
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
    cases = cases_of(project.images, case_pattern, case_key)
    tables: dict[str, list[Row]] = {}
    failed: list[str] = []
    for image in project.images:
        try:
            with bar(image.name, "step") as step:
                measured = _measured(image, results, names, settings, folder, step)
        except StorageError:
            raise
        except (TissuebridgeError, GEOSException) as error:
            cure = ". Repair or simplify its regions in QuPath." if isinstance(error, GEOSException) else ""
            say(f"{image.name}: {error}{cure}")
            failed.append(image.name)
            continue
        for name, rows in measured.tables.items():
            tables.setdefault(name, []).extend({"image": image.name, **row} for row in rows)
    tables = _together(tables, cases)
    paths = _write(folder, tables)
    if json:
        print_json({"tables": _short(tables), "failed": failed, "paths": paths})
    else:
        typer.echo(f"{told(tables)}\n\ntables {folder}" if tables else "nothing was measured")
    if failed:
        raise PartialResult(f"{len(failed)} of {len(project.images)} images failed: {', '.join(failed)}")


def _measured(
    image: Image, results: Path, names: ClassMap | None, settings: SpatialSettings, folder: Path, watch: Watch
) -> Statistics:
    tissue = tissue_in(image, results, names, settings)
    found = measure(tissue, settings, watch)
    write_columns(folder / f"{image.name}.cells.csv", cell_table(tissue, settings))
    return found


def tissue_in(image: Image, results: Path, names: ClassMap | None, settings: SpatialSettings) -> Tissue:
    """The image's cells and regions: of its annotations, and of what `analyse` wrote.

    A run whose objects came back from QuPath with the annotations is read there alone, with a person's edits.
    """
    drawn = list(image.objects())
    path = result_path(results, image)
    found: Sequence[PathObject] = read_objects(path) if path.is_file() else ()
    identity = image.identity
    objects = renamed([*drawn, *of_other_runs(found, drawn)], names)
    return tissue_of(objects, image.pixel_size_um, identity.width, identity.height, settings)


_TESTS: Final = {
    "tests": ("p_mad", ("image", "class", "other")),
    "coupling": ("p_maximum", ("image", "class", "structure", "moved_um")),
    "cell_coupling": ("p_maximum", ("image", "class", "structure")),
    "enrichment": ("p", ("image", "class", "other")),
}
"""The column of each table's p-values, and what tells its tests apart."""


def _together(tables: Mapping[str, list[Row]], cases: Mapping[str, str] | None) -> dict[str, list[Row]]:
    """The tables with q-values over the whole project, and densities per patient where patients are named."""
    together = dict(tables)
    for name, (p, test) in _TESTS.items():
        if name in tables:
            together[name] = with_project_q(tables[name], p, test)
    if cases and "densities" in tables:
        together["cases"] = pooled_densities(tables["densities"], cases)
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
    return {name: rows for name, rows in tables.items() if name != "functions"}


def told(tables: Mapping[str, Sequence[Row]]) -> str:
    """Densities and coupled classes for people.

    >>> row = {"image": "a", "class": "CD3", "region": "Tumor", "cells_per_mm2": 12.5, "low": 4.0, "high": 30.0}
    >>> print(told({"densities": [row]}))
    a: CD3 in Tumor: 12.5 per mm² (4.0-30.0)
    """
    lines = [
        f"{row['image']}: {row['class']} in {row['region']}: {_density(row)}"
        for row in tables.get("densities", ())
    ]
    seen = set()
    for row in tables.get("coupling", ()):
        key = (row["image"], row["class"], row["structure"])
        if row["coupled_fraction"] and row["moved_um"] == 0 and key not in seen:
            seen.add(key)
            lines.append(
                f"{row['image']}: {row['class']} keeps to the {row['structure']}: {row['coupled_fraction']:.0%} of "
                f"{row['cells']} cells beyond chance, up to {row['coupling_distance_um']:g} µm, "
                f"p = {_p(row['p_maximum'])} ({row['null']}), {_p(row['p_shift'])} (random shift)"
            )
    return "\n".join(lines)


def _density(row: Row) -> str:
    if row["cells_per_mm2"] is None:
        return "not defined"
    return f"{row['cells_per_mm2']:.1f} per mm² ({row['low']:.1f}-{row['high']:.1f})"


def _p(value: object) -> str:
    return f"{value:.2g}" if isinstance(value, float) else "not defined"
