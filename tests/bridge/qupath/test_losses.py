"""The ways in which QuPath's own saving loses a person's work, one by one: with tissuebridge nothing is lost.

Numbers L1 to L7 are those of the table in docs/reliability.md. Each writes into a real project in a process of its own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tissuebridge.objects import object_digest, provenance
from tissuebridge.project.qupath_project import QuPathProject

pytestmark = [pytest.mark.qupath, pytest.mark.slow]

WRITING = Path(__file__).with_name("writing.py")
COUNT = 20_000


def start(
    project: QuPathProject, run: str, *more: str, java: str = "-Xmx1g", count: int = COUNT
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WRITING), str(project.file), run, str(count), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAQUO_JAVA_OPTS": java},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, told = process.communicate(timeout=400)
    return process.returncode, told


def persons(project: QuPathProject) -> dict[object, str]:
    image = section(project)
    return {obj.id: object_digest(obj) for obj in image.objects() if provenance(obj) is None}


def section(project: QuPathProject):  # type: ignore[no-untyped-def]
    fresh = QuPathProject(project.file)
    return next(image for image in fresh.images if image.name.startswith("section"))


def ours(project: QuPathProject) -> list[object]:
    return [obj.id for obj in section(project).objects() if provenance(obj) is not None]


def test_killed_at_20_points_of_load_change_save_and_after_nothing_is_lost(project: QuPathProject) -> None:
    """L1 and L2: also twice in a row."""
    before, choose = persons(project), random.Random(6)
    phases = ["load", "change", *["save"] * 6, *["saved"] * 2] * 2
    killed = 0
    for number, phase in enumerate(phases):
        process = start(project, f"kill{number // 2}", count=COUNT - number)
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line.strip() != phase:
            pass
        time.sleep(choose.random() * (0.6 if phase == "save" else 0.2))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
    assert killed >= 15

    code, told = finish(start(project, "last"))

    assert code == 0, told
    assert persons(project) == before
    found = ours(project)
    assert len(found) == len(set(found)) == COUNT


def test_too_small_a_heap_three_times_and_the_fourth_run_has_all(project: QuPathProject) -> None:
    """L3: the third run of QuPath's own saving "succeeded" with an empty image."""
    assert finish(start(project, "first"))[0] == 0
    before, saved = persons(project), section(project).entry.files.data.read_bytes()

    for number in range(3):
        code, told = finish(start(project, f"small{number}", "--unchecked", java="-Xmx80m", count=3 * COUNT))
        assert code == 8, told
        assert "Java's memory" in told
        assert section(project).entry.files.data.read_bytes() == saved
    code, told = finish(start(project, "large", java="-Xmx2g", count=3 * COUNT))

    assert code == 0, told
    assert persons(project) == before
    assert len(set(ours(project))) == 3 * COUNT


def test_too_small_a_heap_is_told_before_anything_is_touched(project: QuPathProject) -> None:
    code, told = finish(start(project, "small", java="-Xmx80m", count=COUNT))

    assert code == 8
    assert "-Xmx" in told


def test_a_save_that_overflows_the_stack_leaves_the_image_as_it_was(project: QuPathProject) -> None:
    """L4: paquo saves again on leaving, and both copies are gone."""
    saved, before = section(project).entry.files.data.read_bytes(), persons(project)

    code, told = finish(start(project, "deep", "--nested", "20000", java="-Xss512k", count=0))

    assert code == 8, told
    assert section(project).entry.files.data.read_bytes() == saved
    assert persons(project) == before
    assert section(project).entry.files.trouble() is None


def test_an_image_whose_file_has_moved_is_refused_not_skipped(project: QuPathProject) -> None:
    """L5: paquo skips it with a line in its log."""
    image = section(project)
    text = project.file.read_text("utf-8").replace(
        image.entry.uris[0], "file:///nowhere/section%201%20%C3%A4.tif"
    )
    project.file.write_text(text, "utf-8")

    code, told = finish(start(project, "moved"))

    assert code == 3
    assert "Update URIs" in told


def test_the_second_of_two_writers_is_turned_away_at_once(project: QuPathProject) -> None:
    """L7, both ours."""
    first = start(project, "one")
    assert first.stdout is not None
    first.stdout.readline()

    code, told = finish(start(project, "two"))

    assert (code, finish(first)[0]) == (6, 0), told
    assert len(ours(project)) == COUNT
