"""`tissuebridge demo`: the whole way on one real image, from nothing but the install.

The image's left two thirds are learnt from, a strip is left out, and the right third is held out. The way of the
data: sample -> proposals for the part that is learnt from -> their review -> folder project -> training -> analysis of
the whole image -> measures on the held-out part, beside those of the obvious -> GeoJSON, label map, pictures, page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.demo.pictures import part_picture, whole_picture
from tissuebridge.demo.review import Reviewed, propose_into, reviewed
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
from tissuebridge.geojson_write import about_of
from tissuebridge.objects import PathObject
from tissuebridge.pipeline import Analysis, write_label_map
from tissuebridge.project.folder import PROPOSALS, FolderImage, FolderProject, open_image
from tissuebridge.proposals.files import check_proposals_file
from tissuebridge.proposals.review import state_of
from tissuebridge.report.overlay import save_png
from tissuebridge.report.page import write_page
from tissuebridge.training import Numbers, Progress, TrainingOptions, check_writable, train
from tissuebridge.training_set import build_training_set

__all__ = ["LEARNING", "run_demo", "told"]

NAME: Final = "immunohistochemistry"
LEARNING: Final = TrainingOptions(
    preset="compact",
    epochs=50,
    settings={"training": {"crop_px": 128, "learning_rate": 2e-3}, "targets": {"diameters_um": 5.0}},
)
"""Many small crops, since there is only one image and little time; wide heat, since its nuclei are long.

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
        part), "review" (what became of the proposals), "found" (counts in the whole image), "steps", and "paths".

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
    found("proposing regions and nuclei, to be reviewed")
    project, review = _reviewed_project(files, image, annotations)
    trained = train(project, files.model, learning, Progress(found, step))
    predictor = LocalPredictor.load(files.model)
    found("finding regions and nuclei in the whole image")
    analysis = found_in(open_image(files.image, PIXEL_SIZE_UM).images[0], predictor)
    found("measuring on the held-out part")
    obvious = ObviousPredictor(predictor.description, build_training_set(project).summary)
    result = {
        "measures": measured(project, predictor),
        "baselines": measured(project, obvious),
        "review": review.counts,
        "found": {"cells": dict(analysis.summary.cells), "regions": dict(analysis.summary.regions)},
        "steps": trained["steps"],
        "paths": files.as_dict(),
    }
    held_out = next(part for part in project.images if part.name == HELD_OUT.name)
    pictures = _pictures(image, annotations, analysis, found_in(held_out, predictor), review)
    _write_results(files, analysis, result, pictures)
    return result


def _reviewed_project(
    files: Files, image: NDArray[np.uint8], annotations: list[PathObject]
) -> tuple[FolderProject, Reviewed]:
    """The whole image, and the two parts as a folder project, as a person would have it after the review.

    First the bare part is proposed for; then its annotations say what is accepted, and what of them is still drawn by
    hand is written.
    """
    save_png(files.image, image)
    drawn = {part: part.objects(annotations, len(image)) for part in (LEARN, HELD_OUT)}
    place = files.project / PROPOSALS / f"{LEARN.name}.geojson"
    check_proposals_file(place)
    place.unlink(missing_ok=True)
    bare = files.project / "images" / f"{LEARN.name}.png"
    save_png(bare, LEARN.pixels(image))
    review = reviewed(propose_into(place, FolderImage(bare, None, PIXEL_SIZE_UM)), drawn[LEARN])
    write_objects(place, review.objects, about=about_of(place))
    parts = [
        ("train", LEARN.name, LEARN.pixels(image), review.by_hand),
        ("test", HELD_OUT.name, HELD_OUT.pixels(image), drawn[HELD_OUT]),
    ]
    return write_project(files.project, parts), review


def _pictures(
    image: NDArray[np.uint8],
    annotations: list[PathObject],
    whole: Analysis,
    held_out: Analysis,
    review: Reviewed,
) -> Pictures:
    drawn = HELD_OUT.objects(annotations, len(image))
    return Pictures(
        proposed=part_picture(LEARN, image, review.proposed),
        accepted=part_picture(LEARN, image, [obj for obj in review.objects if state_of(obj) != "proposed"]),
        image=whole_picture(image, []),
        found=whole_picture(image, whole.objects()),
        held_out=part_picture(HELD_OUT, image, []),
        held_out_marked=part_picture(HELD_OUT, image, drawn),
        held_out_found=part_picture(HELD_OUT, image, held_out.objects()),
    )


def _write_results(files: Files, analysis: Analysis, result: dict[str, Any], pictures: Pictures) -> None:
    write_objects(files.geojson, analysis.objects(), about=analysis.about())
    write_label_map(files.labels, analysis)
    save_png(files.overlay, pictures.found)
    write_page(files.page, "tissuebridge: demo", sections(result, pictures))
