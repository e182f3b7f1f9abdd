"""Threads on both sides of a caller that computes: one reads ahead of it, one finishes behind it.

Stand between the pixels, the network and the journal. Each is a bounded way off from the caller, and ends whatever
happens on any side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, ParamSpec, Protocol, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")

_POLL_S = 0.1
"""Waiting is cut into pieces of this length: an endless wait cannot be interrupted on Windows."""


@contextmanager
def read_ahead(items: Iterable[_T], depth: int) -> Iterator[Iterator[_T]]:
    """Lets a thread run `items` while the block consumes them.

    Args:
        items: Run in the thread, and nowhere else. What it raises is raised where the block asks for the next
            item.
        depth: How many items may lie ready; the thread works on at most one more.

    Yields:
        The items, in order.

    >>> with read_ahead((n * n for n in range(4)), depth=2) as squares:
    ...     list(squares)
    [0, 1, 4, 9]
    """
    reader = _Reader(items, depth)
    reader.thread.start()
    try:
        yield reader.items()
    finally:
        reader.stop.set()
        reader.thread.join()


class Finish(Protocol):
    """What `finish_behind` gives."""

    def __call__(self, call: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Lets the thread call something as soon as it has finished what it was given before; that is waited for."""


@contextmanager
def finish_behind() -> Iterator[Finish]:
    """Lets a thread finish things while the block computes the next.

    What it raises is raised where the block gives it the next thing, or at the block's end; of a block that ends by an
    error of its own, the thread still does what it was given.

    Yields:
        What gives the thread something to call.

    >>> squares = []
    >>> with finish_behind() as finish:
    ...     for n in range(4):
    ...         finish(squares.append, n * n)
    >>> squares
    [0, 1, 4, 9]
    """
    with ThreadPoolExecutor(1, thread_name_prefix="tissuebridge finisher") as thread:
        before: Future[object] | None = None

        def finish(call: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs) -> None:
            nonlocal before
            if before is not None:
                before.result()
            before = thread.submit(call, *args, **kwargs)

        yield finish
        if before is not None:
            before.result()


class _Reader(Generic[_T]):
    def __init__(self, items: Iterable[_T], depth: int) -> None:
        self.stop = Event()
        self.thread = Thread(target=self._run, args=(items,), name="tissuebridge reader", daemon=True)
        # One item, or the error that ended the reading, or None at the end.
        self._queue: Queue[tuple[_T] | BaseException | None] = Queue(depth)

    def _run(self, items: Iterable[_T]) -> None:
        try:
            for item in items:
                if not self._put((item,)):
                    return
            self._put(None)
        except BaseException as error:  # the caller is told whatever it was
            self._put(error)

    def _put(self, entry: tuple[_T] | BaseException | None) -> bool:
        while not self.stop.is_set():
            with suppress(Full):
                self._queue.put(entry, timeout=_POLL_S)
                return True
        return False

    def items(self) -> Iterator[_T]:
        while True:
            try:
                entry = self._queue.get(timeout=_POLL_S)
            except Empty:
                continue
            if isinstance(entry, BaseException):
                raise entry
            if entry is None:
                return
            yield entry[0]
