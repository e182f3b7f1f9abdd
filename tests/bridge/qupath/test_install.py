"""Scripts and client into a QuPath user directory and out again; QuPath itself is not needed."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

from tissuebridge.cli import main
from tissuebridge.qupath import install
from tissuebridge.qupath.install import Parts, check, parts, user_directories


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user directory with a person's own files; installed are the checkout's scripts and a stand-in for the jar."""
    user_dir = tmp_path / "QuPath" / "v0.7"
    (user_dir / "scripts" / "tissuebridge").mkdir(parents=True)
    (user_dir / "scripts" / "tissuebridge" / "mine.txt").write_text("my notes")
    (user_dir / "extensions").mkdir()
    (user_dir / "extensions" / "other.jar").write_bytes(b"another extension")
    jar = tmp_path / install.JAR
    jar.write_bytes(b"jar 1")
    scripts = parts().scripts
    monkeypatch.setattr(install, "parts", lambda: Parts(scripts, jar, None))
    return user_dir


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_installed_checked_upgraded_and_uninstalled_without_a_trace(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(place)
    assert main(["install-qupath", "--user-dir", str(place), "--check"]) == 3
    assert "missing" in capsys.readouterr().out

    assert main(["install-qupath", "--user-dir", str(place)]) == 0
    assert {"scripts/tissuebridge/analyse.groovy", f"extensions/{install.JAR}"} < files(place)
    assert main(["install-qupath", "--user-dir", str(place), "--check"]) == 0

    (tmp_path / install.JAR).write_bytes(b"jar 2")
    (place / "scripts" / "tissuebridge" / "analyse.groovy").write_text("old")
    problems = check(place)
    assert len(problems) == 2
    assert all("another version" in problem for problem in problems)
    assert main(["install-qupath", "--user-dir", str(place)]) == 0
    assert check(place) == []

    assert main(["install-qupath", "--user-dir", str(place), "--uninstall"]) == 0
    assert files(place) == before


def test_the_python_that_serves_is_noted_with_its_models(place: Path, tmp_path: Path) -> None:
    model = tmp_path / "my model"
    model.mkdir()

    assert main(["install-qupath", "--user-dir", str(place), "--model", str(model)]) == 0

    note = place / "extensions" / install.PYTHON_FILE
    about = orjson.loads(note.read_bytes())
    assert (about["python"], about["models"]) == (sys.executable, [str(model)])
    model.rmdir()
    note.write_bytes(orjson.dumps(about | {"python": str(tmp_path / "gone"), "version": "0"}))
    told = " ".join(check(place))
    assert all(word in told for word in ("Python is gone", "of version", "model is gone"))
    note.write_bytes(b"{")
    assert "damaged" in check(place)[0]


def test_without_a_jar_the_cure_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "parts", lambda: Parts((), None, None))

    assert main(["install-qupath", "--user-dir", str(place)]) == 2
    assert "--build-client" in capsys.readouterr().err
    assert main(["install-qupath", "--user-dir", str(place), "--build-client"]) == 2
    assert "checkout" in capsys.readouterr().err


def test_what_cannot_be_is_refused(place: Path) -> None:
    assert main(["install-qupath", "--user-dir", str(place / "missing")]) == 2
    assert main(["install-qupath", "--user-dir", str(place), "--check", "--uninstall"]) == 2


def test_the_user_directory_is_where_qupath_keeps_it(tmp_path: Path) -> None:
    assert user_directories(tmp_path) == []
    kept = tmp_path / "my place"
    kept.mkdir()
    preferences = tmp_path / ".java" / ".userPrefs" / "io.github.qupath" / "0.6" / "prefs.xml"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(f'<map MAP_XML_VERSION="1.0"><entry key="userPath" value="{kept}"/></map>')
    (tmp_path / "QuPath" / "v0.7").mkdir(parents=True)

    assert user_directories(tmp_path) == [tmp_path / "QuPath" / "v0.7", kept]
    preferences.write_text("<map")
    assert user_directories(tmp_path) == [tmp_path / "QuPath" / "v0.7"]
