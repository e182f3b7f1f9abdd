"""`tissuebridge evaluate` as its users give it: tables or JSON, a page beside, warnings, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drawn_project import CELLS, REGIONS, write_project
from tissuebridge.cli import main

SMALL = "[network]\nwidths = [4, 8, 8]\n\n[training]\ncrop_px = 32\nbatch_size = 2\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("drawings"), images=5)
    (folder / "small.toml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def model(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "m"
    settings = ["--settings", str(project / "small.toml"), "--pixel-size", "0.5", "--epochs", "1"]
    assert main(["train", str(project), "--output", str(folder), *settings]) == 0
    return folder


def command(project: Path, model: Path, *more: str) -> list[str]:
    return ["evaluate", str(project), "--model", str(model), "--pixel-size", "0.5", *more]


def test_people_get_tables_and_a_page(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(command(project, model, "--output", str(tmp_path / "out"))) == 0

    said = capsys.readouterr()
    assert all(name in said.out for name in (*REGIONS, *CELLS))
    assert str(tmp_path / "out" / "evaluation.html") in said.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"evaluation.html", "evaluation.json"}


def test_without_output_results_lie_beside_the_images_and_are_no_annotations(
    project: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (project / "annotations").iterdir()}
    for _again in range(2):
        assert main(command(project, model, "--json")) == 0

    assert (project / "evaluation" / "evaluation.html").is_file()
    assert {path: path.read_bytes() for path in (project / "annotations").iterdir()} == before


def test_images_that_were_learnt_from_are_warned_about(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(command(project, model, "--split", "train", "--output", str(tmp_path), "--json")) == 0

    said = capsys.readouterr()
    scores = json.loads(said.out)
    assert scores["seen_in_training"]["train"] == list(scores["images"])
    assert "warning:" in said.err
    assert scores["warnings"]


def test_intervals_are_over_cases_where_cases_are_named(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ["--split", "all", "--case-pattern", r"(\d)", "--output", str(tmp_path), "--json"]
    assert main(command(project, model, *options)) == 0

    scores = json.loads(capsys.readouterr().out)
    assert (scores["intervals"]["unit"], scores["intervals"]["units"]) == ("case", 5)
    assert {entry["case"] for entry in scores["images"].values()} == set("01234")

    table = tmp_path / "cases.csv"
    lines = [f"{name},P{place // 2}" for place, name in enumerate(scores["images"])]
    table.write_text("\n".join(["image,patient", *lines]), encoding="utf-8")
    options = ["--split", "all", "--cases", str(table), "--output", str(tmp_path), "--json"]
    assert main(command(project, model, *options)) == 0

    assert json.loads(capsys.readouterr().out)["intervals"]["units"] == 3


def test_a_tolerance_in_um_is_that_of_its_pixels(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    found = []
    for tolerance in (["--tolerance-px", "6"], ["--tolerance-um", "3"]):
        assert main(command(project, model, *tolerance, "--output", str(tmp_path), "--json")) == 0
        found.append(json.loads(capsys.readouterr().out)["cells"])

    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--tolerance-px", "0"], 2, "more than 0"),
        (["--tolerance-um", "nan"], 2, "more than 0"),
        (["--tolerance-px", "3", "--tolerance-um", "1"], 2, "give one"),
        (["--split", "holdout"], 2, "holdout"),
        (["--case-pattern", "("], 2, "--case-pattern"),
        (["--model", "nowhere"], 3, "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    project: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    assert main(command(project, model, *options, "--output", str(tmp_path / "out"))) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "evaluation.json").exists()
