"""What a path stands for: a QuPath project, a folder of images, or one image."""

from __future__ import annotations

from pathlib import Path

from tissuebridge.errors import UsageError
from tissuebridge.project.folder import FolderProject, SingleImage, open_image
from tissuebridge.project.pixels import is_zarr
from tissuebridge.project.qpproj import is_project
from tissuebridge.project.qupath_project import QuPathProject


def open_source(source: Path, pixel_size_um: float | None) -> FolderProject | SingleImage | QuPathProject:
    """The project behind a SOURCE argument.

    Raises:
        UsageError: There is no such file or folder, or the pixel size is impossible.
    """
    if pixel_size_um is not None and not 0.01 <= pixel_size_um <= 100:
        raise UsageError(f"--pixel-size {pixel_size_um:g}: a pixel of 0.01 to 100 um is meant, such as 0.5")
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    if is_project(source):
        return QuPathProject(source, pixel_size_um)
    if source.is_dir() and not is_zarr(source):
        return FolderProject(source, pixel_size_um)
    return open_image(source, pixel_size_um)
