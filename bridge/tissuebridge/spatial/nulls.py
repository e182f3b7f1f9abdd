"""What "by chance" means: named null hypotheses that draw patterns, all seeded.

Tissue is not homogeneous, so complete randomness is for description only: two independent classes, both denser in
stroma, would nearly always be called coupled. The others keep what is not asked about:

- stratified: each region class keeps its count, uniform within it (Baddeley, Rubak & Turner 2015, Spatial Point
  Patterns, ch. 10, https://doi.org/10.1201/b19708);
- intensity-weighted: drawn from the cells' own density, smoothed with a Gaussian kernel whose mass outside the window
  is folded back to its own cell (Jones 1993, https://doi.org/10.1007/BF00147776; Diggle 1985,
  https://doi.org/10.2307/2347366). A density that jumps at a border is blurred by it, and what is left of the jump
  looks like attraction where the bandwidth is wide: where regions are known, strata are the better null;
- random shift: all cells of a class moved by one vector, what leaves the window left out, so that each class keeps its
  own clustering (Lotwick & Silverman 1982, https://doi.org/10.1111/j.2517-6161.1982.tb01221.x; Mrkvicka et al. 2021,
  https://doi.org/10.1016/j.spasta.2020.100430);
- random labelling: given where all nuclei are, which of them are of the class (Diggle 2013, ch. 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from tissuebridge.errors import InputRefused, UsageError
from tissuebridge.spatial.window import Window, polygons_of

SIMULATIONS: Final = 999

_NOBODY: Final = np.zeros((0, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Cells in a window: of one class, and of a second one where two are compared.

    Attributes:
        points: float64 (n, 2), um.
        others: float64 (m, 2), um; empty where one class is looked at alone.
        window: Where they lie.
    """

    points: NDArray[np.float64]
    others: NDArray[np.float64]
    window: Window


class Null(Protocol):
    """A null hypothesis that can be drawn from."""

    @property
    def name(self) -> str:
        """What stands beside every p-value."""
        ...

    @property
    def is_descriptive(self) -> bool:
        """Whether it is too simple for tissue, so that no p-value of it should be believed."""
        ...

    def draw(self, random: np.random.Generator) -> Pattern:
        """A pattern as it could be by chance."""
        ...


def check_simulations(simulations: int) -> None:
    """Refuses too few.

    Raises:
        UsageError: Fewer than 19 simulations: not even p = 0.05 could be reached.
    """
    if simulations < 19:
        raise UsageError(f"{simulations} simulations cannot reach p = 0.05; take at least 19, or 999")


def drawn(null: Null, seed: int, index: int) -> Pattern:
    """A pattern under a null from a stream of its own: the k-th is the same whatever is drawn before or beside it."""
    return null.draw(np.random.default_rng((seed, index)))


@dataclass(frozen=True, eq=False)
class CompleteRandomness:
    """Uniform in the whole window; descriptive only.

    Attributes:
        pattern: What was seen; its points are redrawn, its others stay.
    """

    pattern: Pattern
    name: ClassVar[str] = "complete spatial randomness (descriptive)"
    is_descriptive: ClassVar[bool] = True

    def draw(self, random: np.random.Generator) -> Pattern:
        """As many points, uniform."""
        seen = self.pattern
        return Pattern(seen.window.sample(len(seen.points), random), seen.others, seen.window)


@dataclass(frozen=True, eq=False)
class Stratified:
    """Each stratum (region class) keeps its count; uniform within it.

    Attributes:
        pattern: What was seen; its points are redrawn, its others stay.
        strata: The region classes, without overlap; they cover all points.
    """

    pattern: Pattern
    strata: Sequence[Window]
    name: ClassVar[str] = "random within each region class"
    is_descriptive: ClassVar[bool] = False

    def draw(self, random: np.random.Generator) -> Pattern:
        """As many points in each stratum, uniform."""
        parts = [stratum.sample(n, random) for stratum, n in zip(self.strata, self.counts, strict=True)]
        return Pattern(np.concatenate([_NOBODY, *parts]), self.pattern.others, self.pattern.window)

    @cached_property
    def counts(self) -> list[int]:
        """The points of each stratum.

        Raises:
            InputRefused: A point lies in no stratum.
        """
        index = stratum_of(self.strata, self.pattern.points)
        if (index < 0).any():
            raise InputRefused(
                f"{int((index < 0).sum())} of {len(index)} cells lie in no region class. Leave them out, or add "
                "the rest of the window as a stratum."
            )
        return [int(n) for n in np.bincount(index, minlength=len(self.strata))]


@dataclass(frozen=True, eq=False)
class IntensityWeighted:
    """Drawn from the class's own smoothed density; what is finer than the bandwidth is the question.

    Attributes:
        pattern: What was seen; its points are redrawn, its others stay.
        bandwidth_um: Standard deviation of the Gaussian kernel; larger than the distances that are tested.
    """

    pattern: Pattern
    bandwidth_um: float
    name: ClassVar[str] = "random by the smoothed density"
    is_descriptive: ClassVar[bool] = False

    def draw(self, random: np.random.Generator) -> Pattern:
        """A random point of those seen, moved by the kernel, again until it lies inside: as many as were seen."""
        seen = self.pattern
        parents = seen.points[random.integers(0, max(len(seen.points), 1), len(seen.points))]
        moved, left = parents.copy(), np.arange(len(parents))
        for _round in range(200):
            moved[left] = parents[left] + random.normal(0, self.bandwidth_um, (len(left), 2))
            left = left[~seen.window.contains(moved[left])]
            if not len(left):
                break
        # In a corner where hardly anything of the kernel lies inside, the parent itself is inside.
        moved[left] = parents[left]
        return Pattern(moved, seen.others, seen.window)


@dataclass(frozen=True, eq=False)
class RandomShift:
    """The class moved as a whole against the rest; the window is what both then have in common.

    Attributes:
        pattern: What was seen; its points are moved, its others stay.
        radius_um: The longest move; longer than the distances that are tested, shorter than the window.
    """

    pattern: Pattern
    radius_um: float
    name: ClassVar[str] = "random shift"
    is_descriptive: ClassVar[bool] = False

    def draw(self, random: np.random.Generator) -> Pattern:
        """Both classes, in the part of the window that is covered before and after the move."""
        shift = random_vector(self.radius_um, random)
        seen = self.pattern
        both = shapely.intersection(
            seen.window.area, shapely.transform(seen.window.area, lambda xy: xy + shift)
        )
        if polygons_of(both).area <= 0:
            return self.draw(random)
        window = Window(polygons_of(both), seen.window.name)
        moved = seen.points + shift
        return Pattern(moved[window.contains(moved)], seen.others[window.contains(seen.others)], window)


@dataclass(frozen=True, eq=False)
class RandomLabelling:
    """Where nuclei are is given; which of them are of the classes is by chance, within each stratum.

    Attributes:
        pattern: What was seen; points and others are both relabelled.
        rest: float64 (k, 2), all other nuclei of the window, um.
        strata: Region classes within which labels are exchanged; empty: all over the window.
    """

    pattern: Pattern
    rest: NDArray[np.float64]
    strata: Sequence[Window] = ()
    name: ClassVar[str] = "random labelling of all nuclei"
    is_descriptive: ClassVar[bool] = False

    def draw(self, random: np.random.Generator) -> Pattern:
        """The same nuclei with the labels exchanged."""
        seen = self.pattern
        nuclei = np.concatenate([seen.points, seen.others, self.rest])
        labels = np.repeat([0, 1, 2], [len(seen.points), len(seen.others), len(self.rest)])
        stratum = stratum_of(self.strata, nuclei) if self.strata else np.zeros(len(nuclei), np.intp)
        labels = permuted_within(labels, stratum, random)
        return Pattern(nuclei[labels == 0], nuclei[labels == 1], seen.window)


def stratum_of(strata: Sequence[Window], points: NDArray[np.float64]) -> NDArray[np.intp]:
    """The first stratum that holds each point; -1 where none does."""
    found = np.full(len(points), -1, np.intp)
    for index, stratum in reversed(list(enumerate(strata))):
        found[stratum.contains(points)] = index
    return found


def permuted_within(
    labels: NDArray[np.int64], stratum: NDArray[np.intp], random: np.random.Generator
) -> NDArray[np.int64]:
    """The labels in random order, those of a stratum among themselves.

    >>> permuted_within(np.array([1, 2, 2]), np.array([0, 1, 1]), np.random.default_rng(0)).tolist()
    [1, 2, 2]
    """
    place = np.lexsort((random.random(len(labels)), stratum))
    permuted = np.empty_like(labels)
    permuted[np.argsort(stratum, kind="stable")] = labels[place]
    return permuted


def random_vector(radius_um: float, random: np.random.Generator) -> NDArray[np.float64]:
    """A vector that is uniform in a disc, (2,), um."""
    angle, length_um = random.uniform(0, 2 * np.pi), radius_um * np.sqrt(random.uniform())
    return np.asarray(np.array([np.cos(angle), np.sin(angle)]) * length_um)
