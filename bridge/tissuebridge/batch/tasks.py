"""What a worker is asked for: an image's journal, filled, or of a huge slide a run of its strips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import shapely

from tissuebridge import pipeline
from tissuebridge.errors import UsageError
from tissuebridge.objects import PathObject
from tissuebridge.pipeline import DEFAULT_TILE_SIZE, AnalysisOptions
from tissuebridge.predictor.base import Predictor
from tissuebridge.predictor.on_demand import predictors
from tissuebridge.predictor.saved import read_saved
from tissuebridge.project.base import Image, ImageIdentity, PixelSource
from tissuebridge.project.source import open_source

PART_PX: Final = 2**30
"""Images of more pixels are computed in parts of about so many: a lung slide (2e10) by up to 19 workers at once."""


LOOK_S: Final = 1.0
"""How often a process that waits for workers looks how far they are."""


@dataclass(frozen=True, slots=True)
class Task:
    """One image to compute, or a part of it. Plain values: it travels as JSON, or by Dask.

    Attributes:
        source: The folder, image file or QuPath project, as an absolute path that the worker reaches too.
        image: The image's name in it.
        journal: Folder for its journal, likewise.
        model: Folder of the model.
        precision: What the network computes in.
        engine: What computes it.
        pixel_size_um: For images without one.
        tile_size: As `AnalysisOptions`.
        batch_size: As `AnalysisOptions`.
        skip_glass: As `AnalysisOptions`.
        region: WKB (hex) of what is to be analysed; "" for all of the image.
        part: Which of the parts.
        parts: Into how many runs of strips the image is cut.
    """

    source: str
    image: str
    journal: str
    model: str
    precision: str = "fp32"
    engine: str = "torch"
    pixel_size_um: float | None = None
    tile_size: int = DEFAULT_TILE_SIZE
    batch_size: int = 1
    skip_glass: bool = True
    region: str = ""
    part: int = 0
    parts: int = 1

    def in_parts(self, pixels: int) -> list[Task]:
        """The tasks that an image of so many pixels is.

        >>> task = Task("slides", "a", "journal", "model")
        >>> [(each.part, each.parts) for each in task.in_parts(3 * PART_PX)]
        [(0, 3), (1, 3), (2, 3)]
        """
        parts = max(1, -(-pixels // PART_PX))
        return [replace(self, part=part, parts=parts) for part in range(parts)]


class TilesDone:
    """How many tiles of each image are done, as its tasks tell; from any thread."""

    def __init__(self) -> None:
        self._told: dict[str, dict[int, tuple[int, int]]] = {}

    def heard(self, image: str, part: int, done: int, total: int) -> None:
        """A task has done so many of its tiles, of so many of the whole image."""
        # A worker in the place of one that died begins its last strip again; a person need not see that.
        before, _ = self._told.setdefault(image, {}).get(part, (0, 0))
        self._told[image][part] = (max(before, done), total)

    def tell(self, image: str, watch: Callable[[int, int], None]) -> None:
        """Calls with (tiles done, tiles in all), if anything is known."""
        parts = list(self._told.get(image, {}).values())
        if parts:
            watch(sum(done for done, _ in parts), max(total for _, total in parts))


class Workers(Protocol):
    """Who computes tasks."""

    def wait_for(self, image: str, watch: Callable[[int, int], None]) -> None:
        """Returns when an image's journal is filled.

        Args:
            image: Its name.
            watch: Called now and then with (tiles done, tiles in all), from this thread.

        Raises:
            TissuebridgeError: It could not be: what went wrong, or that its workers died.
        """
        ...


def compute(task: Task, progress: Callable[[int, int], None] | None = None) -> None:
    """Fills an image's journal, or its part of it; strips that are there already are not computed again.

    Raises:
        UsageError: The image or the model is not there, or an option is impossible.
        TissuebridgeError: As for `pipeline.compute`.
    """
    project = open_source(Path(task.source), task.pixel_size_um)
    found = [image for image in project.images if image.name == task.image]
    if not found:
        raise UsageError(f"{task.source}: it has no image {task.image!r} any more")
    options = AnalysisOptions(
        tile_size=task.tile_size,
        batch_size=task.batch_size,
        skip_glass=task.skip_glass,
        region_of_interest=shapely.from_wkb(bytes.fromhex(task.region)) if task.region else None,
    )
    predictor, exact = _models(task.model, task.precision, task.engine)
    pipeline.compute(
        _Bare(found[0]),
        predictor,
        journal_dir=Path(task.journal),
        exact=exact,
        options=options,
        progress=progress,
        part=(task.part, task.parts),
    )


@lru_cache(maxsize=1)
def _models(folder: str, precision: str, engine: str) -> tuple[Predictor, Predictor | None]:
    """The model, and for a reduced precision the exact one; a process that computes many images loads them once."""
    return predictors(read_saved(Path(folder)), precision, engine)


class _Bare:
    """An image without its objects: what is to be analysed is in the task, and no worker starts Java to ask for it."""

    def __init__(self, image: Image) -> None:
        self._image = image

    @property
    def name(self) -> str:
        return self._image.name

    @property
    def identity(self) -> ImageIdentity:
        return self._image.identity

    @property
    def pixel_size_um(self) -> float:
        return self._image.pixel_size_um

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._image.metadata

    @property
    def files(self) -> Sequence[Path]:
        return self._image.files

    def open_pixels(self) -> PixelSource:
        return self._image.open_pixels()

    def objects(self) -> Sequence[PathObject]:
        return ()
