"""kill -9 at any moment of a save leaves a good state and a good model (RELIABILITY, F5)."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tissuemodel.checkpoint import load_checkpoint, save_checkpoint
from tissuemodel.saved_model import CONFIG_FILE, WEIGHTS_FILE, CheckpointError
from tissuemodel.state import load_state, save_state

sys.path.insert(0, str(Path(__file__).parent))
from saving import model, state

PROGRAM = Path(__file__).with_name("saving.py")
SHARED_MEMORY = Path("/dev/shm")  # another file system than the tests' folders

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


@contextmanager
def server(mode: str, path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), mode, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.communicate()
        assert process.returncode == 0


def kill_once(process: "subprocess.Popen[str]", after_saves: int, delay_s: float) -> int:
    """Kills a saver a while after it has saved so often; the last step it said was safe."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    victim = int(process.stdout.readline().split()[1])
    safe = -1
    for _ in range(after_saves):
        safe = int(process.stdout.readline())
    time.sleep(delay_s)
    os.kill(victim, signal.SIGKILL)
    for line in process.stdout:
        if line == "dead\n":
            break
        safe = int(line)
    return safe


@pytest.mark.parametrize("temporary", ["same file system", "other file system"])
def test_a_state_survives_thirty_kills_of_its_saver(
    tmp_path: Path, temporary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if temporary == "other file system":
        if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no other file system for temporary files")
        monkeypatch.setenv("TMPDIR", str(SHARED_MEMORY))
    path, moments = tmp_path / "state.safetensors", random.Random(5)

    with server("states", path) as process:
        for _kill in range(15):
            safe = kill_once(process, after_saves=1, delay_s=moments.uniform(0, 0.02))
            found = load_state(path)

            step = found.about["step"]
            assert step in (safe, safe + 1)  # the last one may have come to the disk without being told
            assert all(bool((tensor == step).all()) for tensor in found.tensors.values())

    save_state(state(99), path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_model_survives_a_kill_at_every_step_of_its_saving_twice_in_a_row(tmp_path: Path) -> None:
    with server("models", tmp_path):
        pass

    digests = {model(seed).digest: seed for seed in range(3)}
    folders = sorted(tmp_path.iterdir())
    seen = set()
    for folder in folders:
        try:
            checkpoint = load_checkpoint(folder)
        except CheckpointError:
            # Only where there was no model before may there be none afterwards.
            assert folder.name.startswith("new")
            seen.add("none")
        else:
            seen.add(str(digests[checkpoint.digest]))
            assert all(
                bool(torch.isfinite(value).all()) for value in checkpoint.network.state_dict().values()
            )

        save_checkpoint(model(0), folder)
        assert {entry.name for entry in folder.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}

    assert len(folders) > 50
    assert seen == {"none", "0", "1", "2"}
