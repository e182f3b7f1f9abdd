"""An image of a QuPath project as `writeback` changes it: QuPath loads, changes and saves; one save, when told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tissuebridge.objects import PathClass, PathObject
from tissuebridge.project.entry_files import EntryFiles
from tissuebridge.project.flat import flattened, halves, unflattened
from tissuebridge.project.paquo.java import check_heap, start_java
from tissuebridge.project.qupath_project import QuPathImage
from tissuebridge.writeback.apply import Loaded
from tissuebridge.writeback.reconcile import Changes


class QuPathStore:
    """An `ObjectStore` in QuPath.

    Args:
        image: The image.
    """

    def __init__(self, image: QuPathImage) -> None:
        self._image = image

    @property
    def entry_id(self) -> str:
        """QuPath's number of the image."""
        return self._image.entry.id

    @property
    def name(self) -> str:
        """QuPath's name of the image."""
        return self._image.entry.entry_name

    @property
    def files(self) -> EntryFiles:
        """Where QuPath keeps its objects."""
        return self._image.entry.files

    def check(self, new: int) -> None:
        """Refuses an image whose file is gone, or more objects than Java has memory for.

        Raises:
            ImageError: The image's file is not where the project says.
            ResourceLimit: Says how much memory is needed.
        """
        self._image.check_reachable()
        start_java()
        data = self.files.data
        check_heap(self.name, data.stat().st_size if data.is_file() else 0, new)

    def load(self) -> Loaded:
        """Loads the objects for a change.

        Raises:
            InputRefused: QuPath cannot read them.
            ResourceLimit: Java's memory does not suffice.
        """
        flat = self._image.open_entry.load()
        return Loaded(unflattened(flat), len(flat))

    def change(self, changes: Changes, snapshot: Path | None) -> None:
        """Changes what was loaded.

        Raises:
            ResourceLimit: Java's memory does not suffice.
            InputRefused: QuPath refused.
        """
        self._image.open_entry.change(
            halves(changes.gone),
            flattened(changes.added),
            halves(changes.parents),
            snapshot,
            halves(changes.returned),
        )
        if changes.measured is not None:
            measured = changes.measured
            self._image.open_entry.measure(halves(measured.ids), measured.names, measured.values)

    def save(self) -> None:
        """Saves it.

        Raises:
            StorageError: The disk refused.
            ResourceLimit: Java's memory does not suffice.
        """
        self._image.open_entry.save()

    def read(self) -> Loaded:
        """Reads the objects from the disk.

        Raises:
            InputRefused: QuPath cannot read them.
            ResourceLimit: Java's memory does not suffice.
        """
        flat = self._image.open_entry.read_objects(self.files.data)
        return Loaded(unflattened(flat), len(flat))

    def forget(self) -> None:
        """Lets Java reclaim what was loaded."""
        self._image.open_entry.forget()


def classes_of(objects: Sequence[PathObject]) -> Mapping[str, tuple[int, int, int] | None]:
    """The classes of some objects with their colours, in the order of their first objects."""
    found: dict[PathClass, None] = {obj.path_class: None for obj in objects if obj.path_class is not None}
    return {path_class.name: path_class.color for path_class in found}
