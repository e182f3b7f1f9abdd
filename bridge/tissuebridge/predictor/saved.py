"""A saved model as the engine sees it, before its network is built: no torch is needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tissuebridge.errors import ModelError
from tissuebridge.predictor.base import ModelDescription
from tissuemodel.colours import COLOURS_KEY
from tissuemodel.saved_model import CheckpointError, SavedModel, read_model

if TYPE_CHECKING:
    from tissuemodel.checkpoint import Checkpoint


def read_saved(folder: Path) -> SavedModel:
    """Reads a model folder.

    Raises:
        ModelError: It is missing, damaged or tampered with.
    """
    try:
        return read_model(folder)
    except CheckpointError as error:
        raise ModelError(str(error)) from error


def describe(model: SavedModel | Checkpoint) -> ModelDescription:
    """What the engine must know of a model."""
    config, inference = model.config, model.config.inference
    return ModelDescription(
        name=model.name,
        digest=model.digest,
        region_classes=config.region_classes,
        cell_classes=config.cell_classes,
        colors=dict(config.colors),
        pixel_size_um=config.pixel_size_um,
        stride=config.network.stride,
        reach=config.network.reach,
        pad_value=config.pad_value,
        cell_diameters_um=config.targets.diameters_um,
        min_distance_um=inference.min_distance_um,
        thresholds=inference.thresholds,
        floor=inference.floor,
        cross_class_radius_um=inference.cross_class_radius_um,
        mode_filter=inference.mode_filter,
        normalises_each_image=config.normalisation == "image",
        usual_colours=str(model.record.get(COLOURS_KEY, "")),
    )
