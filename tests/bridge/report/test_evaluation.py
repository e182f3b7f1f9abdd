"""The evaluation's page says what was measured, and its pictures show the mistakes where they are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

import oracle
from drawn_tissue import ArrayImage
from tissuebridge.evaluation import Evaluated, EvaluationOptions, measure
from tissuebridge.objects import CELLS_MARKED, PathClass, PathObject
from tissuebridge.predictor.base import ModelDescription, Prediction
from tissuebridge.report.curves import precision_recall_picture
from tissuebridge.report.evaluation import write_evaluation
from tissuebridge.report.mistakes import FALSE, FOUND, MISSED
from tissuebridge.report.worst import WorstImages

SIDE = 128
MODEL = ModelDescription(
    name="tiny <model>",
    digest="0123456789abcdef",
    region_classes=("Left", "Right"),
    cell_classes=("Dot",),
    colors={"Left": (200, 30, 30), "Right": (30, 30, 200)},
    pixel_size_um=0.5,
    stride=16,
    reach=0,
    pad_value=(255, 255, 255),
    cell_diameters_um=(5.0,),
    min_distance_um=(2.5,),
    thresholds=(0.5,),
    floor=0.1,
    cross_class_radius_um=None,
    mode_filter=False,
)
FOUND_AT, FALSE_AT, MISSED_AT = (30.5, 30.5), (90.5, 40.5), (40.5, 90.5)


@dataclass
class Told(oracle.Says):
    """A predictor that says what it is told, whatever it sees."""

    border: int = SIDE // 2
    dots: Sequence[tuple[float, float]] = (FOUND_AT, FALSE_AT)
    description: ModelDescription = MODEL


@dataclass
class Drawings:
    """A project of drawn images."""

    images: Sequence[ArrayImage]
    name: str = "drawings"
    splits: None = None


def image(name: str, border: int = SIDE // 2) -> ArrayImage:
    """Grey, completely labelled; regions meet at `border`, cells stand at two places."""
    drawn = [
        PathObject(shapely.box(0, 0, border, SIDE), path_class=PathClass("Left")),
        PathObject(shapely.box(border, 0, SIDE, SIDE), path_class=PathClass("Right")),
        PathObject(shapely.box(0, 0, SIDE, SIDE), path_class=PathClass(CELLS_MARKED)),
        PathObject(shapely.MultiPoint([FOUND_AT, MISSED_AT]), path_class=PathClass("Dot")),
    ]
    return ArrayImage(np.full((SIDE, SIDE, 3), 230, np.uint8), name=name, drawn=drawn)


def evaluated(
    images: Sequence[ArrayImage], options: EvaluationOptions | None = None, predictor: Told | None = None
) -> tuple[Evaluated, WorstImages]:
    worst = WorstImages()
    return measure(Drawings(images), predictor or Told(), options, seen=worst.add), worst


class Page(HTMLParser):
    """The page's text, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.sources, self.alts = "", [], []  # type: ignore[var-annotated]
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data + " "

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.sources += [values[key] for key in ("src", "srcset", "href") if values.get(key)]
        if tag == "img":
            self.alts.append(values.get("alt"))


def near(picture: NDArray[np.uint8], xy: tuple[float, float], color: tuple[int, int, int]) -> int:
    """Pixels of a colour within 12 px of a place of the image; the picture is enlarged."""
    scale = picture.shape[1] / SIDE
    x, y, reach = int(xy[0] * scale), int(xy[1] * scale), int(12 * scale)
    part = picture[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
    return int((np.abs(part.astype(int) - color).max(axis=2) < 40).sum())


def test_the_page_and_the_scores_are_written_and_agree(tmp_path: Path) -> None:
    result, worst = evaluated([image("a"), image("b", border=80), image("c")])

    written = write_evaluation(tmp_path, result, worst)

    scores = json.loads(written.scores.read_text())
    assert scores == json.loads(json.dumps(result.scores))
    page = Page(written.page.read_text())
    assert "tiny <model>" in page.text
    for name in ("Left", "Right", "Dot"):
        kind = "cells" if name == "Dot" else "regions"
        assert f"{scores[kind][name]['f1']:.3f}" in page.text
    assert f"{scores['regions']['Left']['border_f1']:.3f}" in page.text
    assert all(re.search(rf"\b{name}\b", page.text) for name in "abc")
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert all(page.alts)


def test_warnings_stand_on_the_page_and_what_the_image_was_used_for(tmp_path: Path) -> None:
    options = EvaluationOptions(learnt_from={"train": ["a"], "validation": ["b"]})
    result, worst = evaluated([image("a"), image("b")], options)

    page = Page(write_evaluation(tmp_path, result, worst).page.read_text())

    assert result.scores["warnings"]
    for warning in result.scores["warnings"]:
        assert warning in page.text
    assert "learnt from" in page.text
    assert "thresholds chosen on it" in page.text


def test_found_false_and_missed_cells_are_drawn_where_they_are() -> None:
    _, worst = evaluated([image("a")])

    picture = worst.cells[0].picture

    assert near(picture, FOUND_AT, FOUND) > 20
    assert near(picture, FALSE_AT, FALSE) > 20
    assert near(picture, MISSED_AT, MISSED) > 20
    assert near(picture, FOUND_AT, FALSE) == near(picture, FALSE_AT, FOUND) == 0


def test_wrong_regions_are_filled_and_right_ones_are_not() -> None:
    _, worst = evaluated([image("a", border=96)])

    picture = worst.regions[0].picture.astype(int)

    scale = picture.shape[1] / SIDE
    wrong, right = picture[int(20 * scale), int(80 * scale)], picture[int(20 * scale), int(20 * scale)]
    assert wrong[2] - wrong[0] > 60  # called Right, which is blue
    assert np.abs(right - 230).max() < 12


def test_only_the_worst_images_are_kept_worst_first() -> None:
    borders = {"a": 64, "b": 72, "c": 96, "d": 80, "e": 68}
    _, worst = evaluated([image(name, border) for name, border in borders.items()])

    assert [drawn.name for drawn in worst.regions] == ["c", "d", "b"]
    assert worst.regions == sorted(worst.regions)


def test_a_kind_without_anything_marked_has_no_section(tmp_path: Path) -> None:
    bare = image("a")
    bare.drawn = [obj for obj in bare.drawn if obj.class_name in ("Left", "Right")]
    result, worst = evaluated([bare])

    text = Page(write_evaluation(tmp_path, result, worst).page.read_text()).text

    assert "F1 at borders" in text
    assert "one-to-one" not in text


@pytest.mark.parametrize("dark", [False, True])
def test_a_curve_is_drawn_for_light_and_dark_pages(dark: bool) -> None:
    curve = (np.array([1.0, 0.8, 0.6]), np.array([0.2, 0.5, 0.9]), np.array([0.9, 0.6, 0.2]))

    picture = precision_recall_picture(curve, (0.5, 0.8), dark=dark)

    assert picture.dtype == np.uint8
    assert (picture[0, 0].mean() < 60) == dark
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("task", ["regions", "cells"])
def test_a_model_of_one_task_is_measured_and_shown(tmp_path: Path, task: str) -> None:
    class One(Told):
        def predict(self, tiles: NDArray[np.uint8]) -> Prediction:
            both = super().predict(tiles)
            if task == "regions":
                return Prediction(both.logits, both.heat[:, :0])
            return Prediction(both.logits[:, :0], both.heat)

    none = {"cell_classes": (), "cell_diameters_um": (), "min_distance_um": (), "thresholds": ()}
    model = replace(MODEL, **(none if task == "regions" else {"region_classes": ()}))  # type: ignore[arg-type]

    result, worst = evaluated([image("a", border=80)], predictor=One(description=model))

    other = "cells" if task == "regions" else "regions"
    assert result.scores[other] == {}
    assert all(0 < entry["f1"] < 1 for entry in result.scores[task].values())
    assert (len(getattr(worst, task)), len(getattr(worst, other))) == (1, 0)
    assert write_evaluation(tmp_path, result, worst).page.is_file()
