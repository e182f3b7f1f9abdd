"""What the demo tells a person: the page's sections, and a few lines for the terminal.

The demo's result (plain values) and its pictures come in; sections for `report.page` and text go out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.demo.sample import PIXEL_SIZE_UM
from tissuebridge.evaluation import TOLERANCE_PX
from tissuebridge.report.page import Content, Picture, Section, Table, Text, Value

_DOES: Final = (
    "One network learnt regions and nuclei from reviewed proposals and a person's few outlines and dots in the left "
    "two thirds of this image, and was then asked about all of it. The right third was held out: the network never saw "
    "it, and only there is it measured. The strip between them is used for neither."
)
_BASELINE: Final = (
    "The obvious: every pixel is of the region class that covers most of the annotated area; nuclei are dark "
    "components of haematoxylin (colour deconvolution, Otsu's threshold), all of the class that is most frequent."
)
_REVIEWED: Final = (
    "Nobody starts from an empty image: colours and a wavelet filter propose regions and nuclei, and a person accepts "
    "them as a class, rejects them, and draws what is missing. Here the person is the demo's set of annotations: a "
    "nucleus is accepted on a dot, rejected where they are complete and have none near; a region is accepted "
    "where it lies in an area drawn as one class. The network learns from what was accepted and what was drawn."
)
_LIMITS: Final = (
    "One image, one network, a few minutes: this shows that all parts work together, not how well the method does. "
    "For nuclei of any class, a stain filter that is tuned by hand comes near the network on this image. "
    "Both parts are of the same tissue section, so a new slide is harder. The image is scikit-image's and comes "
    f"without a pixel size; {PIXEL_SIZE_UM} µm is an assumption. The annotations were made for this demo, and not by a "
    "pathologist."
)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The page's pictures, each uint8 (row, col, 3)."""

    proposed: NDArray[np.uint8]
    accepted: NDArray[np.uint8]
    image: NDArray[np.uint8]
    found: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    held_out_marked: NDArray[np.uint8]
    held_out_found: NDArray[np.uint8]


def sections(result: Mapping[str, Any], pictures: Pictures) -> list[Section]:
    """The page's sections.

    Args:
        result: What `run_demo` returns.
        pictures: All that it shows.
    """
    return [
        Section("What was found", [Text(_DOES), *_whole(pictures)]),
        Section("First: proposals, and what a person made of them", _review(result["review"], pictures)),
        Section(
            "How good is it?",
            [
                region_table(result),
                cell_table(result),
                Text(f"A nucleus counts as found within {TOLERANCE_PX:g} px of a marked one. {_BASELINE}"),
            ],
        ),
        Section("The held-out part: marked and found", _held_out(pictures)),
        Section("What this does not show", [Text(_LIMITS)]),
        Section("Files", [_files(result["paths"])]),
    ]


def told(result: Mapping[str, Any]) -> str:
    """The result for the terminal: measures beside the obvious, and where to look.

    Args:
        result: What `run_demo` returns.
    """
    rows = [
        ("regions, mean F1", "macro", "regions_f1"),
        ("nuclei by class, mean F1", "macro", "cells_f1"),
        ("nuclei of any class, F1", "detection", "f1"),
    ]
    nuclei = result["review"]["nuclei"]
    lines = [
        f"{nuclei['proposed']} nuclei proposed: {nuclei['accepted']} accepted, {nuclei['rejected']} rejected; "
        f"{nuclei['dotted by hand']} dotted by hand",
        "",
        f"{'on the held-out part':26} model  the obvious",
    ]
    for text, group, key in rows:
        model, obvious = result["measures"][group][key], result["baselines"][group][key]
        lines.append(f"{text:26} {model or 0:5.3f}  {obvious or 0:11.3f}")
    paths = result["paths"]
    shown = ("page", "overlay", "geojson", "labels", "model", "project")
    return "\n".join([*lines, "", *(f"{name:8} {paths[name]}" for name in shown)])


def region_table(result: Mapping[str, Any]) -> Table:
    """Regions: F1 of pixels for each class, beside the obvious."""
    model, obvious = result["measures"]["regions"], result["baselines"]["regions"]
    rows: list[list[Value]] = [[name, scores["f1"], obvious[name]["f1"]] for name, scores in model.items()]
    mean = [result[which]["macro"]["regions_f1"] for which in ("measures", "baselines")]
    return Table(
        "Regions, held-out part, by pixels", ["Class", "F1", "F1 of the obvious"], [*rows, ["Mean", *mean]]
    )


def cell_table(result: Mapping[str, Any]) -> Table:
    """Nuclei: F1, precision, recall and average precision for each class, beside the obvious."""
    model, obvious = result["measures"], result["baselines"]
    keys = ("f1", "precision", "recall", "ap")
    rows: list[list[Value]] = [
        [name, *(scores[key] for key in keys), obvious["cells"][name]["f1"]]
        for name, scores in model["cells"].items()
    ]
    any_class = model["detection"]
    return Table(
        "Nuclei, held-out part, one-to-one matches",
        ["Class", "F1", "Precision", "Recall", "Average precision", "F1 of the obvious"],
        [
            *rows,
            ["Mean", model["macro"]["cells_f1"], None, None, None, obvious["macro"]["cells_f1"]],
            ["Any class", *(any_class[key] for key in keys[:3]), None, obvious["detection"]["f1"]],
        ],
    )


def _review(counts: Mapping[str, Mapping[str, int]], pictures: Pictures) -> list[Content]:
    columns = ("proposed", "accepted", "rejected", "left", "dotted by hand")
    rows: list[list[Value]] = [
        [name.capitalize(), *(found.get(column) for column in columns)] for name, found in counts.items()
    ]
    return [
        Text(_REVIEWED),
        Table("What became of the proposals", ["", *(name.capitalize() for name in columns)], rows),
        Picture(
            pictures.proposed,
            "The part that is learnt from, with proposed regions outlined and proposed nuclei ringed.",
            "Proposed, without any training: regions of one colour, nuclei by haematoxylin, positive by DAB.",
        ),
        Picture(
            pictures.accepted,
            "The same part with the accepted regions and nuclei in their classes, and the rejected nuclei.",
            "Decided: accepted as a class, or rejected as 'Not a cell*'. All others teach nothing.",
        ),
    ]


def _whole(pictures: Pictures) -> list[Picture]:
    return [
        Picture(
            pictures.found,
            "The whole image with outlines of the regions that were found, and a ring round each nucleus found.",
            "What was found: regions outlined, a ring round each nucleus.",
        ),
        Picture(
            pictures.image,
            "The stained image: brown epithelium round white lumina, blue nuclei in pale stroma.",
            "The image. Immunohistochemistry, DAB (brown) and haematoxylin (blue).",
        ),
    ]


def _held_out(pictures: Pictures) -> list[Picture]:
    return [
        Picture(pictures.held_out, "The held-out part of the image.", "The image."),
        Picture(
            pictures.held_out_marked,
            "The held-out part with a person's outlines and dots.",
            "Marked by a person: outlines, and a dot on each nucleus. Where nothing is outlined, nothing is measured.",
        ),
        Picture(
            pictures.held_out_found,
            "The held-out part with the network's outlines and rings.",
            "Found by the network, which saw this part alone and none of the marks.",
        ),
    ]


def _files(paths: Mapping[str, str]) -> Table:
    what = {
        "geojson": "What was found, as objects for QuPath (drag it onto the image there)",
        "labels": "The label map, exact to the pixel",
        "overlay": "The picture above",
        "image": "The whole image",
        "project": "The two parts with their annotations, as a folder project",
        "model": "The trained model",
    }
    return Table(
        "Written by the demo", ["File", "What it is"], [[paths[name], text] for name, text in what.items()]
    )
