from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tissuebridge.errors import ServerUnreachable, StorageError
from tissuebridge.rpc import discovery
from tissuebridge.rpc.discovery import Discovery

SERVER = Discovery("127.0.0.1:50535", "a token of some length", 17, "0.1.0")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "server.json"

    discovery.write(SERVER, path)

    assert discovery.read(path) == SERVER
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_only_the_owner_may_read_it_also_over_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    path.write_text("{}")
    path.chmod(0o644)

    discovery.write(SERVER, path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"address": "a:1"}', '{"address": 1, "pid": "x"}'])
def test_a_damaged_file_means_no_server_and_says_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.json"
    path.write_text(text)

    with pytest.raises(ServerUnreachable, match="tissuebridge serve"):
        discovery.read(path)


def test_no_file_means_no_server(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="no server is running"):
        discovery.read(tmp_path / "server.json")


def test_a_server_removes_its_own_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    discovery.write(SERVER, path)

    discovery.remove(Discovery("127.0.0.1:1", "another token, also long", 18, "0.1.0"), path)
    assert path.exists()
    discovery.remove(SERVER, path)
    assert not path.exists()


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="writable"):
        discovery.write(SERVER, tmp_path / "file" / "server.json")


def test_the_token_is_not_shown() -> None:
    assert SERVER.token not in repr(SERVER)


def test_the_default_place_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    path = discovery.default_path()

    assert path.name == "server.json"
    if sys.platform == "linux":
        assert path == tmp_path / "tissuebridge" / "server.json"
    assert os.fspath(Path.home()) in os.fspath(path) or tmp_path in path.parents
