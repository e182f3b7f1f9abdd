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
from tissuebridge.splits import SplitOptions
from tissuebridge.training_set import CELL_DIAMETER_UM, build_training_set


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


def strip(name: str, width: int, height: int = 64, pixel_size_um: float = 0.5) -> ArrayImage:
    """Tumor above, Stroma below, T cells all along, all marked: every stretch of it has everything."""
    cells = shapely.MultiPoint([(x, y) for x in range(8, width, 16) for y in (16, 48)])
    objects = (
        PathObject(shapely.box(0, 0, width, height / 2), path_class=PathClass("Tumor")),
        PathObject(shapely.box(0, height / 2, width, height), path_class=PathClass("Stroma")),
        PathObject(cells, path_class=PathClass("T cell")),
        PathObject(shapely.box(0, 0, width, height), path_class=PathClass(CELLS_MARKED)),
    )
    return ArrayImage(np.full((height, width, 3), 200, np.uint8), pixel_size_um, name, objects)


def test_about_every_fifth_image_chooses_the_thresholds_where_there_are_no_splits() -> None:
    built = build_training_set(Drawn([image(f"{i:02}", ANNOTATED) for i in range(11)]))

    assert [len(names) for names in built.images.values()] == [9, 2]
    assert [len(built.train), len(built.validation)] == [9, 2]
    assert built.split.how == (
        "by slide: 9 images to learn from, 2 images for validation; a patient with several slides may be on both "
        "sides, unless the cases are named"
    )


def test_four_images_are_all_learnt_from() -> None:
    built = build_training_set(Drawn([image(f"{i}", ANNOTATED) for i in range(4)]))

    assert [len(built.train), len(built.validation)] == [4, 0]
    assert built.split.how == "no validation: of 4 annotated images all are learnt from"


def test_images_of_a_case_stay_together() -> None:
    images = [image(f"P{case}_{i}", ANNOTATED) for case in range(5) for i in range(3)]

    built = build_training_set(Drawn(images), splitting=SplitOptions(case_pattern=r"^(P\d)_"))

    (held_out,) = {name[:2] for name in built.images["validation"]}
    assert built.images["validation"] == tuple(f"{held_out}_{i}" for i in range(3))
    assert {example.image_name for example in built.validation} == set(built.images["validation"])
    assert built.split.cases is not None
    assert built.split.cases["P3_1"] == "P3"
    assert built.split.how == (
        r"by case (pattern '^(P\\d)_'): 12 images of 4 cases to learn from, 3 images of 1 case for validation"
    )


def test_splits_that_name_no_validation_have_it_chosen_from_train() -> None:
    images = [image(f"{i:02}", ANNOTATED) for i in range(12)]
    names = tuple(i.name for i in images)

    built = build_training_set(Drawn(images, {"train": names[:10], "test": names[10:]}))

    assert set(built.images["train"]) | set(built.images["validation"]) == set(names[:10])
    assert len(built.images["validation"]) == 2
    assert built.split.test == names[10:]
    assert "splits.json names none for validation" in built.split.how


def test_an_empty_validation_list_is_kept_empty() -> None:
    images = [image(f"{i:02}", ANNOTATED) for i in range(10)]

    built = build_training_set(Drawn(images, {"train": [i.name for i in images], "validation": []}))

    assert [len(built.train), len(built.validation)] == [10, 0]
    assert built.split.how == "as splits.json says: 10 images to learn from, 0 images for validation"


def test_inside_the_only_slide_blocks_are_held_out() -> None:
    built = build_training_set(Drawn([strip("only", 1024)]), splitting=SplitOptions(gap_px=32))

    assert built.split.how == "by spatial blocks with a gap of 16 µm inside the only slide"
    assert built.images == {"train": ("only",), "validation": ("only",)}
    (learnt,), (checked,) = built.train, built.validation
    assert learnt.image.shape[1] + checked.image.shape[1] == 1024 + 32  # both see the gap, as context
    columns = [int((example.regions != 255).any(axis=0).sum()) for example in (learnt, checked)]
    # Of the rim that the skirts of cells in the gap reach, nothing is learnt.
    assert 1024 - 32 - 2 * 20 <= sum(columns) <= 1024 - 32
    assert 0.15 < columns[1] / 1024 < 0.25


def test_a_small_only_slide_is_all_learnt_from() -> None:
    built = build_training_set(Drawn([strip("only", 256)]), splitting=SplitOptions(gap_px=144))

    assert built.validation == ()
    assert built.split.how == "no validation: of 1 annotated image all are learnt from"
    assert built.train[0].image.shape == (64, 256, 3)


def test_blocks_can_be_asked_for_inside_several_slides() -> None:
    images = [strip("a", 512), strip("b", 512), image("small", ANNOTATED)]

    built = build_training_set(Drawn(images), splitting=SplitOptions(validation_blocks=True, gap_px=60))

    assert built.split.how == "by spatial blocks with a gap of 30 µm inside 2 of 3 slides"
    assert built.images == {"train": ("a", "b", "small"), "validation": ("a", "b")}
    assert [example.image_name for example in built.train] == ["a", "b", "small"]


def test_slides_of_one_case_have_blocks_inside_them() -> None:
    built = build_training_set(
        Drawn([strip(f"P1_{i}", 512) for i in range(6)]),
        splitting=SplitOptions(case_pattern="^P1", gap_px=32),
    )

    assert built.split.how.endswith("inside 6 of 6 slides of the only case")


def test_blocks_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(AnnotationError, match=r"--validation-blocks.*Annotate"):
        build_training_set(
            Drawn([image("a", ANNOTATED)]), splitting=SplitOptions(validation_blocks=True, gap_px=64)
        )


def test_the_gap_is_never_narrower_than_a_cells_heat_reaches() -> None:
    built = build_training_set(Drawn([strip("only", 1024)]), splitting=SplitOptions(gap_px=0))

    assert f"a gap of {3 * CELL_DIAMETER_UM:g} µm" in built.split.how


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
