"""What runs wrote to an image, as far as it takes to notice what of it a person deleted since.

`writeback` asks before it writes, and keeps it with the run's snapshot. Ids alone tell the deleted objects of one
model; a cell's place tells it for the next model too.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.errors import InputRefused
from tissuebridge.files import atomic_write
from tissuebridge.objects import ObjectType, PathObject, is_area, provenance
from tissuebridge.project.flat import halves, uuids
from tissuebridge.writeback.reconcile import Deleted, Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Objects as far as they are remembered.

    Attributes:
        ids: int64 (n, 2).
        classes: Text (n,), names of classes.
        xy: float64 (n, 2), centroids in full-resolution px; NaN for regions, which are remembered by id alone.
    """

    ids: NDArray[np.int64]
    classes: NDArray[np.str_]
    xy: NDArray[np.float64]

    @classmethod
    def of(cls, objects: Sequence[PathObject]) -> Marks:
        """The marks of some objects."""
        if not objects:
            return cls(np.zeros((0, 2), np.int64), np.zeros(0, np.str_), np.zeros((0, 2)))
        xy = shapely.get_coordinates(
            shapely.centroid(np.array([obj.geometry for obj in objects], np.object_))
        )
        is_region = [obj.object_type is ObjectType.ANNOTATION and is_area(obj.geometry) for obj in objects]
        xy[is_region] = np.nan
        return cls(
            halves(obj.id for obj in objects if obj.id is not None),
            np.array([obj.class_name or "" for obj in objects], np.str_),
            xy,
        )

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        """All marks of some, each id once."""
        ids = np.concatenate([part.ids for part in parts])
        _, first = np.unique(ids, axis=0, return_index=True)
        classes = np.concatenate([part.classes for part in parts])[first]
        return cls(ids[first], classes, np.concatenate([part.xy for part in parts])[first])

    def without(self, ids: NDArray[np.int64]) -> Marks:
        """Those that have none of the ids."""
        stays = ~np.isin(_whole(self.ids), _whole(ids))
        return Marks(self.ids[stays], self.classes[stays], self.xy[stays])

    def as_deleted(self) -> Deleted:
        """As `reconcile` takes it."""
        is_cell = ~np.isnan(self.xy[:, 0])
        names = np.unique(self.classes[is_cell])
        cells = {str(name): self.xy[is_cell & (self.classes == name)] for name in names}
        return Deleted(frozenset(uuids(self.ids)), cells)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a file."""
        return {"ids": self.ids, "classes": self.classes, "xy": self.xy}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Marks:
        """From a file."""
        return cls(arrays[f"{prefix}ids"], arrays[f"{prefix}classes"], arrays[f"{prefix}xy"])


def _whole(ids: NDArray[np.int64]) -> NDArray[np.void]:
    """Each id as one value, so that sets can be made."""
    return np.ascontiguousarray(ids.reshape(-1, 2)).view(np.dtype((np.void, 16))).ravel()


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What runs wrote to an image, and what of it a person deleted.

    Attributes:
        written: What each source wrote last.
        deleted: What a person deleted of it, over all runs.
    """

    written: Mapping[Source, Marks] = field(default_factory=dict)
    deleted: Marks = field(default_factory=lambda: Marks.of(()))

    @classmethod
    def of(cls, objects: Sequence[PathObject], deleted: Marks) -> Memory:
        """What is remembered of an image whose objects a run has just written, edited ones of earlier runs included."""
        by_source: dict[Source, list[PathObject]] = {}
        for obj in objects:
            if (origin := provenance(obj)) is not None:
                by_source.setdefault(Source.of(origin), []).append(obj)
        return cls({source: Marks.of(own) for source, own in by_source.items()}, deleted)

    def noticed(self, existing: Sequence[PathObject], what: str) -> Marks:
        """What a person deleted: earlier, and of what was written last and is not there any more.

        Where all of a source is gone nobody picked single objects: everything was cleared, or the image was open in
        QuPath during the run and was saved over it. Then nothing stays away, and the log says so.

        Args:
            existing: All objects of the image.
            what: The image, for the log.
        """
        have = halves(obj.id for obj in existing if obj.id is not None)
        missing = [self.deleted]
        for source, marks in self.written.items():
            gone = marks.without(have)
            if len(gone.ids) < len(marks.ids):
                missing.append(gone)
            elif len(gone.ids):
                _log.warning(
                    "%s: none of the %d objects that %r wrote is there any more: they were cleared, or the image was "
                    "open in QuPath meanwhile and saved over them. They are written anew.",
                    what,
                    len(gone.ids),
                    source.model,
                )
        return Marks.joined(missing).without(have)

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all.

        Raises:
            StorageError: It could not be written.
        """
        sources = list(self.written)
        arrays = {"sources": np.array([[source.method, source.model] for source in sources], np.str_)}
        every = {str(place): self.written[source] for place, source in enumerate(sources)} | {
            "d": self.deleted
        }
        for name, marks in every.items():
            arrays |= {f"{name}_{part}": value for part, value in marks.arrays().items()}
        raw = io.BytesIO()
        np.savez(raw, allow_pickle=False, **arrays)
        with atomic_write(path) as file:
            file.write(raw.getbuffer())

    @classmethod
    def load(cls, path: Path) -> Memory:
        """What `save` wrote; nothing remembered where there is no file.

        Raises:
            InputRefused: The file is damaged.
        """
        if not path.is_file():
            return cls()
        try:
            with np.load(path, allow_pickle=False) as arrays:
                sources = [
                    Source(str(method), str(model)) for method, model in arrays["sources"].reshape(-1, 2)
                ]
                written = {
                    source: Marks.from_arrays(arrays, f"{place}_") for place, source in enumerate(sources)
                }
                return cls(written, Marks.from_arrays(arrays, "d_"))
        except (OSError, ValueError, KeyError) as error:
            raise InputRefused(
                f"{path}: damaged ({error}). Move it away; deletions before it are forgotten."
            ) from error
