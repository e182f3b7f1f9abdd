"""`tissuebridge demo`: the whole way on one real image, from nothing but the install.

The image's left two thirds are learnt from, a strip is left out, and the right third is held out. The way of the
data: sample -> folder project -> training -> analysis of the whole image -> measures on the held-out part, beside
those of the obvious -> GeoJSON, label map, pictures, page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.demo.pictures import held_out_picture, whole_picture
from tissuebridge.demo.sample import (
    HELD_OUT,
    LEARN,
    PIXEL_SIZE_UM,
    load_annotations,
    load_image,
    write_project,
)
from tissuebridge.demo.story import Pictures, sections, told
from tissuebridge.geojson import write_objects
from tissuebridge.objects import PathObject
from tissuebridge.pipeline import Analysis, write_label_map
from tissuebridge.project.folder import FolderProject, open_image
from tissuebridge.report.overlay import save_png
from tissuebridge.report.page import write_page
from tissuebridge.training import Numbers, Progress, TrainingOptions, check_writable, train
from tissuebridge.training_set import build_training_set

__all__ = ["LEARNING", "run_demo", "told"]

NAME: Final = "immunohistochemistry"
LEARNING: Final = TrainingOptions(
    preset="compact", epochs=50, settings={"training": {"crop_px": 128, "learning_rate": 2e-3}}
)
"""Many small crops, since there is only one image and little time.

Chosen on the part that is learnt from, one half of it against the other; the held-out part had no say."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything that the demo writes lies."""

    project: Path
    model: Path
    image: Path
    geojson: Path
    labels: Path
    overlay: Path
    page: Path

    @staticmethod
    def under(output: Path) -> Files:
        """The places in an output folder."""
        results = output / "results"
        return Files(
            project=output / "project",
            model=output / "model",
            image=output / f"{NAME}.png",
            geojson=results / f"{NAME}.geojson",
            labels=results / f"{NAME}.labels.tif",
            overlay=output / "overlay.png",
            page=output / "report.html",
        )

    def as_dict(self) -> dict[str, str]:
        """Absolute paths as text."""
        return {name: str(getattr(self, name).resolve()) for name in self.__dataclass_fields__}


def run_demo(
    output: Path,
    *,
    found: Callable[[str], None] = lambda _text: None,
    step: Callable[[int, int, Numbers], None] = lambda _done, _steps, _numbers: None,
    learning: TrainingOptions = LEARNING,
) -> dict[str, Any]:
    """Learns, finds, measures, and writes everything a person may want to look at.

    Args:
        output: Folder for all files; an earlier demo's are replaced.
        found: Told what is being done, in words.
        step: Told of each training step: (steps done, steps in all, losses and sigmas).
        learning: How the network is trained.

    Returns:
        Plain JSON values: "measures" and "baselines" ("regions", "cells", "macro", "detection", all on the held-out
        part), "found" (counts in the whole image), "steps", and "paths".

    Raises:
        Conflict: A file of that name in the folder is a person's.
        StorageError: The folder cannot be written.
    """
    from tissuebridge.demo.measures import found_in, measured
    from tissuebridge.demo.obvious import ObviousPredictor
    from tissuebridge.predictor.local import LocalPredictor

    check_writable(output)
    files = Files.under(output)
    image, annotations = load_image(), load_annotations()
    project = _write_project(files, image, annotations)
    trained = train(project, files.model, learning, Progress(found, step))
    predictor = LocalPredictor.load(files.model)
    found("finding regions and nuclei in the whole image")
    analysis = found_in(open_image(files.image, PIXEL_SIZE_UM).images[0], predictor)
    found("measuring on the held-out part")
    obvious = ObviousPredictor(predictor.description, build_training_set(project).summary)
    result = {
        "measures": measured(project, predictor),
        "baselines": measured(project, obvious),
        "found": {"cells": dict(analysis.summary.cells), "regions": dict(analysis.summary.regions)},
        "steps": trained["steps"],
        "paths": files.as_dict(),
    }
    held_out = next(part for part in project.images if part.name == HELD_OUT.name)
    _write_results(
        files, analysis, result, _pictures(image, annotations, analysis, found_in(held_out, predictor))
    )
    return result


def _write_project(files: Files, image: NDArray[np.uint8], annotations: list[PathObject]) -> FolderProject:
    """The whole image, and the two parts as a folder project, as a person would lay them out."""
    save_png(files.image, image)
    parts = [
        (split, part.name, part.pixels(image), part.objects(annotations, len(image)))
        for split, part in (("train", LEARN), ("test", HELD_OUT))
    ]
    return write_project(files.project, parts)


def _pictures(
    image: NDArray[np.uint8], annotations: list[PathObject], whole: Analysis, held_out: Analysis
) -> Pictures:
    drawn = HELD_OUT.objects(annotations, len(image))
    return Pictures(
        image=whole_picture(image, []),
        found=whole_picture(image, whole.objects()),
        held_out=held_out_picture(image, []),
        held_out_marked=held_out_picture(image, drawn),
        held_out_found=held_out_picture(image, held_out.objects()),
    )


def _write_results(files: Files, analysis: Analysis, result: dict[str, Any], pictures: Pictures) -> None:
    write_objects(files.geojson, analysis.objects(), about=analysis.about())
    write_label_map(files.labels, analysis)
    save_png(files.overlay, pictures.found)
    write_page(files.page, "tissuebridge: demo", sections(result, pictures))
