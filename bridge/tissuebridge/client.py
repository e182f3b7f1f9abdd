"""Analyses by a server: an image goes in, the same `Analysis` comes out that `pipeline.analyse` would give here.

Stands where `pipeline` stands for those who have no network on their machine; imports no torch. The server asks
for blocks of the image and this side reads and sends them, while tiles, stitching and the network stay there.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import TracebackType
from typing import Final, Self

import grpc

from tissuebridge import __version__
from tissuebridge.analysis import Analysis
from tissuebridge.drawn_area import drawn_region
from tissuebridge.errors import Cancelled, ResourceLimit, ServerUnreachable, UsageError
from tissuebridge.pipeline import AnalysisOptions
from tissuebridge.predictor.base import ModelDescription
from tissuebridge.project.base import Image, PixelSource
from tissuebridge.rpc import convert, discovery
from tissuebridge.rpc.results import Results
from tissuebridge.rpc.transport import CLIENT_OPTIONS, from_status, host_of, is_busy, is_loopback, with_token
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.rpc.v1 import analysis_pb2_grpc, models_pb2, models_pb2_grpc

_log = logging.getLogger(__name__)

_SHORT_CALL_S: Final = 20.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0


class Client:
    """A connection to a server; close it after use (it is a context manager).

    Args:
        address: HOST:PORT.
        token: What the server expects.
        ca: PEM file with the certificate that signed the server's; None: the system's.
        patience_s: So long a busy server is asked again.
    """

    def __init__(
        self, address: str, token: str, *, ca: Path | None = None, patience_s: float = 600.0
    ) -> None:
        self.address = address
        self._metadata, self._patience_s = with_token(token), patience_s
        self._is_local = is_loopback(host_of(address))
        if self._is_local and ca is None:
            self._channel = grpc.insecure_channel(address, CLIENT_OPTIONS)
        else:
            roots = grpc.ssl_channel_credentials(None if ca is None else _read(ca))
            self._channel = grpc.secure_channel(address, roots, CLIENT_OPTIONS)
        self._analysis = analysis_pb2_grpc.AnalysisStub(self._channel)
        self._models = models_pb2_grpc.ModelsStub(self._channel)

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        token: str | None = None,
        *,
        ca: Path | None = None,
        discovery_file: Path | None = None,
        patience_s: float = 600.0,
    ) -> Client:
        """A client of the server that runs on this machine, or of a named one.

        Args:
            address: HOST:PORT; None: what the server's file says.
            token: None: what the server's file says.
            ca: PEM file with the certificate that signed the server's; None: the system's.
            discovery_file: The server's file; the user's own place if None.
            patience_s: So long a busy server is asked again.

        Raises:
            ServerUnreachable: No address was given and no server left its file.
            UsageError: The address is no HOST:PORT, or the file is another server's.
        """
        if address is None or token is None:
            found = discovery.read(discovery_file or discovery.default_path())
            if address not in (None, found.address):
                raise UsageError(f"no token for the server at {address}: copy it from the server's own file")
            address, token = found.address, token or found.token
        return cls(address, token, ca=ca, patience_s=patience_s)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def models(self) -> dict[str, ModelDescription]:
        """The server's models by the names it gives them.

        Raises:
            ServerUnreachable: Nobody answers.
            UsageError: The token is wrong.
        """
        request = models_pb2.ListModelsRequest()
        try:
            found = self._models.List(request, timeout=_SHORT_CALL_S, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_status(error, self.address) from error
        return {model.name: convert.model_of(model) for model in found.models}

    def analyse(
        self,
        image: Image,
        model: str = "",
        *,
        options: AnalysisOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Analysis:
        """Has an image analysed.

        Pixels travel raw on this machine, as JPEG (quality 90) to others; then the result is that of the
        JPEG's pixels.

        Args:
            image: Read here, in one thread, while the server works.
            model: The model's name at the server; "" for its only one.
            options: What to analyse and how; the defaults of `AnalysisOptions` if None.
            progress: Called with (tiles done, tiles in all), from the calling thread.
            cancelled: Asked whenever the server says something; True stops the analysis.

        Returns:
            The same as `pipeline.analyse`: label map, cells, regions, objects with their ids.

        Raises:
            CalibrationError: The image has no pixel size.
            ImageError: A block could not be read.
            UsageError: An option is impossible, the model is unknown, the token is wrong.
            ModelError: The network gave NaN or infinity.
            ResourceLimit: The server stayed busy, or the image is too much for it.
            ServerUnreachable: Nobody answers, or no longer.
            Cancelled: `cancelled` said so.
        """
        return self._found(image, model, "", options, progress, cancelled)

    def propose(
        self,
        image: Image,
        proposal: str,
        *,
        options: AnalysisOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Analysis:
        """Has regions or nuclei proposed, without a model.

        Args:
            image: As for `analyse`, as are the pixels.
            proposal: What and how, as TOML with one table, [regions] or [cells] (`proposals.settings`).
            options: Area and tiles; the defaults of `AnalysisOptions` if None.
            progress: Called with (tiles done, tiles in all), from the calling thread.
            cancelled: Asked whenever the server says something; True stops.

        Returns:
            The same as `proposals.propose` gives here; `Analysis.parameters` has what was filled in.

        Raises:
            InputRefused: The image has too little tissue or too few colours.
            TissuebridgeError: As for `analyse`.
        """
        return self._found(image, "", proposal, options, progress, cancelled)

    def _found(
        self,
        image: Image,
        model: str,
        proposal: str,
        options: AnalysisOptions | None,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> Analysis:
        """One call, made again while the server is busy."""
        with image.open_pixels() as pixels:
            order = convert.Order(
                identity=image.identity,
                pixel_size_um=image.pixel_size_um,
                levels=tuple(pixels.levels),
                model=model,
                options=_resolved(options or AnalysisOptions(), image),
                details=True,
                proposal=proposal,
            )
            give_up = time.monotonic() + self._patience_s
            for pause in _pauses():
                try:
                    return self._call(order, pixels, progress, cancelled)
                except _ServerBusyError as error:
                    if time.monotonic() + pause > give_up:
                        raise ResourceLimit(f"server at {self.address}: {error}") from error
                    _log.info("the server is busy; asking again in %.1f s", pause)
                    _sleep(pause, cancelled)
        raise AssertionError("pauses never end")

    def _call(
        self,
        order: convert.Order,
        pixels: PixelSource,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> Analysis:
        answers = _Answers(order, pixels, jpeg=not self._is_local)
        call = self._analysis.Analyze(answers.requests(), metadata=self._metadata)
        stop: Callable[[], object] = call.cancel
        answers.on_error = stop
        results: Results | None = None
        try:
            for response in call:
                _stop_if(cancelled)
                kind = response.WhichOneof("step")
                if kind == "accepted":
                    results = _opened(order, response.accepted)
                elif kind == "block":
                    answers.ask(response.block)
                elif kind == "progress" and progress is not None:
                    progress(response.progress.done, response.progress.total)
                elif results is not None and kind == "summary":
                    for warning in response.summary.warnings:
                        _log.warning("%s: %s", order.identity.name, warning)
                    return results.analysis(response.summary)
                elif results is not None:
                    results.add(response)
        except grpc.RpcError as error:
            raise self._meaning(error, answers) from error
        finally:
            answers.end()
            stop()
        raise ServerUnreachable(f"server at {self.address}: ended the analysis without a result")

    def _meaning(self, error: grpc.RpcError, answers: _Answers) -> Exception:
        """What a call's end means: our own error while reading pixels comes first, it was the cause."""
        if answers.error is not None:
            return answers.error
        if is_busy(error):
            return _ServerBusyError(error.details() or "busy")
        return from_status(error, self.address)


class _ServerBusyError(ResourceLimit):
    """The server has too many calls; nothing was begun."""


class _Answers:
    """This side of a call: reads the blocks that the server asks for, in the thread that gRPC sends from."""

    def __init__(self, order: convert.Order, pixels: PixelSource, *, jpeg: bool) -> None:
        self._start, self._pixels, self._jpeg = convert.start_message(order), pixels, jpeg
        self._asked: SimpleQueue[wire.BlockRequest | None] = SimpleQueue()
        self._reading, self._ended = Lock(), False
        self.error: Exception | None = None
        self.on_error: Callable[[], object] = self.end

    def ask(self, request: wire.BlockRequest) -> None:
        """Takes a request of the server; it is answered in order."""
        self._asked.put(request)

    def end(self) -> None:
        """Lets the sending thread go; when this returns nobody reads pixels any more."""
        self._ended = True
        self._asked.put(None)
        with self._reading:
            pass

    def requests(self) -> Iterator[wire.AnalyzeRequest]:
        """What this side sends."""
        yield self._start
        while (request := self._asked.get()) is not None:
            try:
                message = self._answer(request)
            except Exception as error:
                self.error = error
                self.on_error()
                return
            if message is None:
                return
            yield message

    def _answer(self, request: wire.BlockRequest) -> wire.AnalyzeRequest | None:
        with self._reading:
            if self._ended:
                return None
            block = self._pixels.read_block(
                request.level, request.x, request.y, request.width, request.height
            )
        return convert.block_message(request, block, jpeg=self._jpeg)


def _opened(order: convert.Order, accepted: wire.Accepted) -> Results:
    if accepted.server_version != __version__:
        _log.warning("the server has version %s, this side %s", accepted.server_version, __version__)
    return Results(order.identity, accepted)


def _resolved(options: AnalysisOptions, image: Image) -> AnalysisOptions:
    """The options with the image's own region of interest, which the server cannot know."""
    if options.region_of_interest is not None:
        return options
    return replace(options, region_of_interest=drawn_region(image))


def _pauses() -> Iterator[float]:
    """Growing pauses in seconds, each drawn at random, so that refused clients do not come back together."""
    limit = _FIRST_PAUSE_S
    while True:
        yield random.uniform(limit / 2, limit)
        limit = min(2 * limit, _LONGEST_PAUSE_S)


def _sleep(seconds: float, cancelled: Callable[[], bool] | None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _stop_if(cancelled)
        time.sleep(min(left, 0.2))


def _stop_if(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Cancelled("the analysis was stopped")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
