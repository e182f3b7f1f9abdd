"""What only QuPath shows: rotated and cropped images, TMA cores, other planes; and its classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely

from tissuebridge.drawn_area import drawn_region
from tissuebridge.objects import MISSING_CORE, ObjectType, PathObject
from tissuebridge.project.qupath_project import QuPathImage, QuPathPixels, QuPathProject
from tissuebridge.qupath.store import QuPathStore
from tissuebridge.writeback.apply import write_back
from tissuebridge.writeback.reconcile import Changes, parents_of
from tissuebridge.writeback.runs import Runs

pytestmark = pytest.mark.qupath


def java(name: str):  # type: ignore[no-untyped-def]
    from jpype import JClass

    return JClass(name)


def named(project: QuPathProject, name: str) -> QuPathImage:
    return next(image for image in project.images if image.name == name)


def add(project: QuPathProject, builder: object, name: str) -> QuPathImage:
    """An image as QuPath adds one from a script, with its own view on a file."""
    entry = project.opened._project.addImage(builder)
    entry.setImageName(name)
    project.opened.sync()
    return named(QuPathProject(project.file), name)


def test_a_cropped_image_is_another_image_with_the_pixels_of_the_crop(project: QuPathProject) -> None:
    image = named(project, "section 1 ä")
    server = image.open_entry._opened()
    region = java("qupath.lib.regions.ImageRegion").createInstance(100, 60, 200, 150, 0, 0)
    cropped = java("qupath.lib.images.servers.CroppedImageServer")(server, region)

    crop = add(project, cropped.getBuilder(), "crop")

    assert crop.identity.transform
    assert (crop.identity.width, crop.identity.height) == (200, 150)
    assert crop.identity.name == image.identity.name
    with crop.open_pixels() as pixels, image.open_pixels() as whole:
        assert isinstance(pixels, QuPathPixels)
        assert np.array_equal(pixels.read_block(0, 0, 0, 200, 150), whole.read_block(0, 100, 60, 200, 150))


def test_a_rotated_image_is_read_as_qupath_shows_it(project: QuPathProject) -> None:
    image = named(project, "section 1 ä")
    turn = java("qupath.lib.images.servers.RotatedImageServer$Rotation").ROTATE_90
    turned = java("qupath.lib.images.servers.RotatedImageServer")(image.open_entry._opened(), turn)

    rotated = add(project, turned.getBuilder(), "rotated")

    with rotated.open_pixels() as pixels, image.open_pixels() as whole:
        full, other = whole.levels[0], pixels.levels[0]
        block = pixels.read_block(0, 0, 0, other.width, other.height)
        assert np.array_equal(block, np.rot90(whole.read_block(0, 0, 0, full.width, full.height), -1))


def test_only_cores_on_the_slide_are_analysed_and_cells_lie_below_their_core(project: QuPathProject) -> None:
    image = named(project, "section 1 ä")
    entry = image.open_entry
    entry.load()
    cores = java("qupath.lib.objects.PathObjects")
    grid = java("qupath.lib.objects.hierarchy.DefaultTMAGrid").create(
        java("java.util.ArrayList")(
            [cores.createTMACoreObject(100, 100, 150, False), cores.createTMACoreObject(300, 100, 150, True)]
        ),
        2,
    )
    entry._data.getHierarchy().setTMAGrid(grid)
    entry.save()

    found = [obj for obj in image.objects() if obj.object_type is ObjectType.TMA_CORE]
    assert sorted(MISSING_CORE in obj.metadata for obj in found) == [False, True]
    area = drawn_region(image)
    assert area is not None
    assert area.bounds == pytest.approx((25, 25, 175, 175), abs=0.5)

    cell = PathObject(shapely.box(96, 96, 104, 104), ObjectType.DETECTION, UUID(int=77))
    runs = Runs(project.folder)
    write_back(
        QuPathStore(image),
        runs,
        runs.begun("r", "analyse", "", ""),
        lambda existing, _: Changes([], [cell], parents_of([cell], existing), {}),
    )
    flat = image.open_entry.read_objects(image.entry.files.data)
    kinds = flat.kind.tolist()
    place = next(i for i, half in enumerate(flat.ids[:, 1].tolist()) if half == 77)
    assert kinds[flat.parent[place]] == 4


def test_classes_of_results_are_in_the_projects_list_with_their_colours(project: QuPathProject) -> None:
    project.opened.add_classes({"New: class": (1, 2, 3), "Tumor": (9, 9, 9)})

    classes = json.loads((project.file.parent / "classifiers" / "classes.json").read_text("utf-8"))[
        "pathClasses"
    ]

    colors = {entry["name"]: entry.get("color") or entry.get("colorRGB") for entry in classes}
    assert "New: class" in colors
    assert len([name for name in colors if name == "Tumor"]) == 1


def test_no_java_for_what_needs_none(project: QuPathProject) -> None:
    script = (
        "import sys; from tissuebridge.cli import main\n"
        "code = main(['analyse', sys.argv[1], '--dry-run']) or main(['doctor', sys.argv[1]])\n"
        "sys.exit(code or 50 * ('jpype' in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", script, str(project.file)], check=False, capture_output=True)

    assert done.returncode == 0, done.stderr


def test_the_same_groovy_runs_in_qupaths_own_scripting(project: QuPathProject, tmp_path: Path) -> None:
    from tissuebridge.project.paquo import java as qupath_java

    image = named(project, "section 1 ä")
    source = Path(qupath_java.__file__).with_name("objects.groovy")
    text = (
        f"def bulk = new GroovyClassLoader(this.class.classLoader).parseClass(new File('{source}'))\n"
        "def packed = bulk.pack(hierarchy)\n"
        "return packed.get('kind').length\n"
    )
    engine = java("javax.script.ScriptEngineManager")(
        java("qupath.lib.gui.scripting.languages.ScriptLanguageProvider").class_.getClassLoader()
    ).getEngineByName("groovy")
    engine.put("hierarchy", qupath_java.hierarchy_of(image.entry.files.data))

    assert int(engine.eval(text)) == len(image.objects()) + 1  # one is on another z-slice
