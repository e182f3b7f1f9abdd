"""A worker's process: `python -m tissuebridge.batch.worker`, which `local` starts.

Tasks come as lines of JSON on standard input; for each, lines go to standard output: {"tiles": [done, total]} as it
goes, and in the end {"done": true} or {"failed": {"kind", "message"}}. When standard input ends, so does the process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tissuebridge.batch.tasks import Task, compute
from tissuebridge.errors import TissuebridgeError


def main() -> None:
    """What the process does."""
    # Libraries print; the lines are ours alone.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=out, flush=True)

    for line in sys.stdin:
        try:
            compute(Task(**json.loads(line)), lambda done, total: tell({"tiles": [done, total]}))
        except TissuebridgeError as error:
            tell({"failed": {"kind": type(error).__name__, "message": str(error)}})
        else:
            tell({"done": True})


if __name__ == "__main__":
    main()
