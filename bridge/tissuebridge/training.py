"""From an annotated project to a trained model: what was found, what is learnt from, the checkpoint, its card.

The way of the data: project -> annotations -> classes -> examples (`training_set`) -> training -> checkpoint.
torch is imported only when training begins.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tissuebridge.classes import ClassMap
from tissuebridge.errors import Conflict, ModelError, StorageError, UsageError
from tissuebridge.files import atomic_write, not_ours, storage_error
from tissuebridge.learnable import TrainingSummary, check_learnable
from tissuebridge.lock import locked
from tissuebridge.model_card import CARD_FILE, model_card
from tissuebridge.project.base import Project
from tissuebridge.settings import with_settings
from tissuebridge.splits import SplitOptions, write_splits
from tissuebridge.tiles import halo_px
from tissuebridge.training_record import record_of
from tissuebridge.training_set import CELL_DIAMETER_UM, MIN_DISTANCE_UM, TrainingSet, build_training_set
from tissuemodel.config import NetworkConfig
from tissuemodel.saved_model import CONFIG_FILE, CheckpointError

if TYPE_CHECKING:
    from tissuemodel.config import ModelConfig, TrainingConfig
    from tissuemodel.course import Log, Reports
    from tissuemodel.training import Trained

LOG_FILE: Final = "training.csv"
STATE_FILE: Final = "training.safetensors"
"""Where an unfinished training stands; gone when it is finished."""
TENSORBOARD_FOLDER: Final = "tensorboard"

PRESET_NAMES: Final = ("compact", "paper")
"""The keys of `tissuemodel.training.PRESETS`, which takes torch to import."""

Numbers = Mapping[str, float | int | None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What a person may choose about a training.

    Attributes:
        preset: "paper" or "compact".
        minutes: Train about this long.
        epochs: Train this many passes instead; exact repetition is promised only for these.
        seed: Seed of weights, crops and augmentation; None: the settings', else 0.
        class_map: Roles, aliases and priorities of classes.
        settings: From `settings.read_settings`: every option of the method. What is named here counts more.
        splitting: How images are split where the project does not say.
        devices: Processes (on GPUs, or on a CPU) that train together; None: the settings', else 1.
        tensorboard: Whether to write curves for TensorBoard too.
        restart: Begin anew where an unfinished training is in the way.
    """

    preset: str = "compact"
    minutes: float | None = None
    epochs: int | None = None
    seed: int | None = None
    class_map: ClassMap | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    splitting: SplitOptions = field(default_factory=SplitOptions)
    devices: int | None = None
    tensorboard: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training tells what it does; each may raise to stop it.

    Attributes:
        found: Called with what was found before anything is learnt, and with what is done besides.
        step: Called after each step with (steps done, steps in all, the step's losses and both sigmas).
    """

    found: Callable[[str], None] = lambda _text: None
    step: Callable[[int, int, Numbers], None] = lambda _done, _steps, _numbers: None


def train(
    project: Project, output: Path, options: TrainingOptions, progress: Progress | None = None
) -> dict[str, Any]:
    """Trains a network on a project's annotations and writes its checkpoint, card, log and splits.

    An unfinished training of the same data and settings in the output folder goes on where it stopped.

    Args:
        project: Images with annotations.
        output: Folder for `model.safetensors`, `model.json` and what tells about them.
        options: Preset, length, seed, class map, settings.
        progress: Told of what was found and of each step.

    Returns:
        What was done, as plain JSON values: classes, images, steps, thresholds, digest, paths; "interrupted" says
        whether somebody stopped it before its end.

    Raises:
        AnnotationError: There is nothing to learn, or a class is ambiguous or cannot be learnt.
        CalibrationError: An image has no pixel size.
        Conflict: An unfinished training of other data or settings is in the way, or another one is under way there.
        GeoJSONError: An annotation file is damaged.
        ImageError: An image cannot be read.
        ModelError: The loss became NaN or infinite, or the unfinished training is damaged.
        StorageError: The checkpoint, the log or the state cannot be written.
        UsageError: A setting is impossible for these classes.
    """
    check_writable(output)
    with locked(output, "a training"):
        return _trained(project, output, options, progress or Progress())


def _trained(project: Project, output: Path, options: TrainingOptions, progress: Progress) -> dict[str, Any]:
    """Trains in a folder that nobody else writes."""
    from tissuemodel.calibration import choose_detection
    from tissuemodel.training import prepare, train_network

    _refuse_a_persons_files(output)
    training_set = found_for(project, options, progress)
    config = prepare(model_config(training_set, options), training_set.train)
    if options.restart:
        (output / STATE_FILE).unlink(missing_ok=True)
    with _own_errors(output):
        trained = train_network(
            training_set.train, config, _reports(output, options, progress), training_set.validation
        )
    chosen = choose_detection(trained.network, trained.config, training_set.validation or training_set.train)
    return _written(project, output, options, training_set, replace(trained, config=chosen))


def found_for(project: Project, options: TrainingOptions, progress: Progress) -> TrainingSet:
    """Reads what there is to learn from, tells it, and refuses what cannot be learnt.

    Raises:
        AnnotationError: There is nothing to learn, or a class is ambiguous or cannot be learnt.
        CalibrationError: An image has no pixel size.
    """
    training_set = build_training_set(
        project,
        options.class_map,
        own_statistics=options.settings.get("normalisation") == "image",
        splitting=replace(options.splitting, gap_px=_gap_px(options)),
        cell_diameter_um=_widest_cell_um(options),
    )
    progress.found(
        f"{training_set.found.table()}\n\n{training_set.summary.table()}\n\n{_split_told(training_set)}\n"
    )
    check_learnable(training_set.summary)
    return training_set


def _gap_px(options: TrainingOptions) -> int:
    """How far the network looks: nearer to what it learnt from it has seen what it is validated on."""
    from tissuemodel.training import PRESETS

    widths = options.settings.get("network", {}).get("widths", ())
    if not 2 <= len(widths) <= 7:  # the preset's; what is impossible is refused in its own place
        widths = PRESETS[options.preset][0].widths
    network = NetworkConfig(tuple(widths))
    return halo_px(network.reach, (), network.stride)


def _widest_cell_um(options: TrainingOptions) -> float:
    given = options.settings.get("targets", {}).get("diameters_um", CELL_DIAMETER_UM)
    widest: float = max(CELL_DIAMETER_UM, *(given.values() if isinstance(given, dict) else [given]))
    return widest


def _split_told(training_set: TrainingSet) -> str:
    """How images were split, and which classes are not validated."""
    told, labels = training_set.split.how, training_set.classes.labels
    if not training_set.validation:
        return told
    held_out = TrainingSummary.of(training_set.validation, labels, training_set.pixel_size_um)
    missing = [name for name, region in held_out.regions.items() if not region.area_um2]
    missing += [name for name, cell in held_out.cells.items() if not cell.marked]
    return f"{told}\nnot among the validation images: {', '.join(missing)}" if missing else told


def model_config(training_set: TrainingSet, options: TrainingOptions) -> ModelConfig:
    """The configuration of the model that is going to be trained.

    Raises:
        UsageError: A setting is impossible for these classes.
    """
    from tissuemodel.config import InferenceConfig, ModelConfig, TargetConfig
    from tissuemodel.training import PRESETS

    network, plan = PRESETS[options.preset]
    labels = training_set.classes.labels
    cells = len(labels.cells)
    config = ModelConfig(
        region_classes=labels.regions,
        cell_classes=labels.cells,
        colors=labels.colors,
        pixel_size_um=training_set.pixel_size_um,
        network=network,
        training=plan,
        targets=TargetConfig(diameters_um=(CELL_DIAMETER_UM,) * cells),
        inference=InferenceConfig(
            min_distance_um=(MIN_DISTANCE_UM,) * cells, cross_class_radius_um=MIN_DISTANCE_UM
        ),
    )
    config = with_settings(config, options.settings)
    return replace(config, training=_with_options(config.training, options))


def _with_options(plan: TrainingConfig, options: TrainingOptions) -> TrainingConfig:
    """What was named beside the settings counts more than they do; of lengths the one that was named."""
    if options.minutes is not None or options.epochs is not None:
        plan = replace(plan, steps=None, minutes=options.minutes, epochs=options.epochs or plan.epochs)
    seed = plan.seed if options.seed is None else options.seed
    return replace(plan, seed=seed, devices=options.devices or plan.devices)


def check_writable(folder: Path) -> None:
    """Finds out before the work, not after it, that a folder cannot be written.

    Raises:
        StorageError: It cannot.
    """
    probe = folder / ".tissuebridge-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written ({error.strerror}); choose another --output"
        ) from error


def _refuse_a_persons_files(output: Path) -> None:
    """An images' folder may hold files of the names that a model's files have.

    Raises:
        Conflict: One of them is not ours.
    """
    from tissuemodel.training_log import COLUMNS

    for name, ours in ((CONFIG_FILE, b'"weights_sha256"'), (LOG_FILE, ",".join(COLUMNS[:3]).encode())):
        path = output / name
        if path.is_file() and ours not in path.read_bytes():
            raise not_ours(path)


# ---- While it trains --------------------------------------------------------------------------------------


def _reports(output: Path, options: TrainingOptions, progress: Progress) -> Reports:
    from tissuemodel.course import Reports
    from tissuemodel.training_log import TensorBoardLog, TrainingLog

    def open_logs(after: int | None) -> Sequence[Log]:
        if after is not None:
            progress.found(f"going on after step {after} of an unfinished training in {output}")
        logs: list[Log] = [TrainingLog(output / LOG_FILE, append_after=after)]
        if options.tensorboard:
            logs.append(TensorBoardLog(output / TENSORBOARD_FOLDER, append_after=after))
        return logs

    return Reports(progress.step, open_logs, output / STATE_FILE)


@contextmanager
def _own_errors(output: Path) -> Iterator[None]:
    """What can go wrong in a training, told with the cure."""
    from tissuemodel.resume import ResumeError

    try:
        yield
    except ResumeError as error:
        raise Conflict(
            f"{error}. Give its own command again to finish it, add --restart to begin anew, or choose another --output"
        ) from error
    except CheckpointError as error:
        raise ModelError(f"{error}; --restart does both") from error
    except ArithmeticError as error:
        raise ModelError(f"{output}: {error} (training.learning_rate in --settings)") from error
    except ImportError as error:
        raise UsageError(f"--tensorboard: {error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise storage_error(output, error) from error


# ---- When it is over --------------------------------------------------------------------------------------


def _written(
    project: Project, output: Path, options: TrainingOptions, training_set: TrainingSet, trained: Trained
) -> dict[str, Any]:
    """Writes the model and what tells about it; an interrupted training's state stays for the next time."""
    from tissuemodel.checkpoint import make_checkpoint, save_checkpoint

    record = record_of(project, options.preset, training_set, trained)
    checkpoint = make_checkpoint(output.resolve().name, trained.config, trained.network, record)
    try:
        write_splits(output, training_set.split)
        save_checkpoint(checkpoint, output)
        with atomic_write(output / CARD_FILE) as file:
            file.write(model_card(checkpoint.about()).encode())
        if not trained.is_interrupted:
            (output / STATE_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(output, error) from error
    return {
        "model": str(output),
        "digest": checkpoint.digest,
        "steps": trained.config.training.steps,
        "thresholds": dict(
            zip(trained.config.cell_classes, trained.config.inference.thresholds, strict=True)
        ),
        **record,
    }
