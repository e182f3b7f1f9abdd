"""One call of `Analysis.Analyze`: the client's order in, the engine run on the client's pixels, its results out.

Three threads share a call. The reader takes what the client sends, the worker runs `pipeline.analyse` or a proposal
exactly as a local run would, and the call's handler only yields from the outbox. When the client cancels or vanishes,
gRPC calls `_Call.cancel`, and the engine stops before its next tile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Event, Thread
from typing import Any, Final

from tissuebridge.analysis import Analysis
from tissuebridge.errors import Cancelled, ResourceLimit, UsageError
from tissuebridge.pipeline import analyse
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.proposals.measure import REGION_PIXEL_UM
from tissuebridge.proposals.propose import Watch, propose
from tissuebridge.proposals.settings import ProposalSettings
from tissuebridge.rpc import convert, results
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1 import analysis_pb2_grpc
from tissuebridge.server.models import ModelList
from tissuebridge.server.outbox import IdleTimeout, Outbox, Stalled
from tissuebridge.server.remote_pixels import RemoteImage, RemotePixels

_log = logging.getLogger(__name__)

MAX_PIXELS: Final = 2**36
"""Larger images are refused, at full resolution and on the model's grid; the largest slides have 2^35 px."""

MAX_BATCH_PIXELS: Final = 2**24
"""Tiles that the network gets at once may have so many pixels together, cores only."""


class Busy(ResourceLimit):
    """The server analyses as many images as it can; clients know it by this name and come again."""


class AnalysisService(analysis_pb2_grpc.AnalysisServicer):
    """Runs analyses for clients, a bounded number at once.

    Args:
        models: The server's models.
        streams: So many calls at once; more are refused as busy.
        idle_timeout_s: A call ends when its client sends or takes nothing for so long while it is waited for.
    """

    def __init__(self, models: ModelList, streams: int, idle_timeout_s: float) -> None:
        self._models, self._idle_timeout_s = models, idle_timeout_s
        self._streams, self._places = streams, BoundedSemaphore(streams)

    def Analyze(  # noqa: N802
        self, request_iterator: Iterator[wire.AnalyzeRequest], context: Any
    ) -> Iterator[wire.AnalyzeResponse]:
        """Starts a call's threads and yields what they put out."""
        if not self._places.acquire(blocking=False):
            raise Busy(f"the server already runs {self._streams} analyses; come again in a moment")
        call = _Call(self._models, self._idle_timeout_s, context.cancel)
        # False: the call ended before it began, and nobody will tell us again.
        if not context.add_callback(call.cancel):
            call.cancel()
        Thread(target=self._work, args=(call,), name="analyze-worker").start()
        Thread(target=call.read, args=(request_iterator,), name="analyze-reader", daemon=True).start()
        yield from call.outbox

    def _work(self, call: _Call) -> None:
        try:
            call.work()
        finally:
            # Not when the handler ends: a cancelled call still works on its last tile.
            self._places.release()


class _Call:
    """The life of one call; `hang_up` ends it without a word."""

    def __init__(self, models: ModelList, idle_timeout_s: float, hang_up: Callable[[], object]) -> None:
        self.outbox: Outbox[wire.AnalyzeResponse] = Outbox(idle_timeout_s)
        self._models, self._idle_timeout_s, self._hang_up = models, idle_timeout_s, hang_up
        self._over = Event()
        self._starts: SimpleQueue[wire.Start | BaseException] = SimpleQueue()
        self._pixels: RemotePixels | None = None

    def cancel(self) -> None:
        """Stops the work; called when the call has ended, however it did."""
        self.fail(Cancelled("the call has ended"))

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error, unless it has ended."""
        self._over.set()
        self.outbox.end(error)
        self._starts.put(error)
        if self._pixels is not None:
            self._pixels.fail(error)
        if isinstance(error, Stalled):
            self._hang_up()

    def read(self, requests: Iterator[wire.AnalyzeRequest]) -> None:
        """Takes what the client sends until it sends no more; runs in its own thread."""
        try:
            first = next(requests, None)
            if first is None or first.WhichOneof("step") != "start":
                raise UsageError("a call must open with Start: which image, which parameters")
            self._starts.put(first.start)
            for request in requests:
                if request.WhichOneof("step") != "block" or self._pixels is None:
                    raise UsageError("after Start only the blocks are expected that were asked for")
                self._pixels.answer(request.block)
            raise UsageError("the client closed its side before the analysis was done")
        except Exception as error:
            self.fail(error)

    def work(self) -> None:
        """Runs the analysis and puts out what it finds; runs in its own thread."""
        try:
            order = convert.order_of(self._opening())
            with TemporaryDirectory(prefix="tissuebridge-", ignore_cleanup_errors=True) as folder:
                self._analyse(order, Path(folder))
            self.outbox.end()
        except Exception as error:
            self.fail(error)

    def _opening(self) -> wire.Start:
        try:
            opening = self._starts.get(timeout=self._idle_timeout_s)
        except Empty:
            raise IdleTimeout(f"the client sent nothing for {self._idle_timeout_s:g} s") from None
        if isinstance(opening, BaseException):
            raise opening
        return opening

    def _analyse(self, order: convert.Order, folder: Path) -> None:
        find = self._proposed if order.proposal else self._by_model
        analysis = find(order, folder)
        for message in results.result_messages(analysis, details=order.details, identify=order.identify):
            self.outbox.put(message)

    def _by_model(self, order: convert.Order, folder: Path) -> Analysis:
        name = self._models.name_of(order.model)
        model = self._models.description(name)
        image = self._image(order, model.pixel_size_um)
        self.outbox.put(results.accepted_message(name, model, order.options))
        return analyse(
            image,
            self._models.for_call(name, self._over.is_set),
            journal_dir=folder,
            options=order.options,
            progress=self._tell,
            cancelled=self._over.is_set,
        )

    def _proposed(self, order: convert.Order, folder: Path) -> Analysis:
        settings = ProposalSettings.of_text(order.proposal)
        options = replace(order.options, min_region_area_um2=0.0)

        def accept(model: ModelDescription) -> None:
            self.outbox.put(results.accepted_message("", model, options))

        image = self._image(order, _finest_um(settings))
        watch = Watch(self._tell, self._over.is_set, accept)
        return propose(image, settings, journal_dir=folder, options=options, watch=watch)

    def _image(self, order: convert.Order, pixel_size_um: float) -> RemoteImage:
        """The client's image, if the server can take it at this pixel size."""
        _check_size(order, pixel_size_um)
        self._pixels = RemotePixels(order.identity.name, order.levels, self._ask, self._idle_timeout_s)
        if self._over.is_set():
            raise Cancelled("the call has ended")
        return RemoteImage(order, self._pixels)

    def _ask(self, request: wire.BlockRequest) -> None:
        self.outbox.put(wire.AnalyzeResponse(block=request))

    def _tell(self, done: int, total: int) -> None:
        self.outbox.put(wire.AnalyzeResponse(progress=wire.Progress(done=done, total=total)))


def _finest_um(settings: ProposalSettings) -> float:
    """The finest pixel size that a proposal may look at."""
    if settings.cells is not None:
        return settings.cells.pixel_size_um
    return (settings.regions and settings.regions.pixel_size_um) or REGION_PIXEL_UM[0]


def _check_size(order: convert.Order, pixel_size_um: float) -> None:
    """Refuses what would fill the server: too many pixels in all, or at once.

    Raises:
        UsageError: Says which and how much is allowed.
    """
    identity, options = order.identity, order.options
    pixels = identity.width * identity.height
    on_grid = pixels * (order.pixel_size_um / pixel_size_um) ** 2
    if max(pixels, on_grid) > MAX_PIXELS:
        raise UsageError(
            f"{identity.width} x {identity.height} px of {order.pixel_size_um:g} um, at the {pixel_size_um:g} um that "
            f"are looked at, are more than the {MAX_PIXELS} px this server takes; "
            "check the pixel size, or analyse a part"
        )
    if options.tile_size**2 * options.batch_size > MAX_BATCH_PIXELS:
        raise UsageError(
            f"tiles of {options.tile_size} px, {options.batch_size} at once, are more than this server takes "
            f"({MAX_BATCH_PIXELS} px); choose a smaller tile size or batch size"
        )
