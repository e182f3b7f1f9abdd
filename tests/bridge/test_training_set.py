"""Which images are learnt from, at which pixel size, and what of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import shapely

from drawn_tissue import ArrayImage
from tissuebridge.errors import AnnotationError
from tissuebridge.learnable import check_learnable
from tissuebridge.objects import CELLS_MARKED, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.training_set import build_training_set, split_images


@dataclass
class Drawn:
    """A project of drawn images."""

    images: Sequence[ArrayImage]
    splits: dict[str, Sequence[str]] | None = None
    name: str = "drawn"


def image(name: str, objects: Sequence[PathObject], side: int = 64, pixel_size_um: float = 0.5) -> ArrayImage:
    return ArrayImage(np.full((side, side, 3), 200, np.uint8), pixel_size_um, name, objects)


ANNOTATED = (
    PathObject(shapely.box(0, 0, 32, 64), path_class=PathClass("Tumor")),
    PathObject(shapely.box(32, 0, 64, 64), path_class=PathClass("Stroma")),
    PathObject(shapely.MultiPoint([(10, 10), (40, 40)]), path_class=PathClass("T cell")),
    PathObject(shapely.box(0, 0, 64, 64), path_class=PathClass(CELLS_MARKED)),
)


def test_every_fifth_image_chooses_the_thresholds_where_there_are_no_splits() -> None:
    parts = split_images(Drawn([image(f"{i:02}", ANNOTATED) for i in range(11)]))

    assert [i.name for i in parts["validation"]] == ["04", "09"]
    assert len(parts["train"]) == 9


def test_four_images_are_all_learnt_from() -> None:
    parts = split_images(Drawn([image(f"{i}", ANNOTATED) for i in range(4)]))

    assert len(parts["train"]) == 4
    assert parts["validation"] == []


def test_the_test_split_is_never_looked_at() -> None:
    images = [image(name, ANNOTATED) for name in ("a", "b", "c")]

    built = build_training_set(Drawn(images, {"train": ["a"], "validation": ["b"], "test": ["c"]}))

    assert built.images == {"train": ("a",), "validation": ("b",)}
    assert [len(built.train), len(built.validation)] == [1, 1]


def test_examples_hold_what_was_drawn_at_the_median_pixel_size() -> None:
    images = [image("a", ANNOTATED), image("b", ANNOTATED), image("fine", ANNOTATED, pixel_size_um=0.25)]

    built = build_training_set(Drawn(images))

    assert built.pixel_size_um == 0.5
    assert built.classes.labels.regions == ("Stroma", "Tumor")
    assert [example.image.shape for example in built.train] == [(64, 64, 3), (64, 64, 3), (32, 32, 3)]
    assert built.train[0].points.tolist() == [[10, 10], [40, 40]]
    assert built.train[2].points.tolist() == [[5, 5], [20, 20]]
    assert (built.train[0].regions == np.array([1] * 32 + [0] * 32, np.uint8)).all()


def test_of_a_large_image_only_the_annotated_blocks_are_read() -> None:
    side = 4096
    dot = PathObject(shapely.Point(3000, 100), path_class=PathClass("T cell"))
    area = PathObject(shapely.box(2990, 90, 3010, 110), path_class=PathClass(CELLS_MARKED))

    built = build_training_set(Drawn([image("large", [dot, area], side)]))

    assert [example.image.shape for example in built.train] == [(1024, 1024, 3)]
    assert built.train[0].points.tolist() == [[3000 - 2048, 100]]


def test_every_piece_of_an_image_has_the_whole_images_statistics_where_asked() -> None:
    large = image("large", [], 4096)
    large.pixels[:2048] = 100
    large.drawn = [
        PathObject(shapely.box(x, 100, x + 20, 120), path_class=PathClass("Tumor")) for x in (0, 3000)
    ]

    plain = build_training_set(Drawn([large]))
    built = build_training_set(Drawn([large]), own_statistics=True)

    assert [example.statistics for example in plain.train] == [None, None]
    assert [example.statistics for example in built.train] == [((150.0,) * 3, (50.0,) * 3)] * 2


def test_what_a_run_wrote_is_not_learnt_from() -> None:
    origin = Provenance("run", "analyse", "model", "digest", "0.1")
    ours = [with_provenance(obj, origin) for obj in ANNOTATED]

    built = build_training_set(Drawn([image("a", ours)]))

    assert built.train == ()
    assert built.found.classes["Tumor"].ours == 1
    with pytest.raises(AnnotationError):
        check_learnable(built.summary)


def test_accepted_and_edited_objects_are_learnt_from() -> None:
    origin = Provenance("run", "analyse", "model", "digest", "0.1")
    accepted = [with_provenance(obj, replace(origin, accepted="2026-11-23")) for obj in ANNOTATED[:3]]
    edited = replace(with_provenance(ANNOTATED[3], origin), geometry=shapely.box(0, 0, 60, 60))

    built = build_training_set(Drawn([image("a", [*accepted, edited])]))

    assert built.summary.cells["T cell"].marked == 2
    assert built.summary.cells["T cell"].complete_um2 == 30 * 30
