"""What a checkpoint remembers of its training, so that its card can say it: data, time, hardware, versions, measures.

Called by `training` when the network is trained; plain values go into `model.json`, where `model_card` reads them.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tissuebridge import __version__
from tissuebridge.project.base import Project
from tissuebridge.training_set import TrainingSet

if TYPE_CHECKING:
    from tissuemodel.training import Trained

_READ_BYTES: Final = 1 << 20
LIBRARIES: Final = ("torch", "lightning", "numpy", "opencv-python-headless", "scipy", "scikit-image")
"""Those whose version can change what a training gives."""


def record_of(project: Project, preset: str, training_set: TrainingSet, trained: Trained) -> dict[str, Any]:
    """The record of a training, as plain JSON values.

    Args:
        project: What was learnt from.
        preset: Name of the preset.
        training_set: What was learnt from, in pieces.
        trained: The network, with its thresholds chosen.
    """
    from tissuemodel.calibration import validation_scores
    from tissuemodel.colours import COLOURS_KEY, usual_colours

    classes = training_set.classes.labels
    held_out = training_set.validation
    return {
        "description": ", ".join((*classes.regions, *classes.cells)),
        "project": project.name,
        "preset": preset,
        "seed": trained.config.training.seed,
        "images": {part: list(names) for part, names in training_set.images.items()},
        "split": training_set.split.how,
        "sources": sources_of(project, training_set),
        "found": training_set.summary.as_dict(),
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "precision": trained.config.training.precision,
        "duration_s": round(trained.seconds, 1),
        "hardware": hardware(),
        "interrupted": trained.is_interrupted,
        "resumed_from_step": trained.resumed_from or None,
        "validation_loss": trained.validation_loss,
        "thresholds_from": "validation" if held_out else "training images (no others)",
        "validation": validation_scores(trained.network, trained.config, held_out) if held_out else None,
        COLOURS_KEY: usual_colours(training_set.train, training_set.pixel_size_um),
        "version": __version__,
        "versions": {"Python": platform.python_version()}
        | {name: metadata.version(name) for name in LIBRARIES},
    }


def sources_of(project: Project, training_set: TrainingSet) -> list[dict[str, Any]]:
    """Each image that was learnt from or validated on, with the sha256 of its files.

    Files that cannot be read again, and images that are no local files, have no digest.
    """
    used = {name for names in training_set.images.values() for name in names}
    sources = []
    for image in project.images:
        if image.name in used:
            digests = {"sha256": _sha256(image.files[:1]), "annotations_sha256": _sha256(image.files[1:])}
            sources.append({"image": image.name, **digests})
    return sources


def hardware() -> str:
    """What computes here, in a few words."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _contents(path: Path) -> Iterable[Path]:
    """The file itself, or all files of an image that is a folder."""
    return sorted(inside for inside in path.rglob("*") if inside.is_file()) if path.is_dir() else [path]


def _sha256(paths: Sequence[Path]) -> str | None:
    """Of the files' contents, one after the other; None without a file, or where one cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in chain.from_iterable(_contents(path) for path in paths):
            with path.open("rb") as file:
                while block := file.read(_READ_BYTES):
                    digest.update(block)
    except OSError:
        return None
    return digest.hexdigest() if paths else None
