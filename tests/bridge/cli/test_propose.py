"""`propose` and `accept` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

from tissuebridge.cli import main
from tissuebridge.geojson import read_objects
from tissuebridge.report.overlay import save_png

PIXELS = ["--pixel-size", "0.5"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = skimage.data.immunohistochemistry()
    save_png(tmp_path / "one.png", image[:200, :220])
    save_png(tmp_path / "two.png", image[200:400, 200:420])
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def test_a_folder_is_proposed_for_accepted_and_repeated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(capsys, "propose", folder, *PIXELS, "--stains", "Hematoxylin,DAB")

    assert [image["name"] for image in result["images"]] == ["one", "two"]
    assert result["failed"] == {}
    places = [Path(image["geojson"]) for image in result["images"]]
    assert places == [folder / "proposals" / "one.geojson", folder / "proposals" / "two.geojson"]
    page = Path(result["page"]).read_text(encoding="utf-8")
    assert page.count("<h2>") == 3
    assert "Positive from" in page
    assert not (folder / "proposals" / "journal").exists()

    parameters = places[0].with_suffix(".toml")
    again = run_json(capsys, "propose", folder / "one.png", *PIXELS, "--parameters", parameters)
    assert again["images"][0]["proposed"] == result["images"][0]["proposed"]

    code, out, _ = run(
        capsys, "accept", folder, "Positive=Tumor: Positive", "--reject", "Negative", "--reviewer", "Me"
    )
    assert code == 0
    assert "accepted Tumor: Positive" in out
    states = {obj.metadata.get("tissuebridge:reviewer") for obj in read_objects(places[1])}
    assert states == {"Me", None}  # regions are still proposals

    more = run_json(capsys, "accept", folder, "--undo", "Negative", "--images", "tw*")
    assert list(more["images"]) == ["two"]


def test_regions_or_cells_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    regions = run_json(capsys, "propose", folder / "one.png", *PIXELS, "--regions")["images"][0]
    cells = run_json(capsys, "propose", folder / "two.png", *PIXELS, "--cells", "--diameter", "6")["images"][
        0
    ]

    assert all("colour" in name for name in regions["proposed"])
    assert list(cells["proposed"]) == ["Proposed: Nucleus"]
    assert "diameter_um = 6.0" in Path(cells["parameters"]).read_text(encoding="utf-8")


def test_an_image_that_cannot_be_proposed_for_does_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_png(folder / "blank.png", np.full((90, 90, 3), 255, np.uint8))

    code, out, err = run(capsys, "propose", folder, *PIXELS, "--cells", "--json")

    assert code == 5
    assert list(json.loads(out)["failed"]) == ["blank"]
    assert "1 of 3 images failed: blank" in err
    assert not (folder / "proposals" / "blank.geojson").exists()


def test_an_image_smaller_than_a_nucleus_does_not_stop_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_png(folder / "a label.png", skimage.data.immunohistochemistry()[:12, :12])

    code, out, err = run(
        capsys, "propose", folder, *PIXELS, "--cells", "--stains", "Hematoxylin,DAB", "--json"
    )

    assert code == 5
    assert "larger than the image" in json.loads(out)["failed"]["a label"]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["propose", "{}/none.png"], 2, "no such file"),
        (["propose", "{}/one.png"], 3, "carries no pixel size"),
        (["propose", "{}", *PIXELS, "--diameter", "0"], 2, "diameter_um is"),
        (["propose", "{}", *PIXELS, "--stains", "Giemsa,DAB"], 2, "'Giemsa' is not known"),
        (["propose", "{}", *PIXELS, "--regions", "--diameter", "8"], 2, "add --cells"),
        (["propose", "{}", *PIXELS, "--parameters", "{}/none.toml"], 2, "none.toml: cannot be read"),
        (["accept", "{}/none", "a=b"], 2, "no such file"),
        (["accept", "{}", "a=b"], 2, "no proposals"),
        (["accept", "{}"], 2, "say what is accepted"),
        (["accept", "{}", "colour 3"], 2, "write PROPOSED=CLASS"),
        (["accept", "{}", "a=b", "a=c"], 2, "accepted twice"),
        (["accept", "{}", "a=b", "--reject", "a"], 2, "two different things"),
        (["accept", "{}", "a=Proposed: b"], 2, "write PROPOSED=CLASS"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    arguments: list[str], code: int, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, *(argument.replace("{}", str(folder)) for argument in arguments))

    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_a_persons_file_in_the_way_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "proposals").mkdir()
    mine = folder / "proposals" / "one.geojson"
    mine.write_text('{"type": "FeatureCollection", "features": []}', encoding="utf-8")

    code, _, err = run(capsys, "propose", folder / "one.png", *PIXELS)

    assert code == 6
    assert "Move it to the image's annotations" in err
    assert mine.read_text(encoding="utf-8") == '{"type": "FeatureCollection", "features": []}'
    assert not (folder / "proposals" / "journal").exists()


def test_a_token_with_a_line_break_is_refused_as_such(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TISSUEBRIDGE_TOKEN", "abc\n")

    code, _, err = run(capsys, "propose", folder, *PIXELS, "--server", "127.0.0.1:1")

    assert code == 2
    assert "TISSUEBRIDGE_TOKEN: no token" in err
