"""`doctor` and `repair` on project folders as QuPath leaves them; no QuPath is needed."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from fake_qupath import Slide
from tissuebridge.cli import main
from tissuebridge.lock import locked
from tissuebridge.qupath.doctor import findings
from tissuebridge.writeback.runs import SAVING, ImageRecord


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    """A project of one image, its file beside it."""
    (tmp_path / "slide.svs").write_bytes(b"pixels")
    builder = {"uri": (tmp_path / "slide.svs").as_uri(), "providerClassName": "any", "args": []}
    image = {"serverBuilder": builder, "entryID": 1, "imageName": "slide.svs"}
    (tmp_path / "project.qpproj").write_bytes(orjson.dumps({"images": [image]}))
    return Slide(tmp_path)


def test_a_sound_project_has_nothing_to_tell(
    slide: Slide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert findings(tmp_path) == []
    assert main(["doctor", str(tmp_path)]) == 0
    assert main(["repair", str(tmp_path / "project.qpproj")]) == 0
    assert capsys.readouterr().out == "nothing is wrong\nnothing was wrong\n"


def test_half_a_file_is_serious_and_is_mended_from_the_copy(
    slide: Slide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, before = slide.store.files, slide.store.files.data.read_bytes()
    files.data.replace(files.backup)
    files.data.write_bytes(b"half")

    assert main(["doctor", str(tmp_path)]) == 3
    assert "tissuebridge repair" in capsys.readouterr().out
    assert main(["repair", str(tmp_path)]) == 0

    assert files.data.read_bytes() == before
    assert main(["doctor", str(tmp_path)]) == 0
    assert [path.read_bytes() for path in (tmp_path / "tissuebridge" / "put aside").rglob("data*")] == [
        b"half"
    ]


def test_where_qupaths_copy_is_no_good_the_runs_snapshot_is_used(slide: Slide, tmp_path: Path) -> None:
    before = slide.store.files.data.read_bytes()
    slide.analyse("r1", (0, 0))
    for path in (slide.store.files.data, slide.store.files.backup):
        path.write_bytes(b"half")

    assert main(["repair", str(tmp_path)]) == 0

    assert slide.store.files.data.read_bytes() == before


def test_where_nothing_is_whole_repair_says_so_and_changes_nothing(
    slide: Slide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide.store.files.data.write_bytes(b"half")

    assert main(["repair", str(tmp_path)]) == 3

    assert "no whole copy" in capsys.readouterr().err
    assert slide.store.files.data.read_bytes() == b"half"


def test_a_moved_image_is_told_with_its_place(slide: Slide, tmp_path: Path) -> None:
    (tmp_path / "slide.svs").unlink()

    (found,) = findings(tmp_path)

    assert found.is_serious
    assert "slide.svs" in found.what
    assert "Update URIs" in found.cure


def test_a_project_file_lost_in_a_save_comes_back_from_the_better_copy(slide: Slide, tmp_path: Path) -> None:
    file = tmp_path / "project.qpproj"
    content = file.read_bytes()
    file.replace(tmp_path / "project.qpproj.backup")
    (tmp_path / "project.qpproj.tmp").write_bytes(content[:20])

    assert main(["doctor", str(tmp_path)]) == 3
    assert main(["repair", str(tmp_path)]) == 0

    assert file.read_bytes() == content
    assert main(["doctor", str(tmp_path)]) == 0


def test_without_any_copy_of_the_project_there_is_nothing_to_repair(tmp_path: Path) -> None:
    assert main(["repair", str(tmp_path)]) == 2
    assert main(["doctor", str(tmp_path / "missing.qpproj")]) == 2


def test_work_in_qupath_after_a_run_is_told_but_not_serious(slide: Slide, tmp_path: Path) -> None:
    record = slide.analyse("r1", (0, 0))
    slide.store.delete(slide.mine.id)

    found = findings(tmp_path)

    assert [finding.is_serious for finding in found] == [False, False]
    assert any("saved since run r1" in finding.what for finding in found)
    assert any("was not finished" in finding.what for finding in found)
    slide.runs.with_image(record, "1", ImageRecord("slide.svs", SAVING, changed=True))
    assert any("stopped while it saved" in finding.what for finding in findings(tmp_path))


def test_repair_waits_for_nobody(slide: Slide, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "tissuebridge", "a run over this project"):
        assert main(["repair", str(tmp_path)]) == 6
    assert "already under way" in capsys.readouterr().err


def test_json_is_one_document(slide: Slide, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide.store.files.backup.write_bytes(b"left")

    assert main(["doctor", str(tmp_path), "--json"]) == 3

    (found,) = orjson.loads(capsys.readouterr().out)["findings"]
    assert found["where"] == "slide.svs"
    assert found["is_serious"] is True
