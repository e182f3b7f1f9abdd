"""A training in a process of its own: `python -m tissuebridge.server.training_job`, which `trainer` starts.

The order comes as one line of JSON on standard input, what happens goes as lines of JSON to standard output. When
standard input ends, because somebody stops the training or because the server died, it ends after its step, with a
model that can be used and a state that it can go on from.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from tissuebridge import training
from tissuebridge.errors import Cancelled, TissuebridgeError
from tissuebridge.project.folder import FolderProject
from tissuebridge.server.training_sets import CASE_PATTERN
from tissuebridge.splits import SplitOptions

TELL_EVERY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What is to be trained.

    Attributes:
        training_set: Folder of images with GeoJSON.
        output: Folder for the model, named as the model.
        preset: "paper" or "compact".
        minutes: About so long.
        epochs: Or so many passes.
        seed: None for the settings' or 0.
        settings: From `settings.settings_of`.
        restart: Begin anew.
    """

    training_set: str
    output: str
    preset: str = "compact"
    minutes: float | None = None
    epochs: int | None = None
    seed: int | None = None
    settings: Mapping[str, Any] | None = None
    restart: bool = False


def run(order: JobOrder, tell: Callable[[Mapping[str, Any]], None], stop: threading.Event) -> None:
    """Trains, and tells how it goes.

    Args:
        order: What.
        tell: Takes {"told": text}, {"done", "total", "numbers"}, and in the end {"ended": ...} or {"failed": ...}.
        stop: Set when it is to end.
    """
    told = 0.0

    def found(text: str) -> None:
        if stop.is_set():
            raise Cancelled("stopped before the first step")
        tell({"told": text})

    def step(done: int, total: int, numbers: training.Numbers) -> None:
        nonlocal told
        if stop.is_set():
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C would: the one way in which a training ends early
        if time.monotonic() - told >= TELL_EVERY_S or done == total:
            told = time.monotonic()
            values = {name: float(value) for name, value in numbers.items() if value is not None}
            tell({"done": done, "total": total, "numbers": values})

    options = training.TrainingOptions(
        preset=order.preset,
        minutes=order.minutes,
        epochs=order.epochs,
        seed=order.seed,
        settings=order.settings or {},
        splitting=SplitOptions(CASE_PATTERN),
        restart=order.restart,
    )
    try:
        project = FolderProject(Path(order.training_set))
        done = training.train(project, Path(order.output), options, training.Progress(found, step))
        tell({"ended": {key: done[key] for key in ("digest", "interrupted", "thresholds")}})
    except TissuebridgeError as error:
        tell({"failed": {"kind": type(error).__name__, "message": str(error)}})


def main() -> None:
    """What the process does."""
    # Libraries print; the lines are ours alone.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    order = JobOrder(**json.loads(sys.stdin.readline()))
    stop = threading.Event()
    threading.Thread(target=_wait_for_end, args=(sys.stdin, stop), daemon=True).start()
    run(order, lambda line: print(json.dumps(line), file=out, flush=True), stop)
    out.close()
    # The thread may hang in its read; nothing is left to be done.
    sys.stderr.flush()
    os._exit(0)


def _wait_for_end(stream: TextIO, stop: threading.Event) -> None:
    while stream.readline():
        pass
    stop.set()


if __name__ == "__main__":
    main()
