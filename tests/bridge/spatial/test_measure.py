"""All statistics of an image at once: what is planted is found, and every missing number has its reason."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry.base import BaseGeometry

from drawn_project import CELLS, REGIONS, write_project
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.spatial.image_coupling import interfaces_of
from tissuebridge.spatial.measure import Statistics, cell_table, measure
from tissuebridge.spatial.rows import Row, write_rows
from tissuebridge.spatial.settings import SpatialSettings
from tissuebridge.spatial.tissue import tissue_of
from tissuebridge.spatial.told import told

QUICK = SpatialSettings(simulations=39)
SIDE = 1600
"""Of a drawn image, px of half a micrometre."""


def drawn(name: str, geometry: BaseGeometry) -> PathObject:
    return PathObject(geometry, path_class=PathClass(name))


def objects(seed: int = 0) -> list[PathObject]:
    """Tumor left, stroma right. Half of the T cells lie within 20 um outside the border; B cells anywhere."""
    random = np.random.default_rng(seed)
    near = np.c_[random.uniform(800, 840, 150), random.uniform(0, SIDE, 150)]
    spread = random.uniform(0, SIDE, (150, 2))
    return [
        drawn("Tumor", shapely.box(0, 0, 800, SIDE)),
        drawn("Stroma", shapely.box(800, 0, SIDE, SIDE)),
        drawn("T cell", shapely.MultiPoint(np.concatenate([near, spread]))),
        drawn("B cell", shapely.MultiPoint(random.uniform(0, SIDE, (200, 2)))),
    ]


@pytest.fixture(scope="module")
def found() -> Statistics:
    return measure(tissue_of(objects(), 0.5, SIDE, SIDE), QUICK)


def rows(found: Statistics, table: str, **wanted: object) -> list[Row]:
    named = {key.replace("class_", "class"): value for key, value in wanted.items()}
    return [row for row in found.tables[table] if all(row[key] == value for key, value in named.items())]


def test_the_planted_coupling_is_found_on_its_side_of_the_border(found: Statistics) -> None:
    bands = rows(found, "coupling", class_="T cell", structure="border of Tumor", moved_um=0.0)

    assert [row["is_coupled"] for row in bands] == [row["from_um"] in (0.0, 10.0) for row in bands]
    assert bands[0]["coupling_distance_um"] == 20
    assert bands[0]["coupled_fraction"] == pytest.approx(0.5, abs=0.05)
    assert bands[0]["p_maximum"] == 1 / 40
    assert bands[0]["null"] == "random within each region class"
    assert bands[0]["family"] == "the 8 bands of this test"


def test_what_is_not_planted_is_not_found(found: Statistics) -> None:
    bands = rows(found, "coupling", class_="B cell", moved_um=0.0)

    assert len(bands) == 16
    assert not any(row["is_coupled"] for row in bands)
    assert all(row["coupling_distance_um"] is None for row in bands)


def test_coupling_is_repeated_with_moved_borders(found: Statistics) -> None:
    moved = {row["moved_um"] for row in rows(found, "coupling", class_="T cell", structure="border of Tumor")}

    assert moved == {-5.0, 0.0, 5.0}


def test_densities_and_profiles_are_those_of_the_drawing(found: Statistics) -> None:
    tumor, everywhere = (
        rows(found, "densities", class_="T cell", region=region)[0] for region in ("Tumor", "tissue")
    )
    profile = rows(found, "profiles", class_="T cell", region="Tumor")

    assert everywhere["cells"] == 300
    assert tumor["area_mm2"] == pytest.approx(0.32)
    assert sum(int(row["cells"] or 0) for row in profile if row["from_um"] in (0.0, 10.0)) >= 150
    assert profile[0]["area_mm2"] == pytest.approx(0.04, rel=1e-3)


def test_tests_between_cells_name_null_and_family(found: Statistics) -> None:
    pairs = {(row["class"], row["other"]) for row in found.tables["tests"]}

    assert pairs == {("B cell", "B cell"), ("B cell", "T cell"), ("T cell", "T cell")}
    for row in found.tables["tests"]:
        assert row["null"] == "random within each region class"
        assert row["how"] == "39 simulations"
        assert row["family"] == "the 3 L tests of this image"
    # Half of the T cells lie in a strip: dense among themselves, beyond what strata explain.
    assert rows(found, "tests", class_="T cell", other="T cell")[0]["p_mad"] == 1 / 40
    assert len(rows(found, "functions", class_="T cell", other="T cell")) == 30


def test_functions_and_pairs_of_classes_are_told_for_every_region(found: Statistics) -> None:
    tissue = rows(found, "region_functions", region="tissue", class_="T cell", other="B cell")
    tested = rows(found, "functions", class_="B cell", other="T cell")
    pairs = {(row["region"], row["class"], row["other"]): row for row in found.tables["pair_tests"]}

    assert [row["L_um"] for row in tissue] == pytest.approx([row["value_um"] for row in tested])
    assert {row["region"] for row in found.tables["region_functions"]} == {"tissue", "Tumor", "Stroma"}
    assert set(pairs) == {(region, "B cell", "T cell") for region in ("Stroma", "Tumor")}
    # T cells keep to the border; to B cells, which are anywhere, they do not.
    assert all(float(row["p_mad"] or 0) > 0.05 for row in pairs.values())


def test_no_table_holds_a_number_that_is_none(found: Statistics) -> None:
    for name, table in found.tables.items():
        for row in table:
            assert not any(isinstance(value, float) and not math.isfinite(value) for value in row.values()), (
                name
            )
            missing = [
                key for key in ("cells_per_mm2", "median_um", "p_mad", "z") if key in row and row[key] is None
            ]
            assert not missing or row["reason"], (name, row)


def test_the_same_seed_gives_the_same_numbers(found: Statistics) -> None:
    assert measure(tissue_of(objects(), 0.5, SIDE, SIDE), QUICK).tables == found.tables


def test_every_cell_has_its_distances_and_neighbours() -> None:
    columns = cell_table(tissue_of(objects(), 0.5, SIDE, SIDE), QUICK)

    x = np.asarray(columns["x µm"], np.float64)
    assert len(x) == 500
    distance: NDArray[np.float64] = np.asarray(columns["Signed distance to annotation Stroma µm"], np.float64)
    # The nearest side of a half of the image.
    y = np.asarray(columns["y µm"], np.float64)
    edge = np.minimum.reduce([np.abs(x - 400), 800 - x, y, 800 - y])
    assert distance == pytest.approx(np.where(x >= 400, -edge, 400 - x), abs=0.6)
    assert set(columns) >= {
        "Spatial: Local density per mm^2",
        "Spatial: Neighbours T cell",
        "Region",
        "Object",
    }


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [drawn("T cell", shapely.Point(10, 10))],
        [drawn("T cell", shapely.MultiPoint([(50, 50)] * 6))],
        [drawn("T cell", shapely.Point(-50, 10))],
        [drawn("T cell", shapely.Point(10, 10)), drawn("B cell", shapely.Point(10, 10))],
    ],
    ids=["none", "one", "all in one place", "outside", "two classes in one place"],
)
def test_little_input_gives_answers_or_reasons(cells: list[PathObject]) -> None:
    tissue = tissue_of([*objects()[:2], *cells], 0.5, SIDE, SIDE)

    found = measure(tissue, QUICK)

    test_no_table_holds_a_number_that_is_none(found)
    assert len(cell_table(tissue)["Class"]) == sum(len(points) for points in tissue.cells.values())


@pytest.mark.parametrize("name", ["Tumor", None])
def test_a_single_region_is_told_by_its_name_but_not_the_whole_image(name: str | None) -> None:
    drawn_region = [drawn(name, shapely.box(0, 0, SIDE, SIDE))] if name else []

    found = measure(
        tissue_of([*drawn_region, drawn("T cell", shapely.Point(10, 10))], 0.5, SIDE, SIDE), QUICK
    )

    assert [row["region"] for row in found.tables["densities"]] == ["tissue", *([name] if name else [])]


def test_moved_borders_keep_the_tissue_together() -> None:
    settings = SpatialSettings()
    found = interfaces_of(tissue_of(objects(), 0.5, SIDE, SIDE), settings)

    assert [(one.name, one.moved_um) for one in found] == [
        (name, by_um) for name in ("Stroma", "Tumor") for by_um in (0.0, -5.0, 5.0)
    ]
    for met in found:
        # At its ends, the border bends round what it runs past.
        moved = [(400 + met.moved_um) * 800, (400 - met.moved_um) * 800]
        assert met.areas_um2 == pytest.approx(moved, rel=1e-4)


def test_rows_are_written_with_every_column(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"a": 1, "b": None}, {"a": 0.1, "c": "µm, mm²"}])

    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"a": "1", "b": "", "c": ""},
            {"a": "0.1", "b": "", "c": "µm, mm²"},
        ]


def test_pairs_are_told_at_their_strongest_and_only_beyond_chance() -> None:
    row: Row = {
        "image": "a", "region": "Stroma", "class": "CD3", "other": "CD20", "r_um": 10.0, "l_minus_r_um": 1.0,
        "chance_low_um": -1.0, "chance_high_um": 1.0, "p_mad": 0.001, "q_project": 0.01,
    }  # fmt: skip
    more: list[Row] = [
        row | {"r_um": 20.0, "l_minus_r_um": -3.0},
        row | {"class": "CD8", "q_project": 0.2},
        row | {"class": "CD4", "p_mad": None, "l_minus_r_um": None, "q_project": None},
    ]

    said = told({"pair_tests": [row, *more]}).splitlines()

    assert said == [
        "a: CD3 and CD20 in Stroma: L - r = -3.0 µm at 20 µm (by chance -1.0 to +1.0), "
        "p = 0.001, q = 0.01 (random shift)"
    ]


# ---- The command -----------------------------------------------------------------------------------------


def spatial(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    from tissuebridge.cli import main

    capsys.readouterr()
    code = main(["spatial", *arguments, "--simulations", "19", "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else said.err


def test_the_command_writes_tables_and_prints_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_project(tmp_path / "p", images=3, side=112)

    code, done = spatial(capsys, str(folder), "--pixel-size", "0.5", "--case-pattern", "^[a-z]+")

    assert code == 0
    assert {(row["case"], row["images"]) for row in done["tables"]["cases"]} == {("drawn", 3)}
    for name in ("coupling", "pair_tests"):
        assert "tests of this table in the project" in done["tables"][name][0]["project_family"]
    assert "region_functions" in done["paths"]
    assert "region_functions" not in done["tables"]
    assert {row["class"] for row in done["tables"]["densities"]} == set(CELLS)
    assert {row["region"] for row in done["tables"]["densities"]} <= {*REGIONS, "tissue"}
    # "Empty" is no tissue.
    assert "Empty" not in {row["region"] for row in done["tables"]["densities"]}
    written = {path.name for path in (folder / "spatial").iterdir()}
    assert written == {
        *(f"drawn-{k}.cells.csv" for k in range(3)),
        *(f"{name}.csv" for name in done["paths"]),
        "spatial.html",
    }
    assert "Two classes together" in (folder / "spatial" / "spatial.html").read_text()


def test_what_analyse_wrote_is_read_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / "a.png")
    random = np.random.default_rng(0)
    found = [
        PathObject(shapely.Point(*xy).buffer(4), ObjectType.DETECTION, path_class=PathClass("CD3"))
        for xy in random.uniform(10, 190, (30, 2))
    ]
    origin = Provenance("run-7", "analyse", "lung", "d", "0.1")
    (tmp_path / "results").mkdir()
    write_objects(tmp_path / "results" / "a.geojson", [with_provenance(obj, origin) for obj in found])
    write_objects(tmp_path / "a.geojson", [drawn("CD3", shapely.Point(100, 100))])

    code, done = spatial(capsys, str(tmp_path), "--pixel-size", "0.5")

    assert code == 0
    assert done["tables"]["window"][0]["cells"] == 30
    assert "run-7" in done["tables"]["window"][0]["cells_from"]


def test_an_uncalibrated_image_is_refused_with_the_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_project(tmp_path / "p", images=3)

    from tissuebridge.cli import main

    code = main(["spatial", str(folder), "--simulations", "19"])

    assert code == 5
    assert "--pixel-size" in capsys.readouterr().err
