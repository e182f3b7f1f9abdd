"""The demo, whole: it beats the obvious, writes what it says, and owes its measures to the annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
import torch
from PIL import Image

from tissuebridge.demo import LEARNING, run_demo, told
from tissuebridge.demo.measures import measured
from tissuebridge.demo.sample import HELD_OUT, LEARN, load_annotations, load_image, write_project
from tissuebridge.geojson import read_objects
from tissuebridge.objects import NOT_A_CELL, ObjectType, PathClass, PathObject, provenance
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.training import train

pytestmark = pytest.mark.slow

SHORT = replace(LEARNING, epochs=16)
REGIONS = ("Epithelium", "Stroma", "Lumen")
CELLS = ("Epithelial nucleus", "Stromal nucleus")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests may run side by side; threads that wait for each other on busy cores cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_demo(tmp_path_factory.mktemp("demo") / "new", learning=SHORT)


def test_the_model_beats_the_obvious(demo: dict[str, Any]) -> None:
    model, obvious = demo["measures"], demo["baselines"]

    assert model["macro"]["regions_f1"] > obvious["macro"]["regions_f1"] + 0.15
    assert model["macro"]["cells_f1"] > obvious["macro"]["cells_f1"] + 0.1
    assert model["detection"]["f1"] > obvious["detection"]["f1"]


def test_it_learns_from_reviewed_proposals(demo: dict[str, Any]) -> None:
    nuclei, folder = demo["review"]["nuclei"], Path(demo["paths"]["project"])
    proposals = read_objects(folder / "proposals" / f"{LEARN.name}.geojson")
    by_hand = read_objects(folder / "annotations" / f"{LEARN.name}.geojson")

    assert nuclei["accepted"] > 100
    assert nuclei["rejected"] > 10
    assert sum(obj.class_name in CELLS for obj in proposals) == nuclei["accepted"]
    assert sum(obj.class_name == NOT_A_CELL for obj in proposals) == nuclei["rejected"]
    dots = [shapely.get_num_geometries(obj.geometry) for obj in by_hand if obj.class_name in CELLS]
    assert sum(dots) == nuclei["dotted by hand"]


def test_the_result_is_plain_json_and_can_be_told(demo: dict[str, Any]) -> None:
    assert json.loads(json.dumps(demo, allow_nan=False)) == demo
    assert str(demo["paths"]["page"]) in told(demo)


def test_all_files_are_there_and_hold_what_they_should(demo: dict[str, Any]) -> None:
    paths = {name: Path(path) for name, path in demo["paths"].items()}
    objects = read_objects(paths["geojson"])

    assert all(path.exists() for path in paths.values())
    assert all(provenance(obj) for obj in objects)
    cells = [obj for obj in objects if obj.object_type is ObjectType.DETECTION]
    assert len(cells) == sum(demo["found"]["cells"].values())
    assert tifffile.imread(paths["labels"]).shape == (512, 512)
    assert np.array(Image.open(paths["overlay"])).shape[1] == 1024
    assert "<h1>tissuebridge: demo</h1>" in paths["page"].read_text(encoding="utf-8")


def test_annotations_that_mean_nothing_teach_nothing(demo: dict[str, Any], tmp_path: Path) -> None:
    shuffled = learnt_from(shuffle, tmp_path)

    assert shuffled["macro"]["regions_f1"] < demo["measures"]["macro"]["regions_f1"] - 0.1
    assert shuffled["macro"]["cells_f1"] < demo["measures"]["macro"]["cells_f1"] - 0.15


def learnt_from(
    change: Callable[[list[PathObject], np.random.Generator], list[PathObject]], folder: Path
) -> dict[str, Any]:
    """The measures of a model that learnt from changed annotations, on the true ones of the held-out part."""
    image, annotations = load_image(), load_annotations()
    changed = change(LEARN.objects(annotations, 512), np.random.default_rng(0))
    parts = [
        ("train", LEARN.name, LEARN.pixels(image), changed),
        ("test", HELD_OUT.name, HELD_OUT.pixels(image), HELD_OUT.objects(annotations, 512)),
    ]
    project = write_project(folder / "project", parts)
    train(project, folder / "model", SHORT)
    return measured(project, LocalPredictor.load(folder / "model"))


def shuffle(objects: list[PathObject], rng: np.random.Generator) -> list[PathObject]:
    """Region names change places, and each cell class is dotted anywhere."""
    return [shuffled(obj, rng) for obj in objects]


def shuffled(obj: PathObject, rng: np.random.Generator) -> PathObject:
    if obj.class_name in REGIONS:
        return replace(obj, path_class=PathClass(REGIONS[REGIONS.index(obj.class_name) - 1]))
    if obj.class_name in CELLS:
        anywhere = rng.uniform(0, (LEARN.right, 512), shapely.get_coordinates(obj.geometry).shape)
        return replace(obj, geometry=shapely.MultiPoint(anywhere))
    return obj
