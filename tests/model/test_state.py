"""The state of a training comes back as it was, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as pack

from tissuemodel import state
from tissuemodel.saved_model import CheckpointError
from tissuemodel.state import TrainingState, load_state, save_state

STATE = TrainingState(
    {
        "weights": torch.arange(6.0).reshape(2, 3).T,
        "step": torch.tensor(7),
        "empty": torch.zeros(0, 2),
        "flags": torch.tensor([True, False]),
    },
    {"step": 7, "seconds": 1.25, "config": {"widths": [4, 8], "name": "Tumör"}},
)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_state(STATE, tmp_path / "new" / "state")

    found = load_state(tmp_path / "new" / "state")

    assert found.about == STATE.about
    assert found.tensors.keys() == STATE.tensors.keys()
    for name, tensor in STATE.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / ".tissuebridge-state-0123456789abcdef.tmp").write_bytes(b"of a killed saver")
    save_state(STATE, tmp_path / "state")
    save_state(TrainingState({}, {"step": 8}), tmp_path / "state")

    assert load_state(tmp_path / "state").about == {"step": 8}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_saved_and_the_old_state_stays(tmp_path: Path, value: float) -> None:
    save_state(STATE, tmp_path / "state")

    with pytest.raises(ValueError, match="weights holds NaN"):
        save_state(TrainingState({"weights": torch.tensor([1.0, value])}, {}), tmp_path / "state")
    with pytest.raises(ValueError, match="JSON"):
        save_state(TrainingState({}, {"loss": value}), tmp_path / "state")

    assert load_state(tmp_path / "state").about == STATE.about


def test_a_failing_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(STATE, tmp_path / "state")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tissuemodel.atomic.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            save_state(TrainingState({}, {"step": 8}), tmp_path / "state")

    assert load_state(tmp_path / "state").about == STATE.about
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_state_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "state"
    save_state(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(CheckpointError, match="train from the start"):
        load_state(path)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(STATE, path)
    content = path.read_bytes()

    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            load_state(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05cos\nsystem\n(S'true'\ntR.",
        b"PK\x03\x04 not a zip",
        (1 << 60).to_bytes(8, "little") + b"{}",
        pack({"weights": torch.zeros(2)}),
        pack({"weights": torch.zeros(2)}, metadata={"format": "another", "about": "{}", "sha256": ""}),
        json.dumps({"__metadata__": {}}).encode(),
    ],
)
def test_other_files_are_no_states(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)

    with pytest.raises(CheckpointError, match="delete it"):
        load_state(tmp_path / "state")


def test_a_missing_and_a_too_large_state_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        load_state(tmp_path / "state")
    save_state(STATE, tmp_path / "state")
    monkeypatch.setattr(state, "MAX_STATE_BYTES", 10)

    with pytest.raises(CheckpointError, match="more than the 10"):
        load_state(tmp_path / "state")
