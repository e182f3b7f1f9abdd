"""What the client's jar is built from, as one digest; imports nothing of ours: the wheel's build reads it by path."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sources_digest(scripts: Path) -> str:
    """A digest of all that the jar is built from; the wheel packs a jar only where it is that of its sources.

    Args:
        scripts: The folder `qupath_scripts` of a checkout.
    """
    root = scripts.parent
    sources = [scripts / "client" / "pom.xml"]
    sources += (root / "bridge/tissuebridge/project/paquo").glob("*.groovy")
    sources += (scripts / "client" / "src").rglob("*.java")
    sources += (scripts / "lib").rglob("*.groovy")
    sources += (root / "protos").rglob("*.proto")
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
