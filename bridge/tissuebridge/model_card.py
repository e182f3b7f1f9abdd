"""A model's card: what a person must know before trusting a model, written from what its `model.json` says.

`training` writes it as `MODEL_CARD.md` beside the weights. Nothing is invented: what the model does not say of itself
is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

CARD_FILE: Final = "MODEL_CARD.md"

_SCORES: Final = {"f1": "F1", "precision": "Precision", "recall": "Recall", "ap": "Average precision"}
_PARTS: Final = {"train": "to learn from", "validation": "to choose thresholds", "test": "to measure"}
_NOT_FOR: Final = (
    "It is not a medical device and not for diagnosis: it is for research, and a person checks what it finds.",
    "Other stains, scanners, species, tissues or preparations than those it learnt from: measure it on annotated "
    "images of your own first (`tissuebridge evaluate`).",
    "Classes it does not name: whatever it meets, it calls by one of its own.",
)


def model_card(about: Mapping[str, Any]) -> str:
    """The card of a model, as Markdown.

    Args:
        about: The content of `model.json`: `name`, `digest`, `config` (`ModelConfig.to_dict()`) and `record`. Of the
            record it reads, where they are there: `description` (a sentence), `project`, `preset`, `images` (part to
            names), `split` (how they were split), `sources` (a list of mappings with `image` and `sha256`), `found`
            (regions and cells, by class), `licence` and `citation` (of the data), `parameters`, `precision`,
            `duration_s`, `hardware`, `interrupted`, `thresholds_from`, `validation` and `measured` (results of
            `evaluate`), `measured_on` (title to such results), `version` and `versions`.

    Returns:
        The text, ending in a line break.

    >>> config = {"cell_classes": ["Nucleus"], "region_classes": [], "pixel_size_um": 0.25}
    >>> card = model_card({"name": "nuclei", "config": config})
    >>> card.splitlines()[0], "| Nucleus | cell |" in card
    ('# nuclei', True)
    """
    config, record = _mapping(about.get("config")), _mapping(about.get("record"))
    sections = {
        f"# {_text(about.get('name') or 'A model')}": _opening(about, record),
        "## What it finds": [*_classes(config), "", *_pixel_size(config)],
        "## What it learnt from": _data(record),
        "## How it was trained": _training(config, record),
        "## How well it does": [
            *_measures("On validation images", record.get("validation"), _CHOSEN_THERE),
            *_measures("On test images", record.get("measured"), _NOT_CHOSEN_THERE),
            *(
                line
                for title, results in _mapping(record.get("measured_on")).items()
                for line in _measures(f"On {title}", results, _NOT_CHOSEN_THERE)
            ),
        ],
        "## What it is not for": [f"- {sentence}" for sentence in _NOT_FOR],
        "## Made with": _versions(record),
    }
    filled = [f"{title}\n\n" + "\n".join(lines) for title, lines in sections.items() if any(lines)]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(filled)) + "\n"


_NOT_CHOSEN_THERE: Final = "Nothing was chosen on them."
_CHOSEN_THERE: Final = "Thresholds were chosen on them, so that on other images it does a little worse."


def _opening(about: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    lines = [
        "A tissuebridge model" + (f": {_text(record['description'])}" if record.get("description") else ".")
    ]
    if about.get("digest"):
        lines += ["", f"Digest of weights and configuration: `{about['digest']}`"]
    return lines


def _classes(config: Mapping[str, Any]) -> list[str]:
    regions, cells = _list(config.get("region_classes")), _list(config.get("cell_classes"))
    targets, inference = _mapping(config.get("targets")), _mapping(config.get("inference"))
    rows = [[name, "region", _color(config, name), None, None, None] for name in regions]
    for index, name in enumerate(cells):
        numbers = [
            _at(values, index)
            for values in (
                targets.get("diameters_um"),
                inference.get("min_distance_um"),
                inference.get("thresholds"),
            )
        ]
        rows.append([name, "cell", _color(config, name), *(_number(n) for n in numbers)])
    heads = ("Class", "Kind", "Colour", "Diameter, µm", "Least distance, µm", "Score from")
    return _table(heads, rows)


def _color(config: Mapping[str, Any], name: str) -> str | None:
    color = _list(_mapping(config.get("colors")).get(name))
    return "#" + "".join(f"{int(value):02x}" for value in color) if len(color) == 3 else None


def _pixel_size(config: Mapping[str, Any]) -> list[str]:
    size = config.get("pixel_size_um")
    if not size:
        return []
    return [
        f"It looks at images at **{_number(size)} µm per pixel**. Finer images are averaged down to that. Coarser ones "
        f"are interpolated, with worse results from about {_number(1.25 * size)} µm on; beyond {_number(2 * size)} µm "
        "they are refused. Images without a pixel size need the right one: `--pixel-size UM`."
    ]


def _data(record: Mapping[str, Any]) -> list[str]:
    lines = _items({"Project": record.get("project"), "Licence of the data": record.get("licence")})
    lines += _items({"Citation": record.get("citation"), "Split": record.get("split")})
    lines += ["", *_counts(_mapping(record.get("found")))]
    digests = {
        str(source.get("image")): source.get("sha256")
        for source in map(_mapping, _list(record.get("sources")))
    }
    parts = {part: _list(names) for part, names in _mapping(record.get("images")).items()}
    rows = [
        [name, _PARTS.get(part, part), f"`{digests[name]}`" if digests.get(name) else None]
        for part, names in parts.items()
        for name in map(str, names)
    ]
    return [*lines, "", *_table(("Image", "Used", "sha256"), rows)]


def _counts(found: Mapping[str, Any]) -> list[str]:
    """What there was to learn: area of each region class, cells of each cell class."""
    rows: list[list[str | None]] = []
    for name, region in _mapping(found.get("regions")).items():
        rows.append([name, _area(_mapping(region).get("area_um2")), None, None])
    for name, cell in _mapping(found.get("cells")).items():
        marked, complete, negatives = (
            _mapping(cell).get(key) for key in ("marked", "complete_um2", "hard_negatives")
        )
        rows.append([name, _area(complete), _number(marked), _number(negatives)])
    return _table(("Class", "Outlined or completely marked", "Cells", "Marked as no cell"), rows)


def _training(config: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    network, plan = _mapping(config.get("network")), _mapping(config.get("training"))
    loss, targets = _mapping(config.get("loss")), _mapping(config.get("targets"))
    seconds = record.get("duration_s")
    precision = record.get("precision") or plan.get("precision")
    lines = _items(
        {
            "Preset": record.get("preset"),
            "Network": f"multitask U-Net, widths {_joined(network['widths'])}"
            if network.get("widths")
            else None,
            "Parameters": _number(record.get("parameters")),
            "Heat maps": _joined(
                v for v in (network.get("heat_activation"), targets.get("heat_pooling")) if v is not None
            ),
            "Normalisation": config.get("normalisation"),
            "Steps": _number(plan.get("steps")),
            "Crops": f"{plan['crop_px']} px, {plan.get('batch_size')} a step"
            if plan.get("crop_px")
            else None,
            "Learning rate": _number(plan.get("learning_rate")),
            "Losses": _settings(loss, ("gamma", "weighting", "deep_supervision")),
            "Augmentation": _settings(_mapping(config.get("augmentation"))),
            "Precision": precision,
            "Seed": _number(plan.get("seed")),
            "Time": f"{float(seconds) / 60:.1f} minutes" if seconds else None,
            "Hardware": record.get("hardware"),
            "Thresholds chosen on": record.get("thresholds_from"),
        }
    )
    if record.get("interrupted"):
        lines.append("- **The training was interrupted before its planned end.**")
    return lines


def _measures(title: str, results: Any, note: str) -> list[str]:
    """A table of scores by class, in the form of `evaluate`; nothing where nothing was measured."""
    kinds = [_mapping(_mapping(results).get(kind)) for kind in ("regions", "cells")]
    by_class = [(str(name), _mapping(scores)) for kind in kinds for name, scores in kind.items()]
    keys = [key for key in _SCORES if any(scores.get(key) is not None for _, scores in by_class)]
    if not keys:
        return []
    rows = [[name, *(_score(scores, key) for key in keys)] for name, scores in by_class]
    return [
        f"**{title}.** {_how(_mapping(results))}{note}",
        "",
        *_table(("Class", *map(_SCORES.get, keys)), rows),
        "",
    ]


def _how(results: Mapping[str, Any]) -> str:
    """Over how many images, and how near a cell must be."""
    images, settings, said = results.get("images"), _mapping(results.get("settings")), ""
    count = images if isinstance(images, int) else len(images or ())
    if count:
        said += f"{count} image{'s' if count > 1 else ''}. "
    for unit, name in (("px", "tolerance_px"), ("µm", "tolerance_um")):
        if (tolerance := results.get(name, settings.get(name))) is not None:
            said += f"A cell within {_number(tolerance)} {unit} of a marked one found it. "
    intervals = _mapping(results.get("intervals"))
    if intervals.get("units"):
        said += f"In brackets: {intervals['level']:.0%} bootstrap intervals over {intervals['unit']}s. "
    return said


def _score(scores: Mapping[str, Any], key: str) -> str | None:
    """A score with its interval, where it has one.

    >>> _score({"f1": 0.91, "f1_interval": [0.9, 0.92]}, "f1")
    '0.910 (0.900 to 0.920)'
    """
    value, interval = scores.get(key), _list(scores.get(f"{key}_interval"))
    if value is None:
        return None
    if len(interval) == 2 and None not in interval:
        return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"{value:.3f}"


def _versions(record: Mapping[str, Any]) -> list[str]:
    versions = {"tissuebridge": record.get("version"), "numpy": record.get("numpy")}
    return _items(versions | dict(_mapping(record.get("versions"))))


# ---- Markdown ----


def _items(values: Mapping[str, Any]) -> list[str]:
    """A list, without what is not known."""
    return [
        f"- {_text(name)}: {_text(value)}"
        for name, value in values.items()
        if value not in (None, "", {}, [])
    ]


def _table(heads: Iterable[str | None], rows: Sequence[Sequence[str | None]]) -> list[str]:
    """A table, without columns in which nothing stands; nothing without rows."""
    columns = [
        (head, cells)
        for head, *cells in zip(heads, *rows, strict=True)
        if any(cell is not None for cell in cells)
    ]
    if not rows:
        return []
    lines = [[head or "" for head, _ in columns], ["---"] * len(columns)]
    lines += [
        [_text("-" if cells[i] is None else cells[i]) for _, cells in columns] for i in range(len(rows))
    ]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _text(value: Any) -> str:
    r"""A value as text on one line that Markdown does not take for markup; code stays code.

    >>> print(_text("Immune|CD3*"))
    Immune\|CD3\*
    """
    text = " ".join(str(value).split())
    if re.fullmatch(r"`[0-9a-f]+`", text):
        return text
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", text)


def _settings(values: Mapping[str, Any], names: Iterable[str] | None = None) -> str | None:
    """Settings as "name value", separated by commas; None without any."""
    known = [name for name in (names or values) if values.get(name) is not None]
    return ", ".join(f"{name.replace('_', ' ')} {values[name]}" for name in known) or None


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _number(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _area(um2: Any) -> str | None:
    return f"{float(um2) / 1e6:.3g} mm²" if isinstance(um2, int | float) else None


def _at(values: Any, index: int) -> Any:
    return _list(values)[index] if index < len(_list(values)) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
