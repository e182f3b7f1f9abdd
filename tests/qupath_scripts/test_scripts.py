"""The scripts in a real QuPath, headless, with a real server: the same objects as by batch, and a person's stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tissuebridge.cli import main
from tissuebridge.objects import PathClass, PathObject, Provenance, is_persons, object_digest, provenance
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


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "from tissuebridge.cli import run; run()", "serve", "--port", "0"],
        env={**os.environ, "XDG_STATE_HOME": str(place), "XDG_DATA_HOME": str(place)},
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
        capture_output=True, text=True, check=False, timeout=180, env={**os.environ, "XDG_STATE_HOME": str(place), "XDG_DATA_HOME": str(place)},
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
