"""Run by `test_losses` as a process of its own: writes cells into a real project, telling each phase before it begins.

python writing.py PROJECT RUN COUNT [--unchecked] [--nested N]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import shapely

from tissuebridge.errors import TissuebridgeError
from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, with_provenance
from tissuebridge.project.qupath_project import QuPathProject
from tissuebridge.qupath.run import open_run
from tissuebridge.qupath.store import QuPathStore
from tissuebridge.vectorize import discs
from tissuebridge.writeback.apply import Loaded, as_written, write_back
from tissuebridge.writeback.reconcile import Changes, Source, reconciled


class Telling(QuPathStore):
    """Tells what it is about to do, and waits for nothing."""

    is_checked = True

    def check(self, new: int) -> None:
        if self.is_checked:
            super().check(new)

    def load(self) -> Loaded:
        print("load", flush=True)
        return super().load()

    def change(self, changes: Changes, snapshot: Path | None) -> None:
        print("change", flush=True)
        super().change(changes, snapshot)

    def save(self) -> None:
        print("save", flush=True)
        super().save()
        print("saved", flush=True)


def cells(run: str, count: int) -> list[PathObject]:
    origin = Provenance(run, "analyse", "net", "digest", "0.1")
    xy = np.random.default_rng(count).random((count, 2)) * 500
    tumor = PathClass("Tumor")
    return as_written(
        with_provenance(
            PathObject(shape, ObjectType.DETECTION, uuid5(UUID(int=8), f"{count}|{number}"), tumor), origin
        )
        for number, shape in enumerate(discs(xy, np.full(count, 10.0)))
    )


def nested(count: int) -> Changes:
    """Annotations one inside the other: what Java's serialisation goes through with one stack frame each."""
    boxes = [
        PathObject(shapely.box(0, 0, 9, 9), id=uuid5(UUID(int=9), str(number))) for number in range(count)
    ]
    parents = [UUID(int=0), *(box.id or UUID(int=0) for box in boxes[:-1])]
    return Changes([], boxes, parents, {"added": count})


def main(arguments: Sequence[str]) -> int:
    source, run_id, count = Path(arguments[0]), arguments[1], int(arguments[2])
    project = QuPathProject(source)
    image = next(image for image in project.images if image.name.startswith("section"))
    store = Telling(image)
    store.is_checked = "--unchecked" not in arguments
    try:
        with open_run(project, run_id, "analyse", decides={"run": run_id}) as run:
            new = cells(run.run_id, count)
            if "--nested" in arguments:
                change = nested(int(arguments[-1]))
                write_back(store, run.runs, run.runs.get(run.run_id), lambda existing, deleted: change)
            else:
                write_back(
                    store,
                    run.runs,
                    run.runs.get(run.run_id),
                    lambda existing, deleted: reconciled(
                        existing, new, Source("analyse", "net"), deleted, {"Tumor": 0.0}
                    ),
                    expected=count,
                )
    except TissuebridgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
