"""`tissuebridge train` as its users give it: interrupted, resumed, set by a file, asked without doing it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drawn_project import REGIONS, write_project
from tissuebridge import training
from tissuebridge.cli import main
from tissuebridge.project.folder import FolderProject
from tissuebridge.settings import read_settings
from tissuemodel.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[3]
SUBPROCESS = [sys.executable, "-c", "from tissuebridge.cli import run; run()"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "bridge"), str(ROOT / "model")])}
SMALL = """
[network]
widths = [4, 8, 8]

[training]
crop_px = 32
batch_size = 2
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("project"))
    (folder / "small.toml").write_text(SMALL)
    return folder


def command(project: Path, output: Path, *more: str, epochs: int = 1) -> list[str]:
    fixed = ["--output", str(output), "--pixel-size", "0.5", "--settings", str(project / "small.toml")]
    return ["train", str(project), *fixed, "--epochs", str(epochs), "--json", *more]


def stop_after(arguments: list[str], output: Path, rows: int) -> subprocess.CompletedProcess[str]:
    """Gives a command and, once its log has so many rows, a Ctrl-C."""
    process = subprocess.Popen(
        [*SUBPROCESS, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    log, deadline = output / "training.csv", time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > rows):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def digest(folder: Path) -> str:
    return str(json.loads((folder / "model.json").read_text())["digest"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a process")
def test_ctrl_c_leaves_a_usable_model_and_the_same_command_finishes_it_exactly(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = 20
    assert main(command(project, tmp_path / "straight" / "m", epochs=epochs)) == 0
    arguments = command(project, tmp_path / "m", epochs=epochs)

    stopped = stop_after(arguments, tmp_path / "m", rows=3)

    assert stopped.returncode == 130
    assert "the same command goes on" in stopped.stderr
    assert json.loads(stopped.stdout)["interrupted"] is True
    assert load_checkpoint(tmp_path / "m").record["interrupted"] is True
    assert "was interrupted" in (tmp_path / "m" / "MODEL_CARD.md").read_text()
    assert (tmp_path / "m" / "training.safetensors").exists()

    capsys.readouterr()
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "going on after step" in said.err
    assert json.loads(said.out)["interrupted"] is False
    assert not (tmp_path / "m" / "training.safetensors").exists()
    assert digest(tmp_path / "m") == digest(tmp_path / "straight" / "m")
    log = (tmp_path / "m" / "training.csv").read_text()
    steps = [int(row["step"]) for row in csv.DictReader(log.splitlines())]
    assert steps == sorted(set(steps))


def unfinished(project: Path, output: Path) -> None:
    """A training that a Ctrl-C stopped in its first step."""

    def interrupt(done: int, _steps: int, _numbers: training.Numbers) -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    options = training.TrainingOptions(epochs=20, settings=read_settings(project / "small.toml"))
    progress = training.Progress(step=interrupt)
    assert training.train(FolderProject(project, 0.5), output, options, progress)["interrupted"]


def test_an_unfinished_training_of_other_settings_is_in_the_way_until_one_says_restart(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished(project, tmp_path / "m")

    assert main(command(project, tmp_path / "m", "--seed", "5")) == 6
    assert "--restart" in capsys.readouterr().err
    assert (tmp_path / "m" / "training.safetensors").exists()
    assert main(command(project, tmp_path / "m", "--seed", "5", "--restart")) == 0
    assert not (tmp_path / "m" / "training.safetensors").exists()


def test_a_damaged_unfinished_training_is_refused_with_the_cure(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "training.safetensors").write_bytes(b"no state")

    assert main(command(project, tmp_path / "m")) == 3
    assert "--restart" in capsys.readouterr().err


def test_the_card_and_the_record_tell_what_the_model_was_trained_on(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(project, tmp_path / "m")) == 0

    done = json.loads(capsys.readouterr().out)
    card = (tmp_path / "m" / "MODEL_CARD.md").read_text()
    images = {source["image"]: source for source in done["sources"]}
    assert set(images) == {"drawn-0", "drawn-1"}
    png = (project / "images" / "drawn-0.png").read_bytes()
    annotations = (project / "annotations" / "drawn-0.geojson").read_bytes()
    assert images["drawn-0"]["sha256"] == hashlib.sha256(png).hexdigest()
    assert images["drawn-0"]["annotations_sha256"] == hashlib.sha256(annotations).hexdigest()
    assert images["drawn-0"]["sha256"] in card
    assert done["split"] in card.replace("\\", "")
    assert done["validation"]["images"] == 1
    assert done["parameters"] == sum(p.numel() for p in load_checkpoint(tmp_path / "m").network.parameters())
    assert f"`{digest(tmp_path / 'm')}`" in card


def test_settings_count_less_than_what_is_named_beside_them(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[training]\nseed = 3\nepochs = 7\nminutes = 5\n\n[loss]\ngamma = 0\n")
    asked = ["train", str(project), "--output", str(tmp_path / "m"), "--pixel-size", "0.5", "--dry-run"]

    assert main([*asked, "--settings", str(settings), "--json"]) == 0
    from_file = json.loads(capsys.readouterr().out)["config"]
    assert main([*asked, "--settings", str(settings), "--json", "--epochs", "2", "--seed", "4"]) == 0
    named = json.loads(capsys.readouterr().out)["config"]

    assert [from_file["training"][key] for key in ("seed", "epochs", "minutes")] == [3, 7, 5]
    assert [named["training"][key] for key in ("seed", "epochs", "minutes")] == [4, 2, None]
    assert from_file["loss"]["gamma"] == named["loss"]["gamma"] == 0


def test_a_dry_run_says_what_there_is_and_writes_nothing(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(project, tmp_path / "m", "--dry-run")) == 0

    said = capsys.readouterr()
    assert json.loads(said.out)["images"] == {"train": ["drawn-0"], "validation": ["drawn-1"]}
    assert "splits.json says" in said.err
    assert not (tmp_path / "m").exists()


def test_splits_that_part_a_patient_of_the_table_are_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("image,patient\ndrawn-0,P1\ndrawn-1,P1\ndrawn-2,P2\n", encoding="utf-8")

    assert main(command(project, tmp_path / "m", "--dry-run", "--cases", str(table))) != 0

    assert "images of case 'P1' on different sides" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[training]\nepoch = 3\n", "training.epochs"),
        ("[training]\nearly_stop = 3\n", "no validation images"),
        ("[training]\ncrop_px = 33\n", "stride"),
        ("[network]\nwidths = []\n", "2 to 7"),
    ],
)
def test_impossible_settings_are_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, message: str
) -> None:
    folder = write_project(tmp_path / "project")
    (folder / "splits.json").write_text('{"train": ["drawn-0", "drawn-1"], "validation": []}')
    (tmp_path / "settings.toml").write_text(settings)

    asked = ["train", str(folder), "--output", str(tmp_path / "m"), "--pixel-size", "0.5", "--epochs", "1"]
    assert main([*asked, "--settings", str(tmp_path / "settings.toml")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m" / "model.json").exists()


def test_regions_alone_are_trained_validated_and_evaluated(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_project(tmp_path / "project")
    for path in (folder / "annotations").iterdir():
        features = json.loads(path.read_text())
        kept = [one for one in features["features"] if one["geometry"]["type"] == "Polygon"]
        kept = [one for one in kept if one["properties"]["classification"]["name"] in REGIONS]
        path.write_text(json.dumps(features | {"features": kept}))
    shutil.copyfile(project / "small.toml", folder / "small.toml")

    assert main(command(folder, tmp_path / "m")) == 0
    done = json.loads(capsys.readouterr().out)
    common = [str(folder), "--model", str(tmp_path / "m"), "--pixel-size", "0.5", "--json"]
    assert main(["evaluate", *common, "--output", str(tmp_path / "out")]) == 0

    assert done["validation"]["cells"] == {}
    assert done["validation_loss"] is not None
    assert set(json.loads(capsys.readouterr().out)["regions"]) == set(REGIONS)


@pytest.mark.parametrize("name", ["model.json", "training.csv"])
def test_a_persons_file_in_the_output_folder_stays(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text('{"type": "FeatureCollection", "features": []}')

    assert main(command(project, tmp_path / "m")) == 6
    assert "choose another --output" in capsys.readouterr().err
    assert "FeatureCollection" in (tmp_path / "m" / name).read_text()
    assert [path.name for path in (tmp_path / "m").iterdir()] == [name]
