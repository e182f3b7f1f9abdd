"""What client and server agree on beside the messages: limits, keepalive, token, and errors as statuses.

Stands below `client` and `server`, which both open their channels and ports with what is here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

import grpc

from tissuebridge.errors import (
    ModelError,
    PartialResult,
    ResourceLimit,
    ServerUnreachable,
    TissuebridgeError,
    UsageError,
    kinds_of_error,
)

PROTOCOL: Final = 1
"""Version of the contract; the server refuses a client that speaks another one."""

DEFAULT_PORT: Final = 50535
MAX_TO_SERVER: Final = 8 * 2**20
MAX_TO_CLIENT: Final = 32 * 2**20
"""Largest messages in bytes."""

TOKEN_KEY: Final = "authorization"  # noqa: S105 the name of a header, not a token
ERROR_KEY: Final = "tissuebridge-error"
"""Trailer with the name of our error's class, so that the client raises the same."""

KEEPALIVE: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.keepalive_time_ms", 30_000),
    # keepalive_timeout_ms alone has no effect: a black hole then took 71 s instead of 9 s to be noticed.
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
)
CLIENT_OPTIONS: Final = (
    *KEEPALIVE,
    ("grpc.max_receive_message_length", MAX_TO_CLIENT),
    ("grpc.max_send_message_length", MAX_TO_SERVER),
)
SERVER_OPTIONS: Final = (
    *KEEPALIVE,
    ("grpc.max_receive_message_length", MAX_TO_SERVER),
    ("grpc.max_send_message_length", MAX_TO_CLIENT),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Without it two servers share one port without a word.
    ("grpc.so_reuseport", 0),
)

BUSY: Final = "Busy"
"""The kind of error that is no error: come again."""

_GRPC_IS_BUSY: Final = "Concurrent RPC limit exceeded"
"""What gRPC itself answers beyond `maximum_concurrent_rpcs`, with a status that it also uses for large messages."""

_BY_STATUS: Final[Mapping[str, type[TissuebridgeError]]] = {
    "INVALID_ARGUMENT": UsageError,
    "UNAUTHENTICATED": UsageError,
    "FAILED_PRECONDITION": ModelError,
    "RESOURCE_EXHAUSTED": ResourceLimit,
    "ABORTED": PartialResult,
    "DEADLINE_EXCEEDED": ServerUnreachable,
    "UNAVAILABLE": ServerUnreachable,
}


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(address: str) -> str:
    """The host of HOST:PORT.

    Raises:
        UsageError: It is no HOST:PORT.

    >>> host_of("[::1]:50535"), host_of("slides.example:1")
    ('[::1]', 'slides.example')
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"server address {address!r}: expected HOST:PORT, as in 127.0.0.1:{DEFAULT_PORT}")
    return host


def with_token(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that shows the token to the server.

    >>> with_token("abc")
    (('authorization', 'Bearer abc'),)
    """
    return ((TOKEN_KEY, f"Bearer {token}"),)


def is_busy(error: grpc.RpcError) -> bool:
    """Whether the server refused a call only because it has too many: try again a little later."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return False
    return _kind_named(error) == BUSY or (error.details() or "").startswith(_GRPC_IS_BUSY)


def from_status(error: grpc.RpcError, address: str) -> TissuebridgeError:
    """A status as the error it was raised as in the server, or the nearest of ours.

    Args:
        error: What a call raised.
        address: The server's, for the message.
    """
    status, details = error.code(), error.details() or ""
    name = _kind_named(error)
    if name in (kinds := kinds_of_error()):
        return kinds[name](details)
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        # Cancelled without saying by whom: the server ended. Who cancels here does not ask what became of it.
        return ServerUnreachable(
            f"no server answers at {address} ({details or 'it ended the call'}); "
            "start one with `tissuebridge serve --model DIR`"
        )
    if status is grpc.StatusCode.UNAUTHENTICATED:
        return UsageError(f"{address}: {details}")
    kind = _BY_STATUS.get(status.name, TissuebridgeError)
    return kind(f"server at {address}: {details or status.name}")


def _kind_named(error: grpc.RpcError) -> str | None:
    """The name of the error's class that the server sent along; None where it sent none."""
    for item in error.trailing_metadata() or ():
        if item.key == ERROR_KEY:
            return str(item.value)
    return None
