"""What a person may set of the spatial statistics; everything in um, every default stated here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tissuebridge.errors import UsageError

NOT_TISSUE: Final = (
    "white", "empty", "background", "glass", "lumen", "lumina", "necrosis", "necrotic", "artefact", "artifact"
)  # fmt: skip
"""Region classes that are no window for cells, whatever their case."""


class Whose(StrEnum):
    """Whose objects are looked at; never both for the same kind."""

    LATEST = "latest"
    ANALYSIS = "analysis"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class SpatialSettings:
    """How the statistics of an image are made.

    Attributes:
        cells: Whose cells: the latest analysis's with a person's edits where there is one, else a person's.
        regions: Whose regions, likewise.
        not_tissue: Region classes (any case) that are cut out of the window, beside `Ignore*`.
        bands_um: Edges of the bands round interfaces, negative inside.
        rings_um: Edges of the bands round cells of another class.
        radii_um: Largest radius and step of functions of distance.
        suppression_um: Below it cells exclude each other: tests between cells start here.
        moved_um: Coupling is repeated with every border moved so far out and in.
        max_edge_um: Longest edge of the neighbourhood graph.
        density_radius_um: Of the local density.
        shift_um: Longest move of a random shift.
        simulations: Of each test.
        seed: The same seed gives the same numbers.
    """

    cells: Whose = Whose.LATEST
    regions: Whose = Whose.LATEST
    not_tissue: tuple[str, ...] = NOT_TISSUE
    bands_um: tuple[float, ...] = (-100.0, -50.0, -20.0, -10.0, 0.0, 10.0, 20.0, 50.0, 100.0)
    rings_um: tuple[float, ...] = (0.0, 10.0, 20.0, 30.0, 50.0)
    radii_um: tuple[float, float] = (60.0, 2.0)
    suppression_um: float = 6.0
    moved_um: float = 5.0
    max_edge_um: float = 40.0
    density_radius_um: float = 50.0
    shift_um: float = 150.0
    simulations: int = 999
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what makes no sense.

        Raises:
            UsageError: A length is not positive, or there are fewer than 19 simulations.
        """
        for name in ("max_edge_um", "density_radius_um", "shift_um"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} {getattr(self, name):g}: a length of more than 0 um is meant")
        largest, step = self.radii_um
        if not 0 < step <= largest or self.suppression_um < 0 or self.moved_um < 0:
            raise UsageError(
                "radii, suppression distance and moved borders are lengths in um; none is negative"
            )
        if self.simulations < 19:
            raise UsageError(
                f"{self.simulations} simulations cannot reach p = 0.05; take at least 19, or 999"
            )
