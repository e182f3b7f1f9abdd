"""Packs the scripts for QuPath into the wheel, and the client's jar where one is built that is of these sources.

Nothing is built here, and nothing downloaded: `tissuebridge install-qupath --build-client` runs Maven.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCRIPTS = "tissuebridge/qupath/scripts"


class ScriptsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds `qupath_scripts` to a wheel; an editable install has the checkout itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Says which files go where."""
        if version == "editable":
            return
        scripts = Path(self.root) / "qupath_scripts"
        packed = {str(path): f"{SCRIPTS}/{path.name}" for path in sorted(scripts.glob("*.groovy"))}
        target = scripts / "client" / "target"
        digest = target / "tissuebridge-client.sources.sha256"
        jar = target / "tissuebridge-client.jar"
        if (
            jar.is_file()
            and digest.is_file()
            and digest.read_text("utf-8") == _sources_digest(Path(self.root))
        ):
            packed[str(jar)] = f"{SCRIPTS}/{jar.name}"
        build_data["force_include"].update(packed)


def _sources_digest(root: Path) -> str:
    """`tissuebridge.qupath.sources`, by its path: the package itself cannot be imported while it is being built."""
    spec = importlib.util.spec_from_file_location("sources", root / "bridge/tissuebridge/qupath/sources.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("bridge/tissuebridge/qupath/sources.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.sources_digest(root / "qupath_scripts"))
