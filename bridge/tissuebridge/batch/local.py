"""Processes on this machine that compute ahead of the one that writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self

from tissuebridge.batch.tasks import LOOK_S, Task, TilesDone
from tissuebridge.errors import ImageError, TissuebridgeError, kind_named

TRIES: Final = 3
"""A task whose worker dies is given to a new one so often in all; then the image is set aside."""


class LocalWorkers:
    """Worker processes, each with its share of the cores; a context manager.

    Args:
        tasks: In the order in which they will be waited for.
        count: How many processes.
    """

    def __init__(self, tasks: Sequence[Task], count: int) -> None:
        self._done = TilesDone()
        self._todo: SimpleQueue[Task] = SimpleQueue()
        self._ended: dict[str, dict[int, threading.Event]] = {}
        for task in tasks:
            self._ended.setdefault(task.image, {})[task.part] = threading.Event()
        self._errors: dict[str, TissuebridgeError] = {}
        self._closing = False
        for task in tasks:
            self._todo.put(task)
        self._processes: dict[int, subprocess.Popen[str]] = {}
        count = min(count, len(tasks))
        cores = str(max(1, (os.cpu_count() or 1) // max(count, 1)))
        shares = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self._environment = os.environ | dict.fromkeys(shares, cores)
        self._threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, image: str, watch: Callable[[int, int], None]) -> None:
        """Returns when an image's journal is filled; see `tasks.Workers`."""
        for ended in self._ended.get(image, {}).values():
            while not ended.wait(LOOK_S):
                self._done.tell(image, watch)
            if image in self._errors:
                raise self._errors[image]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the processes: at once where they have work left, whose finished strips stay in the journals."""
        self._closing = True
        for process in list(self._processes.values()):
            process.kill()
        for thread in self._threads:
            thread.join()

    def _work(self, place: int) -> None:
        while not self._closing:
            try:
                task = self._todo.get_nowait()
            except Empty:
                break
            error = self._computed(place, task)
            if error is not None:
                self._errors[task.image] = error
            self._ended[task.image][task.part].set()
        self._stop(place)

    def _computed(self, place: int, task: Task) -> TissuebridgeError | None:
        """Has a task computed, by another process where one dies of it; what went wrong, or None."""
        for _ in range(TRIES):
            process = self._process(place)
            try:
                return self._answer(process, task)
            except (OSError, EOFError, ValueError):
                self._stop(place)
                if self._closing:
                    break
        return ImageError(
            f"{task.image}: {TRIES} workers died of it (out of memory?); its finished strips are kept. "
            "Try it alone, with fewer workers or a smaller --tile-size"
        )

    def _answer(self, process: subprocess.Popen[str], task: Task) -> TissuebridgeError | None:
        if process.stdin is None or process.stdout is None:
            raise OSError("a worker without input or output")
        process.stdin.write(json.dumps(asdict(task)) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            said = json.loads(line)
            if "done" in said:
                return None
            if "failed" in said:
                return kind_named(said["failed"]["kind"])(said["failed"]["message"])
            self._done.heard(task.image, task.part, *said["tiles"])
        raise EOFError(process.poll())

    def _process(self, place: int) -> subprocess.Popen[str]:
        process = self._processes.get(place)
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                [sys.executable, "-m", "tissuebridge.batch.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=self._environment,
            )  # fmt: skip
            self._processes[place] = process
        return process

    def _stop(self, place: int) -> None:
        process = self._processes.pop(place, None)
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # it died with something unread
                    stream.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
