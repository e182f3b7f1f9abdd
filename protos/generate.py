"""Writes the Python code of the contract: `python protos/generate.py` after every change of a .proto file.

The folder of the .proto files equals the package that the code goes to, so that imports in the generated code
work as they are. The versions are pinned (grpcio-tools and mypy-protobuf in the extra `test`): older
generated code runs on newer runtimes, not the reverse. A test compares what is committed with what this
writes.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent
PACKAGE_ROOT = PROTOS.parent / "bridge"


def generate(target: Path) -> None:
    """Writes the code of every .proto file below `target`, in folders named like the package.

    Raises:
        RuntimeError: The compiler refused a file; it has said why on standard error.
    """
    sources = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    names = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    plugins = [f"--plugin={name}={_beside_python(name)}" for name in names]
    if protoc.main(["protoc", f"--proto_path={PROTOS}", *plugins, *outputs, *sources]) != 0:
        raise RuntimeError("protoc refused the .proto files; see above")


def _beside_python(program: str) -> str:
    """The plugin of this environment, also where the environment is not on the PATH."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    found = shutil.which(program, path=os.pathsep.join(folders))
    if found is None:
        raise RuntimeError(f"{program} is missing: pip install -e .[test]")
    return found


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE_ROOT)
