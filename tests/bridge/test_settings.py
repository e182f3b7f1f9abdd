"""Settings from TOML: every option of the method by its name, and every slip told with the cure."""

from dataclasses import fields
from pathlib import Path

import pytest

from tissuebridge.errors import UsageError
from tissuebridge.settings import MAX_SETTINGS_BYTES, read_settings, with_settings
from tissuemodel.config import InferenceConfig, ModelConfig, TargetConfig

CONFIG = ModelConfig(
    ("Tumor", "Stroma"),
    ("T cell", "Mast cell"),
    {},
    0.5,
    targets=TargetConfig((5.0, 5.0)),
    inference=InferenceConfig(min_distance_um=(2.5, 2.5)),
)
EVERYTHING = """
normalisation = "image"

[network]
widths = [8, 16, 32]
heat_activation = "sigmoid"

[targets]
diameters_um = { "Mast cell" = 8 }
heat_pooling = "sum"

[augmentation]
mirror = 0
rotation = 0.25
density_jitter = 0.1
gain_jitter = 0.0
stain_jitter = 0.2
elastic_um = 0.5
elastic_spacing_um = 20

[loss]
gamma = 0
region_weights = { Tumor = 0.5, Stroma = 1.5 }
cell_weights = 1
weight_cap = 5
weighting = "fixed"
deep_supervision = false

[training]
learning_rate = 1e-3
batch_size = 8
crop_px = 128
epochs = 3
minutes = "none"
steps = 10
seed = 4
precision = "fp32"
gradient_clip = "none"
early_stop = 5
weight_average = 0.99
devices = 2

[inference]
fusion = false
cell_fusion = true
mode_filter = false
min_distance_um = 3
floor = 0.05
cross_class_radius_um = "none"
"""


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "settings.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_option_can_be_set(tmp_path: Path) -> None:
    config = with_settings(CONFIG, read_settings(written(tmp_path, EVERYTHING)))

    plan, loss = config.training, config.loss
    assert config.normalisation == "image"
    assert config.network.widths == (8, 16, 32)
    assert config.targets.diameters_um == (5.0, 8.0)
    assert (loss.gamma, loss.region_weights, loss.cell_weights) == (0, (0.5, 1.5), (1.0, 1.0))
    assert (plan.gradient_clip, plan.minutes, plan.weight_average) == (None, None, 0.99)
    assert config.inference.min_distance_um == (3.0, 3.0)
    assert config.inference.cross_class_radius_um is None


def test_the_example_above_names_every_option_there_is() -> None:
    for table in ("network", "targets", "augmentation", "loss", "training", "inference"):
        section = EVERYTHING.split(f"[{table}]")[1].split("\n[")[0]
        named = {line.split(" = ")[0] for line in section.strip().splitlines()}

        assert {f.name for f in fields(getattr(CONFIG, table))} - named <= {"thresholds"}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert with_settings(CONFIG, read_settings(written(tmp_path, ""))) == CONFIG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training\n", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        ("training = 3\n", "Write [training]"),
        ("[training]\nepoch = 3\n", "Do you mean training.epochs?"),
        ("[loss]\nepochs = 3\n", "Do you mean training.epochs?"),
        ("[trainings]\nepochs = 3\n", "there is no such setting"),
        ('[training]\nepochs = "3"\n', "a whole number"),
        ("[training]\nepochs = true\n", "a whole number"),
        ("[training]\nepochs = 2.5\n", "a whole number"),
        ('[training]\nepochs = "none"\n', "a whole number"),
        ('[training]\nprecision = "int8"\n', '"bf16"'),
        ("[network]\nwidths = 8\n", "a list"),
        ("[inference]\nthresholds = [0.5]\n", "chosen on the validation images"),
        ("pixel_size_um = 0.5\n", "--pixel-size"),
        ('region_classes = ["Tumor"]\n', "come from the annotations"),
    ],
)
def test_a_slip_in_the_file_is_told_with_its_name_and_the_cure(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = written(tmp_path, text)

    with pytest.raises(UsageError) as told:
        read_settings(path)

    assert str(told.value).startswith(str(path))
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training": {"crop_px": 33}}, "stride"),
        ({"targets": {"diameters_um": {"B cell": 5.0}}}, "Do you mean 'T cell'?"),
        ({"loss": {"region_weights": {"Tumor": 1.0}}}, "Give all classes a number"),
        ({"loss": {"gamma": -1.0}}, "0 to 100"),
        ({"loss": {"gamma": float("nan")}}, "0 to 100"),
        ({"network": {"widths": [8, 8, 8, 8, 8, 8, 8, 8]}}, "2 to 7"),
    ],
)
def test_impossible_values_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as told:
        with_settings(CONFIG, settings)

    assert message in str(told.value)


def test_a_missing_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="Is it the settings file"):
        read_settings(written(tmp_path, "#" * (MAX_SETTINGS_BYTES + 1)))
