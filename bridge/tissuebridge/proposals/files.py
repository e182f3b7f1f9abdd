"""Proposals as files beside the images: written anew without touching what a person said, and reviewed in place.

For each image a GeoJSON (proposals and what became of them) and a TOML (all that decided them, to repeat or edit)::

    FOLDER/proposals/NAME.geojson
    FOLDER/proposals/NAME.toml
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from tissuebridge import __version__
from tissuebridge.analysis import Analysis
from tissuebridge.errors import Conflict, UsageError
from tissuebridge.files import atomic_write
from tissuebridge.geojson import read_objects
from tissuebridge.geojson_write import about_of, write_objects
from tissuebridge.lock import locked
from tissuebridge.objects import PathObject, is_persons, provenance
from tissuebridge.project.base import Image
from tissuebridge.proposals.propose import settings_of
from tissuebridge.proposals.review import METHOD, Decision, beside, decided, is_kept, proposed_name, state_of
from tissuebridge.proposals.settings import ProposalSettings

PARAMETERS_HEAD: Final = (
    "# What decided the proposals of {name}. To repeat them, or after editing a number:\n"
    "#   tissuebridge propose SOURCE --parameters THIS_FILE\n\n"
)


def check_proposals_file(path: Path) -> None:
    """Refuses, before anything is computed, a place where a person's file lies.

    Raises:
        Conflict: The file went through QuPath, or is no proposal; it stays.
    """
    for place in (path, path.with_suffix(".toml")):
        if place.is_dir():
            raise Conflict(f"{place}: a folder has this name. Move it away or choose another --output.")
    if path.exists() and (about_of(path) or {}).get("method") != METHOD:
        raise Conflict(
            f"{path}: not as `propose` wrote it, so it is yours and stays. Move it to the image's annotations "
            "(it will be used there) or away, and propose again."
        )


def write_proposals(path: Path, image: Image, found: Sequence[Analysis]) -> list[PathObject]:
    """Writes an image's proposals and their parameters.

    Of an earlier proposal those objects are replaced that nobody has decided on, edited or locked, and that came by
    the same method; new ones stay clear of what a person has decided or drawn.

    Args:
        path: The GeoJSON.
        image: Whose proposals.
        found: Proposed regions, proposed cells, or both.

    Returns:
        The objects that are new.

    Raises:
        Conflict: A person's file is there, or somebody else writes there.
        StorageError: It could not be written.
    """
    with locked(path.parent, "a review or a proposal"):
        return _written(path, image, found)


def _written(path: Path, image: Image, found: Sequence[Analysis]) -> list[PathObject]:
    check_proposals_file(path)
    before = read_objects(path) if path.exists() else []
    methods = {analysis.model.name for analysis in found}
    kept = [obj for obj in before if is_kept(obj) or _method_of(obj) not in methods]
    settled = [obj for obj in kept if is_kept(obj)]
    settled += [obj for obj in image.objects() if is_persons(obj)]
    new = _new(found, settled, {obj.id for obj in (*kept, *settled)})
    first = found[0]
    parameters = _with_earlier(settings_of(found), about_of(path)).as_text()
    about = {
        "run": first.run_id,
        "method": METHOD,
        "version": __version__,
        "image": image.identity.key(),
        "parameters": parameters,
    }
    write_objects(path, [*kept, *new], about=about)
    write_parameters(path.with_suffix(".toml"), image.name, parameters)
    return new


def write_parameters(path: Path, name: str, parameters: str) -> None:
    """Writes what decided an image's proposals, as a file that `propose --parameters` takes.

    Raises:
        StorageError: It could not be written.
    """
    with atomic_write(path) as file:
        file.write((PARAMETERS_HEAD.format(name=name) + parameters).encode())


def _with_earlier(settings: ProposalSettings, about: Mapping[str, Any] | None) -> ProposalSettings:
    """The settings with the table of the other method, whose proposals stay in the file as well."""
    try:
        earlier = ProposalSettings.of_text(str((about or {}).get("parameters", "")))
    except UsageError:  # none, or of another version
        return settings
    return settings.with_missing(earlier)


def _method_of(obj: PathObject) -> str | None:
    origin = provenance(obj)
    return None if origin is None else origin.model


def _new(found: Sequence[Analysis], settled: Sequence[PathObject], taken: set[object]) -> list[PathObject]:
    """What is proposed beside what is settled; an id that is taken is the same object, which a person moved."""
    new: list[PathObject] = []
    for analysis in found:
        diameters = analysis.model.cell_diameters_um
        radius_px = max(diameters, default=0.0) / 2 / analysis.image.pixel_size_um
        new += beside(analysis.objects(), settled, radius_px)
    return [obj for obj in new if obj.id not in taken]


def review(folder: Path, decision: Decision, images: str = "*") -> dict[str, Counter[str]]:
    """Applies a decision to proposals' files.

    Args:
        folder: Of the files, or one file.
        decision: What is accepted, rejected or undone.
        images: Pattern of the images' names.

    Returns:
        For each image how many objects changed, by the class they have now.

    Raises:
        UsageError: No proposals there, or none of a class that the decision names; lists those there are.
        Conflict: A file went through QuPath, or somebody else writes there.
        StorageError: A file could not be written; those before it are written.
    """
    with locked(folder.parent if folder.is_file() else folder, "a review or a proposal"):
        return _reviewed_all(folder, decision, images)


def _reviewed_all(folder: Path, decision: Decision, images: str) -> dict[str, Counter[str]]:
    files = [folder] if folder.is_file() else sorted(folder.glob("*.geojson"))
    files = [path for path in files if fnmatchcase(path.stem, images)]
    if not files:
        raise UsageError(f"{folder}: no proposals of images {images!r}. Run `tissuebridge propose` first.")
    for path in files:
        check_proposals_file(path)
    objects = {path: read_objects(path) for path in files}
    there = {name for every in objects.values() for obj in every if (name := proposed_name(obj)) is not None}
    if missing := sorted(decision.named - there):
        raise UsageError(
            f"{folder}: nothing is proposed as {missing[0]!r}. There are {', '.join(sorted(there)) or 'none'}."
        )
    return {path.stem: _reviewed(path, before, decision) for path, before in objects.items()}


def _reviewed(path: Path, before: Sequence[PathObject], decision: Decision) -> Counter[str]:
    """Writes a file whose objects the decision changes; counts these."""
    after = [decided(obj, decision) for obj in before]
    changed = [new for old, new in zip(before, after, strict=True) if new is not old]
    if changed:
        write_objects(path, after, about=about_of(path))
    return Counter(f"{state_of(obj)} {obj.class_name}" for obj in changed)
