"""What an analysis has found so far, on disk: a strip at a time, so that a crash loses at most the strip in flight.

Stands between the network and the objects: labels and peaks of a finished strip come in; after the last strip
the whole label map and all candidates go out. A folder per image::

    header.json     everything that decides the bytes of the strips
    000012.strip    labels and peaks of strip 12, its own length and sha256 inside
    agreement.json  of a network in reduced precision, how far it agreed with full precision

A journal is derived data: where it does not fit the analysis that is asked for, or is damaged, it is computed
anew. The same analysis writes the same bytes: there are no times, names of machines or paths inside.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import StorageError
from tissuebridge.files import TEMPORARY_PREFIX, atomic_write
from tissuebridge.tiles import TilePlan
from tissuemodel.detection import Candidates

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Raised with every change of what is in the files: journals of another format are computed anew."""

ON_DISK_FROM_PX: Final = 2**29
"""A label map of more pixels stays on the disk: a lung slide's has 5e9."""

_MAGIC: Final = b"TBSTRIP\n"
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
_AGREEMENT: Final = "agreement.json"
_STRIP_NAME: Final = re.compile(r"\d{6}\.strip")


@dataclass(frozen=True, slots=True, eq=False)
class StripResult:
    """What was found in one strip.

    Attributes:
        labels: uint8 (row, col): the strip's rows, all columns of the model's grid.
        candidates: Peaks in the strip, sorted, in coordinates of the whole grid.
    """

    labels: NDArray[np.uint8]
    candidates: Candidates


class Journal:
    """The journal of one image. Make it with `Journal.open`."""

    def __init__(self, folder: Path, plan: TilePlan, cell_classes: int, header_digest: str) -> None:
        self._folder, self._plan, self._cell_classes = folder, plan, cell_classes
        self._header_digest = header_digest
        self._missing = [strip for strip in range(plan.strips) if not self._is_whole(strip)]

    @staticmethod
    def open(
        folder: Path,
        plan: TilePlan,
        cell_classes: int,
        decides: Mapping[str, object],
        *,
        alone: bool = True,
    ) -> Journal:
        """Opens the journal of an analysis, or starts one.

        A journal of the same analysis is resumed: its whole strips are kept, broken ones will be computed
        again. One of another analysis (or whose header is damaged) is replaced; the log says so.

        Args:
            folder: For this image alone; made if it is missing.
            plan: How the image is cut.
            cell_classes: Number of the model's cell classes.
            decides: Whatever else decides labels and peaks (image, model, grid, area, ...); JSON values.
            alone: No other process writes into it now, so that temporary files are what a killed one left.

        Raises:
            StorageError: The folder cannot be written to.
        """
        header = {"format": FORMAT, "plan": asdict(plan), "cell_classes": cell_classes, **decides}
        content = json.dumps(header, sort_keys=True, indent=1).encode()
        if alone:
            _remove(folder, f"{TEMPORARY_PREFIX}*.tmp")
        path = folder / "header.json"
        if _bytes_of(path) != content:
            if path.exists():
                _log.warning("%s: holds another analysis (or is damaged) and is started anew", folder)
            _remove(folder, "*.strip")
            with atomic_write(path) as file:
                file.write(content)
        return Journal(folder, plan, cell_classes, hashlib.sha256(content).hexdigest())

    @property
    def missing(self) -> tuple[int, ...]:
        """The strips that are still to be computed, in order."""
        return tuple(self._missing)

    def write(self, strip: int, result: StripResult) -> None:
        """Keeps a finished strip; when this returns, it is on the disk.

        Raises:
            StorageError: It could not be written.
        """
        content = _packed(strip, result, self._header_digest)
        with atomic_write(self._path(strip)) as file:
            file.write(content)
        if strip in self._missing:
            self._missing.remove(strip)

    @property
    def agreement(self) -> str:
        """What `keep_agreement` kept; "" where that was nothing, or of another analysis."""
        with suppress(ValueError, KeyError, TypeError):
            kept = json.loads(_bytes_of(self._folder / _AGREEMENT) or b"{}")
            if kept["journal"] == self._header_digest:
                return str(kept["agreement"])
        return ""

    def keep_agreement(self, told: str) -> None:
        """Keeps what was measured, for whoever reads the journal: seldom the process that fills it.

        Raises:
            StorageError: It could not be written.
        """
        content = json.dumps({"journal": self._header_digest, "agreement": told})
        with atomic_write(self._folder / _AGREEMENT) as file:
            file.write(content.encode())

    def read(self, strip: int) -> StripResult:
        """A strip that was written.

        Raises:
            StorageError: It is not there, or damaged.
        """
        path = self._path(strip)
        window = self._plan.strip_window(strip)
        try:
            return _unpacked(
                path.read_bytes(),
                strip,
                (window.height, window.width),
                self._cell_classes,
                self._header_digest,
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
            raise StorageError(
                f"{path}: damaged or not there ({error}); run again to compute it anew"
            ) from error

    def labels(self) -> NDArray[np.uint8]:
        """The label map; uint8 (row, col), `IGNORE_LABEL` where not analysed. A large one stays on the disk; read only.

        Raises:
            StorageError: A strip is missing or damaged, or the disk is full.
        """
        shape = (self._plan.height, self._plan.width)
        strips = (self.read(strip).labels for strip in range(self._plan.strips))
        if shape[0] * shape[1] < ON_DISK_FROM_PX:
            whole, row = np.empty(shape, np.uint8), 0
            for labels in strips:
                whole[row : row + len(labels)] = labels
                row += len(labels)
            return whole
        try:
            # Written, then mapped: writing through a mapping would end the process where the disk is full.
            with TemporaryFile(prefix=TEMPORARY_PREFIX, dir=self._folder) as file:
                for labels in strips:
                    file.write(labels.data)
                file.flush()
                return np.memmap(file, np.uint8, "r", shape=shape)
        except OSError as error:
            raise StorageError(
                f"{self._folder}: the label map cannot be written: {error}; free some space"
            ) from error

    def candidates(self) -> Candidates:
        """All peaks, sorted by (row, col, class).

        Raises:
            StorageError: A strip is missing or damaged.
        """
        strips = (self.read(strip).candidates for strip in range(self._plan.strips))
        return Candidates.joined(strips, self._cell_classes)

    def _path(self, strip: int) -> Path:
        return self._folder / f"{strip:06d}.strip"

    def _is_whole(self, strip: int) -> bool:
        path = self._path(strip)
        if not path.exists():
            return False
        try:
            self.read(strip)
        except StorageError as error:
            _log.warning("%s", error)
            return False
        return True


def _packed(strip: int, result: StripResult, header_digest: str) -> bytes:
    """A strip as bytes: magic, length and text of a small header, labels (zlib), peaks, sha256 of all that."""
    labels = zlib.compress(np.ascontiguousarray(result.labels).tobytes(), 1)
    found = result.candidates
    height, width = result.labels.shape
    header = {
        "strip": strip,
        "journal": header_digest,
        "height": height,
        "width": width,
        "label_bytes": len(labels),
        "candidates": len(found),
    }
    text = json.dumps(header, sort_keys=True).encode()
    arrays = (
        found.pixels.astype("<i4"),
        found.xy.astype("<f8"),
        found.class_index.astype("u1"),
        found.scores.astype("<f4"),
    )
    parts = [_MAGIC, len(text).to_bytes(_LENGTH_BYTES, "little"), text, labels]
    content = b"".join([*parts, *(array.tobytes() for array in arrays)])
    return content + hashlib.sha256(content).digest()


def _unpacked(
    content: bytes, strip: int, shape: tuple[int, int], cell_classes: int, header_digest: str
) -> StripResult:
    """What `_packed` packed; ValueError (or KeyError, TypeError) where it is anything else."""
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        raise ValueError("its checksum is wrong")
    start = len(_MAGIC) + _LENGTH_BYTES
    end = start + int.from_bytes(body[len(_MAGIC) : start], "little")
    header = json.loads(body[start:end])
    expected = (strip, header_digest, *shape)
    if (header["strip"], header["journal"], header["height"], header["width"]) != expected:
        raise ValueError("it belongs to another analysis")
    count, labels_end = header["candidates"], end + header["label_bytes"]
    # At most one byte more than expected is unpacked, whatever the file claims.
    flat = zlib.decompressobj().decompress(body[end:labels_end], shape[0] * shape[1] + 1)
    labels = np.frombuffer(flat, np.uint8).reshape(shape)
    return StripResult(labels, _candidates(body[labels_end:], count, cell_classes))


def _candidates(content: bytes, count: int, cell_classes: int) -> Candidates:
    sizes = (8 * count, 16 * count, count, 4 * cell_classes * count)
    if len(content) != sum(sizes):
        raise ValueError("its peaks are cut off")
    ends = np.cumsum(sizes).tolist()
    pixels, xy, kinds, scores = (content[end - size : end] for end, size in zip(ends, sizes, strict=True))
    return Candidates(
        np.frombuffer(pixels, "<i4").reshape(count, 2).astype(np.int32),
        np.frombuffer(xy, "<f8").reshape(count, 2).astype(np.float64),
        np.frombuffer(kinds, "u1"),
        np.frombuffer(scores, "<f4").reshape(count, cell_classes).astype(np.float32),
    )


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _remove(folder: Path, pattern: str) -> None:
    """Removes files of ours; what cannot be removed is overwritten later or not believed (its digest is another)."""
    for path in folder.glob(pattern):
        if _STRIP_NAME.fullmatch(path.name) or path.name.startswith(TEMPORARY_PREFIX):
            with suppress(OSError):
                path.unlink()
