"""SIGKILL at every step of a write-back's and an undo's file work, twice in a row: no object lost, none doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked after the imports, for speed")
@pytest.mark.parametrize("start", [1, 2, 3])
def test_killed_anywhere_the_same_command_completes_with_nothing_lost(tmp_path: Path, start: int) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "killed.py"), str(tmp_path), str(start), "3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path])},
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 20
