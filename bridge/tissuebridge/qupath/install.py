"""Puts the scripts and the client's jar into QuPath's user directory, and takes them out again.

QuPath loads jars from `extensions` and shows scripts from `scripts` in its menu Automate. Beside the jar lies which
Python serves, so that a script can start the server by itself. Nothing is downloaded, and Maven runs only when asked.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import orjson

from tissuebridge import __version__
from tissuebridge.errors import InputRefused, StorageError, UsageError
from tissuebridge.files import atomic_write, storage_error
from tissuebridge.qupath.sources import sources_digest

JAR: Final = "tissuebridge-client.jar"
PYTHON_FILE: Final = "tissuebridge-python.json"
SCRIPTS: Final = "tissuebridge"
"""The folder of our scripts in QuPath's."""
SOURCES_DIGEST: Final = "tissuebridge-client.sources.sha256"
VERSIONS: Final = ("0.7", "0.6")


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is to install.

    Attributes:
        scripts: The Groovy scripts.
        jar: The client's jar, or None where it is not built.
        client: The client's sources, in a checkout; None in an installed package.
    """

    scripts: Sequence[Path]
    jar: Path | None
    client: Path | None


def parts() -> Parts:
    """The scripts and the jar: of the installed package, else of the checkout it runs from.

    Raises:
        InputRefused: This copy of the package has neither.
    """
    packed = Path(__file__).parent / "scripts"
    checkout = Path(__file__).parents[3] / "qupath_scripts"
    if packed.is_dir():
        return Parts(_scripts(packed), _file(packed / JAR), None)
    if checkout.is_dir():
        client = checkout / "client"
        return Parts(_scripts(checkout), _file(client / "target" / JAR), client)
    raise InputRefused("this copy of tissuebridge has no scripts for QuPath in it; install it anew")


def user_directories(home: Path | None = None) -> list[Path]:
    """QuPath's user directories on this machine, the newest version's first: as QuPath keeps them, or its default.

    Args:
        home: The user's home.
    """
    home = home or Path.home()
    found = []
    for version in VERSIONS:
        preferences = home / ".java" / ".userPrefs" / "io.github.qupath" / version / "prefs.xml"
        kept = _user_path(preferences)
        found += [kept] if kept is not None else [home / "QuPath" / f"v{version}"]
    return [path for path in found if path.is_dir()]


def install(user_dir: Path, models: Sequence[Path] = ()) -> list[Path]:
    """Copies scripts and jar, and notes which Python serves which models; gives the files written.

    Args:
        user_dir: QuPath's.
        models: Folders that `train` wrote, for a server that a script starts; none for the starter model.

    Raises:
        UsageError: The jar is not built; says how.
        StorageError: The directory cannot be written.
    """
    have = parts()
    if have.jar is None:
        raise UsageError(
            "the client's jar is not built. Run `tissuebridge install-qupath --build-client` (it needs Maven and a "
            "Java of 17 or newer, and downloads the client's libraries)"
        )
    folder = user_dir / "scripts" / SCRIPTS
    try:
        remove(user_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (user_dir / "extensions").mkdir(parents=True, exist_ok=True)
        written = [Path(shutil.copy2(script, folder / script.name)) for script in have.scripts]
        written.append(Path(shutil.copy2(have.jar, user_dir / "extensions" / JAR)))
    except OSError as error:
        raise storage_error(user_dir, error) from error
    note = user_dir / "extensions" / PYTHON_FILE
    about = {
        "python": sys.executable,
        "version": __version__,
        "models": [str(model.resolve()) for model in models],
    }
    with atomic_write(note) as file:
        file.write(orjson.dumps(about, option=orjson.OPT_INDENT_2))
    return [*written, note]


def remove(user_dir: Path) -> list[Path]:
    """Takes out what `install` put there, and nothing else; gives what was removed.

    Raises:
        StorageError: A file cannot be removed: QuPath has it open, perhaps.
    """
    ours = [user_dir / "extensions" / JAR, user_dir / "extensions" / PYTHON_FILE]
    ours += sorted((user_dir / "scripts" / SCRIPTS).glob("*.groovy"))
    gone = [path for path in ours if path.is_file()]
    try:
        for path in gone:
            path.unlink()
        folder = user_dir / "scripts" / SCRIPTS
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise StorageError(f"{user_dir}: {error.strerror}. Close QuPath, and try again.") from error
    return gone


def check(user_dir: Path) -> list[str]:
    """What is missing or does not fit in a user directory, each with its cure; empty where all is well."""
    cure = f"run `tissuebridge install-qupath --user-dir {user_dir}`"
    jar, note = user_dir / "extensions" / JAR, user_dir / "extensions" / PYTHON_FILE
    have = parts()
    problems = []
    if not jar.is_file():
        problems.append(f"{jar}: missing; {cure}")
    elif have.jar is not None and _sha256(jar) != _sha256(have.jar):
        problems.append(f"{jar}: of another version than this tissuebridge; {cure}")
    for script in have.scripts:
        copy = user_dir / "scripts" / SCRIPTS / script.name
        if not copy.is_file():
            problems.append(f"{copy}: missing; {cure}")
        elif copy.read_bytes() != script.read_bytes():
            problems.append(
                f"{copy}: of another version, or edited; {cure}, or keep your own under another name"
            )
    problems += _problems_of_python(note, cure)
    return problems


def build_client() -> Path:
    """Builds the jar with Maven, from a checkout; gives it.

    Raises:
        UsageError: There are no sources, or no Maven.
        InputRefused: Maven failed; its last lines.
    """
    have = parts()
    if have.client is None:
        raise UsageError("--build-client needs the sources: run it from a checkout of tissuebridge")
    maven = shutil.which("mvn")
    if maven is None:
        raise UsageError("--build-client needs Maven (mvn), and a Java of 17 or newer")
    command = [maven, "-q", "-B", "package", "-DskipTests"]
    done = subprocess.run(command, cwd=have.client, capture_output=True, text=True, check=False)  # noqa: S603
    jar = have.client / "target" / JAR
    if done.returncode or not jar.is_file():
        raise InputRefused(f"Maven failed:\n{(done.stdout + done.stderr)[-2000:]}")
    (jar.parent / SOURCES_DIGEST).write_text(sources_digest(have.client.parent), encoding="utf-8")
    return jar


def _problems_of_python(note: Path, cure: str) -> list[str]:
    try:
        about = orjson.loads(note.read_bytes())
        python, version = Path(about["python"]), about["version"]
        models = [Path(model) for model in about["models"]]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return [f"{note}: missing or damaged, so no script can start a server; {cure}"]
    problems = (
        []
        if python.is_file()
        else [f"{python}: this Python is gone, so no script can start a server; {cure}"]
    )
    if version != __version__:
        problems.append(f"{note}: of version {version}, this is {__version__}; {cure}")
    return problems + [
        f"{model}: this model is gone; {cure} --model DIR" for model in models if not model.is_dir()
    ]


def _scripts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.groovy"))


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _user_path(preferences: Path) -> Path | None:
    """QuPath's user directory as its preferences (of Java, on Linux) have it."""
    try:
        root = ElementTree.parse(preferences).getroot()  # noqa: S314 - the user's own file, of Java's making
    except (OSError, ElementTree.ParseError):
        return None
    for entry in root.iter("entry"):
        if entry.get("key") == "userPath" and entry.get("value"):
            return Path(str(entry.get("value")))
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
