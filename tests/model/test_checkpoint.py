"""A model folder comes back bit for bit, or is refused with the name of the file that is wrong."""

import hashlib
import json
import math
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from tissuemodel.checkpoint import (
    Checkpoint,
    build_network,
    load_checkpoint,
    make_checkpoint,
    save_checkpoint,
)
from tissuemodel.config import InferenceConfig, ModelConfig, NetworkConfig, TargetConfig
from tissuemodel.saved_model import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    WEIGHTS_FILE,
    CheckpointError,
    model_digest,
)

CONFIG = ModelConfig(
    region_classes=("Tumor", "Stroma"),
    cell_classes=("Immune: CD3",),
    colors={"Tumor": (200, 0, 0), "Immune: CD3": (160, 90, 160)},
    pixel_size_um=0.5,
    mean=(180.25, 150.5, 1 / 3),
    network=NetworkConfig((3, 4)),
    targets=TargetConfig((5.0,)),
    inference=InferenceConfig(min_distance_um=(2.5,), thresholds=(0.1 + 0.2,)),
)


def trained(config: ModelConfig = CONFIG, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    network = build_network(config)
    network(torch.randn(2, 3, 8, 8))  # batch norm's statistics are part of the model
    return make_checkpoint("Größe µ", config, network, {"cells": {"Immune: CD3": 12}, "note": None})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    save_checkpoint(trained(), folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


# ---- Whole ---------------------------------------------------------------------------------------------


def test_a_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint = trained()

    save_checkpoint(checkpoint, tmp_path / "new" / "folder")
    loaded = load_checkpoint(tmp_path / "new" / "folder")

    before, after = checkpoint.network.state_dict(), loaded.network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (loaded.name, loaded.config, loaded.digest) == ("Größe µ", CONFIG, checkpoint.digest)
    assert loaded.record == {"cells": {"Immune: CD3": 12}, "note": None}
    assert not loaded.network.training


def test_saving_what_was_loaded_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(folder), tmp_path / "again")

    assert contents(tmp_path / "again") == contents(folder)


def test_the_digest_tells_weights_and_configurations_apart() -> None:
    moved = replace(CONFIG, inference=replace(CONFIG.inference, thresholds=(0.3,)))

    digests = {trained().digest, trained(moved).digest, trained(seed=1).digest}

    assert len(digests) == 3
    assert trained().digest in digests


def test_loading_draws_no_random_number_of_the_callers(folder: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    load_checkpoint(folder)

    assert torch.rand(1) == expected


def test_loading_takes_no_computer_algebra_which_would_double_its_time(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tissuemodel.checkpoint import load_checkpoint; "
        "load_checkpoint(Path(sys.argv[1])); print('sympy' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(folder)]

    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_a_loaded_network_can_be_trained_further(folder: Path) -> None:
    network = load_checkpoint(folder).network.train()

    network(torch.randn(1, 3, 8, 8)).heat[0].sum().backward()

    assert all(parameter.grad is not None for parameter in network.encoder.parameters())


# ---- Damaged files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.25, 0.5, 0.9, 1.0])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: min(int(share * len(content)), len(content) - 1)])

    assert str(folder) in refusal(folder)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named_with_the_cure(folder: Path, name: str) -> None:
    (folder / name).unlink()

    message = refusal(folder)

    assert str(folder / name) in message
    assert "cannot be read" in message
    assert "--model wants a folder that `train` wrote" in message
    assert "not JSON" not in message


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_folder_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()

    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize("name", ["missing", "model\0", "n" * 10_000, "..", "line\nbreak"])
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, name: str) -> None:
    assert CONFIG_FILE in refusal(tmp_path / name)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")

    assert str(path) in refusal(path)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_a_flipped_bit_of_the_weights_is_found(folder: Path, place: float) -> None:
    content = bytearray((folder / WEIGHTS_FILE).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(content)

    assert "were changed" in refusal(folder)


def test_weights_of_another_model_of_the_same_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(trained(seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS_FILE, folder / WEIGHTS_FILE)

    assert "do not belong together" in refusal(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"[]",
        b"1",
        b"null",
        b'"model"',
        b"9" * 10_000,
        b"{}",
        b'{"format": 2}',
        b'{"format": "1"}',
        b'{"format": 1}',
        b'{"format": 1, "config": [], "name": "", "digest": "", "weights_sha256": ""}',
        b'{"format": 1, "config": {}, "name": "", "digest": "", "weights_sha256": ""}',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_json_that_is_no_model_of_this_format_is_refused(folder: Path, text: bytes) -> None:
    (folder / CONFIG_FILE).write_bytes(text)

    assert str(folder / CONFIG_FILE) in refusal(folder)


def test_a_configuration_too_large_to_be_one_is_not_read(folder: Path) -> None:
    with (folder / CONFIG_FILE).open("r+b") as file:
        file.truncate(MAX_CONFIG_BYTES + 1)

    assert f"{MAX_CONFIG_BYTES + 1} bytes" in refusal(folder)


# ---- Changed by hand -----------------------------------------------------------------------------------


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    about = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    change(about)
    (folder / CONFIG_FILE).write_text(json.dumps(about), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about["config"]["inference"].update(thresholds=[0.31]),
        lambda about: about["config"].update(pixel_size_um=0.25),
        lambda about: about["config"].update(cell_classes=["Immune: CD8"]),
        lambda about: about["config"].update(region_classes=["Stroma", "Tumor"]),
        lambda about: about.update(digest="0" * 64),
        lambda about: about.update(weights_sha256="0" * 64),
    ],
)
def test_a_value_changed_by_hand_is_found(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder, change)

    assert "were changed" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda about: about["config"].update(spline=3), "spline"),
        (lambda about: about["config"].pop("pixel_size_um"), "pixel_size_um"),
        (lambda about: about["config"].update(pixel_size_um="wide"), "pixel_size_um"),
        (lambda about: about["config"].update(network=None), "network"),
        (lambda about: about.pop("digest"), "digest"),
        (lambda about: about.update(record=7), "configuration"),
        (lambda about: about.pop("about_sha256"), "about_sha256"),
        (lambda about: about["record"].update(cells={}), "name or record were changed"),
        (lambda about: about.update(name="other"), "name or record were changed"),
    ],
)
def test_a_configuration_of_another_version_says_which_field(
    folder: Path, change: Callable[[dict[str, Any]], object], fragment: str
) -> None:
    edit(folder, change)

    message = refusal(folder)

    assert str(folder / CONFIG_FILE) in message
    assert fragment in message
    assert "\n" not in message


# ---- Made up: the digests are right, the content is not -----------------------------------------------


def forge(folder: Path, weights: bytes, **config: object) -> None:
    """A model whose digests are right, as a program that means harm would write it."""
    about = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    for key, value in config.items():
        place = about["config"]
        *parents, last = key.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    (folder / WEIGHTS_FILE).write_bytes(weights)
    about["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    about["digest"] = model_digest(weights, ModelConfig.from_dict(about["config"]))
    (folder / CONFIG_FILE).write_text(json.dumps(about), encoding="utf-8")


def weights_of(folder: Path) -> bytes:
    return (folder / WEIGHTS_FILE).read_bytes()


def test_a_forged_model_with_nothing_wrong_loads(folder: Path) -> None:
    forge(folder, weights_of(folder), inference__thresholds=[0.4])

    assert load_checkpoint(folder).config.inference.thresholds == (0.4,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(folder: Path, bad: float) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors["cells.heads.0.bias"][0] = bad
    forge(folder, save(tensors))

    message = refusal(folder)

    assert str(folder / WEIGHTS_FILE) in message
    assert "cells.heads.0.bias holds NaN or infinity" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("cells.heads.0.bias"),
        lambda tensors: tensors.update(extra=torch.zeros(3)),
        lambda tensors: tensors.update({"cells.heads.0.bias": torch.zeros(2)}),
        lambda tensors: tensors.update({"cells.heads.0.bias": torch.zeros(1, 1)}),
        lambda tensors: tensors.update({"cells.heads.0.bias": torch.zeros(1, dtype=torch.int64)}),
        lambda tensors: tensors.update({"cells.heads.0.bias": torch.zeros(1, dtype=torch.float16)}),
        lambda tensors: tensors.clear(),
    ],
    ids=["key missing", "key too many", "longer", "other shape", "integers", "half precision", "empty"],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    change(tensors)
    forge(folder, save(tensors))

    assert f"{folder / WEIGHTS_FILE}: the weights do not fit" in refusal(folder)


def test_weights_for_other_classes_are_refused(folder: Path) -> None:
    forge(folder, weights_of(folder), region_classes=["Tumor", "Stroma", "Necrosis"])

    assert "do not fit the model's classes" in refusal(folder)


def test_a_network_far_larger_than_its_weights_is_refused_before_it_is_built(folder: Path) -> None:
    forge(folder, weights_of(folder), network__widths=[2048] * 7)

    assert "do not fit" in refusal(folder)


def safetensors_header(header: bytes, size: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"1234567",
        safetensors_header(b"{}", size=1 << 60),
        safetensors_header(b"{}", size=(1 << 64) - 1),
        safetensors_header(b"not JSON"),
        safetensors_header(b"[" * 50_000),
        safetensors_header(b'{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}', data=bytes(4)),
        safetensors_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1000]}}', data=bytes(4)),
        safetensors_header(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}'),
        safetensors_header(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            b'"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
            data=bytes(12),
        ),
        safetensors_header(b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', data=bytes(1)),
    ],
    ids=[
        "empty", "seven bytes", "header 2^60", "header 2^64", "no JSON", "deep", "unknown type",
        "storage-size lie", "overflow", "overlap", "type without torch",
    ],
)  # fmt: skip
def test_a_file_that_is_no_safetensors_is_refused(folder: Path, weights: bytes) -> None:
    forge(folder, weights)

    assert str(folder / WEIGHTS_FILE) in refusal(folder)


@pytest.mark.parametrize("kind", ["raw", "torch zip", "torch legacy", "whole module"])
def test_a_pickle_is_refused_and_never_run(folder: Path, tmp_path: Path, kind: str) -> None:
    trap, pickled = tmp_path / "executed", tmp_path / "pickle"
    payload: object = build_network(CONFIG) if kind == "whole module" else Payload(trap)
    if kind == "raw":
        pickled.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, pickled, _use_new_zipfile_serialization=kind != "torch legacy")
    forge(folder, pickled.read_bytes())

    assert "not a safetensors file" in refusal(folder)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"inference__thresholds": [0.3, 0.3]}, "inference.thresholds"),
        ({"targets__diameters_um": []}, "targets.diameters_um"),
        ({"inference__thresholds": [math.nan]}, "inference.thresholds"),
        ({"inference__floor": math.inf}, "inference.floor"),
        ({"targets__diameters_um": [0.0]}, "targets.diameters_um"),
        ({"inference__min_distance_um": [1e9]}, "inference.min_distance_um"),
        ({"inference__cross_class_radius_um": math.nan}, "inference.cross_class_radius_um"),
        ({"pixel_size_um": math.nan}, "pixel_size_um"),
        ({"pixel_size_um": 0.0}, "pixel_size_um"),
        ({"pixel_size_um": -0.5}, "pixel_size_um"),
        ({"std": [50.0, math.nan, 50.0]}, "std"),
        ({"std": [50.0, 0.0, 50.0]}, "std"),
        ({"mean": [127.0, 256.0, 127.0]}, "mean"),
        ({"network__widths": [8]}, "network.widths"),
        ({"network__widths": [8, -8]}, "network.widths"),
        ({"network__widths": [8] * 40}, "network.widths"),
        ({"region_classes": ["Tumor", "Tumor"]}, "region_classes"),
        ({"region_classes": [f"{i}" for i in range(255)]}, "region_classes"),
        (
            {
                "region_classes": [],
                "cell_classes": [],
                "targets__diameters_um": [],
                "inference__thresholds": [],
                "inference__min_distance_um": [],
            },
            "cell_classes",
        ),
        ({"augmentation__mirror": 1.5}, "augmentation.mirror"),
        ({"augmentation__rotation": math.nan}, "augmentation.rotation"),
        ({"augmentation__density_jitter": -0.1}, "augmentation.density_jitter"),
        ({"augmentation__gain_jitter": 1.1}, "augmentation.gain_jitter"),
        ({"augmentation__stain_jitter": math.inf}, "augmentation.stain_jitter"),
        ({"augmentation__elastic_um": -1.0}, "augmentation.elastic_um"),
        ({"augmentation__elastic_spacing_um": 0.0}, "augmentation.elastic_spacing_um"),
        ({"loss__gamma": -1.0}, "loss.gamma"),
        ({"loss__region_weights": [1.0]}, "loss.region_weights"),
        ({"loss__cell_weights": [0.0]}, "loss.cell_weights"),
        ({"loss__weight_cap": 0.5}, "loss.weight_cap"),
        ({"training__learning_rate": 0.0}, "training.learning_rate"),
        ({"training__batch_size": 0}, "training.batch_size"),
        ({"training__crop_px": 33}, "training.crop_px"),
        ({"training__epochs": 0}, "training.epochs"),
        ({"training__minutes": 0.0}, "training.minutes"),
        ({"training__steps": -1}, "training.steps"),
        ({"training__seed": -1}, "training.seed"),
        ({"training__gradient_clip": 0.0}, "training.gradient_clip"),
        ({"training__early_stop": 0}, "training.early_stop"),
        ({"training__weight_average": 1.0}, "training.weight_average"),
        ({"training__devices": 0}, "training.devices"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_values_that_no_training_writes_are_named(folder: Path, values: dict[str, object], key: str) -> None:
    forge(folder, weights_of(folder), **values)

    message = refusal(folder)

    assert f"{folder / CONFIG_FILE}: impossible values (what is allowed): {key} (" in message


def test_no_elastic_deformation_needs_no_spacing(folder: Path) -> None:
    forge(folder, weights_of(folder), augmentation__elastic_um=0.0, augmentation__elastic_spacing_um=0.0)

    assert load_checkpoint(folder).config.augmentation.elastic_spacing_um == 0


# ---- Saving --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "error"), [({"ap": math.nan}, ValueError), ({"path": Path("x")}, TypeError)]
)
def test_a_record_that_is_no_json_leaves_the_old_model(
    folder: Path, record: dict[str, object], error: type[Exception]
) -> None:
    before = contents(folder)

    with pytest.raises(error):
        save_checkpoint(replace(trained(seed=1), record=record), folder)

    assert contents(folder) == before


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_disk_that_fails_leaves_the_old_model_and_no_temporary_file(
    folder: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    calls = 0

    def failing_sync(_descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", failing_sync)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(trained(seed=1), folder)

    assert contents(folder) == before


def test_a_model_replaces_the_one_before_and_leaves_two_files(folder: Path) -> None:
    save_checkpoint(trained(seed=1), folder)

    assert sorted(contents(folder)) == [CONFIG_FILE, WEIGHTS_FILE]
    assert load_checkpoint(folder).digest == trained(seed=1).digest
