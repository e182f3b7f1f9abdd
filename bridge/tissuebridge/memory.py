"""How much memory there is, and what size of tiles it is enough for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_GIB: Final = 2**30

_CORES: Final = ((12 * _GIB, 2448), (6 * _GIB, 1760))
"""Memory of a process, and the core that it is enough for. With the paper's halo of 144 px, cores of 2448 px send
1.25 px through the network for each of the slide, cores of 1760 px 1.35, cores of 1024 px 1.64. At 2448 px the paper's
network took 6.5 GiB in all where its operations are not fused (`tissuemodel.fused`), `compact` 4.6; fused, 2.9 and 2.4.
One rule for all: the size of the tiles is part of what an interrupted analysis goes on with."""

_SMALLEST_CORE: Final = 1024


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container that this runs in, has in all.

    Not what is free: an interrupted analysis goes on only with tiles of the size that it began with.
    """
    total = int(psutil.virtual_memory().total)
    for limit in _CGROUP:
        with suppress(OSError, ValueError):
            total = min(total, int(limit.read_text()))
    return total


def core_for(memory: int) -> int:
    """Side of a tile's core in px of the model's grid that a process with so many bytes of memory can take.

    >>> [core_for(gib * 2**30) for gib in (4, 8, 16)]
    [1024, 1760, 2448]
    """
    return next((core for needed, core in _CORES if memory >= needed), _SMALLEST_CORE)
