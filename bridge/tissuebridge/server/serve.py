"""Opens the port, keeps it open, closes it in order: what the command `serve` runs.

Comes in: predictors by name, and where to listen. Goes out: a port with the services, and a file that tells
clients on this machine where it is. Loopback only, unless there is a certificate; a token always.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from tissuebridge import __version__
from tissuebridge.errors import Conflict, UsageError
from tissuebridge.predictor.base import Predictor
from tissuebridge.rpc import discovery
from tissuebridge.rpc.discovery import Discovery
from tissuebridge.rpc.transport import DEFAULT_PORT, SERVER_OPTIONS, is_loopback
from tissuebridge.rpc.v1 import (
    analysis_pb2,
    analysis_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    spatial_pb2,
    spatial_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)
from tissuebridge.server.analysis import AnalysisService
from tissuebridge.server.guard import Guard
from tissuebridge.server.models import ModelList, ModelsService
from tissuebridge.server.spatial import SpatialService
from tissuebridge.server.trainer import Trainer
from tissuebridge.server.training import TrainingService

_log = logging.getLogger(__name__)

_HEADROOM: Final = 4
"""Workers beyond the streams: short calls are served while all streams are taken."""

_NAMES: Final = (
    analysis_pb2.DESCRIPTOR.services_by_name["Analysis"].full_name,
    models_pb2.DESCRIPTOR.services_by_name["Models"].full_name,
    spatial_pb2.DESCRIPTOR.services_by_name["Spatial"].full_name,
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how to serve.

    Attributes:
        host: Where to listen; beyond this machine only with a certificate.
        port: 0 for any free one.
        certificate: PEM file of the server's certificate chain, with `key`.
        key: PEM file of its private key.
        token: What clients must show; a new random one if None.
        discovery: File that tells clients address and token; the user's own place if None.
        training: Folder for training sets and trained models; clients cannot train if None.
        streams: So many images are analysed at once.
        idle_timeout_s: An analysis ends when its client sends or takes nothing for so long.
        grace_s: So long running analyses may go on when the server is stopped.
        reflection: Describe the services to tools like grpcurl.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = field(default=None, repr=False)
    discovery: Path | None = None
    training: Path | None = None
    streams: int = 4
    idle_timeout_s: float = 60.0
    grace_s: float = 30.0
    reflection: bool = False


class Server:
    """A running server; close it after use (it is a context manager).

    Args:
        models: Name to predictor.
        options: Where and how; the defaults of `ServerOptions` if None.

    Raises:
        UsageError: The options would open the server to others without a certificate, or are impossible.
        Conflict: The port is taken.
        StorageError: The discovery file cannot be written.
    """

    def __init__(self, models: Mapping[str, Predictor], options: ServerOptions | None = None) -> None:
        self.options = options or ServerOptions()
        check(self.options)
        self._health = health.HealthServicer(experimental_thread_pool=ThreadPoolExecutor(1, "health"))
        token = self.options.token or secrets.token_urlsafe(32)
        workers = self.options.streams + _HEADROOM
        self._server = grpc.server(
            ThreadPoolExecutor(workers, "call"),
            interceptors=[Guard(token)],
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=4 * workers,
        )
        served = ModelList(models)
        self._trainer = (
            None if self.options.training is None else Trainer(self.options.training, _loaded, served.add)
        )
        if self._trainer is not None:
            self._trainer.serve_trained(list(served))
        self.models = list(served)
        self._add_services(served)
        port = self._bind()
        self.discovery = Discovery(
            f"{_shown_host(self.options.host)}:{port}", token, os.getpid(), __version__
        )
        self._discovery_path = self.options.discovery or discovery.default_path()
        self._server.start()
        try:
            discovery.write(self.discovery, self._discovery_path)
        except BaseException:
            self._server.stop(None)
            raise

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.discovery.address

    def stop(self, grace_s: float | None = None) -> threading.Event:
        """Takes no new calls, lets running ones go on for the grace period, then cancels them.

        Args:
            grace_s: Instead of the options' grace period; may be called again with a shorter one.

        Returns:
            An event that is set when all calls have ended.
        """
        self._health.enter_graceful_shutdown()
        discovery.remove(self.discovery, self._discovery_path)
        return self._server.stop(self.options.grace_s if grace_s is None else grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0).wait()
        if self._trainer is not None:
            self._trainer.stop()

    def _add_services(self, models: ModelList) -> None:
        analysis = AnalysisService(models, self.options.streams, self.options.idle_timeout_s)
        analysis_pb2_grpc.add_AnalysisServicer_to_server(analysis, self._server)
        models_pb2_grpc.add_ModelsServicer_to_server(ModelsService(models), self._server)
        spatial_pb2_grpc.add_SpatialServicer_to_server(
            SpatialService(self.options.idle_timeout_s), self._server
        )
        names = list(_NAMES)
        if self._trainer is not None:
            training = TrainingService(self._trainer, self.options.idle_timeout_s)
            training_pb2_grpc.add_TrainingServicer_to_server(training, self._server)
            names.append(training_pb2.DESCRIPTOR.services_by_name["Training"].full_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for name in ("", *names):
            self._health.set(name, HealthCheckResponse.SERVING)
        if self.options.reflection:
            names += [health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)

    def _bind(self) -> int:
        address = f"{self.options.host}:{self.options.port}"
        try:
            if self.options.certificate is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, _credentials(self.options))
        except RuntimeError:
            raise Conflict(
                f"{address} cannot be listened on: the port is taken, probably by another server, or the host "
                "is not this machine; stop the other one, or choose another port with --port"
            ) from None


def check(options: ServerOptions) -> None:
    """Refuses what is impossible or unsafe.

    Raises:
        UsageError: Says what, and the cure.

    >>> check(ServerOptions(host="0.0.0.0"))
    Traceback (most recent call last):
    tissuebridge.errors.UsageError: 0.0.0.0 can be reached from other machines: ...
    """
    if (options.certificate is None) != (options.key is None):
        raise UsageError("a certificate needs its key, and a key its certificate: give both or none")
    if options.certificate is None and not is_loopback(options.host):
        raise UsageError(
            f"{options.host} can be reached from other machines: give a certificate and its key "
            "(--certificate FILE --key FILE), or listen on 127.0.0.1"
        )
    if not 0 <= options.port < 65536:
        raise UsageError(f"port {options.port}: expected 1 to 65535, or 0 for any free one")
    if options.token is not None and not (options.token.isascii() and len(options.token) >= 16):
        raise UsageError("the token must have at least 16 ASCII characters; leave it out for a random one")
    if min(options.streams, options.idle_timeout_s) <= 0 or options.grace_s < 0:
        raise UsageError("streams and idle timeout must be positive, the grace period not negative")


def serve(
    models: Mapping[str, Predictor],
    options: ServerOptions | None = None,
    *,
    ready: Callable[[Server], None] | None = None,
) -> int:
    """Serves until SIGTERM or Ctrl-C; a second one ends running analyses at once. From the main thread.

    Args:
        models: Name to predictor.
        options: See `ServerOptions`.
        ready: Called once when clients can come.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        UsageError: See `Server`.
        Conflict: See `Server`.
        StorageError: See `Server`.
    """
    received: list[int] = []
    previous = {number: signal.signal(number, lambda n, _: received.append(n)) for number in _signals()}
    try:
        with Server(models, options) as server:
            if ready is not None:
                ready(server)
            # Short waits: on Windows a handler runs only between two of them.
            idle = threading.Event()
            while not received:
                idle.wait(0.2)
            _log.info("stopping; running analyses have %g s", server.options.grace_s)
            ended = server.stop()
            while not ended.wait(0.2):
                if len(received) > 1:
                    server.stop(0)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 130 if received[0] == signal.SIGINT else 0


def _loaded(folder: Path) -> Predictor:
    from tissuebridge.predictor.local import LocalPredictor

    return LocalPredictor.load(folder)


def _signals() -> tuple[signal.Signals, ...]:
    return signal.SIGINT, signal.SIGTERM


def _credentials(options: ServerOptions) -> Any:
    try:
        if options.certificate is None or options.key is None:
            raise UsageError("no certificate")
        pair = (options.key.read_bytes(), options.certificate.read_bytes())
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from error
    return grpc.ssl_server_credentials([pair])


def _shown_host(host: str) -> str:
    """Where a client on this machine finds a server that listens on all addresses."""
    return "localhost" if host in ("0.0.0.0", "[::]") else host  # noqa: S104 compared, not bound
