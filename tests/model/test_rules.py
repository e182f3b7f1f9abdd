"""Every value that makes no sense is named, with what is allowed; the defaults are none of them."""

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig
from tissuemodel.rules import impossible
from tissuemodel.training import PRESETS

NAN, INFINITE = float("nan"), float("inf")
CONFIG = ModelConfig(
    ("Tumor", "Stroma"),
    ("T",),
    {},
    0.5,
    targets=TargetConfig((5.0,)),
    inference=InferenceConfig(min_distance_um=(2.5,), thresholds=(0.5,)),
)

WRONG: list[tuple[str, Any]] = [
    ("region_classes", ("Tumor", "Tumor")),
    ("region_classes", tuple(map(str, range(255)))),
    ("cell_classes", tuple(map(str, range(17)))),
    ("pixel_size_um", 0.0),
    ("pixel_size_um", NAN),
    ("mean", (300.0, 0.0, 0.0)),
    ("std", (0.0, 1.0, 1.0)),
    ("network.widths", (8,)),
    ("network.widths", (8, 0)),
    ("network.widths", (8,) * 8),
    ("augmentation.mirror", 1.5),
    ("augmentation.rotation", -0.1),
    ("augmentation.density_jitter", NAN),
    ("augmentation.gain_jitter", 2.0),
    ("augmentation.stain_jitter", -1.0),
    ("augmentation.elastic_um", INFINITE),
    ("augmentation.elastic_spacing_um", 0.0),
    ("loss.gamma", -1.0),
    ("loss.region_weights", (1.0,)),
    ("loss.cell_weights", (0.0,)),
    ("loss.weight_cap", 0.5),
    ("training.learning_rate", 0.0),
    ("training.batch_size", 0),
    ("training.crop_px", 100),
    ("training.crop_px", 0),
    ("training.epochs", 0),
    ("training.minutes", 0.0),
    ("training.minutes", NAN),
    ("training.steps", -1),
    ("training.seed", -1),
    ("training.gradient_clip", 0.0),
    ("training.early_stop", 0),
    ("training.weight_average", 1.0),
    ("training.devices", 0),
    ("inference.thresholds", (NAN,)),
    ("inference.thresholds", ()),
    ("inference.floor", INFINITE),
    ("inference.min_distance_um", (0.0,)),
    ("inference.cross_class_radius_um", -1.0),
    ("targets.diameters_um", (5.0, 5.0)),
    ("targets.diameters_um", (-5.0,)),
]


def changed(key: str, value: Any) -> ModelConfig:
    table, _, name = key.rpartition(".")
    if not table:
        return replace(CONFIG, **{name: value})
    return replace(CONFIG, **{table: replace(getattr(CONFIG, table), **{name: value})})


def test_the_defaults_and_the_presets_are_possible() -> None:
    assert impossible(CONFIG) == {}
    for network, training in PRESETS.values():
        assert impossible(replace(CONFIG, network=network, training=training)) == {}


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_what_makes_no_sense_is_named(key: str, value: Any) -> None:
    found = impossible(changed(key, value))

    assert found[key]
    if key not in ("region_classes", "cell_classes"):  # other values are one for each class
        assert list(found) == [key]


def test_every_number_has_a_rule() -> None:
    """A number or list of them that nobody checks is a hole; texts and flags are checked by their types."""
    checked = {key for key, _ in WRONG}
    numbers = set()
    for field in fields(CONFIG):
        value = getattr(CONFIG, field.name)
        parts = {f"{field.name}.{f.name}": f.type for f in fields(value)} if is_dataclass(value) else {}
        numbers |= {key for key, kind in parts.items() if re.search(r"\b(float|int)\b", str(kind))}

    assert numbers - checked == set()


def test_a_crop_must_fit_the_networks_stride() -> None:
    config = replace(CONFIG, network=NetworkConfig((4, 4, 4)))

    assert impossible(replace(config, training=replace(config.training, crop_px=36))) == {}
    assert list(impossible(replace(config, training=replace(config.training, crop_px=34)))) == [
        "training.crop_px"
    ]
