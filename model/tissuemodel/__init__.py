"""The multitask network: arrays in, arrays out. Knows no QuPath, no gRPC and no files but its checkpoints."""

import os

# Before torch's first large tensor: it then asks Linux for huge pages, which are handed over 512 times less often.
# Handing over small ones is a quarter of a network's time on a CPU.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
