"""Several processes that train one network together (DDP): who they are, how they start, how they end.

The caller's own process leads: it tells, logs and saves. The others are started here, get the same examples and
configuration, and take their share of every batch.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from lightning.fabric.plugins.environments import LightningEnvironment
from torch.utils.data import Sampler

_PATIENCE_S: Final = 60.0
"""After the leader is done a helper has so long to notice."""


class Membership(LightningEnvironment):  # type: ignore[misc]  # its stubs are not followed
    """One process's place in a team on this machine, as Lightning asks for it.

    Args:
        rank: 0 leads.
        size: Number of processes.
        port: Of the leader, on the loopback interface.
    """

    def __init__(self, rank: int, size: int, port: int) -> None:
        super().__init__()
        self._rank, self._size, self._port = rank, size, port

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning need not start any: `working` does."""
        return True

    @property
    def main_address(self) -> str:
        """Where the leader listens."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Where the leader listens."""
        return self._port

    def world_size(self) -> int:
        """Number of processes."""
        return self._size

    def global_rank(self) -> int:
        """This process's number."""
        return self._rank

    def local_rank(self) -> int:
        """This process's number on this machine."""
        return self._rank

    def set_world_size(self, size: int) -> None:
        """It is known before."""

    def set_global_rank(self, rank: int) -> None:
        """It is known before."""


class Shares(Sampler[list[int]]):
    """The numbers of one process's crops, a list for each step.

    All processes' lists of a step are, one behind the other, the batch that one process would have had.

    >>> list(Shares(2, batch_size=2, rank=1, size=2))
    [[2, 3], [6, 7]]
    """

    def __init__(self, steps: int, batch_size: int, rank: int = 0, size: int = 1) -> None:
        self._steps, self._batch_size, self._rank, self._size = steps, batch_size, rank, size

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._steps):
            first = (step * self._size + self._rank) * self._batch_size
            yield list(range(first, first + self._batch_size))

    def __len__(self) -> int:
        return self._steps


@contextmanager
def working(work: Callable[..., None], size: int, port: int, arguments: Sequence[Any]) -> Iterator[None]:
    """Runs helpers, ranks 1 to size - 1, while the block leads.

    Args:
        work: Called in each helper with (rank, size, port, *arguments); can be imported by name.
        size: Number of processes, the leader's included; with 1 nothing is started.
        port: On which the leader will listen.
        arguments: Plain values, sent to each helper.
    """
    start = multiprocessing.get_context("spawn")  # what has threads must not be forked
    helpers = [
        start.Process(target=_help, args=(work, rank, size, port, *arguments), daemon=True)
        for rank in range(1, size)
    ]
    for helper in helpers:
        helper.start()
    try:
        yield
        for helper in helpers:
            helper.join(_PATIENCE_S)
    finally:
        for helper in helpers:
            if helper.is_alive():
                helper.terminate()
            helper.join()


def _help(work: Callable[..., None], *arguments: Any) -> None:
    """In a helper: the leader alone decides when a Ctrl-C, which reaches all, ends the training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work(*arguments)
