"""A folder of images and GeoJSON is a project; whatever is doubtful about it is said before work starts."""

import json
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image as Pillow

from tissuebridge.classes import resolve_classes
from tissuebridge.errors import (
    AnnotationError,
    CalibrationError,
    Conflict,
    ImageError,
    InputRefused,
    UsageError,
)
from tissuebridge.geojson import about_of, read_objects, write_objects
from tissuebridge.objects import PathClass, PathObject
from tissuebridge.project.base import Image, Project
from tissuebridge.project.folder import FolderImage, FolderProject, holds_images, open_image, result_path

FEATURE = {
    "type": "Feature",
    "geometry": {"type": "Point", "coordinates": [1.5, 2.5]},
    "properties": {"classification": {"name": "CD3", "color": [1, 2, 3]}},
}


def png(path: Path, width=6, height=4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.full((height, width, 3), 200, np.uint8)).save(path)
    return path


def tiff(path: Path, um: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "YXS", "PhysicalSizeX": um, "PhysicalSizeY": um}
    tifffile.imwrite(path, np.full((4, 6, 3), 200, np.uint8), photometric="rgb", metadata=metadata)
    return path


def geojson(path: Path, *features) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*features]))
    return path


def names(project: Project) -> list[str]:
    return [image.name for image in project.images]


def test_images_and_annotations_in_folders_of_their_own(tmp_path):
    for name in ("b", "a"):
        png(tmp_path / "images" / f"{name}.png")
    geojson(tmp_path / "annotations" / "a.geojson", FEATURE)

    project = FolderProject(tmp_path, 0.5)

    assert project.name == tmp_path.name
    assert names(project) == ["a", "b"]
    assert [obj.class_name for obj in project.images[0].objects()] == ["CD3"]
    assert list(project.images[1].objects()) == []
    assert project.splits is None
    assert resolve_classes({image.name: image.objects() for image in project.images}).cells == ("CD3",)


def test_images_and_annotations_side_by_side(tmp_path):
    png(tmp_path / "a.png")
    geojson(tmp_path / "a.geojson", FEATURE)
    geojson(tmp_path / "results" / "a.geojson", FEATURE, FEATURE)

    (image,) = FolderProject(tmp_path, 0.5).images

    assert len(image.objects()) == 1


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ("x.PNG", "x.GeoJSON"),
        ("x.ome.tif", "x.geojson"),
        ("x.OME.TIFF", "x.json"),
        ("x.png", "x.png.geojson"),
        ("x.y.png", "x.y.geojson"),
        (unicodedata.normalize("NFD", "Präparat 1.png"), "Präparat 1.geojson"),
    ],
)
def test_an_annotation_finds_its_image(tmp_path, image, annotation):
    png(tmp_path / "a.png").rename(tmp_path / image)
    geojson(tmp_path / annotation, FEATURE)

    (found,) = FolderProject(tmp_path, 0.5).images

    assert found.name in ("x", "x.y", "Präparat 1")
    assert len(found.objects()) == 1


def test_an_annotation_without_an_image_is_said(tmp_path, caplog):
    png(tmp_path / "images" / "a.png")
    geojson(tmp_path / "annotations" / "A.geojson", FEATURE)

    with caplog.at_level(logging.WARNING):
        FolderProject(tmp_path)

    assert "belongs to no image: there is none named 'A'" in caplog.text


def test_files_that_are_neither_are_left_alone(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "._b.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "settings.json").write_text("x")
    (tmp_path / "c.png").mkdir()

    assert names(FolderProject(tmp_path)) == ["a"]


@pytest.mark.parametrize("second", ["a.json", "a.zip", "a.geojson.gz", "a.png.geojson"])
def test_two_annotations_of_one_image_are_refused_and_both_named(tmp_path, second):
    png(tmp_path / "a.png")
    geojson(tmp_path / "a.geojson")
    geojson(tmp_path / second)

    with pytest.raises(InputRefused, match=r"both belong to the image 'a'") as caught:
        FolderProject(tmp_path)

    assert "a.geojson " in str(caught.value) or "a.geojson and" in str(caught.value)
    assert second in str(caught.value)


def test_two_images_of_one_name_are_refused_and_both_named(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "a.jpg")

    with pytest.raises(InputRefused, match=r"a\.jpg and a\.png are two images of one name"):
        FolderProject(tmp_path)


def test_a_folder_without_images_or_that_is_none_is_refused(tmp_path):
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "file").write_text("x")

    with pytest.raises(InputRefused, match=r"images: there are no images in it \("):
        FolderProject(tmp_path / "empty")
    for missing in ("absent", "file"):
        with pytest.raises(UsageError, match="no such folder"):
            FolderProject(tmp_path / missing)


def test_the_identity_is_name_size_and_pixel_size(tmp_path):
    image: Image = open_image(png(tmp_path / "a.png"), 0.25).images[0]

    identity = image.identity

    assert (identity.name, identity.width, identity.height, identity.pixel_size_um) == ("a.png", 6, 4, 0.25)
    with image.open_pixels() as pixels:
        assert pixels.read_block(0, 0, 0, 6, 4).shape == (4, 6, 3)


def test_an_image_without_a_pixel_size_is_refused_with_the_cure_but_its_objects_can_be_read(tmp_path):
    geojson(tmp_path / "a.geojson", FEATURE)
    (image,) = open_image(png(tmp_path / "a.png")).images

    assert len(image.objects()) == 1
    for _ in range(2):
        with pytest.raises(CalibrationError, match=r"a\.png.*no pixel size.*--pixel-size 0\.5"):
            _ = image.pixel_size_um
    with pytest.raises(CalibrationError):
        _ = image.identity


@pytest.mark.parametrize(("given", "said"), [(None, False), (0.25, False), (0.252, False), (0.5, True)])
def test_the_pixel_size_of_the_file_wins_and_a_different_given_one_is_said(tmp_path, caplog, given, said):
    (image,) = open_image(tiff(tmp_path / "a.ome.tif", 0.25), given).images

    with caplog.at_level(logging.WARNING):
        assert image.pixel_size_um == pytest.approx(0.25)

    assert ("0.5 um is for images without and is ignored" in caplog.text) == said


def test_an_impossible_pixel_size_of_the_file_can_be_overruled(tmp_path, caplog):
    path = tiff(tmp_path / "a.ome.tif", 0.0)

    with pytest.raises(CalibrationError, match="--pixel-size"):
        _ = FolderImage(path).pixel_size_um
    assert FolderImage(path, None, 0.5).pixel_size_um == 0.5


def test_an_image_that_cannot_be_read_is_an_image_error_only_when_asked(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")

    (image,) = FolderProject(tmp_path, 0.5).images

    with pytest.raises(ImageError, match=r"a\.png"):
        _ = image.pixel_size_um


def test_splits_are_read(tmp_path):
    for name in "abcd":
        png(tmp_path / "images" / f"{name}.png")
    (tmp_path / "splits.json").write_text(
        '\ufeff{"train": ["a", "c"], "test": ["b"], "validation": ["d"]}', "utf-8"
    )

    assert FolderProject(tmp_path).splits == {"train": ("a", "c"), "test": ("b",), "validation": ("d",)}


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        ("{", "not JSON"),
        ("[]", "no object of lists"),
        ('{"training": ["slide_1"]}', "unknown split 'training'"),
        ('{"train": "slide_1"}', "'train' is no list of names"),
        ('{"train": [1]}', "'train' is no list of names"),
        ('{"train": ["slide_9"]}', "Did you mean 'slide_1'?"),
        ('{"train": ["slide_1.png"]}', "Did you mean 'slide_1'?"),
        ('{"train": ["zzz"]}', "names the image 'zzz', which is not there"),
        ('{"train": ["slide_1"], "test": ["slide_1"]}', "is in 'train' and in 'test'"),
        ('{"train": ["slide_1", "slide_1"]}', "is in 'train' and in 'train'"),
    ],
)
def test_bad_splits_are_refused_with_file_and_cure(tmp_path, content, fragment):
    png(tmp_path / "slide_1.png")
    (tmp_path / "splits.json").write_text(content)

    with pytest.raises(AnnotationError, match=r"splits\.json: ") as caught:
        FolderProject(tmp_path)

    assert fragment in str(caught.value)


def test_images_in_no_split_are_said(tmp_path, caplog):
    png(tmp_path / "a.png")
    png(tmp_path / "b.png")
    (tmp_path / "splits.json").write_text('{"train": ["a"]}')

    with caplog.at_level(logging.WARNING):
        FolderProject(tmp_path)

    assert "1 images are in no split and not used, the first is 'b'" in caplog.text


def test_one_image_is_a_project_with_its_annotation_beside_it(tmp_path, caplog):
    png(tmp_path / "a.png")
    png(tmp_path / "b.png")
    geojson(tmp_path / "a.geojson", FEATURE)
    geojson(tmp_path / "b.geojson", FEATURE, FEATURE)

    with caplog.at_level(logging.WARNING):
        project: Project = open_image(tmp_path / "a.png", 0.5)

    assert (project.name, names(project), project.splits) == ("a", ["a"], None)
    assert len(project.images[0].objects()) == 1
    assert not caplog.records
    with pytest.raises(UsageError, match="no such file"):
        open_image(tmp_path / "absent.png")


def test_results_go_to_their_own_folder_and_never_where_annotations_are_read(tmp_path):
    png(tmp_path / "images" / "a.png")
    geojson(tmp_path / "annotations" / "a.geojson", FEATURE)
    project = FolderProject(tmp_path, 0.5)
    (image,) = project.images

    assert result_path(project.default_output, image) == tmp_path / "results" / "a.geojson"
    for folder in ("images", "annotations", "results/../annotations"):
        with pytest.raises(UsageError, match="annotations are read from this folder"):
            result_path(tmp_path / folder, image)


def test_results_can_be_rewritten_and_a_persons_file_cannot(tmp_path):
    png(tmp_path / "a.png")
    annotations = geojson(tmp_path / "a.geojson", FEATURE)
    before = annotations.read_bytes()
    project = FolderProject(tmp_path, 0.5)
    path = result_path(project.default_output, project.images[0])
    found = [PathObject(shapely.box(0, 0, 2, 2), path_class=PathClass("Tumor"))]

    for run in ("1", "2"):
        write_objects(path, found, about={"run": run})
    with pytest.raises(Conflict):
        write_objects(annotations, found, about={"run": "3"})

    assert about_of(path) == {"run": "2"}
    assert len(read_objects(path)) == 1
    assert annotations.read_bytes() == before
    assert [obj.class_name for obj in FolderProject(tmp_path, 0.5).images[0].objects()] == ["CD3"]


def test_a_folder_holds_images_itself_or_in_images(tmp_path):
    png(tmp_path / "flat" / "a.png")
    png(tmp_path / "deep" / "images" / "a.png")
    geojson(tmp_path / "none" / "a.geojson", FEATURE)

    assert [holds_images(tmp_path / folder) for folder in ("flat", "deep", "none", "missing")] == [
        True,
        True,
        False,
        False,
    ]
