"""The client's own tests (JUnit, against the real server), where Maven and its libraries are on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "qupath_scripts" / "client"


@pytest.mark.slow
def test_the_client_passes_its_own_tests(tmp_path: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("needs Maven (mvn)")
    # The command of the Python that runs these tests, whatever else is on the path.
    command = tmp_path / "tissuebridge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tissuebridge "$@"\n')
    command.chmod(0o755)
    place = tmp_path / "client"
    root = CLIENT.parents[1]
    for folder in ("qupath_scripts", "protos", "bridge/tissuebridge/project/paquo"):
        ignore = shutil.ignore_patterns("target", "__pycache__")
        shutil.copytree(root / folder, place / folder, ignore=ignore)

    done = subprocess.run(
        [maven, "-o", "-B", "test"],
        cwd=place / "qupath_scripts" / "client",
        env=os.environ | {"TISSUEBRIDGE": str(command)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )

    if "offline mode" in done.stdout or "in offline" in done.stdout:
        pytest.skip(
            "Maven has not the client's libraries yet: run `tissuebridge install-qupath --build-client` once"
        )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Tests run: 14" in done.stdout
    assert "Skipped: 0" in done.stdout
