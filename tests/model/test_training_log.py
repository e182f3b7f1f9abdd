"""The log of a training is a table that survives interruptions."""

import csv
from pathlib import Path

import pytest

from tissuemodel.training_log import COLUMNS, TensorBoardLog, TrainingLog


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_rows_are_on_the_disk_before_the_log_is_closed(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "new" / "log.csv") as log:
        log.write({"step": 1, "loss": 0.5, "regression": None})

        assert rows(tmp_path / "new" / "log.csv") == [
            dict.fromkeys(COLUMNS, "") | {"step": "1", "loss": "0.5"}
        ]


def test_a_new_log_replaces_an_old_one(tmp_path: Path) -> None:
    for loss in (0.5, 0.25):
        with TrainingLog(tmp_path / "log.csv") as log:
            log.write({"step": 1, "loss": loss})

    assert [row["loss"] for row in rows(tmp_path / "log.csv")] == ["0.25"]


def test_going_on_drops_later_rows_and_an_incomplete_line(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.csv") as log:
        for step in (10, 20, 30):
            log.write({"step": step, "loss": 1 / step})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("25,1,3.")

    with TrainingLog(tmp_path / "log.csv", append_after=20) as log:
        log.write({"step": 25, "loss": 0.1})

    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["10", "20", "25"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"step,unknown\n5,x\n", b"no header\n"])
def test_going_on_in_a_file_of_another_kind_does_not_stop_a_training(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.csv").write_bytes(content)

    with TrainingLog(tmp_path / "log.csv", append_after=9) as log:
        log.write({"step": 10})

    assert rows(tmp_path / "log.csv")[-1]["step"] == "10"


def test_unknown_columns_are_refused(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.csv") as log, pytest.raises(ValueError, match="accuracy"):
        log.write({"step": 1, "accuracy": 1.0})


def test_tensorboard_reads_the_curves_and_forgets_what_an_interrupted_training_wrote_later(
    tmp_path: Path,
) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TensorBoardLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write({"step": step, "loss": step / 100, "regression": None})
    with TensorBoardLog(tmp_path, append_after=20) as log:
        log.write({"step": 25, "loss": 0.5})

    found = reading.EventAccumulator(str(tmp_path)).Reload()

    assert found.Tags()["scalars"] == ["loss"]
    assert [(event.step, round(event.value, 2)) for event in found.Scalars("loss")] == [
        (10, 0.1),
        (20, 0.2),
        (25, 0.5),
    ]


def test_a_row_for_tensorboard_needs_a_step_and_known_columns(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with TensorBoardLog(tmp_path) as log:
        for row in ({"loss": 1.0}, {"step": 1, "accuracy": 1.0}):
            with pytest.raises(ValueError, match="a step"):
                log.write(row)


def test_without_tensorboard_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)

    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)
