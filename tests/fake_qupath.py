"""An image's objects saved as QuPath saves them, without Java: the same files, moved and written in the same order.

Stands in for QuPath where a test has to break a save at every step. What QuPath itself does is tested with a real one
(marker `qupath`).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.geojson import read_objects
from tissuebridge.geojson_write import write_objects
from tissuebridge.objects import ObjectType, PathClass, PathObject, Provenance, object_digest, with_provenance
from tissuebridge.project.entry_files import EntryFiles
from tissuebridge.writeback.apply import Decide, Loaded, write_back
from tissuebridge.writeback.reconcile import Changes, Source, reconciled
from tissuebridge.writeback.runs import RunRecord, Runs

SOURCE = Source("analyse", "net")
END = b"\x74\x00\x03EOF"


class FakeStore:
    """An `ObjectStore` that saves in QuPath's order: move to .bkp, write in place, delete .bkp, write the summary."""

    def __init__(self, project: Path, entry_id: str = "1") -> None:
        self.entry_id = entry_id
        self.name = f"slide {entry_id}.svs"
        self.files = EntryFiles(project / "data" / entry_id)
        self.parents: dict[UUID, UUID] = {}
        self._loaded: list[PathObject] = []

    def check(self, new: int) -> None:
        """Nothing is ever too much."""

    def load(self) -> Loaded:
        self._loaded = list(read_saved(self.files.data))
        return Loaded(list(self._loaded), len(self._loaded))

    def change(self, changes: Changes, snapshot: Path | None) -> None:
        gone, returned = set(changes.gone), set(changes.returned)
        back = [obj for obj in read_saved(snapshot) if obj.id in returned] if snapshot and returned else []
        self._loaded = [obj for obj in self._loaded if obj.id not in gone] + list(changes.added) + back
        if changes.measured is not None:
            rows = dict(zip(changes.measured.ids, changes.measured.values, strict=True))
            self._loaded = [self._with(obj, changes.measured.names, rows.get(obj.id)) for obj in self._loaded]
        added = (obj.id for obj in changes.added if obj.id is not None)
        self.parents |= dict(zip(added, changes.parents, strict=True))

    @staticmethod
    def _with(obj: PathObject, names: Sequence[str], values: NDArray[np.float64] | None) -> PathObject:
        if values is None:
            return obj
        own = {name: value for name, value in zip(names, values.tolist(), strict=True) if not np.isnan(value)}
        return replace(obj, measurements={**obj.measurements, **own})

    def save(self) -> None:
        save_as_qupath(self.files, self._loaded)

    def read(self) -> Loaded:
        objects = read_saved(self.files.data)
        return Loaded(objects, len(objects))

    def forget(self) -> None:
        self._loaded = []

    # ---- What a person does in QuPath ---------------------------------------------------------------------

    def draw(self, *objects: PathObject) -> None:
        """Adds objects and saves."""
        save_as_qupath(self.files, [*read_saved(self.files.data), *objects])

    def delete(self, *ids: UUID | None) -> None:
        """Deletes objects and saves."""
        save_as_qupath(self.files, [obj for obj in read_saved(self.files.data) if obj.id not in ids])

    def edit(self, changed: PathObject) -> None:
        """Puts an object in place of the one with its id and saves."""
        save_as_qupath(
            self.files, [changed if obj.id == changed.id else obj for obj in read_saved(self.files.data)]
        )

    def objects(self) -> list[PathObject]:
        """What the disk has."""
        return list(read_saved(self.files.data))


def save_as_qupath(files: EntryFiles, objects: Sequence[PathObject]) -> None:
    """`DefaultProjectImageEntry.saveImageData`, step by step; an OSError while writing brings the copy back."""
    files.folder.mkdir(parents=True, exist_ok=True)
    content = _content(objects)
    if files.data.exists():
        files.data.replace(files.backup)
    try:
        with files.data.open("wb") as stream:
            for part in (content[: len(content) // 2], content[len(content) // 2 :], END):
                sys.audit("fake.write", str(files.data))
                stream.write(part)
                stream.flush()
        files.backup.unlink(missing_ok=True)
    except OSError:
        if files.backup.exists():
            files.backup.replace(files.data)
        raise
    with files.summary.open("w") as out:
        json.dump({"hierarchy": {"nObjects": len(objects) + 1}}, out)


def read_saved(data: Path | None) -> Sequence[PathObject]:
    """The objects of a saved file; none where there is no file."""
    if data is None or not data.exists():
        return []
    raw = data.read_bytes()
    assert raw.endswith(END), "half a file was read"
    handle, name = tempfile.mkstemp(suffix=".geojson")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw.removesuffix(END))
        return read_objects(Path(name))
    finally:
        Path(name).unlink()


def _content(objects: Sequence[PathObject]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "objects.geojson")
        write_objects(path, [replace(obj) for obj in objects])
        return path.read_bytes()


def found_by(run: str, *places: tuple[float, float]) -> list[PathObject]:
    """Cells as an analysis finds them: the same place, the same id."""
    origin = Provenance(run, "analyse", "net", "digest", "0.1")
    return [
        with_provenance(
            PathObject(
                shapely.box(x, y, x + 8, y + 8),
                ObjectType.DETECTION,
                uuid5(UUID(int=7), f"{x}|{y}"),
                PathClass("T"),
            ),
            origin,
        )
        for x, y in places
    ]


def analysis(new: Sequence[PathObject]) -> Decide:
    return lambda existing, deleted: reconciled(existing, new, SOURCE, deleted, {"T": 4.0})


class Slide:
    """An image with a person's annotation, and runs over it."""

    def __init__(self, folder: Path) -> None:
        self.store = FakeStore(folder)
        self.runs = Runs(folder / "tissuebridge")
        self.mine = PathObject(
            shapely.box(1000, 1000, 1500, 1500),
            id=UUID(int=1),
            path_class=PathClass("Tumor", (200, 0, 0)),
            name="PRECIOUS",
            is_locked=True,
        )
        self.digest = object_digest(self.mine)
        if not self.store.files.data.exists() and not self.store.files.backup.exists():
            self.store.draw(self.mine)

    @classmethod
    def opened(cls, folder: Path) -> Slide:
        """The image again, as another process finds it, perhaps with a save broken off."""
        return cls(folder)

    def run(self, name: str, decide: Decide, store: FakeStore | None = None) -> RunRecord:
        record = self.runs.begun(name, "analyse", "net", name)
        return write_back(store or self.store, self.runs, record, decide)

    def analyse(self, name: str, *places: tuple[float, float]) -> RunRecord:
        return self.run(name, analysis(found_by(name, *places)))

    def ids(self) -> set[UUID | None]:
        return {obj.id for obj in self.store.objects()}

    def precious(self) -> str:
        return next(object_digest(obj) for obj in self.store.objects() if obj.id == self.mine.id)
