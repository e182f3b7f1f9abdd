"""The gallery: the right cells, each in the middle of its crop, and what is said where pixels are missing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.project.folder import FolderImage
from tissuebridge.report.gallery import CROP_PX, MOST_CELLS, Gallery
from tissuebridge.report.page import Notice, Picture
from tissuebridge.spatial.sensitivity import scores_of
from tissuebridge.spatial.tissue import tissue_of

ORIGIN = Provenance("run-1", "analyse", "lung", "d", "0.1")
SIDE, UM = 600, 0.25
DARK = (90, 30, 120)


def image_of(folder: Path, name: str, places: np.ndarray) -> FolderImage:
    """Pale tissue with a dark nucleus of 5 um at each place."""
    pixels = np.full((SIDE, SIDE, 3), 230, np.uint8)
    rows, cols = np.mgrid[:SIDE, :SIDE] + 0.5
    for x, y in places:
        pixels[(cols - x) ** 2 + (rows - y) ** 2 < 10**2] = DARK
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return FolderImage(path, pixel_size_um=UM)


def cells_of(places: np.ndarray, scores: np.ndarray, name: str = "CD3") -> list[PathObject]:
    return [
        with_provenance(
            PathObject(
                shapely.Point(*xy).buffer(10),
                ObjectType.DETECTION,
                path_class=PathClass(name),
                measurements={f"tissuebridge: score {name}": float(score)},
            ),
            ORIGIN,
        )
        for xy, score in zip(places, scores, strict=True)
    ]


def add(gallery: Gallery, image: FolderImage, objects: list[PathObject]) -> None:
    tissue = tissue_of(objects, UM, SIDE, SIDE)
    gallery.add(image, tissue, objects, scores_of(tissue, objects))


def spread(count: int, seed: int = 0) -> np.ndarray:
    """Places on a lattice, well apart, some at the very edge."""
    lattice = np.stack(np.meshgrid(np.arange(5, SIDE, 40), np.arange(5, SIDE, 40)), -1).reshape(-1, 2)
    return np.random.default_rng(seed).permutation(lattice)[:count].astype(float)


def test_every_crop_has_its_cell_in_the_middle_also_at_the_edge(tmp_path: Path) -> None:
    places = spread(120)
    gallery = Gallery()
    add(gallery, image_of(tmp_path, "a", places), cells_of(places, np.linspace(0.4, 1, 120)))

    pictures = [item for item in gallery.section().content if isinstance(item, Picture)]

    assert [picture.caption.split(".")[0] for picture in pictures] == [
        "CD3: 50 of 120, drawn at random",
        "CD3: the 50 of 120 with the lowest scores, nearest to the threshold",
    ]
    for picture in pictures:
        step = (picture.pixels.shape[1] - CROP_PX) // 9
        middles = picture.pixels[CROP_PX // 2 :: step, CROP_PX // 2 :: step]
        assert middles.shape == (5, 10, 3)
        assert np.abs(middles.astype(int) - DARK).max() <= 2
        # 5 um are 15 px of the crop: 10 px off the middle there is no nucleus.
        beside = picture.pixels[CROP_PX // 2 :: step, CROP_PX // 2 + 10 :: step]
        assert beside.min() > 200
    assert any((picture.pixels == 225).all(axis=2).any() for picture in pictures)


def test_the_cells_nearest_to_the_threshold_are_those_of_lowest_score(tmp_path: Path) -> None:
    places, scores = spread(200), np.random.default_rng(1).uniform(0.4, 1, 200)
    gallery = Gallery()
    add(gallery, image_of(tmp_path, "a", places), cells_of(places, scores))

    rows = [row for row in gallery.rows() if row["kind"] == "lowest score"]

    assert [row["score"] for row in rows] == pytest.approx(np.sort(scores)[:MOST_CELLS].tolist())
    assert [row["place"] for row in rows] == list(range(1, MOST_CELLS + 1))
    at = places[np.argsort(scores)[0]]
    assert (rows[0]["x_px"], rows[0]["y_px"]) == pytest.approx(tuple(at), abs=0.05)


def test_cells_are_drawn_evenly_from_all_images_and_again_the_same(tmp_path: Path) -> None:
    few, many = spread(20), spread(200, 1)
    shares: Counter[str] = Counter()
    images = image_of(tmp_path, "few", few), image_of(tmp_path, "many", many)
    for seed in range(10):
        drawn = []
        for _ in range(2):
            gallery = Gallery(seed)
            for image, places in zip(images, (few, many), strict=True):
                add(gallery, image, cells_of(places, np.full(len(places), 0.8)))
            drawn.append([row for row in gallery.rows() if row["kind"] == "random"])
        assert drawn[0] == drawn[1]
        assert len({(row["image"], row["x_px"], row["y_px"]) for row in drawn[0]}) == MOST_CELLS
        shares.update(str(row["image"]) for row in drawn[0])

    assert shares["few"] / shares.total() == pytest.approx(20 / 220, abs=0.04)


def test_a_class_of_few_cells_is_shown_once_and_whole(tmp_path: Path) -> None:
    places = spread(7)
    gallery = Gallery()
    add(gallery, image_of(tmp_path, "a", places), cells_of(places, np.linspace(0.9, 0.5, 7)))

    assert [row["kind"] for row in gallery.rows()] == ["all"] * 7
    [picture] = [item for item in gallery.section().content if isinstance(item, Picture)]
    assert "all 7, lowest scores first. Scores 0.50 to 0.90." in picture.caption


def test_a_persons_dots_are_shown_without_scores(tmp_path: Path) -> None:
    places = spread(60)
    gallery = Gallery()
    dots = [PathObject(shapely.MultiPoint(places), path_class=PathClass("CD3"))]
    add(gallery, image_of(tmp_path, "a", places), dots)

    assert {row["kind"] for row in gallery.rows()} == {"random"}
    [picture] = [item for item in gallery.section().content if isinstance(item, Picture)]
    assert picture.caption.endswith("These cells have no score.")


def test_an_image_that_is_gone_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    places = spread(4)
    gallery = Gallery()
    for name in ("gone", "there"):
        add(gallery, image_of(tmp_path, name, places), cells_of(places, np.full(4, 0.8)))
    (tmp_path / "gone.png").unlink()

    content = gallery.section().content

    assert [item.text.split(":")[0] for item in content if isinstance(item, Notice)] == [
        "Cells of gone are not shown"
    ]
    assert sum(isinstance(item, Picture) for item in content) == 1
    assert len(gallery.rows()) == 8
