"""`tissuebridge spatial --groups`: from images to patients to groups of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tissuebridge.cli import main
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import PathClass, PathObject

SIDE = 100
HALF = SIDE // 2
TREATED = ("P1", "P2")
UNTREATED = ("P3", "P4")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images of P1, one of each other patient; CD3 cells lie in tumour in those who were treated."""
    random = np.random.default_rng(0)
    for part in ("images", "annotations"):
        (tmp_path / part).mkdir()
    for name in ("P1_a", "P1_b", *(f"{patient}_a" for patient in (*TREATED[1:], *UNTREATED))):
        Image.fromarray(np.full((SIDE, SIDE, 3), 220, np.uint8)).save(tmp_path / "images" / f"{name}.png")
        left, right = shapely.box(0, 0, HALF, SIDE), shapely.box(HALF, 0, SIDE, SIDE)
        objects = [PathObject(left, path_class=PathClass("Tumor"))]
        objects.append(PathObject(right, path_class=PathClass("Stroma")))
        inside = 30 if name[:2] in TREATED else 5
        for low, count in ((0, inside), (HALF, 20)):
            places = random.uniform((low, 0), (low + HALF, SIDE), (count, 2))
            objects.append(PathObject(shapely.MultiPoint(places), path_class=PathClass("CD3")))
        write_objects(tmp_path / "annotations" / f"{name}.geojson", objects)
    lines = [f"{patient},{'drug' if patient in TREATED else 'none'}" for patient in (*TREATED, *UNTREATED)]
    (tmp_path / "groups.csv").write_text("\n".join(["patient,group", *lines]), encoding="utf-8")
    lines = [f"{path.stem},{path.stem[:2]}" for path in (tmp_path / "images").iterdir()]
    (tmp_path / "cases.csv").write_text("\n".join(["image,patient", *lines]), encoding="utf-8")
    return tmp_path


def test_groups_of_patients_are_compared(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["spatial", str(source), "--pixel-size", "0.5", "--simulations", "19", "--json"]

    patients = ["--cases", str(source / "cases.csv"), "--groups", str(source / "groups.csv")]
    assert main([*command, *patients]) == 0

    told = json.loads(capsys.readouterr().out)
    tables = told["tables"]
    first = next(r for r in tables["cases"] if (r["case"], r["region"]) == ("P1", "Tumor"))
    assert (first["images"], first["cells"], first["of_cells"], first["share"]) == (2, 60, 100, 0.6)
    bands = {r["region"] for r in tables["cases"] if r["from_um"] is not None}
    assert bands == {"border of Tumor", "border of Stroma"}
    found = {(r["measure"], r["region"]): r for r in tables["groups"]}
    in_tumor = found["cells_per_mm2", "Tumor"]
    assert (in_tumor["group"], in_tumor["other_group"], in_tumor["patients"]) == ("drug", "none", 2)
    assert in_tumor["shift"] == pytest.approx(25 / (HALF * SIDE / 4 / 1e6))
    assert in_tumor["p"] == pytest.approx(1 / 3)
    assert (in_tumor["shift_low"], in_tumor["reason"]) == (
        None,
        "too few patients for an interval of the shift",
    )
    assert found["share of cells", "Tumor"]["shift"] == pytest.approx(0.4)
    assert found["cells_per_mm2", "Stroma"]["reason"] == "the same in all patients"
    (functions,) = tables["group_functions"]
    assert (functions["function"], functions["patients"], functions["test"]) == (
        "L",
        2,
        "studentised, 999 permutations",
    )
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "CD3 in Tumor, cells per mm²: drug against none: +20,000 (too few patients for an interval" in page
    assert "L of CD3: drug against none: " in page
    assert page.index("Groups of patients compared") < page.index("<h2>P1_a</h2>")
    assert "case_functions" not in tables
    with Path(told["paths"]["case_functions"]).open(encoding="utf-8", newline="") as file:
        assert {row["case"] for row in csv.DictReader(file)} == {*TREATED, *UNTREATED}


def test_groups_without_patients_are_refused_before_anything_is_measured(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spatial", str(source), "--pixel-size", "0.5", "--groups", str(source / "groups.csv")]) == 2

    assert "--cases, --case-key or --case-pattern" in capsys.readouterr().err
    assert not (source / "spatial").exists()
