"""One call of `Analysis.Analyze`: the client's order in, the engine run on the client's pixels, its results out.

The worker runs `pipeline.analyse` or a proposal exactly as a local run would; how a call lives stands in `call`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore
from typing import Any, Final

from tissuebridge.analysis import Analysis
from tissuebridge.errors import UsageError
from tissuebridge.pipeline import analyse
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.proposals.measure import REGION_PIXEL_UM
from tissuebridge.proposals.propose import Watch, propose
from tissuebridge.proposals.settings import ProposalSettings
from tissuebridge.rpc import convert, results
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1 import analysis_pb2_grpc
from tissuebridge.server.call import MAX_PIXELS, Busy, Call, run
from tissuebridge.server.models import ModelList
from tissuebridge.server.remote_pixels import RemoteImage

MAX_BATCH_PIXELS: Final = 2**24
"""Tiles that the network gets at once may have so many pixels together, cores only."""


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
        """Analyses one image."""
        if not self._places.acquire(blocking=False):
            raise Busy(f"the server already runs {self._streams} analyses; come again in a moment")
        call = _Call(self._models, self._idle_timeout_s, context.cancel)
        yield from run(call, request_iterator, context, self._places)


class _Call(Call[wire.AnalyzeRequest, wire.AnalyzeResponse]):
    """An image that is analysed, or of which something is proposed."""

    opens_with = "Start: which image, which parameters"

    def __init__(self, models: ModelList, idle_timeout_s: float, hang_up: Callable[[], object]) -> None:
        super().__init__(idle_timeout_s, hang_up)
        self._models = models

    def block_of(self, request: wire.AnalyzeRequest) -> wire.PixelBlock | None:
        return request.block if request.WhichOneof("step") == "block" else None

    def is_opening(self, number: int, request: wire.AnalyzeRequest) -> bool:
        return number == 0 and request.WhichOneof("step") == "start"

    def asking(self, request: wire.BlockRequest) -> wire.AnalyzeResponse:
        return wire.AnalyzeResponse(block=request)

    def answer(self) -> None:
        order = convert.order_of(self.opening().start)
        with TemporaryDirectory(prefix="tissuebridge-", ignore_cleanup_errors=True) as folder:
            self._analyse(order, Path(folder))

    def _analyse(self, order: convert.Order, folder: Path) -> None:
        find = self._proposed if order.proposal else self._by_model
        analysis = find(order, folder)
        sent = analysis.unfiltered() if order.unfiltered else analysis
        for message in results.result_messages(sent, details=order.details, identify=order.identify):
            self.outbox.put(message)

    def _by_model(self, order: convert.Order, folder: Path) -> Analysis:
        name = self._models.name_of(order.model)
        model = self._models.description(name)
        image = self._image(order, model.pixel_size_um)
        self.outbox.put(results.accepted_message(name, model, order.options))
        return analyse(
            image,
            self._models.for_call(name, self.is_over),
            journal_dir=folder,
            options=order.options,
            progress=self._tell,
            cancelled=self.is_over,
        )

    def _proposed(self, order: convert.Order, folder: Path) -> Analysis:
        settings = ProposalSettings.of_text(order.proposal)
        options = replace(order.options, min_region_area_um2=0.0)

        def accept(model: ModelDescription) -> None:
            self.outbox.put(results.accepted_message("", model, options))

        image = self._image(order, _finest_um(settings))
        watch = Watch(self._tell, self.is_over, accept)
        return propose(image, settings, journal_dir=folder, options=options, watch=watch)

    def _image(self, order: convert.Order, pixel_size_um: float) -> RemoteImage:
        """The client's image, if the server can take it at this pixel size."""
        _check_size(order, pixel_size_um)
        return RemoteImage(order, self.pixels_of(order.identity, order.levels))

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
