"""What of an image a person wants analysed: the areas drawn for it, or those of a class."""

from __future__ import annotations

from fnmatch import fnmatchcase

import shapely
from shapely.geometry.base import BaseGeometry

from tissuebridge.errors import AnnotationError
from tissuebridge.objects import MISSING_CORE, REGION_OF_INTEREST, ObjectType, is_area, is_persons
from tissuebridge.project.base import Image


def drawn_region(image: Image) -> BaseGeometry | None:
    """What of an image is meant to be analysed, in full-resolution px; None for all of it.

    The union of the `Region*` areas that a person drew; without any, that of the TMA cores which are on the slide.
    """
    objects = image.objects()
    drawn = [
        obj.geometry
        for obj in objects
        if obj.class_name == REGION_OF_INTEREST and is_area(obj.geometry) and is_persons(obj)
    ]
    cores = [
        obj.geometry
        for obj in objects
        if obj.object_type is ObjectType.TMA_CORE and MISSING_CORE not in obj.metadata
    ]
    areas = drawn or cores
    return shapely.union_all(shapely.make_valid(areas)) if areas else None


def named_region(image: Image, pattern: str) -> BaseGeometry:
    """The union of a person's areas whose class fits a pattern, in full-resolution px.

    Args:
        image: The image.
        pattern: As in a shell: `Tum*`; a class's own name fits itself, `Region*` too.

    Raises:
        AnnotationError: There is none.
    """
    areas = [
        obj.geometry
        for obj in image.objects()
        if obj.class_name is not None
        and (obj.class_name == pattern or fnmatchcase(obj.class_name, pattern))
        and obj.object_type is ObjectType.ANNOTATION
        and is_area(obj.geometry)
        and is_persons(obj)
    ]
    if not areas:
        raise AnnotationError(f"{image.name}: nobody drew an area of a class like {pattern!r} on it")
    return shapely.union_all(shapely.make_valid(areas))
