"""`tissuebridge spatial`: the page, and the numbers on the objects themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from fake_qupath import Slide
from tissuebridge.cli import main
from tissuebridge.geojson import read_objects
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import PathClass, PathObject, object_digest
from tissuebridge.writeback.apply import write_back
from tissuebridge.writeback.reconcile import measurements

SIDE = 400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two regions side by side, cells of two classes strewn over them."""
    rng = np.random.default_rng(1)
    for part in ("images", "annotations"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.full((SIDE, SIDE, 3), 220, np.uint8)).save(tmp_path / "images" / "a.png")
    half = SIDE // 2
    objects = [
        PathObject(shapely.box(0, 0, half, SIDE), path_class=PathClass("Tumor")),
        PathObject(shapely.box(half, 0, SIDE, SIDE), path_class=PathClass("Stroma")),
    ]
    for name, count in (("CD3", 60), ("CD20", 40)):
        for x, y in rng.uniform(2, SIDE - 2, (count, 2)).round(1):
            objects.append(PathObject(shapely.Point(x, y), path_class=PathClass(name)))
    write_objects(tmp_path / "annotations" / "a.geojson", objects)
    return tmp_path


def test_the_page_and_the_measured_objects_are_written(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "spatial",
        str(source),
        "--pixel-size",
        "0.5",
        "--simulations",
        "19",
        "--measurements",
        "--json",
    ]
    assert main(command) == 0

    told = json.loads(capsys.readouterr().out)
    page = Path(told["page"]).read_text()
    for words in (
        "Infiltration at",
        "Neighbours of each pair",
        "CD3",
        "Densities",
        "random within each region class",
    ):
        assert words in page
    assert page.count("<img") >= 5
    assert "http" not in page.replace("http-equiv", "")
    before = {obj.id: obj for obj in read_objects(source / "annotations" / "a.geojson")}
    measured = {obj.id: obj for obj in read_objects(source / "spatial" / "a.geojson")}
    assert {key: object_digest(obj) for key, obj in measured.items()} == {
        key: object_digest(obj) for key, obj in before.items()
    }
    for obj in measured.values():
        if obj.class_name in ("CD3", "CD20"):
            tumor = shapely.box(0, 0, SIDE / 2, SIDE)
            distance = shapely.distance(obj.geometry, tumor.exterior) / 2
            signed = -distance if tumor.contains(obj.geometry) else distance
            assert obj.measurements["Signed distance to annotation Tumor µm"] == pytest.approx(
                signed, abs=0.01
            )
            assert obj.measurements["Spatial: Neighbours CD3"] >= 0
        else:
            assert obj.measurements["Spatial: CD3 per mm^2"] > 0


def test_measuring_in_a_project_changes_nothing_but_numbers_and_once(tmp_path: Path) -> None:
    slide = Slide(tmp_path)
    slide.analyse("r1", (0, 0), (50, 50))
    found = slide.store.read().objects
    before = {obj.id: object_digest(obj) for obj in found}
    wanted = [PathObject(obj.geometry, id=obj.id, measurements={"Spatial: x": 1.5}) for obj in found[1:]]

    def measure(name: str) -> dict[str, int]:
        record = slide.runs.begun(name, "spatial", "", "")
        written = write_back(
            slide.store, slide.runs, record, lambda existing, _: measurements(existing, wanted)
        )
        return dict(written.images["1"].told)

    assert measure("m1")["measured"] == len(found) - 1
    bytes_after = slide.store.files.data.read_bytes()
    assert measure("m2")["measured"] == 0

    assert slide.store.files.data.read_bytes() == bytes_after
    now = slide.store.read().objects
    assert {obj.id: object_digest(obj) for obj in now} == before
    assert ["Spatial: x" in obj.measurements for obj in now].count(True) == len(found) - 1


@pytest.mark.filterwarnings("ignore")
def test_tables_as_parquet_and_cells_as_anndata(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anndata, parquet = pytest.importorskip("anndata"), pytest.importorskip("pyarrow.parquet")
    command = [
        "spatial",
        str(source),
        "--pixel-size",
        "0.5",
        "--simulations",
        "19",
        "--parquet",
        "--anndata",
        "--json",
    ]
    assert main(command) == 0

    told = json.loads(capsys.readouterr().out)
    cells = anndata.read_h5ad(source / "spatial" / "a.h5ad")
    assert cells.obsm["spatial"].shape == (cells.n_obs, 2)
    assert dict(cells.obs["Class"].value_counts()) == {"CD3": 60, "CD20": 40}
    assert "Signed distance to annotation Tumor µm" in cells.var_names
    for name, rows in told["tables"].items():
        table = parquet.read_table(source / "spatial" / f"{name}.parquet").to_pylist()
        assert [{key: row.get(key) for key in table[0]} for row in rows] == table
