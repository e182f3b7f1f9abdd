"""Programs that save and are killed, for `test_kill_while_saving`; torch is imported once, each victim is a fork.

`python saving.py states FILE` forks a saver at each line on its input and tells its process id and what it saved.
`python saving.py models FOLDER` kills savers of models at each step that a save takes on the disk, twice in a row.
"""

import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

import torch

from tissuemodel.checkpoint import Checkpoint, build_network, make_checkpoint, save_checkpoint
from tissuemodel.config import ModelConfig, NetworkConfig
from tissuemodel.state import TrainingState, load_state, save_state

KILLED = 9
LENGTH = 100_000


def model(seed: int) -> Checkpoint:
    torch.manual_seed(seed)
    config = ModelConfig(("Tumor",), (), {}, 0.5, network=NetworkConfig((3, 4)))
    return make_checkpoint(f"model {seed}", config, build_network(config), {})


def state(step: int) -> TrainingState:
    """Large enough for a kill to meet it half written; its tensors tell whether they are of its step."""
    return TrainingState({f"{i}": torch.full((LENGTH,), float(step)) for i in range(10)}, {"step": step})


def save_states(path: Path) -> None:
    """Goes on from the state on the disk until killed; says which step is safe after each save."""
    first = load_state(path).about["step"] + 1 if path.exists() else 0
    for step in count(first):
        save_state(state(step), path)
        os.write(1, b"%d\n" % step)


def serve_states(path: Path) -> None:
    for _line in sys.stdin:
        victim = os.fork()
        if not victim:
            save_states(path)
        os.write(1, b"pid %d\n" % victim)
        os.waitpid(victim, 0)
        os.write(1, b"dead\n")


def die_at(point: int, folder: Path) -> None:
    """Ends this process before its `point`-th step on the disk, without any clean-up; a sync also loses data."""
    steps, real_sync = count(), os.fsync

    def step() -> bool:
        return next(steps) == point

    def sync(descriptor: int) -> None:
        if step():
            if not Path(f"/proc/self/fd/{descriptor}").is_dir():
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os._exit(KILLED)
        real_sync(descriptor)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        on_disk = event in ("open", "os.rename", "os.remove")
        if on_disk and str(arguments[0]).startswith(str(folder)) and step():
            os._exit(KILLED)

    os.fsync = sync
    sys.addaudithook(hook)


def killed(checkpoint: Checkpoint, folder: Path, point: int) -> bool:
    """Whether saving has that many steps, and so was killed."""
    victim = os.fork()
    if not victim:
        die_at(point, folder)
        save_checkpoint(checkpoint, folder)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]) == KILLED


def kill_everywhere(base: Path) -> None:
    """Folders `KIND-FIRST-SECOND`: a save killed at its FIRST step, then another one at its SECOND."""
    for kind in ("new", "replaced"):
        for first in count():
            for second in count(first % 4, 4):
                folder = base / f"{kind}-{first:02}-{second:02}"
                folder.mkdir()
                if kind == "replaced":
                    save_checkpoint(model(0), folder)
                more = killed(model(1), folder, first)
                if not killed(model(2), folder, second):
                    break
            if not more:
                break


if __name__ == "__main__":
    {"states": serve_states, "models": kill_everywhere}[sys.argv[1]](Path(sys.argv[2]))
