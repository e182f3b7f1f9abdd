"""The scripts in a real QuPath, headless, with a real server: the same objects as by batch, and a person's stay."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile

from tissuebridge.cli import main
from tissuebridge.objects import (
    ObjectType,
    PathClass,
    PathObject,
    Provenance,
    is_persons,
    object_digest,
    provenance,
)
from tissuebridge.project.qupath_project import QuPathImage, QuPathProject
from tissuebridge.proposals.review import state_of
from tissuebridge.qupath.store import QuPathStore
from tissuebridge.writeback.apply import write_back
from tissuebridge.writeback.reconcile import ROOT, Changes, untouched
from tissuebridge.writeback.runs import Runs

pytestmark = [pytest.mark.qupath, pytest.mark.slow]

SCRIPTS = Path(__file__).parents[2] / "qupath_scripts"
JAR = SCRIPTS / "client" / "target" / "tissuebridge-client.jar"


@pytest.fixture(scope="module", autouse=True)
def jar() -> None:
    if not JAR.is_file():
        pytest.skip(f"{JAR} is not built: run mvn package in {SCRIPTS / 'client'}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's own place, where server and scripts find each other."""
    return tmp_path_factory.mktemp("state")


def environment(place: Path) -> dict[str, str]:
    """The user's own places, all of them below one folder."""
    return {**os.environ, "XDG_STATE_HOME": str(place), "XDG_DATA_HOME": str(place)}


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "from tissuebridge.cli import run; run()", "serve", "--port", "0"],
        env=environment(place),
    )
    deadline = time.monotonic() + 60
    while not (place / "tissuebridge" / "server.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def script(
    name: str,
    project: QuPathProject,
    place: Path,
    *,
    image: str | None = None,
    text: str = "",
    jar: Path = JAR,
) -> tuple[int, str]:
    """Runs a script as QuPath's own command does; without an image, for all of the project."""
    qupath = Path(os.environ["PAQUO_QUPATH_DIR"])
    path = SCRIPTS / name
    if text:
        path = project.file.parent / name
        path.write_text(text, "utf-8")
    done = subprocess.run(
        [
            str(qupath / "lib" / "runtime" / "bin" / "java"), "-Xmx2g", f"-Djava.util.prefs.userRoot={place}",
            "-cp", f"{qupath / 'lib' / 'app' / '*'}{os.pathsep}{jar}", "qupath.QuPath", "script",
            "-p", str(project.file), *(["-i", image] if image else []), "--save", str(path),
        ],
        capture_output=True, text=True, check=False, timeout=180, env=environment(place),
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def section(project: QuPathProject) -> QuPathImage:
    return next(image for image in QuPathProject(project.file).images if image.name.startswith("section"))


def ours(image: QuPathImage) -> dict[object, PathObject]:
    return {obj.id: obj for obj in image.objects() if provenance(obj)}


def persons(image: QuPathImage) -> dict[object, str]:
    return {obj.id: object_digest(obj) for obj in image.objects() if not provenance(obj)}


def test_analyse_for_the_project_finds_what_the_batch_finds_with_ids_and_digests(
    server: object, project: QuPathProject, place: Path
) -> None:
    before = persons(section(project))
    code, told = script("analyse.groovy", project, place)
    assert code == 0, told
    by_script = {image.name: ours(image) for image in QuPathProject(project.file).images}
    assert persons(section(project)) == before

    assert main(["analyse", str(project.file)]) == 0

    for image in QuPathProject(project.file).images:
        by_batch = ours(image)
        assert len(by_batch) > 20
        assert {key: object_digest(obj) for key, obj in by_batch.items()} == {
            key: object_digest(obj) for key, obj in by_script[image.name].items()
        }
        # The batch found them untouched and just so: nothing was written anew.
        assert {(provenance(obj) or None) for obj in by_batch.values()} == {
            provenance(obj) for obj in by_script[image.name].values()
        }


def test_run_again_nothing_changes_but_what_a_person_touched_stays(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    assert script("analyse.groovy", project, place, image=image.entry.entry_name)[0] == 0
    found = ours(image)
    first = next(iter(found.values()))
    edited = replace(first, path_class=PathClass("Tumor"))
    runs = Runs(project.folder)
    write_back(
        QuPathStore(image),
        runs,
        runs.begun("by hand", "test", "", ""),
        lambda existing, _: Changes([first.id or ROOT], [edited], [ROOT], {}),
    )

    code, told = script("analyse.groovy", project, place, image=image.entry.entry_name)

    assert code == 0, told
    assert f"{len(found) - 1} unchanged, 1 kept, 1 held back" in told
    now = ours(section(project))
    assert now[first.id].class_name == "Tumor"
    assert set(now) == set(found)


def test_qupaths_side_knows_an_untouched_object_as_python_does(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    assert script("propose.groovy", project, place, image=image.entry.entry_name)[0] == 0
    objects = list(ours(section(project)).values())
    assert any(obj.geometry.interiors for obj in objects if obj.geometry.geom_type == "Polygon")
    assert all(untouched(objects))
    text = (
        "def analysis = io.github.tissuebridge.client.Scripts.load(this.class.classLoader)\n"
        "def results = analysis.classLoader.loadClass('tissuebridge.Results')\n"
        "def ours = getAllObjects(false).findAll { results.runOf(it) != null }\n"
        "println 'UNTOUCHED ' + ours.count { results.isUntouched(it) } + ' of ' + ours.size()\n"
    )

    code, told = script("check.groovy", project, place, image=image.entry.entry_name, text=text)

    assert code == 0
    assert f"UNTOUCHED {len(objects)} of {len(objects)}" in told


def test_results_are_removed_and_a_persons_objects_stay(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    before = persons(image)
    assert script("propose.groovy", project, place, image=image.entry.entry_name)[0] == 0
    assert ours(section(project))

    code, told = script("remove_results.groovy", project, place, image=image.entry.entry_name)

    assert code == 0, told
    assert ours(section(project)) == {}
    assert persons(section(project)) == before


def test_without_a_server_the_cure_is_told(project: QuPathProject, tmp_path: Path) -> None:
    code, told = script("analyse.groovy", project, tmp_path, image=section(project).entry.entry_name)

    assert code == 1
    assert "tissuebridge serve --model DIR" in told


def test_a_script_starts_the_server_itself_once_it_is_installed(
    project: QuPathProject, tmp_path: Path
) -> None:
    user_dir = tmp_path / "QuPath"
    user_dir.mkdir()
    assert main(["install-qupath", "--user-dir", str(user_dir)]) == 0
    installed = user_dir / "extensions" / JAR.name
    image = section(project)

    code, told = script("analyse.groovy", project, tmp_path, image=image.entry.entry_name, jar=installed)

    assert code == 0, told
    assert len(ours(section(project))) > 20
    # It ended with QuPath, and took its address with it.
    deadline = time.monotonic() + 20
    while (tmp_path / "tissuebridge" / "server.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_python_that_moved_is_told_with_the_cure(project: QuPathProject, tmp_path: Path) -> None:
    user_dir = tmp_path / "QuPath"
    user_dir.mkdir()
    assert main(["install-qupath", "--user-dir", str(user_dir)]) == 0
    note = user_dir / "extensions" / "tissuebridge-python.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"python": str(tmp_path / "moved" / "python")}))

    code, told = script(
        "analyse.groovy",
        project,
        tmp_path,
        image=section(project).entry.entry_name,
        jar=user_dir / "extensions" / JAR.name,
    )

    assert code == 1
    assert "Was Python moved? Run: tissuebridge install-qupath" in told


def test_reviewed_in_qupath_proposals_are_a_persons_as_python_sees_it(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    assert script("propose.groovy", project, place, image=image.entry.entry_name)[0] == 0
    proposed = ours(section(project))
    text = (SCRIPTS / "review_proposals.groovy").read_text("utf-8")
    decided = text.replace("def ACCEPT = [:]", "def ACCEPT = ['colour 1': 'Stroma', 'Nucleus': 'Tumor cell']")
    decided = decided.replace("def REJECT = []", "def REJECT = ['colour 2']").replace(
        "REVIEWER = ''", "REVIEWER = 'A'"
    )

    code, told = script("decide.groovy", project, place, image=image.entry.entry_name, text=decided)

    assert code == 0, told
    now = ours(section(project))
    states: dict[tuple[str | None, str], int] = {}
    for obj in now.values():
        assert state_of(obj) != "edited"
        states[obj.class_name, state_of(obj)] = states.get((obj.class_name, state_of(obj)), 0) + 1
        assert is_persons(obj) == (state_of(obj) == "accepted")
    before = Counter(obj.class_name for obj in proposed.values())
    assert states["Stroma", "accepted"] == before["Proposed: colour 1"]
    assert states["Tumor cell", "accepted"] == before["Proposed: Nucleus"]
    assert states["Proposed: colour 2", "rejected"] == before["Proposed: colour 2"]
    accepted = next(obj for obj in now.values() if obj.class_name == "Stroma")
    assert (provenance(accepted) or Provenance("", "", "", "", "")).reviewer == "A"
    code, told = script("propose.groovy", project, place, image=image.entry.entry_name)
    assert code == 0
    assert {key for key, obj in now.items() if state_of(obj) == "accepted"} <= set(ours(section(project)))


BARE = (
    "clearAllObjects()\ncreateFullImageAnnotation(true)\n"
    "getSelectedObject().setPathClass(getPathClass('Cells marked*'))\nresetSelection()\n"
)
"""Leaves an area in which every cell is marked."""


def edited(name: str, **values: str) -> str:
    """A script as a person edits it: its parameters on top."""
    text = (SCRIPTS / name).read_text("utf-8")
    for parameter, value in values.items():
        text, count = re.subn(
            rf"(?m)^def {parameter} = .*$", lambda _, p=parameter, v=value: f"def {p} = {v}", text
        )
        assert count == 1, parameter
    return text


def cells(image: QuPathImage) -> dict[object, PathObject]:
    return {key: obj for key, obj in ours(image).items() if obj.class_name == "Nucleus"}


def test_a_threshold_is_moved_without_the_network_and_back(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    name = image.entry.entry_name
    assert script("analyse.groovy", project, place, image=name)[0] == 0
    before = cells(section(project))
    scores = {key: obj.measurements["tissuebridge: score Nucleus"] for key, obj in before.items()}

    strict = edited("set_threshold.groovy", THRESHOLDS="['Nucleus': 0.7]")
    code, told = script("strict.groovy", project, place, image=name, text=strict)
    assert code == 0, told
    assert set(cells(section(project))) == {
        key for key, score in scores.items() if np.float32(score) >= np.float32(0.7)
    }
    loose = edited("set_threshold.groovy", THRESHOLDS="['Nucleus': 0.2]")
    assert script("loose.groovy", project, place, image=name, text=loose)[0] == 0
    now = cells(section(project))
    assert set(now) > set(before)
    assert all(untouched(list(now.values())))
    code, told = script("set_threshold.groovy", project, place, image=name)

    assert code == 0
    assert {key: object_digest(obj) for key, obj in cells(section(project)).items()} == {
        key: object_digest(obj) for key, obj in before.items()
    }
    code, told = script(
        "wrong.groovy",
        project,
        place,
        image=name,
        text=edited("set_threshold.groovy", THRESHOLDS="['Tumor': 1]"),
    )
    assert code == 1
    assert "there is Nucleus" in told


def test_a_run_over_a_selected_area_leaves_what_lies_outside(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    name = image.entry.entry_name
    assert script("propose.groovy", project, place, image=name)[0] == 0
    before = ours(section(project))
    select = (
        "import qupath.lib.roi.ROIs\nimport qupath.lib.regions.ImagePlane\n"
        "def area = qupath.lib.objects.PathObjects.createAnnotationObject("
        "ROIs.createRectangleROI(100, 100, 200, 150, ImagePlane.getDefaultPlane()))\n"
        "addObject(area)\ngetCurrentHierarchy().getSelectionModel().setSelectedObject(area)\n"
    )

    text = select + (SCRIPTS / "propose.groovy").read_text("utf-8")
    code, told = script("part.groovy", project, place, image=name, text=text)

    assert code == 0, told
    now = ours(section(project))
    box = shapely.box(100, 100, 300, 250)
    for kind in (ObjectType.DETECTION, ObjectType.ANNOTATION):
        outside = {
            key: object_digest(obj)
            for key, obj in before.items()
            if obj.object_type is kind and not box.intersects(obj.geometry)
        }
        assert outside
        assert outside.items() <= {key: object_digest(obj) for key, obj in now.items()}.items()
    # Regions that reach in are cut at the area, and found anew in it: nothing is lost, nothing is doubled.
    for objects in (before, now):
        regions = [obj.geometry for obj in objects.values() if obj.object_type is ObjectType.ANNOTATION]
        union = shapely.union_all(regions)
        assert sum(region.area for region in regions) == pytest.approx(union.area, rel=1e-6)
    covered = [
        shapely.union_all([o.geometry for o in objects.values() if o.object_type is ObjectType.ANNOTATION])
        for objects in (before, now)
    ]
    assert shapely.difference(covered[0], shapely.union(box, covered[1])).area < 0.002 * covered[0].area
    assert 0.9 < shapely.intersection(box, covered[1]).area / shapely.intersection(box, covered[0]).area < 1.1
    assert all(untouched(list(now.values())))


def test_the_history_has_a_step_that_does_the_same_again(
    server: object, project: QuPathProject, place: Path
) -> None:
    image = section(project)
    name = image.entry.entry_name
    assert script("analyse.groovy", project, place, image=name)[0] == 0
    found = ours(section(project))
    show = (
        "def steps = getCurrentImageData().getHistoryWorkflow().getSteps()\n"
        "new File('OUT').text = steps[-1].getScript()\n"
    )
    out = project.file.parent / "step.txt"
    assert script("show.groovy", project, place, image=name, text=show.replace("OUT", str(out)))[0] == 0
    assert script("remove_results.groovy", project, place, image=name)[0] == 0
    assert not ours(section(project))

    code, told = script("again.groovy", project, place, image=name, text=out.read_text("utf-8"))

    assert code == 0, told
    assert set(ours(section(project))) == set(found)
    assert "token" not in out.read_text("utf-8")


def test_crops_and_rotations_have_the_identity_that_python_gives_them(
    server: object, project: QuPathProject, place: Path
) -> None:
    add = (
        "import qupath.lib.images.servers.*\nimport qupath.lib.regions.ImageRegion\n"
        "def server = getCurrentServer()\n"
        "def made = [\n"
        "  new TransformedServerBuilder(server).crop(ImageRegion.createInstance(10, 20, 200, 150, 0, 0)).build(),\n"
        "  new TransformedServerBuilder(server).transform("
        "java.awt.geom.AffineTransform.getScaleInstance(1.00001, 0.999)).build(),\n"
        "  new RotatedImageServer(server, RotatedImageServer.Rotation.ROTATE_90)]\n"
        "made.eachWithIndex { s, i -> getProject().addImage(s.getBuilder()).setImageName('view ' + i + '.tif') }\n"
        "getProject().syncChanges()\n"
    )
    name = section(project).entry.entry_name
    code, told = script("add.groovy", project, place, image=name, text=add)
    assert code == 0, told
    views = [
        image for image in QuPathProject(project.file).images if image.entry.entry_name.startswith("view")
    ]
    assert len(views) == 3
    show = (
        "def P = io.github.tissuebridge.client.Scripts.load(this.class.classLoader).classLoader"
        ".loadClass('tissuebridge.Picture')\n"
        "def p = P.newInstance(getCurrentImageData(), getProjectEntry(), [:])\n"
        "println 'IDENTITY ' + p.name + '|' + p.series + '|' + p.transform + '|'\n"
    )
    for view in views:
        code, told = script("show.groovy", project, place, image=view.entry.entry_name, text=show)

        assert code == 0, told
        identity = view.identity
        assert f"IDENTITY {identity.name}|{identity.series}|{identity.transform}|" in told
        assert identity.transform


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        ("[]", "CHANNELS = ['DAPI', 'FITC', 'Cy3']"),
        ("['DAPI 0..4000', 'FITC 0..1', 'CD3']", "no channel 'CD3'"),
        ("['DAPI', 'FITC', 'Cy3']", "as 'DAPI 0..4000'"),
        (
            "['DAPI 0..4000', 'FITC 100..9000', 'Cy3 0..65535']",
            "three channels stand for red, green and blue",
        ),
    ],
)
def test_fluorescence_needs_three_named_channels(
    server: object, project: QuPathProject, place: Path, tmp_path: Path, channels: str, told: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 9000, (4, 300, 300)).astype(np.uint16)
    path = tmp_path / "fluorescence.tif"
    tifffile.imwrite(
        path,
        pixels,
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "CYX", "unit": "um", "Labels": ["a"] * 4},
    )
    text = (
        f"def server = qupath.lib.images.servers.ImageServers.buildServer(new File('{path}').toURI())\n"
        "def data = new qupath.lib.images.ImageData(server)\n"
        "setChannelNames(data, 'DAPI', 'FITC', 'Cy3', 'AF')\n"
        "def tb = io.github.tissuebridge.client.Scripts.load(this.class.classLoader)\n"
        f"tb.analyse(data, null, [channels: {channels}, log: {{ println it }}])\n"
    )

    code, said = script("fl.groovy", project, place, image=section(project).entry.entry_name, text=text)

    assert told in said
    assert code == (0 if "stand for" in told else 1)


@pytest.mark.parametrize("whole", [True, False])
def test_trained_by_script_then_analysed_by_script(
    server: object, project: QuPathProject, place: Path, whole: bool
) -> None:
    """A person accepts proposals, trains on them by script and analyses with the model, all inside QuPath."""
    name = section(project).entry.entry_name
    assert script("empty.groovy", project, place, image=name, text=BARE)[0] == 0
    assert script("propose.groovy", project, place, image=name)[0] == 0
    accept = edited(
        "review_proposals.groovy",
        ACCEPT="['colour 1': 'Stroma', 'colour 2': 'Epithelium', 'colour 3': 'Lumen', 'Nucleus': 'Nucleus']",
    )
    assert script("accept.groovy", project, place, image=name, text=accept)[0] == 0
    mine = {key: object_digest(obj) for key, obj in ours(section(project)).items()}
    small = "'[network]\\nwidths = [4, 8, 8]\\n[training]\\ncrop_px = 64\\nbatch_size = 2\\n'"
    model = f"'By script {whole}'"
    train = edited(
        "train.groovy", MODEL=model, EPOCHS="2", SETTINGS=small, PROJECT=str(whole).lower(), RESTART="true"
    )

    code, told = script("train_now.groovy", project, place, image=name, text=train)

    assert code == 0, told
    assert "loss" in told
    assert "The scripts use it from now on" in told
    code, told = script("analyse.groovy", project, place, image=name)
    assert code == 0, told
    found = [provenance(obj) for obj in ours(section(project)).values()]
    assert {origin.model for origin in found if origin is not None and origin.method == "analyse"} == {
        f"by-script-{str(whole).lower()}"
    }
    # What was accepted stays a person's.
    assert mine.items() <= {key: object_digest(obj) for key, obj in ours(section(project)).items()}.items()
    code, told = script("settings.groovy", project, place, image=name)
    assert code == 0
    assert f"* by-script-{str(whole).lower()}: regions" in told, told[-900:]
    # The server has several models from now on.
    back = edited("settings.groovy", MODEL="'starter'")
    assert script("back.groovy", project, place, image=name, text=back)[0] == 0


def test_spatial_numbers_are_those_of_the_command_line(
    server: object, project: QuPathProject, place: Path, tmp_path: Path
) -> None:
    image = section(project)
    name = image.entry.entry_name
    assert script("empty.groovy", project, place, image=name, text="clearAllObjects()\n")[0] == 0
    assert script("propose.groovy", project, place, image=name)[0] == 0
    accept = edited(
        "review_proposals.groovy", ACCEPT="['colour 1': 'Stroma', 'colour 2': 'Tumor', 'Nucleus': 'CD3']"
    )
    assert script("accept.groovy", project, place, image=name, text=accept)[0] == 0
    few = edited("spatial.groovy", SIMULATIONS="19", CELLS="'person'", REGIONS="'person'")

    code, told = script("few.groovy", project, place, image=name, text=few)

    assert code == 0, told
    assert "objects measured; the page:" in told
    by_script = section(project).objects()
    cells = [obj for obj in by_script if obj.class_name == "CD3"]
    # But for cells outside the tissue.
    assert (
        sum("Signed distance to annotation Stroma µm" in obj.measurements for obj in cells)
        > 0.5 * len(cells)
        > 20
    )
    assert any("Spatial: CD3 per mm^2" in obj.measurements for obj in by_script if obj.class_name == "Tumor")
    command = [
        "spatial",
        str(project.file),
        "--simulations",
        "19",
        "--cells",
        "person",
        "--regions",
        "person",
    ]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    [folder] = (project.folder / "spatial").iterdir()
    for table in ("densities", "tests", "coupling", "enrichment", "profiles"):
        mine = [line.split(",", 1)[1] for line in (folder / f"{table}.csv").read_text().splitlines()]
        theirs = [
            line for line in (tmp_path / "out" / f"{table}.csv").read_text().splitlines() if "section" in line
        ]
        # The command adds what only a project has: q-values over all its tests.
        assert [
            line.split(",", 1)[1][: len(own)] for line, own in zip(theirs, mine[1:], strict=True)
        ] == mine[1:]
    page = (folder / "spatial.html").read_text()
    assert "Infiltration at" in page
    assert "by the command `tissuebridge spatial` only" in page


def test_scores_of_cells_go_with_them_to_be_measured(
    server: object, project: QuPathProject, place: Path, tmp_path: Path
) -> None:
    name = section(project).entry.entry_name
    assert script("empty.groovy", project, place, image=name, text="clearAllObjects()\n")[0] == 0
    assert script("analyse.groovy", project, place, image=name)[0] == 0

    code, told = script(
        "few.groovy", project, place, image=name, text=edited("spatial.groovy", SIMULATIONS="19")
    )

    assert code == 0, told
    command = ["spatial", str(project.file), "--simulations", "19", "--output", str(tmp_path / "out")]
    assert main(command) == 0
    [folder] = (project.folder / "spatial").iterdir()
    mine, theirs = (
        [line.split(",", 1)[1] for line in (where / "sensitivity.csv").read_text().splitlines()]
        for where in (folder, tmp_path / "out")
    )
    assert len(mine) > 1
    assert mine == theirs


def test_each_core_of_a_tissue_microarray_is_analysed_but_missing_ones(
    server: object, project: QuPathProject, place: Path
) -> None:
    make = (
        "import qupath.lib.objects.PathObjects\nimport qupath.lib.objects.hierarchy.DefaultTMAGrid\n"
        "clearAllObjects()\n"
        "def cores = [PathObjects.createTMACoreObject(10, 10, 480, 300, false),"
        " PathObjects.createTMACoreObject(10, 320, 480, 180, true)]\n"
        "cores[0].setName('A-1')\ncores[0].setCaseID('case 7')\ncores[1].setName('A-2')\n"
        "getCurrentHierarchy().setTMAGrid(DefaultTMAGrid.create(cores, 2))\n"
    )
    tell = (
        "def grid = getCurrentHierarchy().getTMAGrid()\n"
        "grid.getTMACoreList().each { println 'CORE ' + [it.getName(), it.getCaseID(), it.isMissing(), it.getID(),"
        " it.getChildObjects().size()] }\n"
        "println 'ALL ' + getDetectionObjects().size()\n"
    )
    name = section(project).entry.entry_name
    code, told = script("make.groovy", project, place, image=name, text=make + tell)
    assert code == 0, told
    before = re.findall(r"CORE \[(.*), (\d+)\]", told)

    assert script("analyse.groovy", project, place, image=name)[0] == 0
    code, told = script("tell.groovy", project, place, image=name, text=tell)

    after = re.findall(r"CORE \[(.*), (\d+)\]", told)
    # Name, case, whether it is missing, and id are as before.
    assert [core for core, _ in after] == [core for core, _ in before]
    found = int(re.findall(r"ALL (\d+)", told)[0])
    assert [int(count) for _, count in after] == [found, 0]
    assert found > 5
