"""What `tissuebridge spatial` says about how far its numbers can be trusted: tables and parts of the page."""

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
from tissuebridge.objects import CELLS_MARKED, ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.report.checks import Checks
from tissuebridge.spatial.agreement import Agreement

ORIGIN = Provenance("run-1", "analyse", "lung", "d", "0.1")
SIDE = 300


def make(folder: Path, images: int, found: bool = True) -> None:
    """Images with 20 dots each and, where wanted, what an analysis found: as many, less the image's number."""
    for part in ("images", "annotations", "results"):
        (folder / part).mkdir()
    for number in range(images):
        rng = np.random.default_rng(number)
        places = rng.uniform(5, SIDE - 5, (20, 2)).round(1)
        name = f"a{number}"
        Image.fromarray(rng.integers(180, 240, (SIDE, SIDE, 3), np.uint8)).save(
            folder / "images" / f"{name}.png"
        )
        marked = PathObject(shapely.box(0, 0, SIDE, SIDE), path_class=PathClass(CELLS_MARKED))
        dots = PathObject(shapely.MultiPoint(places), path_class=PathClass("CD3"))
        write_objects(folder / "annotations" / f"{name}.geojson", [marked, dots])
        if found:
            write_objects(folder / "results" / f"{name}.geojson", predicted(places[number:]))


def predicted(places: np.ndarray) -> list[PathObject]:
    return [
        with_provenance(
            PathObject(
                shapely.Point(*xy).buffer(4),
                ObjectType.DETECTION,
                path_class=PathClass("CD3"),
                measurements={"tissuebridge: score CD3": 0.5 + 0.02 * k},
            ),
            ORIGIN,
        )
        for k, xy in enumerate(places)
    ]


def spatial(folder: Path) -> tuple[dict[str, list[dict[str, object]]], str]:
    assert main(["spatial", str(folder), "--pixel-size", "0.5", "--simulations", "19", "--json"]) == 0
    tables = {}
    for path in (folder / "spatial").glob("*.csv"):
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    return tables, (folder / "spatial" / "spatial.html").read_text()


def test_gallery_agreement_and_sensitivity_are_on_the_page_and_in_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, 3)

    tables, page = spatial(tmp_path)

    [row] = tables["agreement"]
    assert (row["class"], row["areas"], row["manual"], row["automatic"]) == ("CD3", "3", "60", "57")
    assert float(str(row["mean_difference"])) == -1
    assert [r["automatic"] for r in tables["agreement_areas"]] == ["20", "19", "18"]
    first = [r["cells"] for r in tables["sensitivity"] if r["image"] == "a0"]
    assert first == ["20", "17", "15", "12", "10"]
    assert len(tables["gallery"]) == 100
    assert {"gallery", "agreement", "agreement_areas", "sensitivity"} <= json.loads(capsys.readouterr().out)[
        "tables"
    ].keys()
    for words in (
        "50 of 57, drawn at random",
        "Agreement of the counts of CD3",
        "If the threshold were higher",
    ):
        assert words in page
    assert page.count("data:image/jpeg") == 2
    assert len(page) < 4e6
    # The numbers proper still come from one source of cells.
    assert [r["cells"] for r in tables["densities"]] == ["20", "19", "18"]


def test_without_an_analysis_the_page_says_what_is_missing(tmp_path: Path) -> None:
    make(tmp_path, 1, found=False)

    tables, page = spatial(tmp_path)

    assert not {"agreement", "agreement_areas", "sensitivity"} & tables.keys()
    assert "No image has both" in page
    assert "there is no threshold to move" in page


def test_table_and_section_show_the_same_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    areas = Agreement.areas
    monkeypatch.setattr(Agreement, "areas", lambda self: counted.append(1) or areas(self))
    checks = Checks()

    checks.tables()
    checks.sections()

    assert counted == [1]
