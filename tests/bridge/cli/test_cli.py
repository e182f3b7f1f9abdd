"""The commands as their users give them: exit codes, standard output, files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from drawn_project import CELLS, REGIONS, write_image, write_project
from tissuebridge.cli import main
from tissuebridge.errors import StorageError
from tissuebridge.geojson import read_objects
from tissuebridge.objects import ObjectType, is_persons, provenance

ROOT = Path(__file__).parents[3]
SUBPROCESS = [sys.executable, "-c", "from tissuebridge.cli import run; run()"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "bridge"), str(ROOT / "model")])}

Said = Callable[[], Any]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def model(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "drawn-model"
    assert main(["train", str(project), "--output", str(folder), "--epochs", "4", "--pixel-size", "0.5"]) == 0
    return folder


def test_train_says_what_it_found_and_writes_a_model(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "train",
        str(project),
        "--output",
        str(tmp_path / "m"),
        "--epochs",
        "1",
        "--pixel-size",
        "0.5",
        "--json",
    ]

    code = main(command)

    said = capsys.readouterr()
    done = json.loads(said.out)
    assert code == 0
    assert {path.name for path in (tmp_path / "m").iterdir()} == {
        "model.safetensors",
        "model.json",
        "MODEL_CARD.md",
        "splits.json",
        "training.csv",
    }
    assert all(name in said.err for name in (*REGIONS, *CELLS))
    assert done["images"] == {"train": ["drawn-0"], "validation": ["drawn-1"]}
    assert set(done["thresholds"]) == set(CELLS)


def test_same_seed_same_model(project: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        folder = tmp_path / name / "model"
        main(
            [
                "train",
                str(project),
                "--output",
                str(folder),
                "--epochs",
                "2",
                "--pixel-size",
                "0.5",
                "--seed",
                "7",
            ]
        )
        digests.append(json.loads((folder / "model.json").read_text())["digest"])

    assert digests[0] == digests[1]


def test_analyse_writes_what_qupath_reads_and_evaluate_scores_it(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(project), "--model", str(model), "--pixel-size", "0.5", "--json"]

    assert (
        main(["analyse", *common, "--output", str(tmp_path), "--tile-size", "64", "--batch-size", "2"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert main(["evaluate", *common, "--output", str(tmp_path / "evaluation")]) == 0
    scores = json.loads(capsys.readouterr().out)

    assert [image["name"] for image in found["images"]] == ["drawn-0", "drawn-1", "drawn-2"]
    objects = read_objects(Path(found["images"][0]["geojson"]))
    assert {obj.object_type for obj in objects} == {ObjectType.ANNOTATION, ObjectType.DETECTION}
    assert all(obj.id and (origin := provenance(obj)) and origin.run == found["run"] for obj in objects)
    assert not any(is_persons(obj) for obj in objects)
    labels = tifffile.imread(found["images"][0]["labels"])
    assert labels.shape == (192, 192)
    assert set(np.unique(labels)) <= set(range(len(REGIONS)))
    assert not (tmp_path / "journal").exists()
    assert list(scores["images"]) == ["drawn-2"]
    assert scores["paths"] == {
        "page": str(tmp_path / "evaluation" / "evaluation.html"),
        "scores": str(tmp_path / "evaluation" / "evaluation.json"),
    }
    assert all(Path(path).is_file() for path in scores["paths"].values())
    assert set(scores["regions"]) == set(REGIONS)
    assert set(scores["cells"]) == set(CELLS)
    assert scores["cells"]["Lymphocyte"].keys() >= {"f1", "precision", "recall", "ap"}


def test_a_result_beside_the_annotations_is_not_learnt_from(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    main(["analyse", str(folder), "--model", str(model), "--pixel-size", "0.5"])
    for result in (folder / "results").glob("*.geojson"):
        shutil.copy(result, folder / "annotations" / result.name)
    capsys.readouterr()

    code = main(
        ["train", str(folder), "--output", str(tmp_path / "m"), "--epochs", "1", "--pixel-size", "0.5"]
    )

    assert code == 3
    assert "annotat" in capsys.readouterr().err


def test_a_persons_file_in_the_way_is_not_overwritten(project: Path, model: Path, tmp_path: Path) -> None:
    drawn = (project / "annotations" / "drawn-0.geojson").read_bytes()
    (tmp_path / "drawn-0.geojson").write_bytes(drawn)
    image = project / "images" / "drawn-0.png"

    code = main(
        ["analyse", str(image), "--model", str(model), "--output", str(tmp_path), "--pixel-size", "0.5"]
    )

    assert code == 6
    assert (tmp_path / "drawn-0.geojson").read_bytes() == drawn
    assert not (tmp_path / "journal").exists()  # it was found before anything was computed


@pytest.mark.parametrize("name", ["drawn-0.geojson", "drawn-0.labels.tif"])
def test_a_folder_in_the_way_is_a_conflict_too(
    name: str, project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    image = project / "images" / "drawn-0.png"

    code = main(
        ["analyse", str(image), "--model", str(model), "--output", str(tmp_path), "--pixel-size", "0.5"]
    )

    assert code == 6
    assert name in capsys.readouterr().err


def test_a_full_disk_ends_the_run_instead_of_failing_every_image(
    project: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageError("no space left on device")

    monkeypatch.setattr("tissuebridge.cli.analyse.write_objects", full)

    code = main(
        ["analyse", str(project), "--model", str(model), "--output", str(tmp_path), "--pixel-size", "0.5"]
    )

    assert code == 7


def test_one_bad_image_does_not_stop_the_others(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    (folder / "images" / "drawn-1.png").write_bytes(b"not an image")

    code = main(["analyse", str(folder), "--model", str(model), "--pixel-size", "0.5", "--json"])

    done = json.loads(capsys.readouterr().out)
    assert code == 5
    assert list(done["failed"]) == ["drawn-1"]
    assert len(done["images"]) == 2


@pytest.mark.parametrize(
    ("mode", "dtype", "fragment"),
    [("L", np.uint8, "RGB"), ("I;16", np.uint16, "16"), ("CMYK", np.uint8, "CMYK")],
)
def test_images_of_other_kinds_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, dtype: type, fragment: str
) -> None:
    path = tmp_path / "odd.tif"
    shape = (64, 64, 4) if mode == "CMYK" else (64, 64)
    Image.fromarray(np.zeros(shape, dtype), mode=None if mode != "CMYK" else "CMYK").save(path)

    code = main(["analyse", str(path), "--model", str(model), "--pixel-size", "0.5"])

    assert code == 3
    assert fragment in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.geojson"))


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["analyse", "nowhere", "--model", "MODEL"], 2, "nowhere"),
        (["analyse", "PROJECT", "--model", "nowhere", "--pixel-size", "0.5"], 3, "train"),
        (["analyse", "PROJECT", "--model", "MODEL"], 5, "--pixel-size"),
        (["analyse", "PROJECT", "--model", "MODEL", "--pixel-size", "0"], 2, "--pixel-size"),
        (["analyse", "PROJECT", "--model", "MODEL", "--pixel-size", "0.5", "--tile-size", "0"], 2, "tile"),
        (["analyse", "PROJECT", "--server", "127.0.0.1:1"], 4, "server"),
        (["evaluate", "PROJECT", "--model", "MODEL", "--pixel-size", "0.5", "--split", "best"], 2, "best"),
        (["train", "PROJECT", "--output", "OUT", "--minutes", "1", "--epochs", "1"], 2, "--minutes"),
        (["train", "PROJECT", "--output", "OUT", "--epochs", "0"], 2, "epochs"),
        (["train", "PROJECT", "--output", "OUT", "--preset", "huge"], 2, "preset"),
        (["train", "PROJECT", "--output", "OUT"], 3, "--pixel-size"),
        (["serve", "--model", "nowhere"], 3, "train"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said(
    project: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    fragment: str,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # a server may be running on this machine
    places = {"PROJECT": str(project), "MODEL": str(model), "OUT": str(tmp_path / "out")}

    got = main([places.get(word, word) for word in arguments])

    said = capsys.readouterr()
    assert fragment in said.err
    assert got == code, said.err
    assert "Traceback" not in said.err
    shutil.rmtree(project / "results", ignore_errors=True)


def test_a_project_without_annotations_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path, "only", 0, 64)
    shutil.rmtree(tmp_path / "annotations")

    code = main(["train", str(tmp_path), "--output", str(tmp_path / "m"), "--pixel-size", "0.5"])

    assert code == 3
    assert "GeoJSON" in capsys.readouterr().err
    assert not (tmp_path / "m" / "model.json").exists()


def test_a_model_of_other_classes_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path, "only", 0, 64)
    path = tmp_path / "annotations" / "only.geojson"
    text = path.read_text()
    for name in (*REGIONS, *CELLS):
        text = text.replace(f'"{name}"', f'"Other {name}"')
    path.write_text(text)

    code = main(["evaluate", str(tmp_path), "--model", str(model), "--pixel-size", "0.5"])

    assert code == 3
    assert "Other" in capsys.readouterr().err


def test_a_changed_model_is_refused(
    project: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "model.safetensors").write_bytes(weights)

    code = main(["analyse", str(project), "--model", str(copy), "--pixel-size", "0.5"])

    assert code == 3
    assert "changed" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_analysis_ends_with_130_and_goes_on_later(model: Path, tmp_path: Path) -> None:
    write_image(tmp_path, "large", 1, 1024)
    image = tmp_path / "images" / "large.png"
    arguments = ["analyse", str(image), "--model", str(model), "--pixel-size", "0.5", "--tile-size", "256"]
    running = subprocess.Popen(
        [*SUBPROCESS, *arguments, "--output", str(tmp_path / "out")],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "out" / "journal" / "large"
    while not (journal.exists() and list(journal.glob("*.strip"))):
        assert running.poll() is None

    running.send_signal(signal.SIGINT)

    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("*.geojson"))
    finished = len(list(journal.glob("*.strip")))
    assert finished > 0
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert main([*arguments, "--output", str(tmp_path / "straight")]) == 0
    names = [f"{folder}/large.labels.tif" for folder in ("out", "straight")]
    assert (tmp_path / names[0]).read_bytes() == (tmp_path / names[1]).read_bytes()


@pytest.mark.slow
def test_killed_again_and_again_it_goes_on_and_ends_with_the_same_bytes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path, "large", 1, 1024)
    image, journal, random = (
        tmp_path / "images" / "large.png",
        tmp_path / "killed" / "journal" / "large",
        Random(5),
    )
    arguments = ["analyse", str(image), "--model", str(model), "--pixel-size", "0.5", "--tile-size", "128"]
    finished: dict[str, int] = {}
    while len(finished) < 4:
        running = subprocess.Popen(
            [*SUBPROCESS, *arguments, "--output", str(tmp_path / "killed")], env=ENVIRONMENT
        )
        while len(list(journal.glob("*.strip"))) <= len(finished) and running.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.15))
        running.kill()
        running.wait()
        written = {path.name: path.stat().st_mtime_ns for path in journal.glob("*.strip")}
        assert finished.items() <= written.items()  # not computed again
        finished = written
    found = {}
    for name in ("killed", "straight"):
        assert main([*arguments, "--output", str(tmp_path / name), "--json"]) == 0
        run = json.loads(capsys.readouterr().out)["run"]
        text = (tmp_path / name / "large.geojson").read_text()
        found[name] = (text.replace(run, "RUN"), (tmp_path / name / "large.labels.tif").read_bytes())

    assert found["killed"] == found["straight"]


def test_a_batch_says_how_long_it_will_take(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tissuebridge.cli.console.TELL_TIME_S", 0.0)
    for name in ("a", "b", "c"):
        write_image(tmp_path, name, 1, 64)

    assert main(["analyse", str(tmp_path), "--model", str(model), "--pixel-size", "0.5"]) == 0

    said = capsys.readouterr().err
    assert "1 of 3 images; about 1 min left" in said
    assert "2 of 3 images; about 1 min left" in said
    assert "3 of 3" not in said


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tissuebridge ")
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("demo", "train", "analyse", "evaluate", "serve"))


def test_a_command_loads_nothing_that_only_others_need() -> None:
    """Nobody wants to wait for plots and servers, or for torch, where nothing is computed."""
    script = """
import sys
from tissuebridge.cli import main
main(["analyse", "--help"])
print(sorted({"torch", "lightning", "matplotlib", "grpc", "tissuebridge.spatial"} & sys.modules.keys()))
"""
    found = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )

    assert found.stdout.splitlines()[-1] == "[]"


def test_a_misspelt_command_is_told_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analize"]) == 2
    assert "analyse" in capsys.readouterr().err
