"""What the commands share: opening a SOURCE, progress bars, results on standard output."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from tqdm import tqdm

from tissuebridge import starter
from tissuebridge.classes import ClassMap
from tissuebridge.errors import PartialResult, TissuebridgeError, UsageError
from tissuebridge.model_card import CARD_FILE
from tissuebridge.predictor.saved import read_saved
from tissuebridge.project.base import Image, Project
from tissuemodel.saved_model import SavedModel

Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", help="A QuPath project (.qpproj), a folder of images with GeoJSON, or an image."
    ),
]
PixelSize = Annotated[
    float | None,
    typer.Option("--pixel-size", metavar="UM", help="Pixel size in um of images that carry none."),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes", metavar="FILE", help="TOML file with roles, aliases and priorities of classes."
    ),
]
CasePattern = Annotated[
    str | None,
    typer.Option(
        "--case-pattern",
        metavar="REGEX",
        help="Finds the case (patient) in an image's name: the first group, or the whole match.",
    ),
]
CaseKey = Annotated[
    str | None, typer.Option("--case-key", metavar="KEY", help="QuPath metadata key that names the case.")
]
CaseTable = Annotated[
    Path | None,
    typer.Option("--cases", metavar="FILE", help="CSV with the columns image,patient: names the cases."),
]
Server = Annotated[
    str | None, typer.Option("--server", metavar="HOST:PORT", help="Let a `tissuebridge serve` compute.")
]
Certificate = Annotated[
    Path | None, typer.Option("--ca", metavar="PEM", help="Certificate that signed the --server's own.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; all else goes to standard error.")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of weights, crops and augmentation (otherwise 0).")
]


TOKEN_VARIABLE: Final = "TISSUEBRIDGE_TOKEN"  # noqa: S105 - the name of a variable
"""A server on another machine has its token given here, so that it stands in no command's history."""


def given_token() -> str | None:
    """The token in the environment, if there is one.

    Raises:
        UsageError: It cannot be a token: it has a line break, say.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if token is not None and not (token.isascii() and token.isprintable() and token):
        raise UsageError(f"{TOKEN_VARIABLE}: no token: it is empty, or has a line break or other signs in it")
    return token


def class_map(path: Path | None) -> ClassMap | None:
    """The class map of `--classes`, or None."""
    return ClassMap.load(path) if path else None


TELL_TIME_S: Final = 30.0
"""So often a batch says how far it is."""


class Precision(StrEnum):
    """What a network may compute in."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="bf16: twice as fast, int8 (--engine openvino): faster still, where the CPU has it; differ a little.",
    ),
]


class Engine(StrEnum):
    """What computes a network."""

    TORCH = "torch"
    OPENVINO = "openvino"


EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine", help="openvino: up to a tenth faster on a CPU; pip install 'tissuebridge[openvino]'."
    ),
]


def chosen_model(folder: Path | None) -> SavedModel:
    """Reads a model; without a folder the starter model, and says that it is used, what for, and where its limits are.

    Raises:
        UsageError: This copy of the package has no starter model.
        ModelError: The model is missing, damaged or tampered with.
    """
    if folder is not None:
        return read_saved(folder)
    folder = starter.starter_folder()
    saved = read_saved(folder)
    config = saved.config
    finds = saved.record.get("description") or ", ".join((*config.region_classes, *config.cell_classes))
    say(
        f"no --model: using the starter model ({finds}; {config.pixel_size_um:g} µm per pixel). "
        f"What it is not for: {folder / CARD_FILE}"
    )
    return saved


def each_image(
    project: Project, do: Callable[[Image], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Every image by itself: one that fails is told and listed, and the others go on.

    Args:
        project: The images.
        do: Says what became of an image.

    Returns:
        What was done, and the message of each image that failed, by name.

    Raises:
        TissuebridgeError: The only image failed, or the next one would fare no better: a full disk, say.
    """
    done: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for image in _telling_time(project.images):
        try:
            done.append(do(image))
        except TissuebridgeError as error:
            if error.ends_batch or len(project.images) == 1:
                raise
            say(f"error: {error}")
            failed[image.name] = str(error)
    return done, failed


def _telling_time(images: Sequence[Image]) -> Iterator[Image]:
    """The images; between two of them a person hears now and then how long the rest will take."""
    start = told = time.monotonic()
    for gone, image in enumerate(images):
        now = time.monotonic()
        if gone and now - told >= TELL_TIME_S:
            left = (now - start) / gone * (len(images) - gone)
            say(f"{gone} of {len(images)} images; about {_duration(left)} left")
            told = now
        yield image


def _duration(seconds: float) -> str:
    """Roughly, as people say it.

    >>> _duration(40), _duration(600), _duration(7300)
    ('1 min', '10 min', '2 h 2 min')
    """
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def refuse_failures(done: Sequence[object], failed: Mapping[str, str]) -> None:
    """Ends a command that some images failed in.

    Raises:
        PartialResult: Some did; lists them.
    """
    if failed:
        total = len(done) + len(failed)
        raise PartialResult(f"{len(failed)} of {total} images failed: {', '.join(sorted(failed))}")


def forget_journal(journal: Path) -> None:
    """Removes the journal of an image that is written: kept, it would outlive a change of the image's pixels."""
    shutil.rmtree(journal, ignore_errors=True)
    with suppress(OSError):
        journal.parent.rmdir()


def say(text: str) -> None:
    """Tells a person something that is not the result."""
    typer.echo(text, err=True)


def print_json(result: dict[str, Any]) -> None:
    """Prints the result as one JSON document."""
    sys.stdout.write(
        orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode() + "\n"
    )


_SHOWN: Final = {
    "loss": "loss",
    "regression": "cells",
    "segmentation": "regions",
    "sigma_regression": "σ cells",
    "sigma_segmentation": "σ regions",
}
"""What a training tells of a step, and what the bar calls it."""


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error, shown from the first call of the function it gives.

    The function takes (done, total, numbers to show behind, by name); a smaller `done` than before starts a new bar.
    """
    bars: list[tqdm[Any]] = []

    def update(done: int, total: int, notes: Mapping[str, float | int | None] | None = None) -> None:
        if not bars or done < bars[-1].n:
            if bars:
                bars[-1].close()
            # What an interrupted run had done before is not counted into the speed.
            before = max(done - 1, 0)
            bars.append(
                tqdm(desc=what, unit=unit, total=total, initial=before, file=sys.stderr, dynamic_ncols=True)
            )
        bars[-1].total = total
        if notes:
            shown = [f"{text} {notes[key]:.3g}" for key, text in _SHOWN.items() if notes.get(key) is not None]
            bars[-1].set_postfix_str(", ".join(shown), refresh=False)
        bars[-1].update(done - bars[-1].n)

    try:
        yield update
    finally:
        if bars:
            bars[-1].close()
