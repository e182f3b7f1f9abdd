"""Large tensors lie in huge pages where the system has them, unless somebody said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALLOWED = Path("/sys/kernel/mm/transparent_hugepage/enabled")

LOOK = """
import tissuemodel, torch, re
tensor = torch.ones(2**26)
rollup = open("/proc/self/smaps_rollup").read()
print(re.search(r"AnonHugePages:\\s+(\\d+)", rollup).group(1))
"""


def huge_mib(**environment: str) -> float:
    """MiB in huge pages of a process that has made a tensor of 256 MiB."""
    known = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    looked = subprocess.run(
        [sys.executable, "-c", LOOK], env=known | environment, capture_output=True, text=True, check=True
    )
    return int(looked.stdout) / 1024


@pytest.mark.skipif(
    not ALLOWED.exists() or "[madvise]" not in ALLOWED.read_text(), reason="the system gives none on request"
)
def test_a_large_tensor_lies_in_huge_pages_unless_that_is_switched_off() -> None:
    # At least some: a machine whose memory is in pieces gives fewer.
    assert huge_mib(THP_MEM_ALLOC_ENABLE="0") < huge_mib()
