"""Run by `test_kills`: writes, undoes and repairs a project, killed by SIGKILL at a chosen step of its file work.

Each attempt is a child of its own, forked after the imports. A step is an event of Python's audit log that touches the
project: opening, linking, renaming, removing, and each part of a file that `fake_qupath` writes as QuPath does.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from fake_qupath import Slide
from tissuebridge.writeback.runs import UNDO
from tissuebridge.writeback.undo import undo_image

STEPS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate", "fake.write")


def attempt(work: Callable[[], object], kill_at: int | None) -> bool:
    """Does the work in a child that is killed at a step; tells whether it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if kill_at is not None:
                _kill_at(kill_at)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        raise SystemExit(f"the work failed, kill at {kill_at}")
    return True


def _kill_at(number: int) -> None:
    left = [number]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and "slide-project" in str(arguments[:2]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def check(folder: Path, wanted: int, case: str) -> None:
    """The person's annotation is there, as it was; each result once; the file is whole."""
    slide = Slide.opened(folder)
    if slide.store.files.trouble():
        raise SystemExit(f"{case}: {slide.store.files.trouble()}")
    objects = slide.store.objects()
    ids = [obj.id for obj in objects]
    if slide.mine.id not in ids or slide.precious() != slide.digest:
        raise SystemExit(f"{case}: the person's object is lost")
    if len(set(ids)) != len(ids) or len(ids) != wanted:
        raise SystemExit(f"{case}: {len(ids)} objects instead of {wanted}, {len(set(ids))} different ones")


def main(folder: Path, start: int, step: int) -> None:
    """Kills at every `step`-th point from `start` on, twice in a row each, until the work outruns the kill."""
    kills, point = 0, start
    while True:
        project = folder / f"slide-project {point}"
        slide = Slide(project)
        slide.analyse("before", (0, 0), (20, 0))

        def analyse(project: Path = project) -> None:
            Slide.opened(project).analyse("again", (0, 0), (50, 50), (90, 90))

        finished = attempt(analyse, point)
        kills += not finished
        # Killed a second time, as in the loss that QuPath's own saving ends in.
        kills += not attempt(analyse, point // 2 + 1)
        attempt(analyse, None)
        check(project, 4, f"analyse, killed at {point}")

        def undo(project: Path = project) -> None:
            opened = Slide.opened(project)
            record = opened.runs.begun("undoing", UNDO, "", "undo again")
            undo_image(opened.store, opened.runs, record, opened.runs.latest("1") or record)

        is_undone = attempt(undo, point)
        kills += not is_undone
        if not is_undone and (Slide.opened(project).runs.latest("1") or slide.runs.all()[0]).run == "again":
            attempt(undo, None)
        Slide.opened(project).analyse("again and again", (0, 0), (50, 50), (90, 90))
        check(project, 4, f"undo, killed at {point}")
        if finished and is_undone:
            break
        point += step
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
