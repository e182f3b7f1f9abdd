"""Which classes are regions and which are cells: read from where they stand, or told by a class map.

Stands between reading objects and making targets. Objects of all images come in; the classes to learn, in
order and with colours, go out, and a count of what was found. Only a person's objects speak
(`objects.is_persons`); the reserved classes (`Ignore*`, `Cells marked*`, `Not a cell*`, `Region*`) are never
learnt.
"""

from __future__ import annotations

import logging
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from shapely import get_num_geometries

from tissuebridge.errors import AnnotationError, UsageError
from tissuebridge.geojson import default_color
from tissuebridge.objects import (
    CELLS_MARKED,
    IGNORE,
    NOT_A_CELL,
    PROPOSED,
    REGION_OF_INTEREST,
    ObjectType,
    PathClass,
    PathObject,
    is_area,
    is_persons,
)
from tissuemodel.labels import LabelSet

RESERVED: Final = frozenset((IGNORE, CELLS_MARKED, NOT_A_CELL, REGION_OF_INTEREST))

_ROLES: Final = ("region", "cell", "both", "none")
_KEYS: Final = ("aliases", "roles", "priority")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """What a person says of classes, where the annotations alone do not say it (``--classes FILE``).

    Attributes:
        aliases: Another spelling to the class that is meant: "tumour" to "Tumor".
        roles: Class to "region", "cell", "both", or "none" (left out).
        priority: Region classes that win where annotations overlap, the first over all others.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    priority: tuple[str, ...] = ()

    @staticmethod
    def load(path: Path) -> ClassMap:
        """Reads a class map from TOML.

        All three parts may be left out::

            priority = ["Necrosis", "Tumor"]

            [aliases]
            "tumour" = "Tumor"

            [roles]
            "CD3" = "cell"
            "Artefact" = "none"

        Raises:
            UsageError: Not readable, not TOML, an unknown key or role, or a class mapped twice.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror or error}. Check the name.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f'{path}: this is not TOML: {error}. Quote class names: "Tumor".') from error
        try:
            return _checked(content)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    def name(self, given: str) -> str:
        """The class that a spelling means.

        >>> ClassMap(aliases={"tumour": "Tumor"}).name("tumour")
        'Tumor'
        """
        return self.aliases.get(given, given)


def _checked(content: Mapping[str, Any]) -> ClassMap:
    if unknown := sorted(set(content) - set(_KEYS)):
        raise UsageError(f"unknown key {unknown[0]!r}. There are {', '.join(_KEYS)}.")
    aliases, roles = _texts(content, "aliases"), _texts(content, "roles")
    priority = content.get("priority", [])
    if not isinstance(priority, list) or not all(isinstance(name, str) for name in priority):
        raise UsageError('priority is no list of class names. Write priority = ["Necrosis", "Tumor"].')
    for name, role in roles.items():
        if role not in _ROLES:
            raise UsageError(f"the role of {name!r} is {role!r}. There are {', '.join(_ROLES)}.")
    for name in [*aliases.values(), *roles, *priority]:
        if name in aliases:
            raise UsageError(f"{name!r} is an alias of {aliases[name]!r}. Use {aliases[name]!r} here.")
    for name in [*aliases, *roles, *priority]:
        if name in RESERVED or name.startswith(PROPOSED):
            raise UsageError(f"{name!r} has a fixed meaning and cannot be mapped. Leave it out.")
    if twice := [name for name, count in Counter(priority).items() if count > 1]:
        raise UsageError(f"priority names {twice[0]!r} twice. Name each class once.")
    return ClassMap(aliases, roles, tuple(priority))


def _texts(content: Mapping[str, Any], key: str) -> dict[str, str]:
    table = content.get(key, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise UsageError(f'[{key}] is no table of texts. Write [{key}] and below it "Class" = "...".')
    return table


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes to learn.

    Attributes:
        regions: Region classes: those with an explicit priority first, then by name.
        cells: Cell classes, by name.
        colors: Class to (red, green, blue), for both kinds.
        explicit_priority: Whether a person ordered the regions; otherwise the smaller annotation wins.
    """

    regions: tuple[str, ...]
    cells: tuple[str, ...]
    colors: Mapping[str, tuple[int, int, int]]
    explicit_priority: bool = False

    @property
    def labels(self) -> LabelSet:
        """The same for the model."""
        return LabelSet(self.regions, self.cells, dict(self.colors))


def renamed(objects: Iterable[PathObject], class_map: ClassMap | None) -> list[PathObject]:
    """The objects with aliases resolved.

    What is not a person's keeps its class: renamed, an object of ours would look edited, and so a person's.

    >>> from shapely import Point
    >>> given = PathObject(Point(1, 2), path_class=PathClass("tumour"))
    >>> renamed([given], ClassMap(aliases={"tumour": "Tumor"}))[0].class_name
    'Tumor'
    """
    if class_map is None or not class_map.aliases:
        return list(objects)
    return [_renamed(obj, class_map) for obj in objects]


def _renamed(obj: PathObject, class_map: ClassMap) -> PathObject:
    given = obj.path_class
    if given is None or given.name not in class_map.aliases or not is_persons(obj):
        return obj
    return replace(obj, path_class=PathClass(class_map.name(given.name), given.color))


def resolve_classes(
    objects_by_image: Mapping[str, Iterable[PathObject]], class_map: ClassMap | None = None
) -> Classes:
    """Finds the classes in the annotations, and whether each is a region or a cell.

    A class is a region where it stands on an area annotation, and a cell where it stands on a point, a
    detection or a cell. One that stands on both needs a role in the class map.

    Args:
        objects_by_image: All objects of each image; names of images for messages.
        class_map: Aliases, roles and priorities.

    Returns:
        The classes; none at all where nothing has a class (whether that can be learnt is judged elsewhere).

    Raises:
        AnnotationError: Classes that are ambiguous; with counts and the cure.

    >>> from shapely import Point, box
    >>> drawn = [PathObject(box(0, 0, 9, 9), path_class=PathClass("Tumor")),
    ...          PathObject(Point(1, 2), path_class=PathClass("CD3"))]
    >>> found = resolve_classes({"slide": drawn})
    >>> found.regions, found.cells
    (('Tumor',), ('CD3',))
    """
    class_map = class_map or ClassMap()
    found = {
        image: summarise(renamed(objects, class_map)) for image, objects in sorted(objects_by_image.items())
    }
    every = _added(found.values())
    if every.unclassified:
        where = ", ".join(image for image, counts in found.items() if counts.unclassified)
        _log.warning("%d objects without a class are left out, in %s", every.unclassified, _short(where))
    learnt = {name: count for name, count in every.classes.items() if name not in RESERVED}
    _warn_of_unknown(class_map, learnt)
    roles = _roles(learnt, class_map, found)
    regions = [name for name, role in roles.items() if role in ("region", "both")]
    cells = [name for name, role in roles.items() if role in ("cell", "both")]
    first = [name for name in class_map.priority if name in regions]
    return Classes(
        regions=(*first, *(name for name in regions if name not in first)),
        cells=tuple(cells),
        colors={
            name: every.colors.get(name) or default_color(name) for name in dict.fromkeys((*regions, *cells))
        },
        explicit_priority=bool(first),
    )


def _warn_of_unknown(class_map: ClassMap, learnt: Mapping[str, object]) -> None:
    if unknown := sorted({*class_map.roles, *class_map.priority} - set(learnt)):
        _log.warning("the class map names %s, which nothing is annotated with", ", ".join(map(repr, unknown)))


def _roles(
    learnt: Mapping[str, ClassCount], class_map: ClassMap, found: Mapping[str, ObjectCounts]
) -> dict[str, str]:
    """Class to role, by name."""
    roles: dict[str, str] = {}
    ambiguous: list[str] = []
    for name, count in sorted(learnt.items()):
        role = class_map.roles.get(name)
        if role is None and count.areas and count.cells:
            images = ", ".join(image for image, counts in found.items() if name in counts.classes)
            counted = f"{count.areas} areas and {count.cells} points or cells"
            ambiguous.append(f"{name!r} on {counted} ({_short(images)})")
        elif role is not None or count.areas or count.cells:
            roles[name] = role or ("region" if count.areas else "cell")
    if ambiguous:
        raise AnnotationError(
            f"is it a region or a cell? {'; '.join(ambiguous)}. Re-class the objects, or say it in a class map "
            '(--classes FILE): [roles] and below it "Class" = "cell" or "Class" = "region".'
        )
    return roles


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How many objects of a class were found.

    Attributes:
        areas: A person's area annotations.
        cells: A person's points, detections and cells (each point of a points annotation counts).
        others: A person's lines, tiles and cores, which say nothing.
        ours: Written by a run and neither accepted nor edited: not used.
    """

    areas: int = 0
    cells: int = 0
    others: int = 0
    ours: int = 0


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """What was found in a set of objects.

    Attributes:
        classes: Class to its counts, by name; reserved ones too.
        unclassified: A person's objects without a class.
        proposals: Objects of a class ``Proposed: ...``, which nobody accepted.
        colors: The first colour seen of each class.
    """

    classes: Mapping[str, ClassCount]
    unclassified: int = 0
    proposals: int = 0
    colors: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def table(self) -> str:
        """The counts as lines for people.

        >>> print(ObjectCounts({"CD3": ClassCount(cells=12, ours=3)}, unclassified=1).table())
        Class     areas  cells  other  by a run
        CD3           0     12      0         3
        1 without a class
        """
        width = max([8, *(len(name) for name in self.classes)])
        lines = [f"{'Class':{width}} {'areas':>6} {'cells':>6} {'other':>6} {'by a run':>9}"]
        for name, count in self.classes.items():
            lines.append(f"{name:{width}} {count.areas:6} {count.cells:6} {count.others:6} {count.ours:9}")
        rest = ((self.unclassified, "without a class"), (self.proposals, "proposed and not accepted"))
        return "\n".join([*lines, *(f"{count} {what}" for count, what in rest if count)])


def summarise(objects: Iterable[PathObject]) -> ObjectCounts:
    """Counts what was found, by class and by whose it is.

    >>> from shapely import MultiPoint
    >>> summarise([PathObject(MultiPoint([(1, 2), (3, 4)]), path_class=PathClass("CD3"))]).classes["CD3"].cells
    2
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    colors: dict[str, tuple[int, int, int]] = {}
    unclassified = proposals = 0
    for obj in objects:
        name = obj.class_name or ""
        if name.startswith(PROPOSED):
            proposals += 1
        elif not is_persons(obj):
            counts[name]["ours"] += 1
        elif obj.path_class is None:
            unclassified += 1
        else:
            kind, number = _kind(obj)
            counts[name][kind] += number
            if obj.path_class.color:
                colors.setdefault(name, obj.path_class.color)
    classes = {name: ClassCount(**counts[name]) for name in sorted(counts)}
    return ObjectCounts(classes, unclassified, proposals, colors)


def _kind(obj: PathObject) -> tuple[str, int]:
    if obj.geometry.geom_type in ("Point", "MultiPoint"):
        return "cells", int(get_num_geometries(obj.geometry))
    if obj.object_type in (ObjectType.DETECTION, ObjectType.CELL):
        return "cells", 1
    is_region = obj.object_type is ObjectType.ANNOTATION and is_area(obj.geometry)
    return ("areas" if is_region else "others"), 1


def _added(several: Iterable[ObjectCounts]) -> ObjectCounts:
    """The counts of several images together; of colours the first image's."""
    classes: dict[str, ClassCount] = {}
    colors: dict[str, tuple[int, int, int]] = {}
    unclassified = proposals = 0
    for counts in several:
        unclassified += counts.unclassified
        proposals += counts.proposals
        colors = {**counts.colors, **colors}
        for name, count in counts.classes.items():
            old = classes.get(name, ClassCount())
            fields = ClassCount.__dataclass_fields__
            classes[name] = ClassCount(**{key: getattr(old, key) + getattr(count, key) for key in fields})
    return ObjectCounts(dict(sorted(classes.items())), unclassified, proposals, colors)


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
