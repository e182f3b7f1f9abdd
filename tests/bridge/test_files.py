"""Files are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from tissuebridge.errors import StorageError, UsageError
from tissuebridge.files import atomic_write, storage_error


def write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def test_the_file_appears_whole_with_missing_folders_made(tmp_path):
    write(tmp_path / "new" / "er" / "a.bin", b"whole")

    assert (tmp_path / "new" / "er" / "a.bin").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "new" / "er").iterdir()] == ["a.bin"]


def test_until_the_end_of_the_block_a_reader_sees_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write(path, b"old")

    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), UsageError("x"), ZeroDivisionError()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.bin"
    write(path, b"old")

    def fail():
        with atomic_write(path) as file:
            file.write(b"new")
            raise failure

    with pytest.raises(type(failure)):
        fail()

    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_full_disk_names_the_file_and_the_cure_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.bin"

    with (
        pytest.raises(StorageError, match=r"a\.bin: cannot be written: .*Free some space"),
        atomic_write(path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_a_storage_error(tmp_path):
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(StorageError, match="cannot be written"):
        write(tmp_path / "a" / "b.bin", b"x")


def test_a_folder_of_that_name_is_a_storage_error_and_stays(tmp_path):
    (tmp_path / "a.bin").mkdir()

    with pytest.raises(StorageError):
        write(tmp_path / "a.bin", b"x")

    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.skipif(os.name == "nt", reason="modes and links are POSIX's")
def test_colleagues_may_read_the_file_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "target.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to(tmp_path / "target.bin")

    write(tmp_path / "link.bin", b"new")

    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "target.bin").read_bytes() == b"new"
    assert (tmp_path / "target.bin").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_every_storage_error_says_what_to_do(number):
    message = str(storage_error(Path("a.bin"), OSError(number, os.strerror(number))))

    assert message.startswith(f"a.bin: cannot be written: {os.strerror(number)}. ")
    assert message.endswith(".")
