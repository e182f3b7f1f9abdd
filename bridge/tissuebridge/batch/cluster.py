"""An existing Dask cluster that computes ahead of the process that writes; needs the extra `dask`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from tissuebridge.batch.tasks import Task, compute
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
        self._futures: Mapping[str, Any] = {
            task.image: self._client.submit(compute, task, retries=RETRIES, resources=resources, pure=False)
            for task in tasks
        }

    def _is_declared(self) -> bool:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return any(RESOURCE in worker.get("resources", {}) for worker in workers)

    def wait_for(self, image: str) -> None:
        """Returns when an image's journal is filled; see `tasks.Workers`."""
        future = self._futures.get(image)
        if future is None:
            return
        error = future.exception()
        if isinstance(error, TissuebridgeError):
            raise error
        if error is not None:
            raise ImageError(f"{image}: the cluster gave it up: {type(error).__name__}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes back what nobody waits for any more; finished strips stay in the journals."""
        self._client.cancel(list(self._futures.values()))
        self._client.close()
