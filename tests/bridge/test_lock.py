"""One writer at a time: two real processes, a crash, and a folder that is free again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tissuebridge.errors import Conflict, StorageError
from tissuebridge.lock import LOCK_FILE, locked

HOLDER = """
import sys, time
from pathlib import Path
from tissuebridge.lock import locked
with locked(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_second_process_is_refused_and_a_crash_frees_the_folder(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    try:
        with (
            pytest.raises(Conflict, match="a training is already under way here"),
            locked(tmp_path, "a training"),
        ):
            pass
    finally:
        ended(holder)

    with locked(tmp_path, "a training"):
        pass


def test_it_leaves_nothing_behind_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(3):
        with locked(tmp_path / "new", "a test"):
            with pytest.raises(Conflict), locked(tmp_path / "new", "a test"):
                pass
            assert (tmp_path / "new" / LOCK_FILE).exists()
        assert list((tmp_path / "new").iterdir()) == []


def test_a_place_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")

    with pytest.raises(StorageError, match="file"), locked(tmp_path / "file", "a test"):
        pass
