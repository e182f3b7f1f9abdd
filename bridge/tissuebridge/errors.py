"""Every error a person can meet, with its exit code and its gRPC status; raised everywhere, shown by the CLI.

The tree::

    TissuebridgeError                    3  INTERNAL
    ├── UsageError                       2  INVALID_ARGUMENT     (also ValueError)
    ├── InputRefused                     3  INVALID_ARGUMENT
    │   ├── GeoJSONError                 3
    │   ├── ImageError                   3
    │   │   └── CalibrationError         3  FAILED_PRECONDITION
    │   ├── AnnotationError              3  FAILED_PRECONDITION
    │   └── ModelError                   3  FAILED_PRECONDITION
    ├── ServerUnreachable                4  UNAVAILABLE          (also ConnectionError)
    ├── PartialResult                    5  ABORTED
    ├── Conflict                         6  ABORTED
    ├── StorageError                     7  RESOURCE_EXHAUSTED   (also OSError)
    ├── ResourceLimit                    8  RESOURCE_EXHAUSTED
    │   └── JavaExhausted                8
    └── Cancelled                      130  CANCELLED

A message says what is wrong, where (image, tile, file, feature) and the cure.
"""

from __future__ import annotations

from typing import ClassVar


class TissuebridgeError(Exception):
    """Base of all errors that tissuebridge raises on purpose."""

    exit_code: ClassVar[int] = 3
    grpc_status: ClassVar[str] = "INTERNAL"
    ends_batch: ClassVar[bool] = False
    """Whether the next image of a batch would fare no better."""


class UsageError(TissuebridgeError, ValueError):
    """The command or call itself is wrong: an unknown option value, a missing argument."""

    exit_code = 2
    grpc_status = "INVALID_ARGUMENT"
    ends_batch = True


class InputRefused(TissuebridgeError):
    """What was given cannot be worked with safely: nothing was read into a result or written."""

    grpc_status = "INVALID_ARGUMENT"


class GeoJSONError(InputRefused):
    """A GeoJSON file is not what QuPath writes, or holds a feature that cannot be an object."""


class ImageError(InputRefused):
    """An image, or a part of it, cannot be read as 8-bit RGB."""


class CalibrationError(ImageError):
    """An image carries no (or an impossible) pixel size and none was given."""

    grpc_status = "FAILED_PRECONDITION"


class AnnotationError(InputRefused):
    """The annotations cannot be learnt from, or are ambiguous."""

    grpc_status = "FAILED_PRECONDITION"


class ModelError(InputRefused):
    """A model is missing, damaged, of another kind than the data, or gave numbers that are none."""

    grpc_status = "FAILED_PRECONDITION"


class ServerUnreachable(TissuebridgeError, ConnectionError):
    """No server answers at the address, or it went away."""

    exit_code = 4
    grpc_status = "UNAVAILABLE"


class PartialResult(TissuebridgeError):
    """Some images were done and some were not; the message lists those that were not."""

    exit_code = 5
    grpc_status = "ABORTED"


class Conflict(TissuebridgeError):
    """Somebody else's work is in the way; nothing was merged by guess."""

    exit_code = 6
    grpc_status = "ABORTED"


class StorageError(TissuebridgeError, OSError):
    """A file could not be written or read back: disk full, no permission, gone."""

    exit_code = 7
    grpc_status = "RESOURCE_EXHAUSTED"
    ends_batch = True


class ResourceLimit(TissuebridgeError):
    """More memory, vertices, bytes or streams were asked for than the documented limit."""

    exit_code = 8
    grpc_status = "RESOURCE_EXHAUSTED"


class JavaExhausted(ResourceLimit):
    """QuPath's Java ran out of memory; nothing in this process can rely on it any more."""

    ends_batch = True


class Cancelled(TissuebridgeError):
    """The work was stopped by the person or the caller; what was finished stays."""

    exit_code = 130
    grpc_status = "CANCELLED"
    ends_batch = True


def kinds_of_error() -> dict[str, type[TissuebridgeError]]:
    """Class name to class of every error here.

    >>> kinds_of_error()["ModelError"].grpc_status
    'FAILED_PRECONDITION'
    """
    kinds: dict[str, type[TissuebridgeError]] = {}
    waiting: list[type[TissuebridgeError]] = [TissuebridgeError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__ == TissuebridgeError.__module__:
            kinds[kind.__name__] = kind
        waiting.extend(kind.__subclasses__())
    return kinds


def kind_named(name: str) -> type[TissuebridgeError]:
    """The error of a name that came from another process; an unknown one is the plain error.

    >>> kind_named("ImageError"), kind_named("ValueError")
    (<class 'tissuebridge.errors.ImageError'>, <class 'tissuebridge.errors.TissuebridgeError'>)
    """
    return kinds_of_error().get(name, TissuebridgeError)
