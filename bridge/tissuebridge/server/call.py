"""One call in which the server asks a client for pixels: analyses, and examples to learn from.

Three threads share a call. The reader takes what the client sends, the worker does what the subclass says, and the
call's handler only yields from the outbox. When the client cancels or vanishes, gRPC calls `Call.cancel`, and the work
ends at its next step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Event, Thread
from typing import Any, ClassVar, Final, Generic, TypeVar

from tissuebridge.errors import Cancelled, ResourceLimit, UsageError
from tissuebridge.geojson import read_objects
from tissuebridge.objects import PathObject
from tissuebridge.project.base import ImageIdentity, Level
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1.training_pb2 import ObjectsPiece
from tissuebridge.server.outbox import IdleTimeout, Outbox, Stalled
from tissuebridge.server.remote_pixels import RemotePixels

MAX_PIXELS: Final = 2**36
"""Larger images are refused, at full resolution and on the model's grid; the largest slides have 2^35 px."""

MAX_OBJECTS_BYTES: Final = 2**29
"""Of one image's GeoJSON: two million objects."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Busy(ResourceLimit):
    """The server does as much as it can; clients know it by this name and come again."""


class Call(ABC, Generic[Request, Response]):
    """The life of one call.

    Args:
        idle_timeout_s: It ends when its client sends or takes nothing for so long while it is waited for.
        hang_up: Ends it without a word.
    """

    opens_with: ClassVar[str]
    """What a client must send first, in words."""

    def __init__(self, idle_timeout_s: float, hang_up: Callable[[], object]) -> None:
        self.outbox: Outbox[Response] = Outbox(idle_timeout_s)
        self._idle_timeout_s, self._hang_up = idle_timeout_s, hang_up
        self._over = Event()
        self._openings: SimpleQueue[Request | BaseException] = SimpleQueue()
        self._pixels: RemotePixels | None = None

    @abstractmethod
    def block_of(self, request: Request) -> wire.PixelBlock | None:
        """The answer to a question for pixels; None for a message of the opening."""

    @abstractmethod
    def is_opening(self, number: int, request: Request) -> bool:
        """Whether a message may stand there in the opening; the first has number 0."""

    @abstractmethod
    def answer(self) -> None:
        """What the call is for; puts messages into the outbox."""

    @abstractmethod
    def asking(self, request: wire.BlockRequest) -> Response:
        """The message that asks for a block."""

    def cancel(self) -> None:
        """Stops the work; called when the call has ended, however it did."""
        self.fail(Cancelled("the call has ended"))

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error, unless it has ended."""
        self._over.set()
        self.outbox.end(error)
        self._openings.put(error)
        if self._pixels is not None:
            self._pixels.fail(error)
        if isinstance(error, Stalled):
            self._hang_up()

    def read(self, requests: Iterator[Request]) -> None:
        """Takes what the client sends until it sends no more; runs in its own thread."""
        try:
            number = -1
            for number, request in enumerate(requests):
                self._take(number, request)
            if number < 0:
                raise UsageError(f"a call must open with {self.opens_with}")
            raise UsageError("the client closed its side before the work was done")
        except Exception as error:
            self.fail(error)

    def _take(self, number: int, request: Request) -> None:
        block = self.block_of(request)
        if block is not None and self._pixels is not None:
            self._pixels.answer(block)
        elif block is None and self.is_opening(number, request):
            self._openings.put(request)
        elif number == 0:
            raise UsageError(f"a call must open with {self.opens_with}")
        else:
            raise UsageError("after the opening only the blocks are expected that were asked for")

    def work(self) -> None:
        """Does the work; runs in its own thread."""
        try:
            self.answer()
            self.outbox.end()
        except Exception as error:
            self.fail(error)

    def opening(self) -> Request:
        """The next message of the opening.

        Raises:
            IdleTimeout: None came.
        """
        try:
            opening = self._openings.get(timeout=self._idle_timeout_s)
        except Empty:
            raise IdleTimeout(f"the client sent nothing for {self._idle_timeout_s:g} s") from None
        if isinstance(opening, BaseException):
            raise opening
        return opening

    def is_over(self) -> bool:
        """Whether nobody waits for the result any more."""
        return self._over.is_set()

    def pixels_of(self, identity: ImageIdentity, levels: tuple[Level, ...]) -> RemotePixels:
        """The client's pixels, which come when they are asked for."""
        self._pixels = RemotePixels(identity.name, levels, self._ask, self._idle_timeout_s)
        if self.is_over():
            raise Cancelled("the call has ended")
        return self._pixels

    def _ask(self, request: wire.BlockRequest) -> None:
        self.outbox.put(self.asking(request))


def run(
    call: Call[Request, Response], requests: Iterator[Request], context: Any, places: BoundedSemaphore
) -> Iterator[Response]:
    """Starts a call's threads and yields what they put out; gives the place back when the work has ended.

    Args:
        call: The call, in one of the places.
        requests: What the client sends.
        context: gRPC's.
        places: Where it has a place.
    """

    def work() -> None:
        try:
            call.work()
        finally:
            # Not when the handler ends: a cancelled call still works on its last tile.
            places.release()

    # False: the call ended before it began, and nobody will tell us again.
    if not context.add_callback(call.cancel):
        call.cancel()
    Thread(target=work, name="call-worker").start()
    Thread(target=call.read, args=(requests,), name="call-reader", daemon=True).start()
    yield from call.outbox


def objects_in(piece: Callable[[], ObjectsPiece]) -> list[PathObject]:
    """An image's objects, which come as GeoJSON in pieces.

    Args:
        piece: Waits for the next one.

    Raises:
        ResourceLimit: They are too many.
        GeoJSONError: They are no objects.
    """
    with TemporaryDirectory(prefix="tissuebridge-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "objects.geojson"
        with path.open("wb") as file:
            is_last = False
            while not is_last:
                came = piece()
                file.write(came.geojson)
                is_last = came.last
                if file.tell() > MAX_OBJECTS_BYTES:
                    raise ResourceLimit(f"the image's objects have more than {MAX_OBJECTS_BYTES} bytes")
        return read_objects(path)
