"""What decides a proposal, as values and as the small TOML file beside the result.

Comes in from the command line or from a file that an earlier proposal wrote, and goes out again with everything filled
in that was found in the image (palette, stain vectors, noise, thresholds): so the same file gives the same proposal,
and a person can change a number in it and propose again.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tissuebridge.errors import UsageError
from tissuemodel.annotate.density import WHITE, Rgb
from tissuemodel.annotate.quantize import PaletteOptions
from tissuemodel.annotate.stains import KNOWN_STAINS, MAX_STAINS
from tissuemodel.annotate.wavelet import SpotOptions

MAX_BYTES: Final = 1 << 16

COUNTERSTAINS: Final = ("Hematoxylin", "Methyl green")
"""Stains that mark all nuclei."""
CHROMOGENS: Final = ("DAB", "Fast Red")
"""Stains by which nuclei are positive or negative; a nuclear marker hides the counterstain, so they mark nuclei too."""

_FORBID: Final = ConfigDict(extra="forbid")
_PALETTE: Final = PaletteOptions()
_SPOTS: Final = SpotOptions(levels=(1,))
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class RegionSettings:
    """How regions are proposed from colour; see `tissuemodel.annotate.quantize`.

    Attributes:
        pixel_size_um: Of the map; 0: chosen for the image, 2 to 8 um.
        split_above: A colour with a larger standard deviation (Delta E) is split.
        merge_below: Two colours are merged up to this cost (Delta E).
        max_colours: No more splitting from here on.
        min_area_um2: Smaller regions join what surrounds them.
        max_hole_um2: Smaller holes are filled.
        palette: The colours (CIELAB), in the order of their numbers; empty: found in the image.
    """

    __pydantic_config__: ClassVar = _FORBID

    pixel_size_um: float = 0.0
    split_above: float = _PALETTE.split_above
    merge_below: float = _PALETTE.merge_below
    max_colours: int = _PALETTE.max_colours
    min_area_um2: float = 500.0
    max_hole_um2: float = 500.0
    palette: tuple[Triple, ...] = ()

    def __post_init__(self) -> None:
        PaletteOptions(self.split_above, self.merge_below, self.max_colours)
        _need(
            self.pixel_size_um == 0 or 0.1 <= self.pixel_size_um <= 100,
            "pixel_size_um is 0.1 to 100, or 0 to choose one for the image",
        )
        for name in ("min_area_um2", "max_hole_um2"):
            _need(0 <= getattr(self, name) < math.inf, f"{name} is at least 0")
        _need(len(self.palette) <= 254, "palette has at most 254 colours")
        _need(
            all(0 <= light <= 100 and max(abs(a), abs(b)) <= 128 for light, a, b in self.palette),
            "palette has CIELAB colours: lightness 0 to 100, a and b -128 to 128",
        )

    @property
    def in_short(self) -> str:
        """One line for the objects' metadata."""
        return (
            f"{len(self.palette)} colours at {self.pixel_size_um:g} µm, split above {self.split_above:g}, "
            f"merged below {self.merge_below:g}, from {self.min_area_um2:g} µm²"
        )


@dataclass(frozen=True, slots=True)
class CellSettings:
    """How nuclei are proposed from stain densities; see `tissuemodel.annotate`.

    Attributes:
        pixel_size_um: At which nuclei are looked for; a coarser image is taken as it is.
        diameter_um: Of a typical nucleus.
        noise_factor: A wavelet coefficient counts from this many times its level's noise on.
        min_contrast: How much denser than its surroundings a nucleus is (natural optical density).
        stains: The stains' names; or how many there are, where nobody knows more.
        vectors: Optical density of each named stain; empty: learnt from the image.
        white: The colour of glass.
        nuclear: The stains whose densities together mark a nucleus; empty: those of `COUNTERSTAINS`
            that are there and those of `CHROMOGENS` that are named.
        positive: The stains that make a nucleus positive; empty: those of `CHROMOGENS` that are named.
        ring_um: Positive is measured in a ring of this width round the nucleus; 0: in the nucleus.
        thresholds: Density from which on a nucleus is positive, by stain; Otsu's where none is given.
        noise: Of each wavelet level; empty: measured.
        reconstruction_error: Found, never used: the part of the tissue's density that no mixture of the stains has.
    """

    __pydantic_config__: ClassVar = _FORBID

    pixel_size_um: float = 0.5
    diameter_um: float = 8.0
    noise_factor: float = _SPOTS.noise_factor
    min_contrast: float = _SPOTS.min_contrast
    stains: int | tuple[str, ...] = 2
    vectors: tuple[Triple, ...] = ()
    white: Rgb = WHITE
    nuclear: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    ring_um: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    noise: tuple[float, ...] = ()
    reconstruction_error: float | None = None

    def __post_init__(self) -> None:
        _need(0.05 <= self.pixel_size_um <= 10, "pixel_size_um is 0.05 to 10")
        _need(0.5 <= self.diameter_um <= 500, "diameter_um is 0.5 to 500")
        for name in ("noise_factor", "min_contrast"):
            _need(0 <= getattr(self, name) < math.inf, f"{name} is at least 0")
        _need(0 <= self.ring_um <= 50, "ring_um is 0 to 50")
        _need(all(1 <= value <= 255 for value in self.white), "white is red, green, blue, 1 to 255 each")
        _need(all(0 <= value < math.inf for value in self.noise), "noise is at least 0")
        _need(
            all(0 < value < math.inf for value in self.thresholds.values()), "thresholds are positive numbers"
        )
        self._check_stains()

    def _check_stains(self) -> None:
        if isinstance(self.stains, int):
            _need(2 <= self.stains <= MAX_STAINS, f"2 to {MAX_STAINS} stains can be learnt")
            _need(not self.vectors, "vectors need the stains' names: stains = [...]")
            return
        _need(
            1 <= len(self.stains) <= MAX_STAINS and len(set(self.stains)) == len(self.stains),
            f"stains are 1 to {MAX_STAINS} different names",
        )
        _need(not self.vectors or len(self.vectors) == len(self.stains), "each stain has one vector")
        for name in (*self.nuclear, *self.positive, *self.thresholds):
            _need(name in self.stains, f"{name!r} is none of the stains ({', '.join(self.stains)})")
        for name in self.stains if not self.vectors else ():
            known = ", ".join(KNOWN_STAINS)
            _need(name in KNOWN_STAINS, f"{name!r} is not known ({known} are); give its vector in vectors")

    @property
    def names(self) -> tuple[str, ...]:
        """The stains' names; none before they are learnt."""
        return () if isinstance(self.stains, int) else self.stains

    @property
    def in_short(self) -> str:
        """One line for the objects' metadata."""
        return (
            f"nuclei of {self.diameter_um:g} µm by {' + '.join(self.nuclear)} at {self.pixel_size_um:g} µm, "
            f"contrast from {self.min_contrast:g}, {self.noise_factor:g} x noise"
        )


@dataclass(frozen=True, slots=True)
class ProposalSettings:
    """What to propose and how.

    Attributes:
        regions: None: no regions.
        cells: None: no nuclei.
    """

    __pydantic_config__: ClassVar = _FORBID

    regions: RegionSettings | None = None
    cells: CellSettings | None = None

    def __post_init__(self) -> None:
        _need(self.regions is not None or self.cells is not None, "a table [regions] or [cells] is needed")

    @staticmethod
    def of_text(text: str) -> ProposalSettings:
        r"""Reads TOML as `as_text` writes it.

        Raises:
            UsageError: No TOML, an unknown setting, or a value of a wrong type or out of range; in one line.

        >>> ProposalSettings.of_text("[cells]\ndiameter_um = 6").cells.diameter_um
        6.0
        >>> ProposalSettings.of_text("[cells]\ndiameter = 6")
        Traceback (most recent call last):
            ...
        tissuebridge.errors.UsageError: cells.diameter: there is no such setting
        """
        try:
            tables = tomllib.loads(text)
            # JSON's rules are TOML's: a list may become a tuple and 1 become 1.0, but "1" and true are no numbers.
            return _ADAPTER.validate_json(json.dumps(tables), strict=True)
        except ValidationError as error:
            raise UsageError(_in_one_line(error)) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"this is not TOML: {error}") from error

    @staticmethod
    def read(path: Path) -> ProposalSettings:
        """Reads a parameter file.

        Raises:
            UsageError: It cannot be read or used; names file and setting.
        """
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise UsageError(f"more than {MAX_BYTES} bytes. Is it the parameter file?")
            return ProposalSettings.of_text(content.decode("utf-8-sig"))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}. Check the name.") from error
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: this is not UTF-8 text: {error}. Save it as UTF-8.") from error

    def with_missing(self, others: ProposalSettings) -> ProposalSettings:
        """These settings, with the others' table where they have none.

        >>> regions, cells = ProposalSettings(RegionSettings()), ProposalSettings(cells=CellSettings())
        >>> regions.with_missing(cells) == ProposalSettings(RegionSettings(), CellSettings())
        True
        """
        return ProposalSettings(self.regions or others.regions, self.cells or others.cells)

    def as_text(self) -> str:
        """The settings as TOML; reading it gives equal settings.

        >>> settings = ProposalSettings(cells=CellSettings(thresholds={"DAB": 0.25}, stains=("Hematoxylin", "DAB")))
        >>> ProposalSettings.of_text(settings.as_text()) == settings
        True
        """
        lines = []
        for table, value in (("regions", self.regions), ("cells", self.cells)):
            if value is not None:
                given = {name: part for name, part in asdict(value).items() if part not in ((), {}, None)}
                lines += [f"[{table}]", *(f"{name} = {_toml(part)}" for name, part in given.items()), ""]
        return "\n".join(lines)

    def digest(self) -> str:
        """A digest of what decides where regions and nuclei are: without thresholds, which only tell their class."""
        cells = self.cells and replace(self.cells, thresholds={}, reconstruction_error=None)
        return hashlib.sha256(replace(self, cells=cells).as_text().encode()).hexdigest()


_ADAPTER: Final = TypeAdapter(ProposalSettings)


def stains_of(text: str) -> CellSettings:
    """The stains that a person named: names of known ones, a number of unknown ones, or QuPath's own text.

    Args:
        text: "Hematoxylin,DAB", "3", or the JSON that QuPath's `setColorDeconvolutionStains` takes.

    Raises:
        UsageError: None of these, or impossible.

    >>> stains_of("Hematoxylin, DAB").stains
    ('Hematoxylin', 'DAB')
    >>> qupath = '{"Name": "H-DAB", "Stain 1": "Hematoxylin", "Values 1": "0.651 0.701 0.290", '
    >>> qupath += '"Stain 2": "DAB", "Values 2": "0.269 0.568 0.778", "Background": "255 250 255"}'
    >>> stains_of(qupath).vectors[1], stains_of(qupath).white
    ((0.269, 0.568, 0.778), (255, 250, 255))
    """
    try:
        if text.strip().isdecimal():
            return CellSettings(stains=int(text))
        if text.lstrip().startswith("{"):
            return _qupath_stains(json.loads(text))
        return CellSettings(stains=tuple(name.strip() for name in text.split(",") if name.strip()))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"stains {text[:60]!r}: {error}. Give names (Hematoxylin,DAB), how many (2), or the text in "
            "braces that QuPath's setColorDeconvolutionStains takes."
        ) from error


def _qupath_stains(stains: Mapping[str, str]) -> CellSettings:
    """Of QuPath's JSON: names, vectors and background; its residual is no stain."""
    names, vectors = [], []
    for number in range(1, MAX_STAINS + 1):
        name = stains.get(f"Stain {number}", "Residual")
        if name.strip().casefold() != "residual":
            names.append(name.strip())
            red, green, blue = (float(value) for value in stains[f"Values {number}"].split())
            vectors.append((red, green, blue))
    red, green, blue = (round(float(value)) for value in stains.get("Background", "255 255 255").split())
    return CellSettings(stains=tuple(names), vectors=tuple(vectors), white=(red, green, blue))


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _toml(value: Any) -> str:
    """A value as TOML, whose numbers, lists and texts are JSON's."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {_toml(part)}" for key, part in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return json.dumps(value, ensure_ascii=False)


def _in_one_line(error: ValidationError) -> str:
    """The first fault: which setting, and what is wrong with it."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith(("tuple[", "int")))
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where}: there is no such setting"
    what = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
