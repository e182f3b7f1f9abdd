"""The course of a training, a row each time it tells how it stands: CSV always, TensorBoard on request.

Comes in from `training`; goes to people, spreadsheets and plots.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from tissuemodel.atomic import whole_file

COLUMNS: Final = (
    "step",
    "epoch",
    "seconds",
    "loss",
    "regression",
    "segmentation",
    "sigma_regression",
    "sigma_segmentation",
    "learning_rate",
    "validation_loss",
)
"""Steps done, passes done, time since the start, losses (eq. 6, 3, 4), both sigmas (eq. 5), Adam's rate."""

Row = Mapping[str, float | int | None]


class TrainingLog:
    """A CSV file of the training with `COLUMNS`; each row is on its way to the disk before `write` returns.

    Args:
        path: The file; its folder is made.
        append_after: Goes on after this step: rows of later steps, which are going to be made again, and an
            incomplete last line are dropped. None starts a new file.

    Raises:
        OSError: The file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "training.csv")
    ...     with TrainingLog(path) as log:
    ...         log.write({"step": 1, "loss": 0.5})
    ...     with TrainingLog(path, append_after=0) as log:
    ...         log.write({"step": 1, "loss": 0.25})
    ...     print(path.read_text(), end="")
    step,epoch,seconds,loss,regression,segmentation,sigma_regression,sigma_segmentation,learning_rate,validation_loss
    1,,,0.25,,,,,,
    """

    def __init__(self, path: Path, *, append_after: int | None = None) -> None:
        kept = [] if append_after is None else _rows_until(path, append_after)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(_text(kept).encode())
        self._file = path.open("a", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")

    def write(self, row: Row) -> None:
        """Adds a row; columns that are None or left out stay empty.

        Raises:
            OSError: The disk is full, ...
            ValueError: There is no such column.
        """
        self._rows.writerow(dict(row))
        self._file.flush()

    def close(self) -> None:
        """Ends the log; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class TensorBoardLog:
    """The same rows as curves in TensorBoard.

    Args:
        folder: For TensorBoard's event files.
        append_after: Goes on after this step; TensorBoard hides what an interrupted training wrote later.

    Raises:
        ImportError: TensorBoard is not installed.
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, *, append_after: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("TensorBoard is not installed; pip install tensorboard") from error
        purge = None if append_after is None else append_after + 1
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge)

    def write(self, row: Row) -> None:
        """Adds a point to the curve of each column that is not None.

        Raises:
            ValueError: There is no such column, or no step.
        """
        if row.get("step") is None or set(row) - set(COLUMNS):
            raise ValueError(f"a row has a step and nothing but {', '.join(COLUMNS)}: {dict(row)}")
        for column, value in row.items():
            if column != "step" and value is not None:
                self._writer.add_scalar(column, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Ends the log; may be called twice."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The complete rows of an earlier log up to a step; none where there is no log."""
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return []
    complete = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(complete, newline=""))
    return [row for row in rows if (row.get("step") or "").isdecimal() and int(row["step"]) <= step]


def _text(rows: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    # Columns of another version are left out instead of stopping a training.
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
