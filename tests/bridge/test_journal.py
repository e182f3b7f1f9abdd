import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tissuebridge.errors import StorageError
from tissuebridge.journal import Journal, StripResult
from tissuebridge.tiles import TilePlan
from tissuemodel.detection import Candidates
from tissuemodel.labels import IGNORE_LABEL

PLAN = TilePlan.of(90, 50, stride=8, tile_size=40, halo=16)
DECIDES = {"image": "a.tif|0|", "model": "d1g357", "area": ["", ""]}


def a_result(strip: int) -> StripResult:
    random = np.random.default_rng(strip)
    window = PLAN.strip_window(strip)
    count = 5 + strip
    rows = random.integers(window.row, window.bottom, count)
    pixels = np.stack([rows, random.integers(0, window.width, count)], axis=1).astype(np.int32)
    labels = random.integers(0, 3, (window.height, window.width)).astype(np.uint8)
    labels[0, :3] = IGNORE_LABEL
    candidates = Candidates(
        pixels,
        pixels[:, ::-1] + random.random((count, 2)),
        random.integers(0, 2, count).astype(np.uint8),
        random.random((count, 2)).astype(np.float32),
    )
    return StripResult(labels, candidates.in_order())


def filled(folder: Path) -> Journal:
    journal = Journal.open(folder, PLAN, 2, DECIDES)
    for strip in journal.missing:
        journal.write(strip, a_result(strip))
    return journal


def same(first: StripResult, second: StripResult) -> bool:
    a, b = first.candidates, second.candidates
    return (
        np.array_equal(first.labels, second.labels)
        and np.array_equal(a.pixels, b.pixels)
        and np.array_equal(a.xy, b.xy)
        and np.array_equal(a.class_index, b.class_index)
        and np.array_equal(a.scores, b.scores)
    )


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    filled(tmp_path)

    journal = Journal.open(tmp_path, PLAN, 2, DECIDES)

    assert journal.missing == ()
    assert all(same(journal.read(strip), a_result(strip)) for strip in range(3))
    assert np.array_equal(journal.labels(), np.concatenate([a_result(strip).labels for strip in range(3)]))
    everything = Candidates.joined([a_result(strip).candidates for strip in range(3)], 2)
    assert np.array_equal(journal.candidates().xy, everything.xy)


def test_an_agreement_is_kept_for_its_own_analysis(tmp_path: Path) -> None:
    assert filled(tmp_path).agreement == ""

    Journal.open(tmp_path, PLAN, 2, DECIDES).keep_agreement("bf16 against fp32 on 2 tiles: as the µ says")

    assert Journal.open(tmp_path, PLAN, 2, DECIDES).agreement == "bf16 against fp32 on 2 tiles: as the µ says"
    assert Journal.open(tmp_path, PLAN, 2, DECIDES | {"model": "another"}).agreement == ""


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[[", b"{}", b"null", b"[1]", b'{"journal": 1}'])
def test_a_damaged_agreement_is_none(tmp_path: Path, content: bytes) -> None:
    journal = filled(tmp_path)
    (tmp_path / "agreement.json").write_bytes(content)

    assert journal.agreement == ""
    journal.keep_agreement("told")
    assert journal.agreement == "told"


def test_a_large_label_map_stays_on_the_disk_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = filled(tmp_path)
    in_memory, files = journal.labels(), sorted(tmp_path.iterdir())
    monkeypatch.setattr("tissuebridge.journal.ON_DISK_FROM_PX", 1)

    on_disk = journal.labels()

    assert isinstance(on_disk, np.memmap)
    assert np.array_equal(on_disk, in_memory)
    del on_disk
    assert sorted(tmp_path.iterdir()) == files


def test_the_same_analysis_writes_the_same_bytes(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    filled(tmp_path / "b")

    names = sorted(path.name for path in (tmp_path / "a").iterdir())

    assert names == ["000000.strip", "000001.strip", "000002.strip", "header.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_interrupted_analysis_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, PLAN, 2, DECIDES)
    journal.write(0, a_result(0))
    journal.write(2, a_result(2))

    assert Journal.open(tmp_path, PLAN, 2, DECIDES).missing == (1,)


@pytest.mark.parametrize(
    "other",
    [
        {"plan": TilePlan.of(90, 50, stride=8, tile_size=48, halo=16)},
        {"plan": TilePlan.of(90, 50, stride=8, tile_size=40, halo=24)},
        {"decides": {**DECIDES, "model": "another"}},
        {"cell_classes": 3},
    ],
)
def test_a_journal_of_another_analysis_is_started_anew_and_the_log_says_so(
    tmp_path: Path, other: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path)
    mine = tmp_path / "notes.txt"
    mine.write_text("a person's")
    arguments = {"plan": PLAN, "cell_classes": 2, "decides": DECIDES, **other}

    with caplog.at_level(logging.WARNING):
        journal = Journal.open(tmp_path, **arguments)  # type: ignore[arg-type]

    assert len(journal.missing) == arguments["plan"].strips  # type: ignore[attr-defined]
    assert "started anew" in caplog.text
    assert mine.exists()


def test_a_strip_of_another_analysis_is_not_believed(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    other = Journal.open(tmp_path / "b", PLAN, 2, {**DECIDES, "model": "another"})
    (tmp_path / "b" / "000001.strip").write_bytes((tmp_path / "a" / "000001.strip").read_bytes())

    with pytest.raises(StorageError, match="belongs to another analysis"):
        other.read(1)
    assert 1 in Journal.open(tmp_path / "b", PLAN, 2, {**DECIDES, "model": "another"}).missing


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_strip_is_computed_again_whatever_is_wrong_with_it(
    tmp_path: Path, data: st.DataObject
) -> None:
    filled(tmp_path)
    path = tmp_path / "000001.strip"
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)), label="cut")
    place = data.draw(st.integers(0, len(whole) - 1), label="place")
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255), label="bits")
    damaged = data.draw(st.sampled_from([whole[:cut], bytes(flipped), whole + b"\0", whole[cut:]]))

    path.write_bytes(damaged)
    journal = Journal.open(tmp_path, PLAN, 2, DECIDES)

    assert journal.missing == (() if damaged == whole else (1,))
    journal.write(1, a_result(1))
    assert same(journal.read(1), a_result(1))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[[", b"{}", b"null"])
def test_a_damaged_header_starts_the_journal_anew(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path)
    (tmp_path / "header.json").write_bytes(content)

    assert Journal.open(tmp_path, PLAN, 2, DECIDES).missing == (0, 1, 2)


def test_reading_a_strip_that_is_gone_says_which_file_and_what_to_do(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    (tmp_path / "000002.strip").unlink()

    with pytest.raises(StorageError, match=r"000002\.strip: .*run again"):
        journal.labels()


def test_what_a_killed_writer_left_behind_is_cleared(tmp_path: Path) -> None:
    filled(tmp_path)
    debris = tmp_path / ".tissuebridge-0123.tmp"
    debris.write_bytes(b"half")

    Journal.open(tmp_path, PLAN, 2, DECIDES)

    assert not debris.exists()


def test_what_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    filled(tmp_path)
    anothers = tmp_path / ".tissuebridge-0123.tmp"
    anothers.write_bytes(b"half")

    assert Journal.open(tmp_path, PLAN, 2, DECIDES, alone=False).missing == ()

    assert anothers.exists()


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere; Windows has other rules"
)
def test_a_folder_that_may_not_be_written_to_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError):
            Journal.open(tmp_path / "journal", PLAN, 2, DECIDES)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_folders_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")

    with pytest.raises(StorageError, match="journal"):
        Journal.open(tmp_path / "journal", PLAN, 2, DECIDES)
