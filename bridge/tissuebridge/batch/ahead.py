"""Who computes ahead of the command that writes: processes here, a cluster, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import shapely

from tissuebridge.batch.cluster import ClusterWorkers
from tissuebridge.batch.local import LocalWorkers
from tissuebridge.batch.tasks import Task, Workers
from tissuebridge.drawn_area import drawn_region
from tissuebridge.errors import TissuebridgeError
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.project.base import Image
from tissuebridge.starter import starter_folder


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a person asked of the workers.

    Attributes:
        source: The folder, image file or QuPath project.
        pixel_size_um: For images without one.
        model: Folder of the model; None for the starter model.
        precision: What the network computes in.
        engine: What computes it.
        count: Processes on this machine.
        scheduler: Address of a Dask scheduler instead.
    """

    source: Path
    pixel_size_um: float | None
    model: Path | None
    precision: str
    engine: str
    count: int
    scheduler: str | None

    @contextmanager
    def of(
        self, images: Sequence[tuple[Image, Path]], options: Callable[[Image], AnalysisOptions]
    ) -> Iterator[Workers]:
        """Workers that fill journals ahead; nobody where one process does all.

        Args:
            images: Those to analyse and the folders of their journals.
            options: What was asked of an image.

        Raises:
            UsageError: Dask is not installed.
            ServerUnreachable: No scheduler answers.
        """
        if self.scheduler is None and self.count == 1:
            yield _Nobody()
            return
        tasks = [task for image, journal in images for task in self._tasks(image, journal, options)]
        if self.scheduler is not None:
            with ClusterWorkers(tasks, self.scheduler) as cluster:
                yield cluster
        elif len(tasks) > 1:
            with LocalWorkers(tasks, self.count) as workers:
                yield workers
        else:
            yield _Nobody()

    def _tasks(self, image: Image, journal: Path, options: Callable[[Image], AnalysisOptions]) -> list[Task]:
        try:
            chosen, size = options(image), image.identity
            area = chosen.region_of_interest
            area = drawn_region(image) if area is None else area
        except TissuebridgeError:
            return []  # told where the image's turn comes
        return Task(
            source=str(self.source.resolve()),
            image=image.name,
            journal=str(journal.resolve()),
            model=str((starter_folder() if self.model is None else self.model).resolve()),
            precision=self.precision,
            engine=self.engine,
            pixel_size_um=self.pixel_size_um,
            tile_size=chosen.tile_size,
            batch_size=chosen.batch_size,
            skip_glass=chosen.skip_glass,
            region="" if area is None else shapely.to_wkb(area, hex=True),
        ).in_parts(size.width * size.height)


class _Nobody:
    """Nobody computes ahead."""

    def wait_for(self, image: str, watch: Callable[[int, int], None]) -> None:
        """Returns at once."""
