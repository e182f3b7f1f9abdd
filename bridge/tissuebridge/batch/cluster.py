"""An existing Dask cluster that computes ahead of the process that writes; needs the extra `dask`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from tissuebridge.batch.tasks import LOOK_S, Task, TilesDone, compute
from tissuebridge.errors import ImageError, ServerUnreachable, TissuebridgeError, UsageError

RESOURCE: Final = "model"
"""Where workers declare this resource (`dask worker --resources model=1`), a task takes one: one network a GPU."""
RETRIES: Final = 2
PATIENCE_S: Final = 20


class ClusterWorkers:
    """Tasks on a Dask cluster, whose workers reach the images, the model and the journals under the same paths.

    Args:
        tasks: What is to be computed.
        address: The scheduler's, as in tcp://node1:8786.

    Raises:
        UsageError: Dask is not installed.
        ServerUnreachable: No scheduler answers.
    """

    def __init__(self, tasks: Sequence[Task], address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise UsageError("--scheduler needs Dask: pip install 'tissuebridge[dask]'") from error
        try:
            self._client = Client(address, timeout=PATIENCE_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ServerUnreachable(
                f"no Dask scheduler answers at {address}: {error}; start one, or correct it"
            ) from error
        resources = {RESOURCE: 1} if self._is_declared() else None
        self._done, self._topic = TilesDone(), f"tissuebridge-{uuid4().hex}"
        self._client.subscribe_topic(self._topic, self._heard)
        self._futures: dict[str, list[Any]] = {}
        for task in tasks:
            future = self._client.submit(
                _compute_and_tell, task, self._topic, retries=RETRIES, resources=resources, pure=False
            )
            self._futures.setdefault(task.image, []).append(future)

    def _heard(self, event: tuple[float, Any]) -> None:
        self._done.heard(*event[1])

    def _is_declared(self) -> bool:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return any(RESOURCE in worker.get("resources", {}) for worker in workers)

    def wait_for(self, image: str, watch: Callable[[int, int], None]) -> None:
        """Returns when an image's journal is filled; see `tasks.Workers`."""
        for future in self._futures.get(image, ()):
            error = self._error_of(future, lambda: self._done.tell(image, watch))
            if isinstance(error, TissuebridgeError):
                raise error
            if error is not None:
                raise ImageError(
                    f"{image}: the cluster gave it up: {type(error).__name__}: {error}"
                ) from error

    @staticmethod
    def _error_of(future: Any, look: Callable[[], None]) -> BaseException | None:
        """What a task ended with, looking now and then until it does."""
        while True:
            try:
                return future.exception(timeout=LOOK_S)  # type: ignore[no-any-return]
            except TimeoutError:
                look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes back what nobody waits for any more; finished strips stay in the journals."""
        self._client.cancel([future for futures in self._futures.values() for future in futures])
        self._client.close()


def _compute_and_tell(task: Task, topic: str) -> None:
    """On a worker: fills the journal and tells how far it is."""
    from distributed import get_worker

    worker = get_worker()
    compute(task, lambda done, total: worker.log_event(topic, (task.image, task.part, done, total)))
