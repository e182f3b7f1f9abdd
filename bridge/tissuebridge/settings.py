"""Settings of a training from a TOML file (``--settings FILE``): every option of the method, in its table.

Stands between the command line and `tissuemodel.config`, whose defaults hold for what a file leaves out. Values by
class are given by the class's name. What follows from the data cannot be set, and the refusal says where it comes
from.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from tissuebridge.errors import UsageError
from tissuemodel.config import ModelConfig
from tissuemodel.rules import impossible

MAX_SETTINGS_BYTES: Final = 1 << 20
NONE: Final = "none"
"""TOML has no null: this stands where an option may be left out."""

_TABLES: Final = ("network", "targets", "augmentation", "loss", "training", "inference")
_BY_CLASS: Final = float | dict[str, float]
_BY_CELL_CLASS: Final = ("targets.diameters_um", "inference.min_distance_um", "loss.cell_weights")
_BY_REGION_CLASS: Final = ("loss.region_weights",)
_NOT_HERE: Final = {
    "region_classes": "the classes come from the annotations and from --classes",
    "cell_classes": "the classes come from the annotations and from --classes",
    "colors": "the colours come from the classes in QuPath",
    "pixel_size_um": "the pixel size comes from the images or from --pixel-size",
    "mean": "the statistics come from the training pixels",
    "std": "the statistics come from the training pixels",
    "inference.thresholds": "the thresholds are chosen on the validation images",
}


def read_settings(path: Path) -> dict[str, Any]:
    """Reads a settings file and checks its keys and types; the values are `with_settings`' to judge.

    Raises:
        UsageError: The file is missing, too large or not TOML, or has an unknown key or a value of a wrong type.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SETTINGS_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read: {reason}. Check the name.") from error
    return settings_of(content, str(path))


def settings_of(content: bytes, where: str) -> dict[str, Any]:
    """Settings from TOML, as `read_settings`.

    Args:
        content: UTF-8.
        where: What it is, for messages.

    Raises:
        UsageError: It is too large or not TOML, or has an unknown key or a value of a wrong type.
    """
    if len(content) > MAX_SETTINGS_BYTES:
        raise UsageError(f"{where}: more than {MAX_SETTINGS_BYTES} bytes. Is it the settings file?")
    try:
        settings = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f'{where}: this is not TOML: {error}. Quote texts and class names: "Tumor".'
        ) from error
    try:
        _checked(settings)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return settings


def with_settings(config: ModelConfig, settings: Mapping[str, Any]) -> ModelConfig:
    """Lays settings over a configuration.

    Args:
        config: What holds where the settings say nothing; its classes are known.
        settings: Tables `network`, `targets`, `augmentation`, `loss`, `training`, `inference` with the names of
            `tissuemodel.config`, and `normalisation`. Values by class are one number for all classes, or a table of
            class names: classes left out keep their value; weights, which have none before the training, are given
            for all. "none" stands for None.

    Raises:
        UsageError: A key or class is unknown or cannot be set here, a value is of a wrong type or impossible.

    >>> from tissuemodel.config import InferenceConfig, TargetConfig
    >>> config = ModelConfig(("Tumor",), ("T cell", "Mast cell"), {}, 0.5, targets=TargetConfig((5.0, 5.0)),
    ...                      inference=InferenceConfig(min_distance_um=(2.5, 2.5)))
    >>> text = '''
    ... [targets.diameters_um]
    ... "T cell" = 6.0
    ...
    ... [training]
    ... epochs = 50
    ... gradient_clip = "none"
    ... '''
    >>> changed = with_settings(config, tomllib.loads(text))
    >>> changed.targets.diameters_um, changed.training.epochs, changed.training.gradient_clip
    ((6.0, 5.0), 50, None)
    >>> with_settings(config, {"training": {"epoch": 50}})
    Traceback (most recent call last):
        ...
    tissuebridge.errors.UsageError: training.epoch: there is no such setting. Do you mean training.epochs?
    >>> with_settings(config, {"augmentation": {"mirror": 1.5}})
    Traceback (most recent call last):
        ...
    tissuebridge.errors.UsageError: augmentation.mirror = 1.5: impossible. Allowed is: a probability, 0 to 1.
    """
    values = _checked(settings)
    changed = config
    for key, value in values.items():
        changed = _with_value(changed, key, value)
    before = impossible(config)
    for key, allowed in impossible(changed).items():
        # Before a training some values are still missing; a change can also make another value impossible.
        if key in values or key not in before:
            raise UsageError(f"{key} = {_told(_value(changed, key))}: impossible. Allowed is: {allowed}.")
    return changed


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key to a value of the right type; values by class are a number or a table of numbers."""
    return {key: _typed(key, value) for key, value in _flat(settings)}


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if key not in _TABLES:
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            raise UsageError(
                f"{key}: this is a table. Write [{key}] on a line of its own, its settings below."
            )


def _typed(key: str, value: Any) -> Any:
    if key in _NOT_HERE:
        raise UsageError(f"{key}: cannot be set here: {_NOT_HERE[key]}. Leave it out.")
    if key not in _TYPES:
        raise UsageError(f"{key}: there is no such setting. {_nearest(key)}")
    if value == NONE and NoneType in get_args(_TYPES[key]):
        return None
    try:
        # JSON's rules are TOML's: a list may become a tuple and 1 become 1.0, but "1" and true are no numbers.
        return TypeAdapter(_TYPES[key]).validate_json(json.dumps(value), strict=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{key} = {_told(value)}: this must be {_in_words(_TYPES[key])}.") from error


def _nearest(key: str) -> str:
    """The setting that may be meant, also one of another table."""
    settings = {name.rpartition(".")[2]: name for name in _TYPES}
    name = key.rpartition(".")[2]
    if close := difflib.get_close_matches(key, _TYPES, 1, 0.8):
        return f"Do you mean {close[0]}?"
    if close := difflib.get_close_matches(name, settings, 1):
        return f"Do you mean {settings[close[0]]}?"
    table = key.partition(".")[0]
    inside = [name for name in _TYPES if name.startswith(f"{table}.")]
    return f"There are {', '.join(inside or ('normalisation', *(f'[{table}]' for table in _TABLES)))}."


def _in_words(kind: Any) -> str:
    if kind == _BY_CLASS:
        return "a number for all classes, or a table of class names with a number each"
    if get_origin(kind) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list: {_in_words(get_args(kind)[0])} each"
    if NoneType in get_args(kind):
        return f'{_in_words(get_args(kind)[0])}, or "{NONE}"'
    return {int: "a whole number", float: "a number", bool: "true or false"}[kind]


def _with_value(config: ModelConfig, key: str, value: Any) -> ModelConfig:
    table, _, name = key.rpartition(".")
    if _TYPES[key] == _BY_CLASS:
        value = _by_class(config, key, value)
    if not table:
        return replace(config, **{name: value})
    return replace(config, **{table: replace(getattr(config, table), **{name: value})})


def _by_class(config: ModelConfig, key: str, value: float | dict[str, float]) -> tuple[float, ...]:
    classes = config.region_classes if key in _BY_REGION_CLASS else config.cell_classes
    if not isinstance(value, dict):
        return (value,) * len(classes)
    for name in value:
        if name not in classes:
            close = difflib.get_close_matches(name, classes, 1)
            cure = f"Do you mean {close[0]!r}?" if close else f"There are {', '.join(classes) or 'none'}."
            raise UsageError(f"{key}: {name!r} is no class here. {cure}")
    kept = dict(zip(classes, _value(config, key), strict=False))
    if missing := [name for name in classes if name not in value and name not in kept]:
        raise UsageError(
            f"{key}: nothing is said of {', '.join(map(repr, missing))}. Give all classes a number."
        )
    return tuple(value.get(name, kept.get(name, 0.0)) for name in classes)


def _value(config: ModelConfig, key: str) -> Any:
    table, _, name = key.rpartition(".")
    return getattr(getattr(config, table) if table else config, name)


def _told(value: Any) -> str:
    """A value for a message, no longer than that."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _types() -> dict[str, Any]:
    """Dotted key to type of all that can be set, in `ModelConfig`'s order."""
    top = get_type_hints(ModelConfig)
    types = {"normalisation": top["normalisation"]}
    for table in _TABLES:
        hints = get_type_hints(top[table])
        types |= {f"{table}.{field.name}": hints[field.name] for field in fields(top[table])}
    types |= dict.fromkeys((*_BY_CELL_CLASS, *_BY_REGION_CLASS), _BY_CLASS)
    return {key: kind for key, kind in types.items() if key not in _NOT_HERE}


_TYPES: Final = _types()
