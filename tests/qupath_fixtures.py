"""A real QuPath project of images drawn in code, for the tests that need QuPath."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
import skimage.data
import tifffile

from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import ObjectType, PathClass, PathObject, Plane
from tissuebridge.project.folder import FolderProject
from tissuebridge.project.qupath_project import QuPathProject
from tissuebridge.qupath.export import project_of_folder

NEEDS_QUPATH = "needs a real QuPath: set PAQUO_QUPATH_DIR to its folder and install paquo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("PAQUO_QUPATH_DIR"):
        return
    for item in items:
        if item.get_closest_marker("qupath") is not None:
            item.add_marker(pytest.mark.skip(reason=NEEDS_QUPATH))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> FolderProject:
    """Two images, one a pyramid, with what people draw: holes, points, ellipses, derived classes, cells."""
    path = tmp_path_factory.mktemp("folder")
    (path / "images").mkdir()
    (path / "annotations").mkdir()
    tissue = np.ascontiguousarray(skimage.data.immunohistochemistry())
    plain = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "photometric": "rgb"}
    tifffile.imwrite(path / "images" / "section 1 ä.tif", tissue, compression="zlib", **plain)
    with tifffile.TiffWriter(path / "images" / "pyramid.tif") as tif:
        large = np.tile(tissue, (2, 2, 1))
        tif.write(large, tile=(256, 256), compression="zlib", subifds=0, **plain)
        tif.write(large[::2, ::2], tile=(256, 256), compression="zlib", subfiletype=1, photometric="rgb")
    write_objects(path / "annotations" / "section 1 ä.geojson", drawn())
    return FolderProject(path)


@pytest.fixture(scope="session")
def made(folder: FolderProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as a QuPath project; copied by tests that change it."""
    return project_of_folder(folder, tmp_path_factory.mktemp("made") / "project", lambda done, total: None)


@pytest.fixture
def project(made: Path, tmp_path: Path) -> QuPathProject:
    shutil.copytree(made.parent, tmp_path / "project")
    return QuPathProject(tmp_path / "project")


def drawn() -> list[PathObject]:
    """A person's objects, of every kind that matters."""
    tumor, immune = PathClass("Tumor", (200, 0, 0)), PathClass("Immune: CD3", (10, 20, 30))
    hole = shapely.box(50, 50, 200, 200).difference(shapely.box(80, 80, 100, 120))
    return [
        PathObject(
            hole, path_class=tumor, name="PRECIOUS ü", is_locked=True, measurements={"Length µm": 1.5}
        ),
        PathObject(
            shapely.MultiPolygon([shapely.box(300, 10, 320, 20), shapely.box(340, 10, 350, 30)]),
            path_class=immune,
        ),
        PathObject(shapely.MultiPoint([(10, 10), (12.5, 30.25)]), path_class=immune),
        PathObject(
            shapely.Point(400, 400), path_class=PathClass("Not a cell*", (1, 2, 3)), metadata={"who": "me"}
        ),
        PathObject(
            shapely.box(220, 50, 260, 90), is_ellipse=True, path_class=PathClass("Cells marked*", (0, 0, 9))
        ),
        PathObject(shapely.LineString([(0, 0), (30, 40)])),
        PathObject(
            shapely.Point(100, 300).buffer(6, quad_segs=3),
            ObjectType.CELL,
            path_class=tumor,
            nucleus=shapely.Point(100, 300).buffer(3, quad_segs=3),
            measurements={"Nucleus: Area µm^2": 7.25},
        ),
        PathObject(shapely.box(5, 5, 9, 9), ObjectType.DETECTION, path_class=None),
        PathObject(shapely.box(15, 5, 19, 9), plane=Plane(-1, 1, 0)),
    ]
