"""Trainings that clients order: one at a time, each in a child process, whose model the server then serves.

The place on disk: `sets/NAME` (what clients sent), `unfinished/NAME` (a training that runs or was stopped),
`models/NAME` (served from then on), `older/NAME-DIGEST` (the model that another of the same name took the place of).
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import platformdirs

from tissuebridge.errors import ModelError, TissuebridgeError, UsageError, kind_named
from tissuebridge.files import storage_error
from tissuebridge.model_card import CARD_FILE
from tissuebridge.predictor.base import Predictor
from tissuebridge.project.split_file import SPLITS_FILE
from tissuebridge.server.call import Busy
from tissuebridge.server.training_job import JobOrder
from tissuebridge.server.training_sets import TrainingSet
from tissuebridge.training import LOG_FILE as COURSE_FILE
from tissuebridge.training import STATE_FILE
from tissuemodel.saved_model import CONFIG_FILE, WEIGHTS_FILE

_log = logging.getLogger(__name__)

LOG_FILE: Final = "job.log"
STOP_S: Final = 30.0
"""So long a training may take for its last step when the server ends."""
_MODEL_FILES: Final = (WEIGHTS_FILE, CONFIG_FILE, SPLITS_FILE, CARD_FILE, COURSE_FILE)


class Job:
    """A training that is under way, or has ended.

    Args:
        name: The model's.
        order: What is trained.
        ended: Called from its own thread when it has ended well, before anybody else hears of the end.
    """

    def __init__(self, name: str, order: JobOrder, ended: Callable[[], None]) -> None:
        self.name, self._ended, self._order = name, ended, order
        self._changed = threading.Condition()
        self._told: list[str] = []
        self._progress: Mapping[str, Any] | None = None
        self._end: Mapping[str, Any] | None = None
        self._error: TissuebridgeError | None = None
        self._process = self._started()
        self._thread = threading.Thread(target=self._read, name="training", daemon=True)
        self._thread.start()

    def _started(self) -> subprocess.Popen[bytes]:
        log = Path(self._order.output) / LOG_FILE
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tissuebridge.server.training_job"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                )  # fmt: skip
        except OSError as error:
            raise storage_error(log, error) from error
        if process.stdin is None:
            raise TissuebridgeError("the training's process has no input")
        process.stdin.write(json.dumps(asdict(self._order)).encode() + b"\n")
        process.stdin.flush()
        return process

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self._end is not None or self._error is not None

    def stop(self) -> None:
        """Has it end after its step."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Waits for its end; after that it is killed, and goes on some day from its last saved state."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._process.kill()
            self._thread.join()

    def updates(self, is_watched: Callable[[], bool]) -> Iterator[Mapping[str, Any]]:
        """What was told, from its first words on; then how it goes, until it ends.

        Raises:
            TissuebridgeError: What it failed of.
        """
        heard = 0
        seen: Mapping[str, Any] | None = None
        while is_watched():
            with self._changed:
                self._changed.wait_for(partial(self._is_news, heard, seen), 1.0)
                texts, progress, over = self._told[heard:], self._progress, self.is_over
            for text in texts:
                yield {"told": text}
            if progress is not None and progress is not seen:
                yield progress
            heard, seen = heard + len(texts), progress
            if over and heard == len(self._told):
                break
        if self._error is not None:
            raise self._error
        if self._end is not None:
            yield {"ended": self._end}

    def _is_news(self, heard: int, seen: Mapping[str, Any] | None) -> bool:
        return len(self._told) > heard or self._progress is not seen or self.is_over

    def _read(self) -> None:
        end: Mapping[str, Any] | None = None
        error: TissuebridgeError | None = None
        for line in self._process.stdout or ():
            said = json.loads(line)
            if "ended" in said:
                end = said["ended"]
            elif "failed" in said:
                error = kind_named(said["failed"]["kind"])(said["failed"]["message"])
            else:
                self._tell(said)
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        if end is None and error is None:
            error = ModelError(
                f"the training's process ended with code {code}{_last_words(Path(self._order.output) / LOG_FILE)}. "
                "Start it again: it goes on from where it was last saved"
            )
        try:
            if end is not None:
                self._ended()
        except TissuebridgeError as trouble:
            error = trouble
        with self._changed:
            self._end, self._error = end if error is None else None, error
            self._changed.notify_all()

    def _tell(self, said: Mapping[str, Any]) -> None:
        with self._changed:
            if "told" in said:
                self._told.append(said["told"])
            else:
                self._progress = said
            self._changed.notify_all()


class Trainer:
    """Training sets, trainings and trained models in one place.

    Args:
        place: A folder of the server's own.
        load: Makes a predictor of a model's folder.
        serve: Takes a trained model into the server's list.
    """

    def __init__(
        self, place: Path, load: Callable[[Path], Predictor], serve: Callable[[str, Predictor], None]
    ) -> None:
        self._place, self._load, self._serve = place, load, serve
        self._lock = threading.Lock()
        self._job: Job | None = None

    def training_set(self, name: str) -> TrainingSet:
        """The set of a name that `convert` has checked."""
        return TrainingSet(self._place / "sets" / name)

    @property
    def training_sets(self) -> list[str]:
        """Names of the sets that there are."""
        return _folders(self._place / "sets")

    @property
    def models(self) -> list[str]:
        """Names of the trained models."""
        return _folders(self._place / "models")

    @property
    def job(self) -> Job | None:
        """The training that is under way, or the last one."""
        return self._job

    def serve_trained(self, taken: Iterable[str]) -> None:
        """Takes all trained models into the server's list, but for names that are taken; what is damaged is logged."""
        for name in sorted(set(self.models) - set(taken)):
            try:
                self._serve(name, self._load(self._place / "models" / name))
            except TissuebridgeError as error:
                _log.warning("the trained model %s is not served: %s", name, error)

    def start(self, name: str, set_name: str, order: JobOrder) -> Job:
        """Starts a training.

        Args:
            name: The model's.
            set_name: The training set's.
            order: The rest; folders are filled in.

        Raises:
            Busy: One is under way.
            UsageError: There is no such set.
            StorageError: It cannot be written.
        """
        folder = self.training_set(set_name).folder
        if not (folder / "images").is_dir():
            known = ", ".join(self.training_sets) or "none"
            raise UsageError(f"there is no training set {set_name!r} with annotated images; there is {known}")
        with self._lock:
            if self._job is not None and not self._job.is_over:
                raise Busy(f"the model {self._job.name!r} is being trained; wait for its end, or stop it")
            output = self._place / "unfinished" / name
            self._job = Job(
                name,
                replace(order, training_set=str(folder), output=str(output)),
                lambda: self._install(name),
            )
            return self._job

    def stop(self) -> None:
        """Ends what is under way, when the server ends."""
        if self._job is not None and not self._job.is_over:
            self._job.stop()
            self._job.wait(STOP_S)

    def _install(self, name: str) -> None:
        """Serves what was trained; an older model of that name is put aside."""
        trained, model = self._place / "unfinished" / name, self._place / "models" / name
        try:
            fresh = self._place / "models" / f".{name}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            for file in _MODEL_FILES:
                if (trained / file).is_file():
                    shutil.copy2(trained / file, fresh / file)
            self._put_aside(model)
            fresh.rename(model)
            if not (trained / STATE_FILE).exists():
                shutil.rmtree(trained)
        except OSError as error:
            raise storage_error(model, error) from error
        self._serve(name, self._load(model))

    def _put_aside(self, model: Path) -> None:
        if not model.exists():
            return
        weights = json.loads((model / CONFIG_FILE).read_bytes()).get("weights_sha256", "unknown")
        older = self._place / "older" / f"{model.name}-{weights[:16]}"
        older.parent.mkdir(exist_ok=True)
        if older.exists():
            shutil.rmtree(model)
        else:
            model.rename(older)


def default_training_place() -> Path:
    """The user's own folder for what scripts train."""
    return platformdirs.user_data_path("tissuebridge", appauthor=False) / "training"


def _folders(place: Path) -> list[str]:
    found = place.iterdir() if place.is_dir() else ()
    return sorted(path.name for path in found if path.is_dir() and not path.name.startswith("."))


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1][:200]})" if lines else ""
