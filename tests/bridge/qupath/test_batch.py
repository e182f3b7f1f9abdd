"""A batch over a real QuPath project, on the command line: the folder's results, resumed, undone, failures listed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from tissuebridge.cli import main
from tissuebridge.geojson import read_objects
from tissuebridge.objects import PathObject, object_digest, provenance
from tissuebridge.project.folder import FolderProject
from tissuebridge.project.qupath_project import QuPathProject

pytestmark = [pytest.mark.qupath, pytest.mark.slow]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return orjson.loads(capsys.readouterr().out)


def found_in(project: QuPathProject) -> dict[str, list[PathObject]]:
    fresh = QuPathProject(project.file)
    return {image.name: [obj for obj in image.objects() if provenance(obj)] for image in fresh.images}


def digests(objects: Sequence[PathObject]) -> dict[object, str]:
    return {obj.id: object_digest(obj) for obj in objects}


def test_a_batch_finds_what_the_folder_has_resumes_is_undone_and_lists_what_failed(
    project: QuPathProject, folder: FolderProject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {
        image.name: image.entry.files.data.read_bytes()
        for image in project.images
        if image.entry.files.data.exists()
    }
    assert run("analyse", folder.path, "--output", tmp_path / "out", "--json") == 0
    capsys.readouterr()

    assert run("analyse", project.file, "--json") == 0
    told = document(capsys)

    for name, objects in found_in(project).items():
        assert digests(objects) == digests(read_objects(tmp_path / "out" / f"{name}.geojson"))
        assert len(objects) > 20
    assert run("analyse", project.file, "--json") == 0
    again = document(capsys)
    assert all("added" not in {k: v for k, v in image["objects"].items() if v} for image in again["images"])
    assert run("undo", told["run"][:8], project.file) == 0
    for image in project.images:
        data = image.entry.files.data
        assert (data.read_bytes() if data.exists() else None) == before.get(image.name)


def test_one_bad_image_is_listed_and_the_same_command_goes_on_with_it_alone(
    project: QuPathProject, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = project.images[0]
    uri, text = bad.entry.uris[0], project.file.read_text("utf-8")
    project.file.write_text(text.replace(uri, "file:///nowhere/pyramid.tif"), "utf-8")

    assert run("propose", project.file, "--cells", "--json") == 5
    told = document(capsys)
    assert list(told["failed"]) == [bad.name]
    assert len(told["images"]) == 1

    assert run("analyse", project.file, "--json") == 5
    first = document(capsys)
    project.file.write_text(text, "utf-8")
    assert run("analyse", project.file, "--json") == 0
    second = document(capsys)
    assert second["run"] == first["run"]
    assert [image.get("state", "") for image in second["images"]] == [
        "",
        "done before the run was interrupted",
    ]


def test_only_inside_a_named_region_and_removed_again(
    project: QuPathProject, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "section*"

    assert run("analyse", project.file, "--images", name, "--region", "Tumor", "--json") == 0

    found = next(objects for key, objects in found_in(project).items() if key.startswith("section"))
    assert found
    assert all(40 < obj.geometry.centroid.x < 210 and 40 < obj.geometry.centroid.y < 210 for obj in found)
    assert run("analyse", project.file, "--images", name, "--region", "Lymphoid") == 3
    assert run("remove", project.file, "--images", name) == 0
    assert found_in(project)["section 1 ä"] == []
    shutil.rmtree(project.folder)
    capsys.readouterr()


def test_spatial_numbers_come_onto_the_objects_and_are_undone(
    project: QuPathProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("analyse", project.file) == 0
    before = {name: digests(objects) for name, objects in found_in(project).items()}
    files = {image.name: image.entry.files.data.read_bytes() for image in project.images}
    capsys.readouterr()

    assert run("spatial", project.file, "--simulations", 19, "--measurements") == 0

    told = capsys.readouterr().err
    found = found_in(project)
    assert {name: digests(objects) for name, objects in found.items()} == before
    for name, objects in found.items():
        cells = [obj for obj in objects if obj.class_name == "Nucleus"]
        assert len(cells) > 20
        # But for cells outside what is drawn as tissue.
        assert any("Spatial: Local density per mm^2" in obj.measurements for obj in cells)
        assert f"{name}" in told
    assert "objects measured" in told
    latest = max((project.folder / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime)
    assert run("undo", orjson.loads(latest.read_bytes())["run"], project.file) == 0
    assert {image.name: image.entry.files.data.read_bytes() for image in project.images} == files
