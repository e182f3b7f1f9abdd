"""Commands over a QuPath project: what is refused without touching anything, and without Java."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from fake_qupath import Slide
from tissuebridge.cli import main


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """A project on paper: its image's file is gone."""
    builder = {"uri": "file:///nowhere/slide.svs", "providerClassName": "any", "args": []}
    image = {"serverBuilder": builder, "entryID": 1, "imageName": "slide.svs"}
    (tmp_path / "project.qpproj").write_bytes(orjson.dumps({"images": [image]}))
    return tmp_path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_dry_run_lists_what_would_be_refused(paper: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("analyse", paper, "--dry-run") == 5

    told = capsys.readouterr()
    assert "slide.svs: refused" in told.out
    assert "slide.svs" in told.err
    assert not (paper / "tissuebridge").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["analyse", "--images", "other*"], 2),
        (["remove", "--images", "other*"], 2),
        (["analyse", "--output", "out", "--dry-run"], 2),
        (["propose", "--output", "out", "--images", "slide"], 2),
    ],
)
def test_what_cannot_be_meant_is_refused(paper: Path, arguments: list[str], code: int) -> None:
    assert run(arguments[0], paper, *arguments[1:]) == code


def test_undo_names_the_runs_there_are(
    tmp_path: Path, paper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Slide(paper).analyse("r1", (0, 0))

    assert run("undo", "x", paper) == 2
    assert "r1 (analyse" in capsys.readouterr().err
    assert run("undo", "r1", paper, "--dry-run") == 5  # its image is gone
    assert run("undo", "r1", tmp_path / "missing") == 2


def test_remove_is_for_projects(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")

    assert run("remove", tmp_path) == 2
