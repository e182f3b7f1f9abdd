"""What waits to be sent to one client: a bounded queue between the thread that works and the one that sends.

The compute thread puts messages in and waits while the queue is full (back-pressure is the call's own); the
call's handler only yields what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Final, Generic, TypeVar

from tissuebridge.errors import Cancelled, TissuebridgeError

Message = TypeVar("Message")

_SIZE: Final = 16


class IdleTimeout(TissuebridgeError):
    """The client neither sent nor took anything for too long; its place is given to another."""

    grpc_status = "DEADLINE_EXCEEDED"


class Stalled(IdleTimeout):
    """The client takes nothing, so that it cannot even be told."""


class Outbox(Generic[Message]):
    """A bounded queue that can end well, with an error, or by being dropped.

    Args:
        idle_timeout_s: So long a message may wait for room.
        size: So many messages may wait.
    """

    def __init__(self, idle_timeout_s: float, size: int = _SIZE) -> None:
        self._idle_timeout_s, self._size = idle_timeout_s, size
        self._messages: deque[Message] = deque()
        self._changed = Condition()
        self._ended = False
        self._error: BaseException | None = None

    def put(self, message: Message) -> None:
        """Adds a message, when there is room.

        Raises:
            Cancelled: The call has ended.
            Stalled: The client took nothing for too long.
        """
        with self._changed:
            room = self._changed.wait_for(self._has_room_or_ended, self._idle_timeout_s)
            if self._ended:
                raise Cancelled("the call has ended")
            if not room:
                raise Stalled(f"the client took no message for {self._idle_timeout_s:g} s")
            self._messages.append(message)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Ends the queue: what waits is still sent, or, with an error, dropped. Only the first end counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                if error is not None:
                    self._messages.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Message]:
        """Yields messages until the end.

        Raises:
            BaseException: What the queue was ended with.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self._ended)
                if not self._messages:
                    break
                message = self._messages.popleft()
                self._changed.notify_all()
            yield message
        if self._error is not None:
            raise self._error

    def _has_room_or_ended(self) -> bool:
        return self._ended or len(self._messages) < self._size
