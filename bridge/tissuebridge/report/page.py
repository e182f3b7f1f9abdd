"""A report as one HTML file: readable without a network, in light and dark, and by a screen reader.

Stands at the end: texts, tables and pictures come in as plain values, one self-contained file goes out. Every text
is escaped, pictures are embedded, and the page's own policy forbids it to load or run anything.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.files import atomic_write
from tissuebridge.report.overlay import jpeg_bytes, png_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure and the interval in which it may lie, shown below it; None where there is none."""

    value: float
    interval: tuple[float, float] | None = None


Value = str | int | float | Estimate | None
"""A table's cell: text, a count, a measure (three decimals), alone or with its interval, or nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A paragraph that nobody should miss."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values; the first column names its row.

    Attributes:
        caption: What the table tells.
        header: Name of each column.
        rows: Each as long as `header`.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Value]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Counts of what is against what was said; the larger its share of the row, the stronger a cell's colour.

    Where row and column have the same name it is right and blue, elsewhere wrong and orange.

    Attributes:
        caption: What the matrix tells.
        corner: What rows and columns are.
        rows: Name of each row.
        columns: Name of each column.
        counts: Each row as long as `columns`.
    """

    caption: str
    corner: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture.

    Attributes:
        pixels: uint8 (row, col, 3), red, green, blue.
        alt: What it shows, for those who cannot see it.
        caption: What stands below.
        width: Width in CSS px on a wide screen, so that twice as many pixels look sharp; None: as many as there are.
        dark: The same for dark pages, of the same shape; None: `pixels` there too.
        is_photograph: Stored as JPEG, a fraction of the size.
    """

    pixels: NDArray[np.uint8]
    alt: str
    caption: str = ""
    width: int | None = None
    dark: NDArray[np.uint8] | None = None
    is_photograph: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture of lines and texts, as SVG.

    Attributes:
        svg: For light pages.
        dark: The same for dark ones.
        alt: What it shows, for those who cannot see it.
        caption: What stands below.
        size: Width and height in CSS px on a wide screen.
    """

    svg: str
    dark: str
    alt: str
    caption: str
    size: tuple[int, int]


Content = Text | Notice | Table | Matrix | Picture | Drawing


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under its own heading.

    Attributes:
        heading: Its title.
        content: What stands in it, in order. Pictures that follow each other stand side by side where there is room.
    """

    heading: str
    content: Sequence[Content]


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Writes a report; the file appears whole or not at all.

    Args:
        path: The file, ending in ``.html``.
        title: The page's title and first heading.
        sections: In order of reading.

    Raises:
        StorageError: The file could not be written.
    """
    with atomic_write(path) as file:
        file.write(page_html(title, sections).encode("utf-8"))


def page_html(title: str, sections: Sequence[Section]) -> str:
    """The page's text.

    Raises:
        ValueError: A row of a table is not as long as its header.

    >>> "<h1>Is 2 &lt; 3?</h1>" in page_html("Is 2 < 3?", [])
    True
    """
    body = "\n".join(_section(section) for section in sections)
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


def number_text(value: object) -> str:
    """A number as a person reads it.

    >>> number_text(1234.5), number_text(0.12345), number_text(None)
    ('1,234', '0.123', 'not defined')
    """
    if value is None:
        return "not defined"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _section(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.heading)}</h2>"]
    pictures: list[Picture | Drawing] = []
    for item in section.content:
        if isinstance(item, Picture | Drawing):
            pictures.append(item)
            continue
        parts += _row(pictures)
        pictures = []
        parts.append(_block(item))
    return "\n".join([*parts, *_row(pictures), "</section>"])


def _block(item: Text | Notice | Table | Matrix) -> str:
    if isinstance(item, Table):
        return _table(item)
    if isinstance(item, Matrix):
        return _matrix(item)
    attributes = ' class="notice" role="note"' if isinstance(item, Notice) else ""
    return f"<p{attributes}>{escape(item.text)}</p>"


def _row(pictures: Iterable[Picture | Drawing]) -> list[str]:
    figures = [_figure(picture) for picture in pictures]
    return ['<div class="pictures">', *figures, "</div>"] if figures else []


def _figure(picture: Picture | Drawing) -> str:
    shown, height, light, dark = _sources(picture)
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    img = f'<img alt="{escape(picture.alt)}" width="{shown}" height="{height}" src="{light}">'
    if dark is not None:
        img = f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">{img}</picture>'
    return f'<figure style="flex-basis: {shown}px">{img}{caption}</figure>'


def _sources(picture: Picture | Drawing) -> tuple[int, int, str, str | None]:
    """Width and height in CSS px; the light and the dark one as URIs."""
    if isinstance(picture, Drawing):
        light, dark = (_uri("svg+xml", svg.encode("utf-8")) for svg in (picture.svg, picture.dark))
        return *picture.size, light, dark
    height, width = picture.pixels.shape[:2]
    shown = picture.width or width
    other = None if picture.dark is None else _embedded(picture.dark, picture.is_photograph)
    return shown, round(height * shown / width), _embedded(picture.pixels, picture.is_photograph), other


def _embedded(pixels: NDArray[np.uint8], is_photograph: bool) -> str:
    return _uri("jpeg", jpeg_bytes(pixels)) if is_photograph else _uri("png", png_bytes(pixels))


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_CLASS if _is_number_column(table, place) else ""}>{escape(name)}</th>'
        for place, name in enumerate(table.header)
    )
    return _framed(table.caption, head, [_table_row(row, len(table.header)) for row in table.rows])


def _framed(caption: str, head: str, rows: Iterable[str]) -> str:
    # The frame scrolls on a narrow screen, so a keyboard must be able to reach it.
    caption, body = escape(caption), "\n".join(rows)
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table><caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _matrix(matrix: Matrix) -> str:
    names = "".join(f'<th scope="col"{_CLASS}>{escape(name)}</th>' for name in matrix.columns)
    rows = [
        _matrix_row(name, matrix.columns, counts)
        for name, counts in zip(matrix.rows, matrix.counts, strict=True)
    ]
    return _framed(matrix.caption, f'<th scope="col">{escape(matrix.corner)}</th>{names}', rows)


def _matrix_row(name: str, columns: Sequence[str], counts: Sequence[int]) -> str:
    total = sum(counts)
    cells = "".join(
        _share(count, count / total, "right" if name == column else "wrong")
        if total
        else f"<td{_CLASS}>0</td>"
        for column, count in zip(columns, counts, strict=True)
    )
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _share(count: int, share: float, kind: str) -> str:
    small = f"<small>{share:.1%}</small>"
    return f'<td class="number share {kind}" style="--share: {share:.3f}">{count:,}{small}</td>'


def _is_number_column(table: Table, place: int) -> bool:
    return place > 0 and not any(isinstance(row[place], str) for row in table.rows if place < len(row))


def _table_row(row: Sequence[Value], columns: int) -> str:
    if len(row) != columns:
        raise ValueError(f"a row of {len(row)} values under a header of {columns}: {row!r}")
    name, *values = (_shown(value) for value in row)
    cells = "".join(
        f"<td{'' if isinstance(value, str) else _CLASS}>{text}</td>"
        for value, text in zip(row[1:], values, strict=True)
    )
    return f'<tr><th scope="row">{name}</th>{cells}</tr>'


def _shown(value: Value) -> str:
    if value is None:
        return '<span aria-label="none">–</span>'
    if isinstance(value, Estimate):
        small = f"<small>{value.interval[0]:.3f}–{value.interval[1]:.3f}</small>" if value.interval else ""
        return f"{value.value:.3f}{small}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escape(value)


_CLASS: Final = ' class="number"'

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d1d1f; --soft: #5b5b60; --line: #d8d8dc; --head: #f3f3f5;
  --accent: 64 120 230; --fault: 230 120 30; --warm: #b35c00; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #1b1b1d; --ink: #ececee; --soft: #a9a9b0; --line: #3d3d42; --head: #28282b;
    --accent: 84 132 235; --fault: 214 110 40; --warm: #f0a04b; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 8px; }
h2 { font-size: 1.2rem; margin: 40px 0 8px; border-top: 1px solid var(--line); padding-top: 16px; }
p { max-width: 72ch; margin: 8px 0; }
.notice { border-left: 4px solid var(--warm); padding: 4px 0 4px 12px; }
.scroll { overflow-x: auto; margin: 16px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 6px; }
th, td { padding: 6px 14px; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { background: var(--head); }
tbody th { font-weight: 500; }
td.number, th.number { text-align: right; }
td.right { background: rgb(var(--accent) / calc(var(--share) * 0.6)); }
td.wrong { background: rgb(var(--fault) / calc(var(--share) * 0.6)); }
td small { display: block; font-size: 0.8rem; color: var(--soft); }
td.share small { color: inherit; }
.pictures { display: flex; flex-wrap: wrap; gap: 20px; margin: 16px 0; }
figure { margin: 0; flex: 0 1 auto; min-width: 0; }
img { display: block; width: 100%; height: auto; border: 1px solid var(--line); background: #fff; }
figcaption { color: var(--soft); font-size: 0.92rem; padding-top: 6px; }
"""
