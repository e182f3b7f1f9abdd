"""A QuPath project from a folder of images with GeoJSON, and such a folder from a project.

The folder format is what runs without Java, and what training sets are exchanged in; nothing is changed in what is
exported. Images are not converted: a project keeps pointing to the folder's files, a folder gets links to the files
(copies where links cannot be).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson

from tissuebridge.errors import Conflict, ImageError
from tissuebridge.files import atomic_write, storage_error
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import PathObject
from tissuebridge.project.entry_files import linked
from tissuebridge.project.folder import FolderProject
from tissuebridge.project.paquo.opened import create_project
from tissuebridge.project.qpproj import PROJECT_FILE, PROJECT_SUFFIX
from tissuebridge.project.qupath_project import SPLIT_KEY, QuPathImage, QuPathProject
from tissuebridge.project.split_file import SPLITS_FILE
from tissuebridge.qupath.store import QuPathStore, classes_of
from tissuebridge.writeback.apply import as_written, write_back
from tissuebridge.writeback.reconcile import Changes, parents_of
from tissuebridge.writeback.runs import Runs

EXPORT: Final = "export"

Told = Callable[[int, int], None]


def project_of_folder(folder: FolderProject, target: Path, told: Told) -> Path:
    """Makes a QuPath project of a folder's images and objects; gives the `.qpproj`.

    Args:
        folder: The folder; its files stay where they are.
        target: An empty folder (or none yet), or the `.qpproj` in it.
        told: Called with (images done, images in all).

    Raises:
        UsageError: paquo or QuPath is missing.
        Conflict: There is something already.
        ImageError: QuPath cannot read an image; the images before it are in the project.
        StorageError: The project could not be written.
    """
    file = target if target.suffix == PROJECT_SUFFIX else target / PROJECT_FILE
    _check_empty(file.parent)
    opened = create_project(file)
    splits = {name: split for split, names in (folder.splits or {}).items() for name in names}
    for done, image in enumerate(folder.images, 1):
        entry_id = opened.add_image(image.path.resolve(), image.pixel_size_um)
        if image.name in splits:
            opened.set_metadata(entry_id, SPLIT_KEY, splits[image.name])
        told(done, len(folder.images))
    opened.sync()
    project = QuPathProject(file)
    runs = Runs(project.folder)
    record = runs.begun(uuid4().hex, EXPORT, "", "")
    objects = {image.path.resolve(): image.objects() for image in folder.images}
    for made in project.images:
        drawn = as_written(objects[made.entry.path or Path()])
        project.opened.add_classes(dict(classes_of(drawn)))
        record = write_back(QuPathStore(made), runs, record, _all_of(drawn), expected=len(drawn))
    runs.write(replace(record, finished=True))
    return file


def folder_of_project(images: Sequence[QuPathImage], folder: Path, told: Told) -> list[Path]:
    """Makes a folder of images and GeoJSON of a project's images; gives the GeoJSON files.

    Args:
        images: Of the project.
        folder: Empty, or not there yet.
        told: Called with (images done, images in all).

    Raises:
        Conflict: There is something in the folder.
        ImageError: An image is no file that can be read without QuPath (rotated, cropped, of a server).
        StorageError: The folder could not be written.
    """
    _check_empty(folder)
    written, splits = [], dict[str, list[str]]()
    for done, image in enumerate(images, 1):
        entry = image.entry
        image.check_reachable()
        if entry.path is None or entry.transform or entry.series:
            raise ImageError(
                f"{entry.entry_name}: it is shown rotated, cropped, as one of several in its file, or by a server: "
                "its file alone is not this image. Export it in QuPath as OME-TIFF, or leave it out with --images."
            )
        linked(entry.path, folder / "images" / f"{image.name}{_suffix(entry.path)}")
        path = folder / "annotations" / f"{image.name}.geojson"
        write_objects(path, as_written(image.objects()))
        written.append(path)
        split = {key.casefold(): text for key, text in image.metadata.items()}.get(SPLIT_KEY)
        if split:
            splits.setdefault(split, []).append(image.name)
        told(done, len(images))
    if splits:
        with atomic_write(folder / SPLITS_FILE) as file:
            file.write(orjson.dumps(splits, option=orjson.OPT_INDENT_2))
    return written


def _all_of(drawn: Sequence[PathObject]) -> Callable[..., Changes]:
    return lambda existing, _: Changes([], drawn, parents_of(drawn, existing), {"added": len(drawn)})


def _suffix(path: Path) -> str:
    lower = path.name.lower()
    return next(
        (path.name[-len(double) :] for double in (".ome.tif", ".ome.tiff") if lower.endswith(double)),
        path.suffix,
    )


def _check_empty(folder: Path) -> None:
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise Conflict(f"{folder}: there is something already. Choose an empty --output.")
    except OSError as error:
        raise storage_error(folder, error) from error
