"""The house rules that tools can keep: formatting, types, layers, and the public claims of README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
    ],
    ids=" ".join,
)
def test_tools_find_nothing(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_imports_keep_to_the_layers() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("module", ["client", "project.folder", "geojson", "pipeline", "cli"])
def test_imports_without_torch(module: str) -> None:
    code = f"import sys, tissuebridge.{module}; sys.exit('torch' in sys.modules)"
    search = f"import sys; sys.path[:0] = {[str(ROOT / 'bridge'), str(ROOT / 'model')]!r}; "

    done = subprocess.run([sys.executable, "-c", search + code], timeout=120, check=False)

    assert done.returncode == 0


def test_generated_code_is_what_the_protos_give(tmp_path: Path) -> None:
    protos = sorted(path.relative_to(ROOT / "protos") for path in (ROOT / "protos").rglob("*.proto"))
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", *outs, *map(str, protos)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)

    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*.py*")}
    there = (ROOT / "bridge" / "tissuebridge" / "rpc" / "v1").glob("*_pb2*.py*")
    assert made == {path.relative_to(ROOT / "bridge"): path.read_text() for path in there}
