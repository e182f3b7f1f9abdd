"""What broken-off saves leave, told and mended; nothing is ever thrown away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tissuebridge.errors import InputRefused, StorageError
from tissuebridge.project.entry_files import (
    EntryFiles,
    FileState,
    copied,
    is_whole,
    linked,
    put_aside,
    repaired,
    restored,
)

END = b"\x74\x00\x03EOF"


@pytest.fixture
def files(tmp_path: Path) -> EntryFiles:
    (tmp_path / "data" / "1").mkdir(parents=True)
    return EntryFiles(tmp_path / "data" / "1")


def whole(path: Path, content: bytes = b"objects", count: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + END)
    if count is not None:
        path.with_name("summary.json").write_text(f'{{"hierarchy": {{"nObjects": {count + 1}}}}}')
    return path


def everything(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", [b"", b"EOF", b"objects", b"objects" + END[:-1]])
def test_a_file_without_its_end_is_not_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.qpdata").write_bytes(content)

    assert not is_whole(tmp_path / "data.qpdata")
    assert not is_whole(tmp_path / "missing")
    assert is_whole(whole(tmp_path / "whole"))


def test_an_image_that_was_never_saved_or_saved_well_has_no_trouble(files: EntryFiles) -> None:
    assert files.trouble() is None
    whole(files.data, count=3)
    assert files.trouble() is None
    files.check("a.svs")
    files.check_count("a.svs", 3)


def test_every_broken_state_is_told_with_the_cure(files: EntryFiles) -> None:
    files.data.write_bytes(b"half")
    assert "incomplete" in (files.trouble() or "")
    whole(files.backup)
    assert "data.qpdata.bkp is whole" in (files.trouble() or "")
    files.backup.write_bytes(b"half")
    assert "damaged too" in (files.trouble() or "")
    whole(files.data)
    assert "left behind" in (files.trouble() or "")
    files.data.unlink()
    assert "is missing" in (files.trouble() or "")
    with pytest.raises(InputRefused, match=r"a\.svs.*tissuebridge repair"):
        files.check("a.svs")
    files.backup.unlink()
    files.summary.write_text('{"hierarchy": {"nObjects": 40002}}')
    assert "40,001 objects" in (files.trouble() or "")


def test_fewer_objects_than_were_saved_are_refused(files: EntryFiles) -> None:
    whole(files.data, count=40_001)

    with pytest.raises(InputRefused, match="40,001"):
        files.check_count("a.svs", 0)


def test_a_summary_older_than_the_data_counts_for_nothing(files: EntryFiles) -> None:
    whole(files.data, count=5)
    os.utime(files.summary, ns=(0, files.data.stat().st_mtime_ns - 1))

    files.check_count("a.svs", 7)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"hierarchy": null}', '{"hierarchy": {"nObjects": "x"}}'])
def test_a_summary_that_tells_nothing_is_no_trouble(files: EntryFiles, text: str) -> None:
    whole(files.data)
    files.summary.write_text(text)

    assert files.saved_count() is None


def test_a_link_shares_the_file_a_copy_does_not(tmp_path: Path) -> None:
    source = whole(tmp_path / "a")

    linked(source, tmp_path / "new" / "b")
    copied(source, tmp_path / "new" / "c")

    assert source.samefile(tmp_path / "new" / "b")
    assert not source.samefile(tmp_path / "new" / "c")
    linked(source, tmp_path / "new" / "b")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["b", "c"]


def test_where_links_cannot_be_there_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    source = whole(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"old")

    linked(source, tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == source.read_bytes()


def test_what_cannot_be_kept_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError):
        linked(tmp_path / "missing", tmp_path / "b")
    with pytest.raises(StorageError):
        put_aside(tmp_path / "missing", tmp_path / "aside")
    with pytest.raises(StorageError):
        linked(tmp_path / "file", tmp_path / "file" / "below")


def test_what_is_put_aside_finds_a_free_name(tmp_path: Path) -> None:
    places = [put_aside(whole(tmp_path / "a", name), tmp_path / "aside") for name in (b"1", b"2", b"3")]

    assert [place.name for place in places] == ["a", "a.2", "a.3"]


@pytest.mark.parametrize("data_state", ["missing", "half", "whole"])
@pytest.mark.parametrize("backup_state", ["missing", "half", "whole"])
@pytest.mark.parametrize("has_snapshot", [False, True])
def test_repair_puts_the_newest_whole_objects_back_and_keeps_all_else(
    files: EntryFiles, tmp_path: Path, data_state: str, backup_state: str, has_snapshot: bool
) -> None:
    states = {files.data: data_state, files.backup: backup_state}
    for path, state in states.items():
        if state != "missing":
            path.write_bytes(path.name.encode() + (END if state == "whole" else b""))
    snapshot = whole(tmp_path / "backup" / "r1" / "1" / "data.qpdata", b"snapshot")
    before = everything(files.folder)
    harmless = data_state == "whole" or backup_state == "whole"
    if (data_state, backup_state) == ("missing", "missing") or (data_state, backup_state) == (
        "whole",
        "missing",
    ):
        assert repaired(files, [snapshot] if has_snapshot else [], tmp_path / "aside") is None
        return
    if not harmless and not has_snapshot:
        with pytest.raises(InputRefused, match="no whole copy"):
            repaired(files, [], tmp_path / "aside")
        assert everything(files.folder) == before
        return

    assert repaired(files, [snapshot] if has_snapshot else [], tmp_path / "aside")

    wanted = (
        files.data.name
        if data_state == "whole"
        else files.backup.name
        if backup_state == "whole"
        else "snapshot"
    )
    assert files.data.read_bytes() == wanted.encode() + END
    assert files.trouble() is None
    kept = set(everything(files.folder)) | set(
        everything(tmp_path / "aside") if (tmp_path / "aside").exists() else []
    )
    assert set(before) <= kept


def test_an_image_that_had_no_objects_has_none_again(files: EntryFiles, tmp_path: Path) -> None:
    whole(files.data, count=2)
    (tmp_path / "snapshot").mkdir()

    restored(files, tmp_path / "snapshot", tmp_path / "aside")

    assert not files.data.exists()
    assert not files.summary.exists()
    assert (tmp_path / "aside" / "data.qpdata").exists()


def test_a_states_of_a_file_differ_when_it_is_saved_anew(tmp_path: Path) -> None:
    path = tmp_path / "a"
    states = [FileState.of(path)]
    for content in (b"1", b"1"):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(0, len(states)))
        states.append(FileState.of(path))

    assert len(set(states)) == 3
