"""Looks at a QuPath project's files for what could lose objects, and puts it right: `doctor` and `repair`.

Needs no Java, and so finds nothing inside the objects' files but whether they are whole.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tissuebridge.errors import TissuebridgeError, UsageError
from tissuebridge.lock import locked
from tissuebridge.project.entry_files import linked, put_aside, repaired
from tissuebridge.project.qpproj import PROJECT_FILE, Entry, path_of_uri, project_file, read_entries
from tissuebridge.project.qupath_project import OURS
from tissuebridge.writeback.runs import SAVING, WRITTEN, Runs, sha256_of


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        where: An image, or the project.
        what: What is wrong, and what it means.
        cure: What to do.
        is_serious: Whether objects may be lost, or cannot be read or written, until it is put right.
    """

    where: str
    what: str
    cure: str
    is_serious: bool


def findings(source: Path) -> list[Finding]:
    """Everything that is not as it should be, serious things first.

    Raises:
        UsageError: There is no project.
        InputRefused: The project's file is damaged.
        StorageError: A file cannot be read.
    """
    lost = _lost_project(source)
    if lost is not None:
        return [Finding("project", lost, f"tissuebridge repair {source}", is_serious=True)]
    file = project_file(source)
    runs = Runs(file.parent / OURS)
    found = [finding for entry in read_entries(file) for finding in _of_entry(entry, runs)]
    unfinished = [record for record in runs.all()[-1:] if not record.finished]
    found += [
        Finding(
            "project",
            f"run {record.run} ({record.command}, {record.started}) was not finished: "
            f"{sum(image.state == WRITTEN for image in record.images.values())} images are done",
            "give the same command again: it goes on from there; or undo the run",
            is_serious=False,
        )
        for record in unfinished
    ]
    return sorted(found, key=lambda finding: not finding.is_serious)


def repair(source: Path) -> list[str]:
    """Puts right what broken-off saves left; nothing is deleted, what is damaged is put aside. Tells what was done.

    Raises:
        Conflict: A run is under way.
        InputRefused: An image has no whole copy of its objects anywhere; the others are put right.
        StorageError: A file could not be moved.
    """
    folder = source if source.is_dir() else source.parent
    if not folder.is_dir():
        raise UsageError(f"{source}: no such project")
    with locked(folder / OURS, "a run over this project"):
        done = [_project_restored(source)] if _lost_project(source) is not None else []
        file = project_file(source)
        runs = Runs(file.parent / OURS)
        aside = file.parent / OURS / "put aside" / time.strftime("%Y%m%dT%H%M%S")
        failed: list[TissuebridgeError] = []
        for entry in read_entries(file):
            try:
                what = repaired(entry.files, runs.snapshots(entry.id), aside / entry.id)
            except TissuebridgeError as error:
                failed.append(error)
                continue
            if what is not None:
                done.append(f"{entry.entry_name}: {what}")
    if failed:
        raise type(failed[0])("; ".join(map(str, failed)))
    return done


def _of_entry(entry: Entry, runs: Runs) -> list[Finding]:
    found = []
    if trouble := entry.files.trouble():
        found.append(
            Finding(
                entry.entry_name,
                f"{trouble}. Saved over now, in QuPath or by a script, its objects may be lost",
                "close QuPath, then run tissuebridge repair",
                is_serious=True,
            )
        )
    for uri in entry.uris:
        path = path_of_uri(uri)
        if path is not None and not path.exists():
            found.append(
                Finding(
                    entry.entry_name,
                    f"the image's file is not at {path}",
                    "open the project in QuPath, which asks for the new place (Update URIs)",
                    is_serious=True,
                )
            )
    record = runs.latest(entry.id)
    if record is None or trouble:
        return found
    image = record.images[entry.id]
    if image.state == SAVING:
        found.append(
            Finding(
                entry.entry_name,
                f"run {record.run} was stopped while it saved the image; the file is whole",
                "give the same command again",
                is_serious=False,
            )
        )
    elif image.after != sha256_of(entry.files.data):
        found.append(
            Finding(
                entry.entry_name,
                f"saved since run {record.run}: as it should be after work in QuPath; but if the image was open there "
                "during the run, QuPath has saved over its results",
                "look at the image; where results are missing, give the command again",
                is_serious=False,
            )
        )
    return found


def _lost_project(source: Path) -> str | None:
    """What happened to a project's file that is missing, where a copy is left."""
    file = source / PROJECT_FILE if source.is_dir() else source
    copies = [path for path in _copies(file) if path.is_file()]
    if file.is_file() or not copies:
        return None
    return f"{file.name} is missing, {copies[0].name} is left: QuPath was stopped while it saved the project"


def _copies(file: Path) -> list[Path]:
    """QuPath's copies of a project's file, the better one first: the new one, if it is whole, then the old one."""
    return [file.with_name(f"{file.name}.tmp"), file.with_name(f"{file.name}.backup")]


def _project_restored(source: Path) -> str:
    file = source / PROJECT_FILE if source.is_dir() else source
    for copy in (path for path in _copies(file) if path.is_file()):
        try:
            read_entries(copy)
        except TissuebridgeError:
            put_aside(copy, file.parent / OURS / "put aside")
            continue
        linked(copy, file)
        return f"{file.name} is there again, from {copy.name}"
    raise UsageError(f"{file}: missing, and no copy of it can be read. Restore it from your own backup.")
