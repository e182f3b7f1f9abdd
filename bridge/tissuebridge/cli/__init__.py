"""The command line: `tissuebridge COMMAND`. Every command is a thin caller of the library.

Standard output carries the result (one JSON document with `--json`), standard error all else. Exit codes: 0 done,
2 usage, 3 refused, 4 server unreachable, 5 partial, 6 conflict, 7 storage, 8 resource limit, 130 interrupted.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections import UserDict
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Final

import typer
from typer.core import TyperGroup

from tissuebridge import __version__
from tissuebridge.errors import Cancelled, ResourceLimit, TissuebridgeError

_MODULES: Final = {
    "demo": "demo",
    "propose": "propose",
    "accept": "accept",
    "train": "train",
    "analyse": "analyse",
    "evaluate": "evaluate",
    "spatial": "spatial",
    "undo": "undo",
    "remove": "undo",
    "export": "export",
    "doctor": "doctor",
    "repair": "doctor",
    "install-qupath": "install_qupath",
    "serve": "serve",
}
"""Each command's module, here; its function has the command's name."""

_STYLE: Final[dict[str, Any]] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}


def _interruptible(command: Callable[..., None]) -> Callable[..., None]:
    """Ctrl-C in a command is one of our own errors, with an exit code of its own."""

    @functools.wraps(command)
    def run_command(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise Cancelled(
                "interrupted; what was finished stays, the same command goes on from there"
            ) from None

    return run_command


class _OnDemand(UserDict[str, Any]):
    """Commands by their names, made when they are asked for: to load what all of them need takes a second."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            found = self.data[name] = _command(name, import_module(f"{__name__}.{found}"))
        return found


def _command(name: str, module: ModuleType) -> Any:
    single = typer.Typer(**_STYLE)
    single.command(name)(_interruptible(getattr(module, name.replace("-", "_"))))
    return typer.main.get_command(single)


class _Commands(TyperGroup):
    """All commands, in the order in which they are used."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _OnDemand(_MODULES)


app = typer.Typer(
    name="tissuebridge",
    cls=_Commands,
    help="Train one network for tissue regions and cells on QuPath annotations; bring its results back to QuPath.",
    no_args_is_help=True,
    **_STYLE,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tissuebridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
    verbose: bool = typer.Option(False, "--verbose", help="Log what is done, for bug reports."),
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s: %(message)s"
        if not verbose
        else "%(asctime)s %(name)s %(levelname)s: %(message)s",
        stream=sys.stderr,
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit code; an error is one line on standard error, never a traceback."""
    try:
        app(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except TissuebridgeError as error:
        return _said(str(error), error.exit_code)
    except MemoryError:
        return _said("out of memory; use a smaller --tile-size or --batch-size", ResourceLimit.exit_code)
    return 0


def _said(message: str, code: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return code


def run() -> None:
    """The console script's entry point."""
    sys.exit(main())
