"""No case is on two sides; every class is on both where it can be; a person's splits are honoured, never written."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn_tissue import ArrayImage
from tissuebridge.errors import AnnotationError, UsageError
from tissuebridge.project.folder import FolderProject
from tissuebridge.splits import (
    FEWEST_IMAGES,
    MOST_HELD_OUT,
    Given,
    Split,
    SplitOptions,
    choose_validation,
    chosen_split,
    given_split,
    write_splits,
)

Amounts = dict[str, dict[str, float]]


@dataclass
class Drawn:
    """A project of images of which only the names matter."""

    images: Sequence[ArrayImage]
    splits: Mapping[str, Sequence[str]] | None = None
    name: str = "drawn"


def drawn(names: Sequence[str], splits: Mapping[str, Sequence[str]] | None = None) -> Drawn:
    return Drawn([ArrayImage(np.zeros((1, 1, 3), np.uint8), name=name) for name in names], splits)


def random_set(seed: int, images: int, cases: int) -> tuple[Amounts, dict[str, str]]:
    """Images of some cases, with some of five kinds each."""
    random = np.random.default_rng(seed)
    amounts = {
        f"i{index}": {
            kind: float(random.choice([0.0, 1.0, 2.5, 40.0])) for kind in "abcde" if random.random() < 0.4
        }
        for index in range(images)
    }
    return amounts, {name: f"P{random.integers(cases)}" for name in amounts}


sets = st.builds(random_set, st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 12))
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def holding(amounts: Amounts, cases: Mapping[str, str]) -> dict[str, set[str]]:
    """Kind to the cases that have some."""
    having: defaultdict[str, set[str]] = defaultdict(set)
    for name, held in amounts.items():
        for kind, amount in held.items():
            if amount:
                having[kind].add(cases[name])
    return having


# ---- Properties -------------------------------------------------------------------------------------------


@unhurried
@given(sets, st.integers(0, 3))
def test_no_case_is_on_both_sides_and_every_image_on_one(
    drawn_set: tuple[Amounts, dict[str, str]], seed: int
) -> None:
    amounts, cases = drawn_set

    split = chosen_split(Given(tuple(amounts), cases=cases), amounts, SplitOptions(seed=seed))

    assert sorted([*split.train, *split.validation]) == sorted(amounts)
    assert not {cases[name] for name in split.train} & {cases[name] for name in split.validation}


@unhurried
@given(sets, st.integers(0, 99))
def test_the_order_of_images_decides_nothing(drawn_set: tuple[Amounts, dict[str, str]], seed: int) -> None:
    amounts, cases = drawn_set
    names = np.random.default_rng(seed).permutation(list(amounts)).tolist()

    assert choose_validation({name: amounts[name] for name in names}, cases) == choose_validation(
        amounts, cases
    )


@unhurried
@given(sets)
def test_no_class_is_lost_to_learning(drawn_set: tuple[Amounts, dict[str, str]]) -> None:
    amounts, cases = drawn_set

    held_out = {cases[name] for name in choose_validation(amounts, cases)}

    assert all(having - held_out for having in holding(amounts, cases).values())


@unhurried
@given(sets)
def test_a_class_is_missing_from_validation_only_where_no_case_with_it_could_be_moved(
    drawn_set: tuple[Amounts, dict[str, str]],
) -> None:
    amounts, cases = drawn_set
    images = [name for name, held in amounts.items() if any(held.values())]
    validation = choose_validation(amounts, cases)
    held_out, kinds = {cases[name] for name in validation}, holding(amounts, cases)

    for having in kinds.values() if len(images) >= FEWEST_IMAGES else ():
        for case in having if not having & held_out else ():
            of_case = {other for other, owners in kinds.items() if case in owners}
            loses_a_class = any(kinds[other] - held_out == {case} for other in of_case)
            share = sum(cases[name] in {*held_out, case} for name in images) / len(images)
            assert loses_a_class or share > MOST_HELD_OUT


@unhurried
@given(sets)
def test_few_images_are_all_learnt_from_and_never_many_held_out(
    drawn_set: tuple[Amounts, dict[str, str]],
) -> None:
    amounts, cases = drawn_set
    images = [name for name, held in amounts.items() if any(held.values())]

    held_out = [name for name in choose_validation(amounts, cases) if name in images]

    assert len(held_out) <= MOST_HELD_OUT * len(images)
    assert not held_out or len(images) >= FEWEST_IMAGES


# ---- By hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "held_out"), [(4, 0), (5, 1), (10, 2), (11, 2), (50, 10)])
def test_of_equal_images_a_fifth_is_held_out(images: int, held_out: int) -> None:
    assert len(choose_validation({f"{i:02}": {"Tumor": 1.0} for i in range(images)})) == held_out


def test_the_rare_class_decides_which_case_is_held_out() -> None:
    amounts: Amounts = {f"{i}": {"Tumor": 10.0} for i in range(10)}
    amounts["3"]["Mast cell"] = 2.0
    amounts["7"]["Mast cell"] = 8.0

    # Of the two cases with mast cells the one goes that leaves more of them to learn from.
    assert "3" in choose_validation(amounts)
    assert "7" not in choose_validation(amounts)


def test_a_class_of_one_case_stays_to_be_learnt_from() -> None:
    amounts: Amounts = {f"{i}": {"Tumor": 10.0} for i in range(10)}
    amounts["3"]["Necrosis"] = 1.0

    assert all("3" not in choose_validation(amounts, seed=seed) for seed in range(20))


def test_another_seed_chooses_among_equals() -> None:
    amounts: Amounts = {f"{i}": {"Tumor": 1.0} for i in range(10)}

    assert choose_validation(amounts, seed=1) == choose_validation(amounts, seed=1)
    assert len({choose_validation(amounts, seed=seed) for seed in range(10)}) > 1


def test_an_image_without_annotations_goes_with_its_case() -> None:
    amounts: Amounts = {f"P{case}_{i}": {"Tumor": float(i)} for case in range(5) for i in range(3)}
    cases = {name: name[:2] for name in amounts}

    held_out = choose_validation(amounts, cases)

    assert [name[2:] for name in held_out] == ["_0", "_1", "_2"]


def test_half_of_all_images_is_too_much_for_one_case() -> None:
    amounts: Amounts = {f"P{i % 2}_{i}": {"Tumor": 1.0} for i in range(10)}

    assert choose_validation(amounts, {name: name[:2] for name in amounts}) == ()


# ---- A person's splits ------------------------------------------------------------------------------------


def test_splits_are_taken_as_they_are() -> None:
    project = drawn("abcde", {"train": ["c", "a"], "validation": ["b"], "test": ["d"]})

    split = chosen_split(given_split(project, SplitOptions()), {})

    assert (split.train, split.validation, split.test) == (("c", "a"), ("b",), ("d",))
    assert split.how == "as splits.json says: 2 images to learn from, 1 image for validation"


@pytest.mark.parametrize("other", ["validation", "test"])
def test_splits_that_part_a_case_are_refused(other: str) -> None:
    project = drawn(["P1_a", "P1_b", "P2_a"], {"train": ["P1_a", "P2_a"], other: ["P1_b"]})

    with pytest.raises(AnnotationError, match=rf"case 'P1'.*'P1_a' in 'train' and 'P1_b' in '{other}'.*Move"):
        given_split(project, SplitOptions(case_pattern=r"^P\d"))


def test_cases_in_a_table_stay_together_and_images_in_no_split_need_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("image,patient\na,P1\nb,P1\nother,P2\n", encoding="utf-8")
    options = SplitOptions(case_table=table)

    given = given_split(drawn(["a", "b", "other", "scan"], {"train": ["a", "b"], "validation": []}), options)

    assert given.cases == {"a": "P1", "b": "P1"}
    assert options.unit == "case (table cases.csv)"
    assert not caplog.records
    with pytest.raises(AnnotationError, match="case 'P1'"):
        given_split(drawn(["a", "b"], {"train": ["a"], "test": ["b"]}), options)


def test_splits_without_anything_to_learn_from_are_refused() -> None:
    with pytest.raises(AnnotationError, match='Add "train"'):
        given_split(drawn("ab", {"test": ["a"]}), SplitOptions())


def test_images_in_no_split_need_no_case() -> None:
    project = drawn(["P1", "scan"], {"train": ["P1"], "validation": []})

    assert given_split(project, SplitOptions(case_pattern=r"^P\d")).cases == {"P1": "P1"}


def test_blocks_beside_validation_images_are_refused() -> None:
    project = drawn("ab", {"train": ["a"], "validation": ["b"]})

    with pytest.raises(UsageError, match="Leave out one"):
        given_split(project, SplitOptions(validation_blocks=True))


# ---- What is written --------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_as_the_same_split(tmp_path: Path) -> None:
    names = [f"P{i}" for i in range(10)]
    written = chosen_split(Given(tuple(names[:-1]), test=("P9",)), {name: {"a": 1.0} for name in names[:-1]})
    for name in names:
        Image.new("RGB", (2, 2)).save(tmp_path / f"{name}.png")

    path = write_splits(tmp_path / "model", written)

    assert path is not None
    path.rename(tmp_path / "splits.json")
    read = chosen_split(given_split(FolderProject(tmp_path), SplitOptions()), {})
    assert read.parts == written.parts


def test_of_blocks_the_file_says_only_which_images_are_learnt_from() -> None:
    assert Split(("a",), ("a",), ("b",), is_in_blocks=True).parts == {"train": ("a",), "test": ("b",)}


def test_a_model_trained_again_has_its_splits_replaced(tmp_path: Path) -> None:
    write_splits(tmp_path, Split(("a",), ("b",)))
    (tmp_path / "model.json").write_text("{}")

    path = write_splits(tmp_path, Split(("b",), ("a",)))

    assert path is not None
    assert '"train": [\n    "b"' in path.read_text()


@pytest.mark.parametrize("beside", ["a.png", "images/a.png", None])
def test_a_persons_file_is_never_written(
    tmp_path: Path, beside: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "splits.json").write_text('{"train": ["a"]}')
    if beside is not None:
        (tmp_path / "images").mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / beside)
        (tmp_path / "model.json").write_text("{}")

    with caplog.at_level(logging.WARNING):
        path = write_splits(tmp_path, Split(("b",), ("a",)))

    assert path is None
    assert "not written" in caplog.text
    assert (tmp_path / "splits.json").read_text() == '{"train": ["a"]}'
