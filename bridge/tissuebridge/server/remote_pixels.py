"""An image that lies with the client: the engine reads blocks, the client is asked for them.

Implements `project.base.Image` and `PixelSource` for `pipeline.analyse`, whose block cache reads each block of the
fixed grid once. The engine's thread waits in `read_block` until the call's reader thread brings the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from threading import Condition
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.objects import PathObject
from tissuebridge.project.base import ImageIdentity, Level
from tissuebridge.project.pixels import check_block
from tissuebridge.project.resample import BLOCK_SIDE
from tissuebridge.rpc.convert import Order, pixels_of
from tissuebridge.rpc.v1 import analysis_pb2 as wire
from tissuebridge.server.outbox import IdleTimeout


class RemotePixels:
    """Pixels that a client sends when asked.

    Args:
        name: The image's name, for messages.
        levels: Full resolution first.
        ask: Puts a request on its way to the client.
        idle_timeout_s: So long the client may take for a block.
    """

    def __init__(
        self,
        name: str,
        levels: Sequence[Level],
        ask: Callable[[wire.BlockRequest], None],
        idle_timeout_s: float,
    ) -> None:
        self._name, self._levels = name, tuple(levels)
        self._ask, self._idle_timeout_s = ask, idle_timeout_s
        self._ids = count(1)
        self._asked: dict[int, tuple[int, int]] = {}
        self._answers: dict[int, NDArray[np.uint8]] = {}
        self._changed = Condition()
        self._error: BaseException | None = None

    @property
    def name(self) -> str:
        """The image's name."""
        return self._name

    @property
    def levels(self) -> Sequence[Level]:
        """The levels, full resolution first."""
        return self._levels

    def read_block(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Asks the client for a block and waits for it; see `PixelSource.read_block`.

        Raises:
            ValueError: The block does not lie in one block of the grid, or is not inside the level.
            IdleTimeout: The client took too long.
            TissuebridgeError: What `fail` was called with: the call is over.
        """
        check_block(self, level, x, y, width, height)
        if max(x % BLOCK_SIDE + width, y % BLOCK_SIDE + height) > BLOCK_SIDE:
            raise ValueError(f"{self._name}: block x={x}, y={y}, {width} x {height} is not on the grid")
        with self._changed:
            identity = next(self._ids)
            self._asked[identity] = (width, height)
        self._ask(wire.BlockRequest(id=identity, level=level, x=x, y=y, width=width, height=height))
        with self._changed:
            self._changed.wait_for(lambda: identity in self._answers or self._error, self._idle_timeout_s)
            if identity in self._answers:
                return self._answers.pop(identity)
            if self._error is not None:
                raise self._error
        raise IdleTimeout(
            f"{self._name}: the client did not send level {level}, x={x}, y={y}, {width} x {height} "
            f"within {self._idle_timeout_s:g} s"
        )

    def answer(self, block: wire.PixelBlock) -> None:
        """Takes a block from the client; called from the reader thread.

        Raises:
            UsageError: Nobody asked for it, or it came before.
            ImageError: It is not what was asked for.
        """
        with self._changed:
            size = self._asked.pop(block.id, None)
        if size is None:
            raise UsageError(f"{self._name}: block {block.id} was not asked for, or was sent twice")
        pixels = pixels_of(block, *size)
        with self._changed:
            self._answers[block.id] = pixels
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Wakes whoever waits: no block will come any more. Only the first error counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def close(self) -> None:
        """Drops what came and was not read."""
        with self._changed:
            self._answers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RemoteImage:
    """An image whose calibration came with the order and whose pixels come when asked for.

    Args:
        order: What the client opened with.
        pixels: Where the blocks come in.
    """

    def __init__(self, order: Order, pixels: RemotePixels) -> None:
        self._order, self._pixels = order, pixels

    @property
    def name(self) -> str:
        """The name shown to people."""
        return self._order.identity.name

    @property
    def identity(self) -> ImageIdentity:
        """What makes it this image."""
        return self._order.identity

    @property
    def pixel_size_um(self) -> float:
        """The size of a full-resolution pixel in um."""
        return self._order.pixel_size_um

    @property
    def metadata(self) -> Mapping[str, str]:
        """None: the client keeps it."""
        return {}

    @property
    def files(self) -> Sequence[Path]:
        """None: they are the client's."""
        return ()

    def open_pixels(self) -> RemotePixels:
        """The pixels, as they come from the client."""
        return self._pixels

    def objects(self) -> Sequence[PathObject]:
        """None: the client has them, and sends the region of interest in its order."""
        return ()
