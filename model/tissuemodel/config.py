"""Everything a person may choose about a model, as frozen values that are kept in its checkpoint.

Comes in from the CLI and from `model.json`, is read by `network`, `losses`, `training` and `inference`.
Sizes in um unless the name says px.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from tissuemodel.labels import ChannelStatistics


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The network's shape (paper, Fig. 4).

    Attributes:
        widths: Channels at each level of the encoder; the stride is 2 ** (len(widths) - 1).
        heat_activation: "linear" is the paper's regression; "sigmoid" bounds the heat maps.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    widths: tuple[int, ...] = (24, 48, 96, 192, 384)
    heat_activation: Literal["linear", "sigmoid"] = "linear"

    @property
    def stride(self) -> int:
        """Image sizes the network takes are multiples of it."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def reach(self) -> int:
        """How many pixels away an input pixel can still change an output pixel: the halo of tiles follows from it.

        Each level doubles what the levels below it reach, and its own convolutions add 7. Coarser scales, where they
        are fused, look no farther than the finest. Tests measure it on networks of two to six levels.

        >>> NetworkConfig().reach, NetworkConfig((16, 32, 64, 128)).reach
        (137, 65)
        """
        return 9 * self.stride - 7


@dataclass(frozen=True, slots=True)
class TargetConfig:
    """How annotations become targets (METHOD, "Annotations to targets").

    Attributes:
        diameters_um: Full width at half maximum of the Gaussian of each cell class, in the order of the classes.
        heat_pooling: "max" keeps peaks at 1 (IV-C); "sum" is the paper's IV-F.1 and leaves [0, 1].
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    diameters_um: tuple[float, ...] = ()
    heat_pooling: Literal["max", "sum"] = "max"


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Equations 3 to 6.

    Attributes:
        gamma: Focal loss's focusing parameter (eq. 4).
        region_weights: One for each region class; empty before training: inverse frequency, capped, mean 1.
        cell_weights: One for each cell class, likewise.
        weight_cap: No class weighs more than this times the lightest.
        weighting: "uncertainty" learns both tasks' weights (eq. 5); "fixed" keeps sigma at 1.
        deep_supervision: Sum over all scales (eq. 6); otherwise only full size counts.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    gamma: float = 2.0
    region_weights: tuple[float, ...] = ()
    cell_weights: tuple[float, ...] = ()
    weight_cap: float = 10.0
    weighting: Literal["uncertainty", "fixed"] = "uncertainty"
    deep_supervision: bool = True


@dataclass(frozen=True, slots=True)
class AugmentationConfig:
    """How crops are varied, so that a few annotations go a long way (METHOD, "Annotations to targets").

    Attributes:
        mirror: Probability of a mirror image.
        rotation: Probability of a rotation by 90, 180 or 270 degrees.
        density_jitter: The optical density of each channel is scaled by up to this fraction.
        gain_jitter: The brightness of each channel is scaled by up to this fraction, as lamps and white balances do.
        stain_jitter: The densities of hematoxylin, eosin and DAB are scaled by up to this fraction.
        elastic_um: Standard deviation of the elastic displacement; more than a fifteenth of the spacing would fold the
            tissue and is cut to that. 0 for none, as for each of these.
        elastic_spacing_um: Distance of the points between which the displacement is interpolated.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mirror: float = 0.5
    rotation: float = 0.5
    density_jitter: float = 0.25
    gain_jitter: float = 0.06
    stain_jitter: float = 0.15
    elastic_um: float = 1.0
    elastic_spacing_um: float = 16.0


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How the network is trained.

    Attributes:
        learning_rate: Adam's, at the start of the cosine.
        batch_size: Crops a step.
        crop_px: Side of a crop in px of the model's grid.
        epochs: Passes over the training set; the paper's 400.
        minutes: Trains this long instead; the cosine follows the time.
        steps: Trains this many steps, whatever else is said; recorded by every training.
        seed: Seed of weights, crops and augmentation.
        precision: "auto" is the fastest that the hardware has; a training records what it used.
        gradient_clip: Longer gradients are cut to this norm; None: never.
        early_stop: Stop after this many epochs in which the validation loss did not fall; None: never.
        weight_average: Decay per step of the exponential moving average of the weights that is kept instead of the
            last ones; None: the last ones.
        devices: Processes that train together, each with `batch_size` crops a step.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    learning_rate: float = 1e-4
    batch_size: int = 4
    crop_px: int = 1024
    epochs: int = 400
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_clip: float | None = 1.0
    early_stop: int | None = None
    weight_average: float | None = None
    devices: int = 1


@dataclass(frozen=True, slots=True)
class InferenceConfig:
    """What is done with the network's maps.

    Attributes:
        fusion: Multiply the region probabilities of all scales (MF).
        cell_fusion: Geometric mean of the heat maps of all scales; the paper does not fuse cells. Scores are then
            other numbers: choose the thresholds with it.
        mode_filter: Smooth the regions by the 3x3 majority.
        min_distance_um: A peak is the maximum of the disc of this radius; one for each cell class.
        thresholds: A cell counts from this score; one for each cell class.
        floor: Candidates below are not kept.
        cross_class_radius_um: Of two cells of different classes within it the higher score stays; None: both.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    fusion: bool = True
    cell_fusion: bool = False
    mode_filter: bool = True
    min_distance_um: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()
    floor: float = 0.1
    cross_class_radius_um: float | None = 2.5


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The whole of it: what `model.json` keeps beside the weights.

    Attributes:
        region_classes: Names in order of priority.
        cell_classes: Names.
        colors: Class name to (red, green, blue).
        pixel_size_um: Pixel size of the model's grid.
        normalisation: "dataset" subtracts the training pixels' statistics from every image, "image" each image's own.
        mean: Channel means of the training pixels, in 0..255.
        std: Channel standard deviations, in 0..255.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    region_classes: tuple[str, ...]
    cell_classes: tuple[str, ...]
    colors: dict[str, tuple[int, int, int]]
    pixel_size_um: float
    normalisation: Literal["dataset", "image"] = "dataset"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (50.0, 50.0, 50.0)
    network: NetworkConfig = NetworkConfig()
    targets: TargetConfig = TargetConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    @property
    def statistics(self) -> ChannelStatistics:
        """What pixels are normalised by.

        Raises:
            ValueError: Each image has its own; ask `for_image` first.
        """
        if self.normalisation == "image":
            raise ValueError(
                "the model normalises each image by its own statistics: say which, with for_image"
            )
        return ChannelStatistics(self.mean, self.std)

    @property
    def pad_value(self) -> tuple[int, int, int]:
        """The fixed RGB value that stands for pixels outside an image (`ChannelStatistics.pad_value`)."""
        return ChannelStatistics(self.mean, self.std).pad_value

    def for_image(self, statistics: ChannelStatistics | None) -> ModelConfig:
        """The configuration with an image's own statistics in place of its option, where it has that option.

        Args:
            statistics: Of the whole image; is only looked at where each image is normalised by its own.

        Raises:
            ValueError: They are needed and None.

        >>> config = ModelConfig(("Tumor",), (), {}, 0.5, normalisation="image")
        >>> config.for_image(ChannelStatistics((200, 150, 180), (30, 40, 20))).statistics.mean
        (200, 150, 180)
        """
        if self.normalisation == "dataset":
            return self
        if statistics is None:
            raise ValueError("the model normalises each image by its own statistics, and they are missing")
        return replace(self, normalisation="dataset", mean=statistics.mean, std=statistics.std)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        >>> config = ModelConfig(("Tumor",), (), {}, 0.5)
        >>> ModelConfig.from_dict(config.to_dict()) == config
        True
        """
        return dict(_ADAPTER.dump_python(self, mode="json"))

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelConfig:
        """The configuration that `to_dict` wrote.

        Raises:
            pydantic.ValidationError: A field is missing, unknown or of another type.
        """
        return _ADAPTER.validate_python(values)


_ADAPTER = TypeAdapter(ModelConfig)
