"""Which images are learnt from and which only check: whole cases or whole slides, never tiles.

Stands between a project and `training_set`. Images come in, then what each of them is annotated with, and a `Split`
goes out: what the project's own `splits.json` says, else a choice that leaves each case (a patient, say) on one side.
Inside a single slide see `blocks`. What was used is written beside the model, as folders with `splits.json` have it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from tissuebridge.cases import cases_of
from tissuebridge.errors import AnnotationError, UsageError
from tissuebridge.files import atomic_write
from tissuebridge.project.base import Project
from tissuebridge.project.folder import holds_images
from tissuebridge.project.split_file import SPLITS_FILE
from tissuemodel.saved_model import CONFIG_FILE

HELD_OUT_SHARE: Final = 0.2
"""About this much of each class is kept for validation."""
MOST_HELD_OUT: Final = 0.4
"""More of the images is never kept, not even to have a class on both sides."""
FEWEST_IMAGES: Final = 5
"""Of fewer annotated images all are learnt from."""
GAP_PX: Final = 144
"""How far the network of preset `paper` looks, rounded up to its stride: its halo."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """What a person may say about how images are split.

    Attributes:
        case_pattern: A regular expression that finds the case in an image's name.
        case_key: Or the metadata key of the images that names it.
        case_table: Or the CSV file with the case of each image.
        validation_blocks: Validate on blocks inside the slides instead of on whole slides.
        gap_px: Between such a block and what is learnt from, at least, in px of the model's grid: how far the network
            looks.
        seed: Decides between equally good choices.
    """

    case_pattern: str | None = None
    case_key: str | None = None
    case_table: Path | None = None
    validation_blocks: bool = False
    gap_px: int = GAP_PX
    seed: int = 0

    @property
    def unit(self) -> str:
        """What stays together, in words.

        >>> SplitOptions(case_key="Patient").unit
        "case (metadata key 'Patient')"
        """
        if self.case_pattern is not None:
            return f"case (pattern {self.case_pattern!r})"
        if self.case_table is not None:
            return f"case (table {self.case_table.name})"
        return "slide" if self.case_key is None else f"case (metadata key {self.case_key!r})"


@dataclass(frozen=True, slots=True)
class Given:
    """What is settled before anybody looks at the annotations.

    Attributes:
        train: Names of the images to learn from, or to choose among.
        validation: Those that choose thresholds; None where they are still to be chosen, from `train`.
        test: Those that training never looks at.
        cases: Image name to case; None where no case was named, so that each image stands for itself.
        is_from_file: The project has splits of its own.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] | None = None
    test: tuple[str, ...] = ()
    cases: Mapping[str, str] | None = None
    is_from_file: bool = False

    def units(self, images: Iterable[str]) -> list[str]:
        """The cases of some images, or the images themselves where no case was named; each once, sorted."""
        return sorted({self.cases[name] if self.cases else name for name in images})

    def count(self, images: Sequence[str], what: str = "image") -> str:
        """How many images and cases, in words.

        >>> Given(("a", "b"), cases={"a": "P1", "b": "P1"}).count(["a", "b"])
        '2 images of 1 case'
        """
        text = f"{len(images)} {what}{'s' if len(images) != 1 else ''}"
        cases = len(self.units(images))
        return text if self.cases is None else f"{text} of {cases} case{'s' if cases != 1 else ''}"


@dataclass(frozen=True, slots=True)
class Split:
    """Which images were used for what.

    Attributes:
        train: Names of the images that are learnt from.
        validation: Names of the images that choose thresholds; with blocks, parts of images that are learnt from too.
        test: Names of the images that training never looks at.
        how: How this came about, in words.
        cases: Image name to case, where cases were named.
        is_in_blocks: Validation is on blocks inside slides.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()
    how: str = ""
    cases: Mapping[str, str] | None = None
    is_in_blocks: bool = False

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """What `splits.json` says of it. Names can tell whole images only: with blocks there is no "validation"."""
        parts = {"train": self.train}
        if not self.is_in_blocks:
            parts["validation"] = self.validation
        return parts | ({"test": self.test} if self.test else {})


def given_split(project: Project, options: SplitOptions) -> Given:
    """What a project's own splits and the named cases settle.

    A "validation" list is taken as it is, even an empty one; without it the validation images are chosen from "train".

    Raises:
        AnnotationError: `splits.json` names no image to learn from, or puts images of one case into different splits.
        UsageError: Cases cannot be told, or blocks are asked for although `splits.json` names validation images.
    """
    splits = project.splits
    used = [image for image in project.images if splits is None or _split_of(image.name, splits)]
    cases = cases_of(
        used, options.case_pattern, options.case_key, options.case_table, everything=project.images
    )
    if splits is None:
        return Given(tuple(sorted(image.name for image in used)), cases=cases)
    if not splits.get("train"):
        raise AnnotationError(
            f'{project.name}: {SPLITS_FILE} names no image to learn from. Add "train": ["name", ...] to it.'
        )
    _check_cases(project.name, splits, cases or {})
    if options.validation_blocks and splits.get("validation"):
        raise UsageError(
            f"{project.name}: --validation-blocks, but {SPLITS_FILE} names images for validation already. Leave out "
            'one of the two: the option, or "validation" in the file.'
        )
    validation = tuple(splits["validation"]) if "validation" in splits else None
    return Given(tuple(splits["train"]), validation, tuple(splits.get("test", ())), cases, is_from_file=True)


def chosen_split(
    given: Given, amounts: Mapping[str, Mapping[str, float]], options: SplitOptions | None = None
) -> Split:
    """The split by whole cases or whole images.

    Args:
        given: What is settled already.
        amounts: Name of each image to learn from to what it is annotated with: kind to amount.
        options: Seed, and how to call what stays together.

    >>> chosen_split(Given(("a", "b")), {"a": {"T cell": 5.0}, "b": {"T cell": 3.0}}).how
    'no validation: of 2 annotated images all are learnt from'
    """
    options = options or SplitOptions()
    if given.validation is not None:
        told = f"{given.count(given.train)} to learn from, {given.count(given.validation)} for validation"
        how = f"as {SPLITS_FILE} says: {told}"
        return Split(given.train, given.validation, given.test, how, given.cases)
    held_out = choose_validation(amounts, given.cases, seed=options.seed)
    train = tuple(name for name in given.train if name not in held_out)
    how = _told(given, train, held_out, amounts, options)
    return Split(train, held_out, given.test, how, given.cases)


def choose_validation(
    amounts: Mapping[str, Mapping[str, float]], cases: Mapping[str, str] | None = None, *, seed: int = 0
) -> tuple[str, ...]:
    """Chooses the images for validation: whole cases, about a fifth, every class on both sides where that can be.

    Greedy: the rarest kinds first, each gets the case that brings all kinds nearest to a fifth; then more cases, while
    that brings them nearer. A case that has the last of a kind stays to be learnt from.

    Args:
        amounts: Image name to what it is annotated with: kind (a class, say) to amount, of any unit.
        cases: Image name to case; None: each image is one.
        seed: Decides between equally good choices.

    Returns:
        Names, sorted. None of fewer than `FEWEST_IMAGES` annotated images, and never more than `MOST_HELD_OUT` of
        them. An image without annotations goes with its case.

    >>> choose_validation({name: {"Tumor": 1.0} for name in "abcdefghij"})
    ('h', 'j')
    """
    annotated = sorted(name for name, held in amounts.items() if any(held.values()))
    if len(annotated) < FEWEST_IMAGES:
        return ()
    case_of = cases or {name: name for name in amounts}
    units = sorted({case_of[name] for name in annotated})
    place = dict(zip(units, np.random.default_rng(seed).permutation(len(units)).tolist(), strict=True))
    held_out = _held_out(_shares(annotated, amounts, [place[case_of[name]] for name in annotated]))
    chosen = {unit for unit in units if held_out[place[unit]]}
    return tuple(sorted(name for name in amounts if case_of[name] in chosen))


def write_splits(folder: Path, split: Split) -> Path | None:
    """Writes a split as `splits.json`, to be kept with a model or copied beside the images.

    A person's file is never written: not in a folder that holds images, where the file would be read as theirs, and
    not over a file in a folder without a model.

    Args:
        folder: The model's folder. Call this before the model is saved in it.
        split: What was used.

    Returns:
        The file, or None where it was not written; the log says why.

    Raises:
        StorageError: It cannot be written.
    """
    path = folder / SPLITS_FILE
    content = orjson.dumps(split.parts, option=orjson.OPT_INDENT_2) + b"\n"
    if path.is_file() and path.read_bytes() == content:
        return path
    if holds_images(folder):
        _log.warning("%s: the split is not written here, since the folder holds images", folder)
        return None
    if path.exists() and not (folder / CONFIG_FILE).is_file():
        _log.warning("%s: left as it is, since no model lies beside it; the split is not written", path)
        return None
    with atomic_write(path) as file:
        file.write(content)
    return path


# ---- What is said -----------------------------------------------------------------------------------------


def _split_of(name: str, splits: Mapping[str, Sequence[str]]) -> str | None:
    return next((split for split, members in splits.items() if name in members), None)


def _check_cases(project: str, splits: Mapping[str, Sequence[str]], cases: Mapping[str, str]) -> None:
    """Refuses splits that put images of one case on different sides."""
    of_case: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, case in sorted(cases.items()):
        of_case[case].setdefault(_split_of(name, splits) or "", name)
    leaks = {case: members for case, members in sorted(of_case.items()) if len(members) > 1}
    if leaks:
        case, members = next(iter(leaks.items()))
        where = " and ".join(f"{name!r} in {split!r}" for split, name in members.items())
        more = f" ({len(leaks) - 1} more cases likewise)" if len(leaks) > 1 else ""
        raise AnnotationError(
            f"{project}: {SPLITS_FILE} has images of case {case!r} on different sides: {where}{more}. Move all images "
            "of a case into one split, or correct what tells cases."
        )


def _told(
    given: Given,
    train: Sequence[str],
    held_out: Sequence[str],
    amounts: Mapping[str, Mapping[str, float]],
    options: SplitOptions,
) -> str:
    """How a split came about, in words."""
    if not held_out:
        annotated = [name for name, held in amounts.items() if any(held.values())]
        return f"no validation: of {given.count(annotated, 'annotated image')} all are learnt from"
    told = f"by {options.unit}: {given.count(train)} to learn from, {given.count(held_out)} for validation"
    if given.is_from_file:
        told += f", chosen since {SPLITS_FILE} names none for validation"
    if given.cases is None:
        told += "; a patient with several slides may be on both sides, unless the cases are named"
    return told


# ---- Choosing ---------------------------------------------------------------------------------------------


def _shares(
    annotated: Sequence[str], amounts: Mapping[str, Mapping[str, float]], units: Sequence[int]
) -> NDArray[np.float64]:
    """How much of all there is each case has: (case, kind), each column sums to 1. The first kind is: images."""
    kinds = sorted({kind for name in annotated for kind, amount in amounts[name].items() if amount > 0})
    shares = np.zeros((max(units) + 1, 1 + len(kinds)))
    for name, unit in zip(annotated, units, strict=True):
        shares[unit] += [1.0, *(amounts[name].get(kind, 0.0) for kind in kinds)]
    return shares / shares.sum(axis=0)  # type: ignore[no-any-return]


def _held_out(shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cases are for validation, from the share of each kind (case, kind) that they have."""
    present = shares > 0
    held_out = np.zeros(len(shares), np.bool_)
    for kind in np.argsort(present.sum(axis=0), kind="stable"):
        having = _movable(shares, held_out) & present[:, kind]
        if having.any() and not present[held_out, kind].any():
            held_out[np.argmin(np.where(having, _costs(shares, held_out), np.inf))] = True
    while (movable := _movable(shares, held_out)).any():
        costs = np.where(movable, _costs(shares, held_out), np.inf)
        if costs.min() >= _cost(shares[held_out].sum(axis=0)):
            break
        held_out[np.argmin(costs)] = True
    return held_out


def _movable(shares: NDArray[np.float64], held_out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which cases may still go to validation: no kind is lost, and not too many images are held out."""
    present = shares > 0
    is_last = present & (present[~held_out].sum(axis=0) == 1)
    few = shares[held_out, 0].sum() + shares[:, 0] <= MOST_HELD_OUT + 1e-9
    movable: NDArray[np.bool_] = ~held_out & ~is_last.any(axis=1) & few
    return movable


def _costs(shares: NDArray[np.float64], held_out: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far from a fifth the validation would be with each case added."""
    return _cost(shares[held_out].sum(axis=0) + shares)


def _cost(held_out: NDArray[np.float64]) -> NDArray[np.float64]:
    # Rounded, so that equally good choices are equal, whatever the order of summing.
    return ((held_out - HELD_OUT_SHARE) ** 2).sum(axis=-1).round(12)  # type: ignore[no-any-return]
