"""The course of a training: how long it is, what it tells, when it saves and when it stops.

Stands beside `objective` in Lightning's loop: after each step the length is asked, the person is told, rows go to the
log, the state goes to the disk, and a stop that somebody asked for is obeyed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from lightning.pytorch.callbacks import Callback

from tissuemodel.objective import MultitaskTraining
from tissuemodel.training_log import Row
from tissuemodel.validation import Validation

LOG_EVERY_STEPS: Final = 10
SAVE_EVERY_S: Final = 60.0
"""A kill costs at most so much of the training."""
SAME_WISH_S: Final = 1.0
"""A second signal that soon is the first one, passed on twice."""


class Log(Protocol):
    """Where rows go: `training_log`'s."""

    def write(self, row: Row) -> None:
        """Adds a row."""
        ...

    def close(self) -> None:
        """Ends the log."""
        ...


@dataclass(frozen=True, slots=True)
class Reports:
    """Where a training tells how it stands.

    Attributes:
        progress: Called after each step with (steps done, steps in all, what the log has of the step); may raise.
        open_logs: Called once with the step after which the training begins, None for one from scratch; gives what gets
            a row every ten steps, at every validation and at the end.
        state: File in which the training can be resumed; None keeps none.
        save_every_s: How often the state is saved.
    """

    progress: Callable[[int, int, Row], None] = lambda _done, _steps, _row: None
    open_logs: Callable[[int | None], Sequence[Log]] = lambda _after: ()
    state: Path | None = None
    save_every_s: float = SAVE_EVERY_S


class Length:
    """How long a training is: a number of steps, or a time.

    Time is not turned into steps beforehand: the first steps of a process, and those beside other work, take
    several times longer than the rest, and the plan would be as wrong.

    Args:
        steps: Number of steps; None where time decides.
        seconds: Time from the first question on; only looked at without `steps`.
        done: Steps done before, by an interrupted training.
        spent: Seconds spent on them.
        agreed: What all processes of a training are to believe instead of what one of them says.
    """

    def __init__(
        self,
        steps: int | None,
        seconds: float = 0.0,
        *,
        done: int = 0,
        spent: float = 0.0,
        agreed: Callable[[float], float] = lambda value: value,
    ) -> None:
        self.steps, self.done, self.agreed = steps, done, agreed
        self._seconds, self._spent = seconds, spent
        self._started: float | None = None

    def part_done(self, steps: int) -> float:
        """How much is done after so many steps more, from 0 to 1.

        >>> Length(steps=4).part_done(1)
        0.25
        """
        if self.steps is not None:
            return min(1.0, (self.done + steps) / max(1, self.steps))
        return self.agreed(min(1.0, self.elapsed() / self._seconds))

    def elapsed(self) -> float:
        """Seconds of training, also before an interruption."""
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        return self._spent + now - self._started

    @property
    def left(self) -> int:
        """Steps that are left; -1 where time decides."""
        return -1 if self.steps is None else max(0, self.steps - self.done)


class StopRequest:
    """Whether somebody asked the training to stop: it then ends after the step it is in.

    Attributes:
        is_set: Somebody did.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._since_s = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Remembers who gets Ctrl-C and SIGTERM now, and gives them back to them at the end."""
        if threading.current_thread() is threading.main_thread():
            self._before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            self._leave()

    def listen(self) -> None:
        """Takes the first signal from now on as the wish to stop; a later one goes to who had it before."""
        for kind in self._before:
            signal.signal(kind, self._stop)

    def _stop(self, kind: int, frame: Any) -> None:
        if not self.is_set:
            self.is_set, self._since_s = True, time.monotonic()
            return
        # A shell and a supervisor may both pass one Ctrl-C on: what comes at once is the same wish.
        if time.monotonic() - self._since_s < SAME_WISH_S:
            return
        before = self._before[signal.Signals(kind)]
        self._leave()
        if callable(before):
            before(kind, frame)
        elif before == signal.SIG_DFL:
            signal.raise_signal(kind)

    def _leave(self) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)


class Course(Callback):  # type: ignore[misc]
    """Follows a training step by step.

    Args:
        length: How long it is.
        steps_per_epoch: Steps of one pass.
        reports: Whom to tell; of a process that only helps: nobody.
        logs: What gets rows.
        validation: The loss on other examples, and when it says that it is enough.
        stop: Whether somebody wants it to end.
        save: Writes the state, given (steps done, seconds); None keeps none.
    """

    def __init__(
        self,
        length: Length,
        steps_per_epoch: int,
        reports: Reports,
        logs: Sequence[Log] = (),
        validation: Validation | None = None,
        stop: StopRequest | None = None,
        save: Callable[[int, float], None] | None = None,
    ) -> None:
        self._length, self._per_epoch, self._reports, self._logs = length, steps_per_epoch, reports, logs
        self._validation, self._stop, self._save = validation, stop or StopRequest(), save
        self.steps = length.done
        self.is_interrupted = False
        self._rows = _Means()
        self._saved = time.monotonic()

    def on_train_start(self, trainer: Any, module: MultitaskTraining) -> None:
        """Lightning has put handlers of its own in place just before; they would end the training in mid-step."""
        self._stop.listen()

    def on_train_batch_end(
        self, trainer: Any, module: MultitaskTraining, outputs: Any, batch: Any, index: int
    ) -> None:
        """After each step."""
        self.steps += 1
        if module.average is not None:
            module.average.update_parameters(module.network)
        part = self._length.part_done(self.steps - self._length.done)
        row = self._row(trainer, module, outputs)
        validated = self._validated(module, part)
        is_enough = validated is not None and self._validation is not None and self._validation.is_enough
        is_over = self._length.agreed(float(part >= 1 or self._stop.is_set or is_enough)) > 0
        self._tell(row, part, validated, is_over)
        if is_over:
            self.is_interrupted = part < 1 and not is_enough
            trainer.should_stop = True
        if self._save and self._is_time_to_save(is_over):
            self._save(self.steps, self._length.elapsed())
            self._saved = time.monotonic()

    def _row(self, trainer: Any, module: MultitaskTraining, outputs: Any) -> dict[str, float | int | None]:
        losses: dict[str, float | None] = {
            key: None if (value := outputs.get(key)) is None else float(value)
            for key in ("regression", "segmentation")
        }
        losses["loss"] = float(trainer.strategy.reduce(outputs["loss"].detach(), reduce_op="mean"))
        regression, segmentation = module.sigmas()
        return {
            "step": self.steps,
            "epoch": self.steps // self._per_epoch,
            "seconds": round(self._length.elapsed(), 3),
            **losses,
            "sigma_regression": regression,
            "sigma_segmentation": segmentation,
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }

    def _validated(self, module: MultitaskTraining, part: float) -> float | None:
        """The validation loss, at the end of a pass where it is wanted."""
        if self._validation is None or self.steps % self._per_epoch or not self._validation.is_due(part):
            return None
        return self._validation.loss_of(module, part)

    def _tell(
        self, row: dict[str, float | int | None], part: float, validated: float | None, is_over: bool
    ) -> None:
        self._rows.add(row)
        if self.steps % LOG_EVERY_STEPS == 0 or validated is not None or is_over:
            mean = self._rows.taken() | {"validation_loss": validated}
            for log in self._logs:
                log.write(mean)
        in_all = self._length.steps or max(self.steps, round(self.steps / max(part, 1e-6)))
        self._reports.progress(self.steps, in_all, row)

    def _is_time_to_save(self, is_over: bool) -> bool:
        return is_over or time.monotonic() - self._saved >= self._reports.save_every_s


class _Means:
    """Rows of the log, of which the losses are means over the steps since the row before."""

    _MEANS = ("loss", "regression", "segmentation")

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._last: dict[str, float | int | None] = {}

    def add(self, row: dict[str, float | int | None]) -> None:
        self._last = row
        for key in self._MEANS:
            if (value := row[key]) is not None:
                self._values.setdefault(key, []).append(float(value))

    def taken(self) -> dict[str, float | int | None]:
        """The row; the next one begins anew."""
        means = {key: sum(values) / len(values) for key, values in self._values.items()}
        self._values = {}
        return self._last | {key: means.get(key) for key in self._MEANS}
