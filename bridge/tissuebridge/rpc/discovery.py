"""The file in which a running server says where it is and what its token is, so that nobody types either.

The server writes it when it is ready, clients (also scripts in QuPath) read it, both for one user of one
machine: mode 0600 where the system knows modes, the user's own folder elsewhere. JSON with `address`,
`token`, `pid` and `version`, named ``server.json`` in the folder ``tissuebridge`` of

- Linux: ``$XDG_STATE_HOME``, or ``~/.local/state``
- macOS: ``~/Library/Application Support``
- Windows: ``%LOCALAPPDATA%``
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from tissuebridge.errors import ServerUnreachable, StorageError


@dataclass(frozen=True, slots=True)
class Discovery:
    """A running server.

    Attributes:
        address: HOST:PORT.
        token: What clients show.
        pid: The server's process.
        version: The server's version of tissuebridge.
    """

    address: str
    token: str
    pid: int
    version: str

    def __repr__(self) -> str:
        return f"Discovery({self.address!r}, token=..., pid={self.pid}, version={self.version!r})"


def default_path() -> Path:
    """Where the file lies unless another place is named."""
    return platformdirs.user_state_path("tissuebridge", appauthor=False) / "server.json"


def write(discovery: Discovery, path: Path) -> None:
    """Writes the file at once, readable by its owner alone.

    Raises:
        StorageError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The mode is set when the file is made: there is no moment at which others can read the token.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(discovery), file)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: the server's address cannot be written ({error.strerror}); "
            "make its folder writable for you"
        ) from error


def read(path: Path) -> Discovery:
    """Reads the file.

    Raises:
        ServerUnreachable: There is none, or it is not ours: no server runs that could be found.
    """
    cure = "start one with `tissuebridge serve --model DIR`, or give an address and a token"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        address, token = str(values["address"]), str(values["token"])
        return Discovery(address, token, int(values["pid"]), str(values["version"]))
    except FileNotFoundError:
        raise ServerUnreachable(f"no server is running ({path} does not exist); {cure}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServerUnreachable(f"{path}: cannot be read as a server's address ({error}); {cure}") from error


def remove(discovery: Discovery, path: Path) -> None:
    """Removes the file if it still speaks of this server; another server's stays."""
    with contextlib.suppress(OSError, ServerUnreachable):
        if read(path) == discovery:
            path.unlink()
