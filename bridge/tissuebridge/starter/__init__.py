"""The starter model that comes with the package, so that an image can be analysed before anything is trained.

The folder holds what every model folder holds: `model.safetensors`, `model.json`, `MODEL_CARD.md`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from tissuebridge.errors import UsageError
from tissuemodel.saved_model import CONFIG_FILE

STARTER_NAME: Final = "starter"
"""What a server calls it."""


def starter_folder() -> Path:
    """The folder of the starter model.

    Raises:
        UsageError: This copy of the package has none.
    """
    folder = Path(str(resources.files(__name__)))
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(
            "this installation has no starter model; name a folder that `tissuebridge train` wrote with --model DIR"
        )
    return folder
