"""What stands before every call: the token, readable messages, and errors that tell a client no more than it needs.

Around all services but health, which must answer whoever asks whether the server lives.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import grpc

from tissuebridge.errors import ResourceLimit, StorageError, TissuebridgeError, UsageError
from tissuebridge.rpc.transport import ERROR_KEY, TOKEN_KEY, with_token

_log = logging.getLogger(__name__)

_HEALTH: Final = "/grpc.health.v1.Health/"
_UNREADABLE: Final = object()
_PATH: Final = re.compile(
    r"(?<![\w.)/\\])(?:[A-Za-z]:[\\/]|\\\\|/)[^\s:;,'\"<>|()]+(?:[\\/][^\s:;,'\"<>|()]*)+"
)


class Guard(grpc.ServerInterceptor):  # type: ignore[type-arg] # generic in the stubs alone
    """Checks the token of each call and turns what goes wrong into a status.

    Args:
        token: What clients must show.
    """

    def __init__(self, token: str) -> None:
        self._expected = dict(with_token(token))[TOKEN_KEY].encode()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See `grpc.ServerInterceptor`."""
        method: str = handler_call_details.method
        if method.startswith(_HEALTH):
            return continuation(handler_call_details)
        shown = dict(handler_call_details.invocation_metadata).get(TOKEN_KEY, "")
        if not hmac.compare_digest(str(shown).encode(), self._expected):
            return grpc.stream_stream_rpc_method_handler(_refuse)
        handler = continuation(handler_call_details)
        return None if handler is None else _guarded(handler)


def _refuse(requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
    context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        "the token is missing or wrong; it stands in the file that the server wrote when it started",
    )


def _guarded(handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler, with our own deserialiser and statuses; for the three kinds of methods that there are here."""
    read = _tolerant(handler.request_deserializer)
    if handler.stream_stream:
        stream = _guarded_stream(handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(stream, read, handler.response_serializer)
    if handler.unary_stream:
        told = _guarded_told(handler.unary_stream)
        return grpc.unary_stream_rpc_method_handler(told, read, handler.response_serializer)
    unary = _guarded_unary(handler.unary_unary)
    return grpc.unary_unary_rpc_method_handler(unary, read, handler.response_serializer)


def _guarded_stream(behaviour: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def guarded(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(map(_readable, requests), context)
        except Exception as error:
            _abort(context, error)

    return guarded


def _guarded_told(behaviour: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def guarded(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behaviour(_readable(request), context)
        except Exception as error:
            _abort(context, error)

    return guarded


def _guarded_unary(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behaviour(_readable(request), context)
        except Exception as error:
            _abort(context, error)

    return guarded


def _tolerant(deserialise: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Bytes that are no message: gRPC itself would say INTERNAL, but the client is wrong, not the server."""

    def read(data: bytes) -> Any:
        try:
            return deserialise(data)
        except Exception:
            return _UNREADABLE

    return read


def _readable(request: Any) -> Any:
    if request is _UNREADABLE:
        raise UsageError("the message cannot be decoded: it is damaged or of another version")
    return request


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """Ends the call with what the client may know of an error."""
    told = _told(error)
    context.set_trailing_metadata(((ERROR_KEY, type(told).__name__),))
    context.abort(grpc.StatusCode[told.grpc_status], without_paths(str(told)))


def _told(error: Exception) -> TissuebridgeError:
    """Our own errors as they are; of others (and of the server's disk) only a number that is in the log."""
    if isinstance(error, TissuebridgeError) and not isinstance(error, StorageError):
        return error
    incident = secrets.token_hex(4)
    _log.error("incident %s", incident, exc_info=error)
    if isinstance(error, MemoryError):
        return ResourceLimit(
            f"the server ran out of memory; choose a smaller tile size or batch size (incident {incident})"
        )
    if isinstance(error, StorageError):
        return ResourceLimit(f"the server cannot write its working files: see its log, incident {incident}")
    return TissuebridgeError(f"the server failed: see its log, incident {incident}")


def without_paths(text: str) -> str:
    """The text with anything that looks like an absolute path left out.

    Messages for clients are not written with paths in them; this is the net below.

    >>> without_paths("cannot read /srv/models/a/model.json: gone")
    'cannot read (file): gone'
    >>> without_paths("3 px/um and 1/2 of Stroma/Tumor at x=1, y=2")
    '3 px/um and 1/2 of Stroma/Tumor at x=1, y=2'
    """
    return _PATH.sub("(file)", text)
